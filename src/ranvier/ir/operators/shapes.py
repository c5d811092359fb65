"""Checks and shape arithmetic that shape rules share. All of them accept symbolic dims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import DType
from ranvier.ir.graph import Shape
from ranvier.ir.operators.operator import Call


def broadcast(call: Call, *shapes: Shape) -> Shape:
    """NumPy broadcasting: aligned at the last dim; dims are equal or 1."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(_common(call, dims) for dims in zip(*padded, strict=True))


def _common(call: Call, dims: Iterable[Dim]) -> Dim:
    common: Dim = 1
    for dim in dims:
        if dim == 1 or dim == common:
            continue
        if common != 1:
            raise call.error(f"cannot broadcast dims {common} and {dim} (neither equal nor 1)")
        common = dim
    return common


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether an array of `shape` broadcasts to exactly `target`."""
    if len(shape) > len(target):
        return False
    tail = target[len(target) - len(shape) :]
    return all(dim in (1, wanted) for dim, wanted in zip(shape, tail, strict=True))


def require_same_dtype(call: Call, first: int = 0) -> DType:
    """The element type that operands from `first` on share."""
    dtypes = [operand.dtype for operand in call.operands[first:]]
    if any(dtype != dtypes[0] for dtype in dtypes):
        raise call.error("operands need equal element types")
    return dtypes[0]


def require_float(call: Call) -> None:
    """Raises CompileError unless the first operand is of a float type."""
    if not call.first.dtype.is_float:
        raise call.error(f"needs a float operand, got {call.first.dtype}")


def require_parameter_dtypes(call: Call, first: int) -> None:
    """Parameters from operand `first` on are of operand 0's dtype, or f32 beside f16 and bf16."""
    data = call.first.dtype
    for operand in call.operands[first:]:
        widened = operand.dtype.name == "f32" and data.is_float and data.size == 2
        if operand.dtype != data and not widened:
            raise call.error(f"parameter of {operand.dtype} does not fit data of {data}")


def axis(call: Call, value: int, rank: int | None = None) -> int:
    """`value` when it is one of the dims of the first operand."""
    limit = call.first.rank if rank is None else rank
    if not 0 <= value < limit:
        raise call.error(f"axis {value} is outside 0..{limit - 1}")
    return value


def axes(call: Call, values: Sequence[int]) -> tuple[int, ...]:
    """`values` when they are distinct dims of the first operand."""
    for value in values:
        axis(call, value)
    if len(set(values)) != len(values):
        raise call.error(f"axes {tuple(values)} repeat")
    return tuple(values)


def reduced(call: Call, over: Sequence[int], keepdims: bool) -> Shape:
    """The first operand's shape after a reduction over the dims `over`."""
    axes(call, over)
    shape = call.first.shape
    if keepdims:
        return tuple(1 if i in over else dim for i, dim in enumerate(shape))
    return tuple(dim for i, dim in enumerate(shape) if i not in over)


def window_output(
    size: Dim,
    kernel: Dim,
    stride: int,
    padding: tuple[Dim, Dim],
    dilation: int,
    ceil_mode: bool = False,
) -> Dim:
    """Number of windows of a convolution or pooling along one dim.

    `(size + low + high - dilation * (kernel - 1) - 1) // stride + 1`. With `ceil_mode` a last
    partial window counts too, if it starts inside the input or its low padding (PyTorch's rule).
    """
    low, high = padding
    span = size + low + high - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    excess = high - dilation * (kernel - 1) + stride - 1  # (rounded-up span) - (size + low - 1)
    if not isinstance(excess, int):
        raise ValueError("ceil_mode needs constant padding and kernel")
    return (span + stride - 1 if excess <= 0 else size + low - 1) // stride + 1


def window_checks(call: Call, spatial: int, *names: str) -> None:
    """Every named attribute has one entry per spatial dim."""
    for name in names:
        entries = call.attributes[name]
        if not isinstance(entries, tuple) or len(entries) != spatial:
            raise call.error(f"{name} needs {spatial} entries, got {entries}")
    for name in ("strides", "dilations", "kernel"):
        if name in names and any(entry < 1 for entry in call.ints(name)):
            raise call.error(f"{name} must be positive")
