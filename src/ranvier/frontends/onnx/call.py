"""What a translation sees of one ONNX node, and the small steps that all translations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from onnx import GraphProto

from ranvier.frontends.onnx.contents import Contents
from ranvier.frontends.onnx.elements import OPEN, Elements, Open, Ratio, numbers
from ranvier.frontends.onnx.frame import Frame
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.value_list import Result
from ranvier.ir.dim import Dim, Polynomial
from ranvier.ir.dtype import BOOL, F32, I64, Array, DType, encode, from_numpy
from ranvier.ir.graph import Attribute, GraphBuilder, Value

Declared = tuple[Dim | None, ...]
"""Sizes that a model states for a result; None where it states none."""


class Surroundings(Protocol):
    """What a translation may ask of the translator, for subgraphs and sizes."""

    frame: Frame

    def symbol(self, hint: str, low: int, high: Dim | None) -> Polynomial:
        """A symbol that nothing else in the model has."""

    def inline(
        self, graph: GraphProto, operands: Sequence[Result], frame: Frame | None = None
    ) -> tuple[Result, ...]:
        """The outputs of a subgraph, whose nodes go into a frame, by default that of the node."""

    def open(self, name: str) -> Frame:
        """A frame for a graph inside the node."""


@dataclass(frozen=True)
class Call:
    """One ONNX node: where its operators go, and what the model says of it.

    `version` is that of the node's operator set; `declared` are the sizes that the model states for
    its results, `used` the positions of results that are read.
    `checks` are i64 scalars that have to be zero when the model runs.
    """

    builder: GraphBuilder
    contents: Contents
    name: str
    source: str
    version: int
    attributes: Mapping[str, Any]
    declared: tuple[Declared | None, ...]
    used: frozenset[int]
    around: Surroundings
    checks: list[Value] = field(default_factory=list)

    # Emission -------------------------------------------------------------------------------------
    def emit(self, op: str, *operands: Value, **attributes: Attribute) -> Value:
        """Append an operator with one result."""
        return self.emit_all(op, *operands, **attributes)[0]

    def emit_all(self, op: str, *operands: Value, **attributes: Attribute) -> tuple[Value, ...]:
        """Append an operator with several results."""
        names = (f"{self.name}.{op}",)
        results = self.builder.add_node(op, operands, attributes, names, self.source)
        self.contents.learn(self.builder.nodes[-1])
        return results

    def constant(self, array: Array, dtype: DType | None = None) -> Value:
        """A constant from a storage array."""
        value = self.builder.constant(array, dtype, f"{self.name}.constant", self.source)
        self.contents.learn(self.builder.nodes[-1])
        return value

    def scalar(self, value: Dim | float, dtype: DType) -> Value:
        """A rank-0 value; a symbolic size becomes a `dim`."""
        if isinstance(value, Polynomial):
            wide = self.emit("dim", value=value, dtype=I64)
            return self.cast(wide, dtype)
        whole = bool if dtype == BOOL else int
        number = float(value) if dtype.is_float or dtype.is_narrow else whole(value)
        return self.constant(encode(np.asarray(number), dtype), dtype)

    def vector(self, sizes: Sequence[Dim], dtype: DType = I64) -> Value:
        """A rank-1 value of numbers and sizes."""
        plain = [size for size in sizes if isinstance(size, int)]
        if len(plain) == len(sizes):
            return self.constant(np.array(plain, dtype.storage), dtype)
        parts = [self.reshape(self.scalar(size, dtype), (1,)) for size in sizes]
        return self.concat(parts, 0)

    def full(self, shape: Sequence[Dim], value: bool | float, dtype: DType) -> Value:
        """A tensor that has one number everywhere."""
        if dtype.is_narrow:
            return self.broadcast(self.scalar(value, dtype), shape)
        return self.emit("full", shape=tuple(shape), value=value, dtype=dtype)

    def iota(self, size: Dim, dtype: DType = I64, axis: int = 0, rank: int = 1) -> Value:
        """0, 1, ... `size` - 1 along dim `axis` of `rank` dims; the others are 1."""
        row = self.emit("iota", size=size, dtype=dtype)
        return self.reshape(row, (*(1,) * axis, size, *(1,) * (rank - axis - 1)))

    def cast(self, x: Value, dtype: DType) -> Value:
        """`x` in another element type."""
        return x if x.dtype == dtype else self.emit("cast", x, dtype=dtype)

    def number(self, op: str, x: Value, value: Dim | float) -> Value:
        """`op(x, value)` for a number."""
        return self.emit(op, x, self.scalar(value, x.dtype))

    def chain(self, op: str, operands: Sequence[Value]) -> Value:
        """`op` over all operands, from the first to the last."""
        total = operands[0]
        for operand in operands[1:]:
            total = self.emit(op, total, operand)
        return total

    def where(self, condition: Value, a: Value | float, b: Value | float) -> Value:
        """Elements of `a` where the condition holds, of `b` elsewhere; one of both is a value."""
        dtype = a.dtype if isinstance(a, Value) else b.dtype if isinstance(b, Value) else F32
        first = a if isinstance(a, Value) else self.scalar(a, dtype)
        second = b if isinstance(b, Value) else self.scalar(b, dtype)
        return self.emit("where", condition, first, second)

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` in another shape; itself when it has that shape."""
        wanted = tuple(shape)
        return x if x.shape == wanted else self.emit("reshape", x, shape=wanted)

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        """`x` with its dims permuted."""
        order = tuple(permutation)
        if order == tuple(range(x.rank)):
            return x
        return self.emit("transpose", x, permutation=order)

    def move_last(self, x: Value, axis: int) -> Value:
        """`x` with dim `axis` behind all others."""
        return self.transpose(x, (*(i for i in range(x.rank) if i != axis), axis))

    def move_back(self, x: Value, axis: int) -> Value:
        """`x` with its last dim at `axis`."""
        last = x.rank - 1
        return self.transpose(x, (*range(axis), last, *range(axis, last)))

    def broadcast(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` broadcast to a shape."""
        wanted = tuple(shape)
        return x if x.shape == wanted else self.emit("broadcast", x, shape=wanted)

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        """Elements `start:stop:step` of one axis, for 0 <= start <= stop <= size."""
        if start == 0 and stop == x.shape[axis] and step == 1:
            return x
        return self.emit(
            "slice",
            x,
            starts=tuple(start if i == axis else 0 for i in range(x.rank)),
            stops=tuple(stop if i == axis else size for i, size in enumerate(x.shape)),
            steps=tuple(step if i == axis else 1 for i in range(x.rank)),
        )

    def pad(
        self,
        x: Value,
        pairs: Mapping[int, tuple[Dim, Dim]],
        value: bool | float = 0,
        mode: str = "constant",
    ) -> Value:
        """`x` with (low, high) more elements along some dims; negative ones crop."""
        if all(pair == (0, 0) for pair in pairs.values()):
            return x
        low = tuple(pairs.get(i, (0, 0))[0] for i in range(x.rank))
        high = tuple(pairs.get(i, (0, 0))[1] for i in range(x.rank))
        if x.dtype.is_narrow:
            stored = encode(np.asarray(value), x.dtype)
            bits = self.emit("bit_cast", x, dtype=from_numpy(stored.dtype))
            bits = self.emit("pad", bits, low=low, high=high, mode=mode, value=stored.item())
            return self.emit("bit_cast", bits, dtype=x.dtype)
        return self.emit("pad", x, low=low, high=high, mode=mode, value=value)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        """Parts one behind the other along a dim."""
        return parts[0] if len(parts) == 1 else self.emit("concat", *parts, axis=axis)

    def reduce(self, kind: str, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
        """A reduction, `kind` being sum, mean, max, min, prod, any or all; none over no dims."""
        if not axes:
            return x
        return self.emit(f"reduce_{kind}", x, axes=tuple(axes), keepdims=keepdims)

    # What is known --------------------------------------------------------------------------------
    def known(self, value: Value) -> Elements | None:
        """The elements of a value, where they are known while the model is translated."""
        return self.contents.get(value)

    def plain(self, value: Value | None) -> list[Any] | None:
        """The elements of a value when all of them are plain numbers; None for no value."""
        return None if value is None else numbers(self.known(value))

    def plain_ints(self, value: Value, what: str) -> tuple[int, ...]:
        """Plain numbers that have to be known; Refusal says what they are for."""
        found = self.plain(value)
        if found is None:
            raise Refusal(f"its {what} are computed at run time or symbolic")
        return tuple(int(x) for x in found)

    def sizes(self, value: Value) -> tuple[Dim, ...] | None:
        """The sizes that an integer tensor holds; None where they are computed at run time."""
        found = self.known(value)
        if found is None:
            return None
        flat = found.reshape(-1).tolist()
        if any(isinstance(x, (float, Ratio, Open)) for x in flat):
            return None
        return tuple(int(x) if isinstance(x, bool) else x for x in flat)

    # Sizes that data tell -------------------------------------------------------------------------
    def stated(self, axis: int, index: int = 0) -> Dim | None:
        """The size that the model declares for a dim of a result, or None."""
        declared = self.declared[index] if index < len(self.declared) else None
        return declared[axis] if declared is not None and axis < len(declared) else None

    def size(self, value: Value, stated: Dim | None = None, most: Dim | None = None) -> Dim:
        """The size that an integer scalar holds: the number known, or stated, or a new symbol.

        What the model states is compared with the value in every call. `most` bounds the symbol.
        """
        known = self.sizes(value)
        if known is not None:
            return known[0]
        scalar = self.cast(self.reshape(value, ()), I64)
        if stated is not None:
            self.checks.append(self.number("sub", scalar, stated))
            return stated
        symbol = self.around.symbol(f"{self.name}_size", 0, most)
        self.emit("bind_dim", scalar, dim=symbol)
        return symbol

    def shape_of(self, computed: Value, index: int = 0) -> tuple[Dim, ...]:
        """The sizes that a rank-1 integer tensor holds; those that are not known are bound."""
        count = static(computed.shape[0], "the rank of its result")
        known = self.known(computed)
        flat = [OPEN] * count if known is None else known.tolist()
        return tuple(
            self.size(self.slice(computed, 0, i, i + 1), self.stated(i, index))
            if isinstance(element, (float, Ratio, Open))
            else element
            for i, element in enumerate(flat)
        )

    def declared_shape(self, index: int = 0) -> tuple[Dim, ...]:
        """The shape that the model states for a result; Refusal where it states none."""
        declared = self.declared[index] if index < len(self.declared) else None
        if declared is None or any(size is None for size in declared):
            raise Refusal(
                "the rank of its result depends on data, and the model does not state its shape"
            )
        return tuple(size for size in declared if size is not None)

    def check(self) -> None:
        """Make a call in which a check fails raise InputError."""
        if not self.checks:
            return
        total = self.chain("add", [self.emit("abs", check) for check in self.checks])
        nothing = self.around.symbol(f"mismatch_at_{self.name}", 0, 0)
        self.emit("bind_dim", total, dim=nothing)

    def inside(self, frame: Frame) -> Call:
        """This node as it appends to a graph inside it."""
        return replace(self, builder=frame.builder, contents=frame.contents)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front; Refusal for one that is none."""
    if not -rank <= axis < rank and not (rank == 0 and axis in (0, -1)):
        raise Refusal(f"axis {axis} does not fit {rank} dims")
    return axis % max(rank, 1)


def axes_of(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted."""
    return tuple(sorted({axis_of(int(axis), rank) for axis in axes}))


def static(value: Dim, what: str) -> int:
    """A size that must be a constant."""
    if not isinstance(value, int):
        raise Refusal(f"{what} is symbolic ({value})")
    return value


def statics(values: Sequence[Dim], what: str) -> tuple[int, ...]:
    """Sizes that must be constants."""
    return tuple(static(value, what) for value in values)
