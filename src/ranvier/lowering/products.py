"""What all contractions share: the epilogue as a store, abstract extents, the step.

A `Contraction` is general in everything that is passed as a scalar. Large integers in its address
maps become scalars too, so layers that differ only in size share one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Atom, Compound, Dim, Symbol
from ranvier.ir.graph import Node
from ranvier.lowering.canonical import Renaming
from ranvier.lowering.epilogue import Epilogue
from ranvier.lowering.expression import (
    Accumulator,
    Apply,
    Expression,
    Guard,
    Loop,
    map_dims,
    relaxed,
)
from ranvier.lowering.inline import RULES, Inliner
from ranvier.lowering.kernels.contraction import (
    BATCH,
    COLUMN,
    PART_BYTES,
    ROW,
    SUM_BYTES,
    TAP,
    Contraction,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.panels import MAXIMUM_VECTORS
from ranvier.lowering.nests import in_place_pairs, moved_bytes, operation_count
from ranvier.lowering.program import Step, Tensor
from ranvier.lowering.scope import KernelScope, flatten, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

VARIABLES = frozenset({BATCH, ROW, TAP, COLUMN})
GUARDED_DEPTH = 4096  # rows of up to this many elements share one block of zeros for the padding
ABSTRACT_FROM = 16  # smaller integers (strides, kernel sizes) stay in the code


@dataclass(frozen=True)
class Extents:
    """Loops of the result's logical dims, by role; `order` lists the loop of every logical dim."""

    batch: tuple[Loop, ...]
    rows: tuple[Loop, ...]
    column: Dim  # logical index of the column dim in terms of BATCH and COLUMN
    column_axis: int
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class Operands:
    """Operand A: its element offset for a row and tap (depth left out), with guards; operand B."""

    a: Tensor
    row: Dim
    guards: tuple[Guard, ...]
    b: Tensor
    b_batch_stride: Dim


@dataclass(frozen=True)
class Product:
    """The extents of the product itself."""

    batches: Dim
    rows: Dim
    columns: Dim
    taps: Dim
    depth: Dim


class AbstractRenaming(Renaming):
    """Also makes scalars of integers from `ABSTRACT_FROM` on that multiply or divide variables."""

    def dim(self, dim: Dim) -> Dim:
        """`dim` over scalar arguments and bound names, without large integers."""
        if isinstance(dim, int):
            return dim
        total: Dim = 0
        for term, factor in dim.terms:
            sized = abs(factor) >= ABSTRACT_FROM
            sign = -1 if factor < 0 else 1
            product: Dim = self.number(abs(factor)) * sign if sized else factor
            for atom in term:
                product = product * self._atom(atom)
            total = total + product
        return total

    def number(self, value: Dim) -> Dim:
        """`value` as a scalar argument."""
        if not isinstance(value, int):
            return self.dim(value)
        atom: Atom = Symbol(f"={value}", value, value)
        name = self.scalars.setdefault(atom, f"d{len(self.scalars)}")
        return dims.symbol(name)

    def _atom(self, atom: Atom) -> Dim:
        if isinstance(atom, Compound) and dims.depends_on(dims.of_atom(atom), self.bound):
            right = atom.right
            divisor = (
                self.number(right)
                if isinstance(right, int) and right >= ABSTRACT_FROM
                else self.dim(right)
            )
            return dims.of_atom(Compound(atom.op, self.dim(atom.left), divisor))
        return super()._atom(atom)

    @property
    def values(self) -> tuple[Dim, ...]:
        """What each scalar argument stands for: a dim of the model or a number."""
        return tuple(
            int(atom.name[1:])
            if isinstance(atom, Symbol) and atom.name.startswith("=")
            else dims.of_atom(atom)
            for atom in self.scalars
        )


def add_contraction(
    lowering: Lowering,
    root: Node,
    epilogue: Epilogue,
    product: Product,
    operands: Operands,
    extents: Extents,
    sum_: Expression,
    scope: KernelScope,
) -> None:
    """Append the step for a product whose addresses are known; the epilogue says what is stored."""
    tensor = lowering.allocate(epilogue.end)
    inliner = Inliner(lowering, scope, loops=False)
    store, operators = epilogue_store(inliner, root, epilogue, tensor, extents, product, sum_)
    names = scope.bound | VARIABLES
    renaming = AbstractRenaming(frozenset(names))
    full_panel = MAXIMUM_VECTORS[lowering.target.lanes] * lowering.target.lanes
    is_full = isinstance(product.columns, int) and product.columns % full_panel == 0
    kernel = Contraction(
        batches=product.batches if product.batches == 1 else renaming.number(product.batches),
        rows=renaming.number(product.rows),
        columns=_multiple(renaming, product.columns, full_panel)
        if is_full
        else renaming.dim(product.columns),
        taps=product.taps,
        depth=product.depth
        if _is_short(product.depth)
        else _multiple(renaming, product.depth, 8, 2),
        a_operand=scope.operand(operands.a),
        b_operand=scope.operand(operands.b),
        a_dtype=operands.a.dtype,
        row=renaming.dim(operands.row),
        guards=renaming.guards(operands.guards),
        b_batch_stride=renaming.dim(operands.b_batch_stride)
        if not isinstance(operands.b_batch_stride, int) or operands.b_batch_stride == 0
        else renaming.number(operands.b_batch_stride),
        stores=(renaming.store(store),),
        operand_count=len(scope.tensors),
        scalars=renaming.names,
        depth_limit=GUARDED_DEPTH if operands.guards else None,
    )
    if _is_cut(kernel, product.depth):
        sums = scope.operand(lowering.scratch_of_threads(SUM_BYTES), written=True)
        kernel = replace(kernel, sums_operand=sums, operand_count=len(scope.tensors))
    outputs = product.batches * product.rows * product.columns
    lowering.add_step(
        Step(
            kernel,
            scope.arguments(),
            renaming.values,
            scope.reads(),
            scope.writes(),
            epilogue.end.name,
            root.source,
            (root.op, *operators),
            outputs * product.taps * product.depth * 2 + outputs * operation_count(store.value),
            moved_bytes(scope),
            _in_place(lowering, scope, tensor, store, operands),
            tensor,
        )
    )
    lowering.tensors[epilogue.end] = tensor


def _is_cut(kernel: Contraction, depth: Dim) -> bool:
    """Whether the depth is so long that a panel of B and the rows of A would not stay in L2."""
    if kernel.taps != 1 or kernel.linear_row is None or not isinstance(depth, int) or depth % 16:
        return False
    return depth * kernel.a_dtype.size >= 2 * PART_BYTES


def epilogue_store(
    inliner: Inliner,
    root: Node,
    epilogue: Epilogue,
    tensor: Tensor,
    extents: Extents,
    product: Product,
    sum_: Expression,
) -> tuple[Store, list[str]]:
    """The store of the chain's end in terms of BATCH, ROW and COLUMN."""
    indices = logical_indices(extents)
    inliner.pending[root.result] = sum_
    expression = inline_chain(inliner, epilogue, indices, sum_)
    offset = linear_offset(indices, tensor.strides)

    def flat(dim: Dim) -> Dim:
        return flatten_dim(dim, extents, product)

    operators = [node.op for node in epilogue.nodes]
    number = inliner.scope.operand(tensor, written=True)
    value = relaxed(map_dims(expression, flat), tensor.dtype)
    return Store(number, flat(offset), tensor.dtype, value), operators


def inline_chain(
    inliner: Inliner, epilogue: Epilogue, indices: tuple[Dim, ...], sum_: Expression
) -> Expression:
    """The end of the chain as an expression over the accumulator."""
    expression = sum_
    for node, value in zip(epilogue.nodes, epilogue.values[1:], strict=True):
        expression = RULES[node.op](inliner, node, indices, ())
        inliner.pending[value] = expression
    return expression


def logical_indices(extents: Extents) -> tuple[Dim, ...]:
    """The loop variable of every logical dim of the result."""
    loops = iter((*extents.batch, *extents.rows))
    return tuple(
        extents.column if axis == extents.column_axis else next(loops).variable
        for axis in range(len(extents.shape))
    )


def flatten_dim(dim: Dim, extents: Extents, product: Product) -> Dim:
    """Replace batch and row loops by the flat BATCH and ROW variables."""
    dim = flatten(dim, extents.batch, dims.symbol(BATCH, 0, product.batches - 1))
    return flatten(dim, extents.rows, dims.symbol(ROW, 0, product.rows - 1))


def column_variable(columns: Dim) -> Dim:
    """The COLUMN variable with its range."""
    return dims.symbol(COLUMN, 0, columns - 1)


def accumulator_plus(bias: Expression | None) -> Expression:
    """The raw sum, or the sum plus a bias."""
    return (
        Accumulator() if bias is None else Apply("add", (Accumulator(), bias), Accumulator().dtype)
    )


def _multiple(renaming: AbstractRenaming, value: Dim, *units: int) -> Dim:
    """`value` as a scalar argument that shows the code generator which of `units` divides it."""
    for unit in units:
        if isinstance(value, int) and value % unit == 0:
            return renaming.number(value // unit) * unit
    return renaming.number(value)


def _is_short(depth: Dim) -> bool:
    """Whether the depth loop is so short that it should be known to the code generator."""
    return isinstance(depth, int) and (depth < 32 or depth > GUARDED_DEPTH or depth % 2 == 1)


def _in_place(
    lowering: Lowering, scope: KernelScope, tensor: Tensor, store: Store, operands: Operands
) -> tuple[tuple[int, int], ...]:
    pairs = in_place_pairs(lowering, scope, tensor, store.offset, store.value)
    return tuple(pair for pair in pairs if pair[1] not in (operands.a.buffer, operands.b.buffer))
