"""Conversions between element types."""

from __future__ import annotations

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.dtypes import from_onnx
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.graph import Value


@onnx_operator("Cast")
def cast(call: Call, x: Value, *, to: int) -> Value:
    """x in another element type."""
    return call.cast(x, from_onnx(to))


@onnx_operator("CastLike")
def cast_like(call: Call, x: Value, like: Value) -> Value:
    """x in the element type of another tensor."""
    return call.cast(x, like.dtype)
