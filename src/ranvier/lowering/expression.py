"""Scalar expressions: what a kernel computes for one output element.

expression := Literal | Index | Access | Accumulator
            | Apply(op, expression*) | Reduce(op, loops, expression)
loop       := name = 0 .. extent - 1
access     := operand[offset]  if every guard holds, else fill        -- offset in elements

Offsets and guards are `Dim` polynomials over loop variables, the kernel's scalar arguments, and
*data symbols*: names bound by `Access.indirect` to integer expressions (that is how gathers read).
Arithmetic on f16/bf16 is done in f32: an `Access` of those dtypes yields f32, and a store rounds.
Expressions are immutable and compare structurally, so a common sub-expression is emitted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F16, F32, DType


@dataclass(frozen=True)
class Loop:
    """A loop variable `name` running over 0 .. extent - 1."""

    name: str
    extent: Dim

    @cached_property
    def variable(self) -> Dim:
        """The loop variable as a dim; 0 for a loop of one iteration."""
        return 0 if self.extent == 1 else dims.symbol(self.name, 0, self.extent - 1)


@dataclass(frozen=True)
class Guard:
    """The condition `0 <= index < limit`."""

    index: Dim
    limit: Dim


@dataclass(frozen=True)
class Literal:
    """A constant of `dtype`; `value` may be inf or nan for floats, is the bits of narrow types."""

    value: float | int | bool
    dtype: DType


@dataclass(frozen=True)
class Index:
    """The value of a dim (loop variables allowed) as an integer or float of `dtype`."""

    value: Dim
    dtype: DType


@dataclass(frozen=True)
class Access:
    """Element `offset` of operand `operand`, held as `storage`; `fill` where a guard fails."""

    operand: int
    offset: Dim
    storage: DType
    guards: tuple[Guard, ...] = ()
    fill: float | int | bool = 0
    indirect: tuple[tuple[str, Expression], ...] = ()

    @property
    def dtype(self) -> DType:
        """The element type to compute with: f32 for f16 and bf16."""
        return compute_dtype(self.storage)


@dataclass(frozen=True)
class Apply:
    """An element-wise operator of the graph's table on expressions; `attributes` sorted by name."""

    op: str
    operands: tuple[Expression, ...]
    dtype: DType
    attributes: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Reduce:
    """Reduction of `body` over `loops`: op is sum, prod, max, min, any, all, arg_max or arg_min.

    max and min propagate NaN as NumPy does. arg_max/arg_min have one loop and give its first best
    position as i64.
    """

    op: str
    loops: tuple[Loop, ...]
    body: Expression
    dtype: DType


@dataclass(frozen=True)
class Accumulator:
    """In the epilogue of a contraction: the f32 sum for this output element."""

    dtype: DType = F32


Expression = Literal | Index | Access | Apply | Reduce | Accumulator


_SHORTER_FOR_BF16 = frozenset({"gelu", "sigmoid", "silu"})
ROUNDED_TO_BF16 = (
    "rounded_to_bf16"  # attribute of an Apply: its value only matters to bf16 precision
)
ROUNDED_TO_ODD = (
    "rounded_to_odd"  # attribute of a cast from f64 whose result is rounded again, to f16
)


def relaxed(expression: Expression, storage: DType) -> Expression:
    """`expression`, stored as `storage`, with functions marked for which bf16 is precise enough.

    Only what lies outside reductions is marked: a sum keeps the precision of its terms.
    """
    if storage is not BF16 or not isinstance(expression, Apply):
        return expression
    operands = tuple(relaxed(operand, storage) for operand in expression.operands)
    attributes = expression.attributes
    if expression.op in _SHORTER_FOR_BF16:
        attributes = (*attributes, (ROUNDED_TO_BF16, True))
    return replace(expression, operands=operands, attributes=attributes)


def compute_dtype(storage: DType) -> DType:
    """The type in which values stored as `storage` are computed."""
    return F32 if storage in (BF16, F16) else storage


def children(expression: Expression) -> tuple[Expression, ...]:
    """Direct sub-expressions, those that compute data symbols included."""
    if isinstance(expression, Apply):
        return expression.operands
    if isinstance(expression, Reduce):
        return (expression.body,)
    if isinstance(expression, Access):
        return tuple(value for _, value in expression.indirect)
    return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """All nodes, operands first."""
    for child in children(expression):
        yield from walk(child)
    yield expression


def rewrite(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """Rebuild bottom-up, replacing each node by `change(node)`."""
    if isinstance(expression, Apply):
        expression = replace(
            expression, operands=tuple(rewrite(x, change) for x in expression.operands)
        )
    elif isinstance(expression, Reduce):
        expression = replace(expression, body=rewrite(expression.body, change))
    elif isinstance(expression, Access) and expression.indirect:
        bound = tuple((name, rewrite(value, change)) for name, value in expression.indirect)
        expression = replace(expression, indirect=bound)
    return change(expression)


def map_dims(expression: Expression, change: Callable[[Dim], Dim]) -> Expression:
    """Apply `change` to every dim in the expression: offsets, guards, indices and loop extents."""

    def node(x: Expression) -> Expression:
        if isinstance(x, Index):
            return replace(x, value=change(x.value))
        if isinstance(x, Access):
            guards = tuple(Guard(change(g.index), change(g.limit)) for g in x.guards)
            return replace(x, offset=change(x.offset), guards=guards)
        if isinstance(x, Reduce):
            return replace(x, loops=tuple(Loop(loop.name, change(loop.extent)) for loop in x.loops))
        return x

    return rewrite(expression, node)
