"""What a translation sees of one FX node, and the small steps that all translations share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ranvier.frontends.torch.dtypes import Operand, Scalar, result_dtype
from ranvier.ir.dim import Dim, Polynomial, bounds, floordiv, linear_in, symbols
from ranvier.ir.dtype import BOOL, F32, I64, DType
from ranvier.ir.graph import Attribute, GraphBuilder, Shape, TensorType, Value

Expected = TensorType | None


class Refusal(Exception):  # noqa: N818  (a finding, not an error: it is collected)
    """An operator, or a use of it, that cannot be expressed; collected over the whole graph."""


@dataclass(frozen=True)
class Call:
    """One FX node: where its operators go, and the types that PyTorch gave its results.

    `used` holds the positions of the results that anything reads; `is_dense` says whether the
    first tensor fills its memory in the order of its dims. `sizes` are those that depend on data
    and that this node is the first to have. `labels` are names that the whole model shares.
    """

    builder: GraphBuilder
    name: str
    source: str
    expected: tuple[Expected, ...]
    used: frozenset[int]
    is_dense: bool = True
    sizes: tuple[Dim, ...] = ()
    labels: set[str] = field(default_factory=set)

    @property
    def type(self) -> TensorType:
        """PyTorch's type of the (first) result."""
        first = self.expected[0]
        if first is None:
            raise Refusal("has no tensor as its result")
        return first

    @property
    def shape(self) -> Shape:
        """Shape of the (first) result."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """Element type of the (first) result."""
        return self.type.dtype

    def emit(self, op: str, *operands: Value, **attributes: Attribute) -> Value:
        """Append an operator with one result."""
        name = f"{self.name}.{op}"
        return self.builder.add(op, *operands, name=name, source=self.source, **attributes)

    def emit_all(self, op: str, *operands: Value, **attributes: Attribute) -> tuple[Value, ...]:
        """Append an operator with several results."""
        return self.builder.add_node(op, operands, attributes, (f"{self.name}.{op}",), self.source)

    def bind(self, number: Value, size: Dim) -> None:
        """Gives a size that depends on data its value, a rank-0 integer."""
        self.emit("bind_dim", self.cast(number, I64), dim=size)

    def unique(self, hint: str) -> str:
        """A name for a symbol or a graph that nothing else in the model has."""
        name, count = hint, 1
        while name in self.labels:
            name, count = f"{hint}_{count}", count + 1
        self.labels.add(name)
        return name

    def require_unused(self, index: int, what: str) -> None:
        """Refuses the node when its result `index` is read by anything."""
        if index in self.used:
            raise Refusal(f"its {what} are used")

    def scalar(self, value: Scalar, dtype: DType) -> Value:
        """A rank-0 value; a symbolic size becomes a `dim`."""
        if isinstance(value, Polynomial):
            if dtype.is_integer:
                return self.emit("dim", value=value, dtype=dtype)
            wide = self.emit("dim", value=value, dtype=I64)
            return self.cast(wide, dtype)
        return self.emit("full", shape=(), value=_converted(value, dtype), dtype=dtype)

    def cast(self, x: Value, dtype: DType) -> Value:
        """`x` in another element type."""
        return x if x.dtype == dtype else self.emit("cast", x, dtype=dtype)

    def tensor(self, operand: Operand, dtype: DType) -> Value:
        """An operand as a value of `dtype`."""
        if isinstance(operand, Value):
            return self.cast(operand, dtype)
        return self.scalar(operand, dtype)

    def promoted(self, *operands: Operand, to_float: bool = False) -> list[Value]:
        """The operands in the element type that PyTorch computes in."""
        dtype = result_dtype(operands)
        if to_float and not dtype.is_float:
            dtype = F32
        return [self.tensor(operand, dtype) for operand in operands]

    def floating(self, x: Value) -> Value:
        """`x`, or its f32 cast when it is not of a float type."""
        return x if x.dtype.is_float else self.cast(x, F32)

    def truth(self, x: Value) -> Value:
        """`x != 0`, for what counts as true."""
        return self.cast(x, BOOL)

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

    def broadcast(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` broadcast to a shape."""
        wanted = tuple(shape)
        return x if x.shape == wanted else self.emit("broadcast", x, shape=wanted)

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        """Elements `start:stop:step` of one axis.

        Where data decide and nothing says that the elements are there, they are gathered, which
        reads no memory outside of `x`.
        """
        size = x.shape[axis]
        if start == 0 and stop == size and step == 1:
            return x
        if not all(self._is_sure(gap) for gap in (start, stop - start, size - stop)):
            places = self.emit("iota", size=floordiv(stop - start + step - 1, step), dtype=I64)
            if step != 1:
                places = self.emit("mul", places, self.scalar(step, I64))
            places = self.emit("add", places, self.scalar(start, I64))
            return self.emit("gather", x, places, axis=axis)
        return self.emit(
            "slice",
            x,
            starts=tuple(start if i == axis else 0 for i in range(x.rank)),
            stops=tuple(stop if i == axis else size for i, size in enumerate(x.shape)),
            steps=tuple(step if i == axis else 1 for i in range(x.rank)),
        )

    def _is_sure(self, gap: Dim) -> bool:
        """Whether a dim is not negative, whatever the sizes in it are that depend on data.

        Sizes of inputs are no question: PyTorch has checked what it assumed of them.
        """
        of_data = [s for s in symbols(gap).values() if s.name in self.labels]
        for each in of_data:
            linear = linear_in(gap, each.name)
            if linear is None or not isinstance(linear[0], int):
                return False
            extreme = each.minimum if linear[0] > 0 else each.maximum
            if extreme is None:
                return False
            gap = linear[0] * extreme + linear[1]
        least = bounds(gap)[0]
        return not of_data or gap == 0 or (least is not None and least >= 0)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front (PyTorch counts a rank-0 tensor as rank 1)."""
    return axis % max(rank, 1)


def axes_of(axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted; None or none of them are all."""
    if rank == 0:
        return ()
    if axes is None or axes == []:
        return tuple(range(rank))
    given = [axes] if isinstance(axes, int) else axes
    return tuple(sorted(axis_of(axis, rank) for axis in given))


def static(value: Dim, what: str) -> int:
    """A size that must be a constant."""
    if not isinstance(value, int):
        raise Refusal(f"{what} is symbolic ({value})")
    return value


def _converted(value: bool | int | float, dtype: DType) -> bool | int | float:
    if dtype == BOOL:
        return bool(value)
    if dtype.is_float:
        return float(value)
    return int(value)
