"""Operators of ONNX Runtime (`com.microsoft`) that its optimiser puts in place of several others.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from ranvier.frontends.onnx.agreement import broadcastable, multipliable
from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.contractions import conv
from ranvier.frontends.onnx.elementwise import swish
from ranvier.frontends.onnx.normalization import layer_normalization, rms_normalization
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.graph import Value

MICROSOFT = "com.microsoft"
_FUSED = {"": "", "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


@onnx_operator("Gelu", domain=MICROSOFT)
def gelu(call: Call, x: Value) -> Value:
    """x * Phi(x)."""
    return call.emit("gelu", x, approximate="none")


@onnx_operator("BiasGelu", domain=MICROSOFT)
def bias_gelu(call: Call, x: Value, bias: Value) -> Value:
    """The same of a sum."""
    total = call.emit("add", *broadcastable(call, (x, bias)))
    return call.emit("gelu", total, approximate="none")


@onnx_operator("FastGelu", domain=MICROSOFT)
def fast_gelu(call: Call, x: Value, bias: Value | None = None) -> Value:
    """By the tanh approximation, of a sum if there is a bias."""
    total = x if bias is None else call.emit("add", *broadcastable(call, (x, bias)))
    return call.emit("gelu", total, approximate="tanh")


@onnx_operator("QuickGelu", domain=MICROSOFT)
def quick_gelu(call: Call, x: Value, *, alpha: float = 1.702) -> Value:
    """x * sigmoid(alpha * x)."""
    return swish(call, x, alpha=alpha)


@onnx_operator("FusedMatMul", domain=MICROSOFT)
def fused_mat_mul(
    call: Call, a: Value, b: Value, *, alpha: float = 1.0, transA: int = 0,  # noqa: N803
    transB: int = 0, transBatchA: int = 0, transBatchB: int = 0,  # noqa: N803
) -> Value:  # fmt: skip
    """alpha * a b, either of them transposed."""
    if transBatchA or transBatchB:
        raise Refusal("exchanges batch dims with those of its matrices")
    if min(a.rank, b.rank) < 2:
        raise Refusal("multiplies vectors")
    first = _transposed(call, a) if transA else a
    second = _transposed(call, b) if transB else b
    result = call.emit("matmul", *multipliable(call, first, second))
    return result if alpha == 1.0 else call.number("mul", result, alpha)


def _transposed(call: Call, x: Value) -> Value:
    return call.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


@onnx_operator("FusedConv", domain=MICROSOFT)
def fused_conv(
    call: Call, x: Value, w: Value, bias: Value | None = None, added: Value | None = None,
    *, activation: str = "", activation_params: tuple[float, ...] = (),
    auto_pad: str = "NOTSET", dilations: tuple[int, ...] | None = None, group: int = 1,
    kernel_shape: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Value:  # fmt: skip
    """A convolution, plus a tensor, through an activation."""
    result = conv(
        call, x, w, bias, auto_pad=auto_pad, dilations=dilations, group=group,
        kernel_shape=kernel_shape, pads=pads, strides=strides,
    )  # fmt: skip
    if added is not None:
        result = call.emit("add", *broadcastable(call, (result, added)))
    if activation == "LeakyRelu":
        return call.emit("leaky_relu", result, alpha=activation_params[0])
    if activation == "Clip":
        low, high = activation_params
        return call.emit("clamp", result, min=low, max=high)
    if activation not in _FUSED:
        raise Refusal(f"has the activation {activation}")
    return call.emit(_FUSED[activation], result) if activation else result


@onnx_operator("SimplifiedLayerNormalization")
@onnx_operator("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_normalization(
    call: Call, x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Value, None]:  # fmt: skip
    """x over the root of the mean of its squares."""
    if 1 in call.used:
        raise Refusal("shows its statistics")
    result = rms_normalization(call, x, scale, axis=axis, epsilon=epsilon, stash_type=stash_type)
    return result, None


@onnx_operator("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(
    call: Call, x: Value, skip: Value, scale: Value, shift: Value | None = None,
    bias: Value | None = None, *, epsilon: float = 1e-12,
) -> tuple[Value | None, ...]:  # fmt: skip
    """layer_norm(x + skip + bias), and the sum itself."""
    total = _sum(call, x, skip, bias)
    result, *_ = layer_normalization(call, total, scale, shift, axis=-1, epsilon=epsilon)
    return result, None, None, total


@onnx_operator("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(
    call: Call, x: Value, skip: Value, scale: Value, bias: Value | None = None,
    *, epsilon: float = 1e-12,
) -> tuple[Value | None, ...]:  # fmt: skip
    """rms_norm(x + skip + bias), and the sum itself."""
    total = _sum(call, x, skip, bias)
    return rms_normalization(call, total, scale, axis=-1, epsilon=epsilon), None, None, total


def _sum(call: Call, x: Value, skip: Value, bias: Value | None) -> Value:
    if call.used & {1, 2}:
        raise Refusal("shows its statistics")
    total = call.emit("add", *broadcastable(call, (x, skip)))
    return total if bias is None else call.emit("add", total, bias)
