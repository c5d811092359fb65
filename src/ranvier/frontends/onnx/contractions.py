"""Matrix products, convolutions and sums of products."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.agreement import broadcastable, multipliable
from ranvier.frontends.onnx.call import Call, statics
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.windows import halves, window_of
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Value


@onnx_operator("MatMul")
def mat_mul(call: Call, a: Value, b: Value) -> Value:
    """NumPy's matmul; vectors are rows on the left and columns on the right."""
    first = call.reshape(a, (1, *a.shape)) if a.rank == 1 else a
    second = call.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
    result = call.emit("matmul", *multipliable(call, first, second))
    shape = list(result.shape)
    if b.rank == 1:
        shape.pop()
    if a.rank == 1:
        shape.pop(-1 if b.rank == 1 else -2)
    return call.reshape(result, shape)


@onnx_operator("Gemm")
def gemm(
    call: Call, a: Value, b: Value, c: Value | None = None,
    *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0,  # noqa: N803
    broadcast: int = 0,
) -> Value:  # fmt: skip
    """alpha * a b + beta * c."""
    if a.rank != 2 or b.rank != 2:
        raise Refusal(f"multiplies {a.type} and {b.type}, which are no matrices")
    first = call.transpose(a, (1, 0)) if transA else a
    second = call.transpose(b, (1, 0)) if transB else b
    result = call.emit("matmul", *multipliable(call, first, second))
    if alpha != 1.0:
        result = call.number("mul", result, alpha)
    if c is None or beta == 0.0:
        return result
    scaled = c if beta == 1.0 else call.number("mul", c, beta)
    return call.emit("add", *broadcastable(call, (result, scaled)))


@onnx_operator("Conv")
def conv(
    call: Call, x: Value, w: Value, bias: Value | None = None,
    *, auto_pad: str = "NOTSET", dilations: tuple[int, ...] | None = None, group: int = 1,
    kernel_shape: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Value:  # fmt: skip
    """Convolution over the spatial dims."""
    kernel = statics(w.shape[2:], "the size of its kernel")
    window = window_of(x.shape[2:], kernel, strides, pads, dilations, auto_pad)
    return call.emit(
        "conv", x, w, *([] if bias is None else [bias]),
        strides=window.strides, padding=window.padding, dilations=window.dilations, groups=group,
    )  # fmt: skip


@onnx_operator("ConvTranspose")
def conv_transpose(
    call: Call, x: Value, w: Value, bias: Value | None = None,
    *, auto_pad: str = "NOTSET", dilations: tuple[int, ...] | None = None, group: int = 1,
    kernel_shape: tuple[int, ...] | None = None, output_padding: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Value:  # fmt: skip
    """Transposed convolution over the spatial dims."""
    rank = x.rank - 2
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    extra = output_padding or (0,) * rank
    given = pads or (0,) * (2 * rank)
    padding: Sequence[tuple[Dim, Dim]] = [(given[i], given[rank + i]) for i in range(rank)]
    if auto_pad == "VALID":
        padding = [(0, 0)] * rank
    if output_shape is not None or auto_pad.startswith("SAME"):
        kernel = statics(w.shape[2:], "the size of its kernel")
        wanted: Sequence[Dim] = [size * s for size, s in zip(x.shape[2:], stride, strict=True)]
        if output_shape is not None:
            wanted = output_shape[-rank:]
        padding = [
            halves(
                (x.shape[i + 2] - 1) * stride[i] + extra[i] + (kernel[i] - 1) * dilation[i] + 1
                - wanted[i],
                auto_pad == "SAME_UPPER" or auto_pad == "NOTSET",
            )
            for i in range(rank)
        ]  # fmt: skip
    return call.emit(
        "conv_transpose", x, w, *([] if bias is None else [bias]),
        strides=tuple(stride), padding=tuple(padding), output_padding=tuple(extra),
        dilations=tuple(dilation), groups=group,
    )  # fmt: skip


@onnx_operator("Det")
def det(call: Call, x: Value) -> Value:
    """The determinant, by elimination with the largest pivot of every column."""
    size = statics(x.shape[-2:], "the size of its matrices")[0]
    batch = x.shape[:-2]
    matrix = call.reshape(x, (*batch, size, size))
    result = call.full(batch, 1.0, x.dtype)
    last = matrix.rank - 1
    while size > 0:
        matrix, pivot, sign = _pivoted(call, matrix, size)
        result = call.emit("mul", result, call.emit("mul", pivot, sign))
        if size > 1:
            matrix = _eliminated(call, matrix, pivot, last)
        size -= 1
    return result


def _pivoted(call: Call, matrix: Value, size: int) -> tuple[Value, Value, Value]:
    """The row with the largest first element exchanged with row 0; (matrix, pivot, sign)."""
    batch, last = matrix.shape[:-2], matrix.rank - 1
    column = call.reshape(call.slice(matrix, last, 0, 1), (*batch, size))
    place = call.emit("arg_max", call.emit("abs", column), axis=last - 1, keepdims=True)
    rows = call.iota(size, axis=last - 1, rank=last)
    zero = call.number("equal", rows, 0)
    order = call.emit("where", zero, place, rows)
    order = call.where(call.emit("equal", rows, place), 0, order)
    order = call.emit("where", zero, place, order)
    spread = call.broadcast(call.reshape(order, (*order.shape, 1)), matrix.shape)
    swapped = call.emit("gather_elements", matrix, spread, axis=last - 1)
    corner = call.slice(call.slice(swapped, last - 1, 0, 1), last, 0, 1)
    at_home = call.reshape(call.number("equal", place, 0), batch)
    one = call.scalar(1.0, matrix.dtype)
    sign = call.emit("where", at_home, one, call.emit("neg", one))
    return swapped, call.reshape(corner, batch), sign


def _eliminated(call: Call, matrix: Value, pivot: Value, last: int) -> Value:
    """The matrix without its first row and column, after elimination of the column."""
    size = matrix.shape[last]
    row = call.slice(call.slice(matrix, last - 1, 0, 1), last, 1, size)
    rest = call.slice(matrix, last - 1, 1, size)
    column, rest = call.slice(rest, last, 0, 1), call.slice(rest, last, 1, size)
    safe = call.where(call.number("equal", pivot, 0), 1, pivot)
    factor = call.emit("div", column, call.reshape(safe, (*pivot.shape, 1, 1)))
    return call.emit("sub", rest, call.emit("mul", factor, row))
