"""Complex tensors as pairs of real ones.

Operators that move or add elements work on both parts; `COMPLEX` has those that mix them. Complex
tensors live inside a model only: inputs and outputs are real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node as FxNode

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.dtypes import Scalar
from ranvier.frontends.torch.registry import TABLE, Function, Translate
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F64, DType
from ranvier.ir.graph import Value


@dataclass(frozen=True)
class Pair:
    """A complex tensor: two values of one type."""

    real: Value
    imag: Value

    def map(self, change: Callable[[Value], Value]) -> Pair:
        """The pair of changed parts."""
        return Pair(change(self.real), change(self.imag))


COMPLEX: dict[str, Translate] = {}
BY_PARTS = frozenset(
    f"aten.{name}"
    for name in (
        "alias.default", "as_strided.default", "broadcast_to.default", "cat.default",
        "chunk.default", "clone.default", "contiguous.default", "detach.default",
        "diagonal.default", "expand.default", "flatten.using_ints", "flip.default",
        "gather.default", "index.Tensor", "index_select.default", "mean.dim", "narrow.default",
        "neg.default", "_neg_view.default", "permute.default", "repeat.default",
        "reshape.default", "roll.default", "select.int", "slice.Tensor", "split.Tensor",
        "split_with_sizes.default", "squeeze.default", "squeeze.dim", "squeeze.dims",
        "stack.default", "sum.default", "sum.dim_IntList", "t.default", "transpose.int",
        "unbind.int", "unflatten.int", "unfold.default", "unsqueeze.default", "view.default",
        "_unsafe_view.default",
    )
)  # fmt: skip
"""Operators that do the same to both parts."""

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def real_dtype(dtype: torch.dtype) -> torch.dtype | None:
    """The element type of the parts, or None for what is not complex."""
    return _REAL.get(dtype)


def is_complex(node: FxNode) -> bool:
    """Whether a node reads or gives complex tensors."""
    found = [node.meta.get("val"), *(operand.meta.get("val") for operand in node.all_input_nodes)]
    leaves = [leaf for v in found for leaf in (v if isinstance(v, (tuple, list)) else (v,))]
    return any(isinstance(leaf, torch.Tensor) and leaf.dtype in _REAL for leaf in leaves)


def part_of(value: Any, name: str) -> Any:
    """One part of an argument: "real" or "imag"; what is no complex tensor stays."""
    if isinstance(value, Pair):
        return value.real if name == "real" else value.imag
    if not isinstance(value, list):
        return value
    if len({isinstance(entry, Pair) for entry in value if not isinstance(entry, int)}) > 1:
        raise Refusal("joins complex and real tensors")
    return [part_of(entry, name) for entry in value]


def joined(real: Any, imag: Any) -> Any:
    """Pairs of what an operator returned for both parts."""
    if isinstance(real, Value):
        return Pair(real, imag)
    return tuple(map(joined, real, imag))


def holds_pairs(returned: Any) -> bool:
    """Whether results of an operator are complex."""
    leaves = returned if isinstance(returned, tuple) else (returned,)
    return any(isinstance(leaf, Pair) for leaf in leaves)


def complex_operator(*overloads: str) -> Callable[[Function], Function]:
    """Registers a function for overloads of ATen; complex operands are `Pair`s."""

    def register(function: Function) -> Function:
        for overload in overloads:
            COMPLEX[f"aten.{overload}" if "." in overload else f"aten.{overload}.default"] = (
                function
            )
        return function

    return register


Number = Pair | Value | Scalar


def _pair(call: Call, operand: Number, dtype: DType) -> Pair:
    if isinstance(operand, Pair):
        return operand.map(lambda part: call.cast(part, dtype))
    if isinstance(operand, complex):
        return Pair(call.scalar(operand.real, dtype), call.scalar(operand.imag, dtype))
    return Pair(call.tensor(operand, dtype), call.scalar(0.0, dtype))


def _require_pair(x: object) -> None:
    if not isinstance(x, Pair):
        raise Refusal("reads complex numbers that are an input; pass real ones")


def _dtype(*operands: Number) -> DType:
    pairs = [operand.real.dtype for operand in operands if isinstance(operand, Pair)]
    return F64 if F64 in pairs else pairs[0]


def _sum(op: str) -> Callable[..., Pair]:
    def translate(call: Call, x: Number, other: Number, alpha: Scalar = 1) -> Pair:
        dtype = _dtype(x, other)
        a, b = _pair(call, x, dtype), _pair(call, other, dtype)
        if alpha != 1:
            b = b.map(lambda part: call.emit("mul", part, call.scalar(alpha, dtype)))
        shape = call.shape
        parts = (call.emit(op, a.real, b.real), call.emit(op, a.imag, b.imag))
        return Pair(*(call.broadcast(part, shape) for part in parts))

    return translate


complex_operator("add.Tensor", "add.Scalar")(_sum("add"))
complex_operator("sub.Tensor", "sub.Scalar")(_sum("sub"))


@complex_operator("mul.Tensor", "mul.Scalar")
def mul(call: Call, x: Number, other: Number) -> Pair:
    """(a + bi)(c + di) = ac - bd + (ad + bc)i."""
    dtype = _dtype(x, other)
    if isinstance(x, Pair) and not isinstance(other, (Pair, complex)):
        return _times_real(call, x, call.tensor(other, dtype))
    if isinstance(other, Pair) and not isinstance(x, (Pair, complex)):
        return _times_real(call, other, call.tensor(x, dtype))
    a, b = _pair(call, x, dtype), _pair(call, other, dtype)

    def product(left: Value, right: Value) -> Value:
        return call.emit("mul", left, right)

    return Pair(
        call.emit("sub", product(a.real, b.real), product(a.imag, b.imag)),
        call.emit("add", product(a.real, b.imag), product(a.imag, b.real)),
    )


def _times_real(call: Call, x: Pair, factor: Value) -> Pair:
    return x.map(lambda part: call.emit("mul", call.cast(part, factor.dtype), factor))


@complex_operator("constant_pad_nd")
def constant_pad(call: Call, x: Pair, pad: Sequence[Dim], value: Scalar = 0) -> Pair:
    """With zeros only, which are those of both parts."""
    if value != 0:
        raise Refusal(f"pads complex numbers with {value}; only 0 is supported")
    translate = TABLE["aten.constant_pad_nd.default"]
    return x.map(lambda part: translate(call, part, pad))


@complex_operator("reciprocal")
def reciprocal(call: Call, x: Pair) -> Pair:
    """conj(x) / |x|^2."""
    return div(call, 1.0, x)


@complex_operator("rsub.Tensor", "rsub.Scalar")
def rsub(call: Call, x: Number, other: Number, alpha: Scalar = 1) -> Pair:
    """The difference with the operands in the other order."""
    result: Pair = COMPLEX["aten.sub.Tensor"](call, other, x, alpha)
    return result


@complex_operator("div.Tensor", "div.Scalar")
def div(call: Call, x: Number, other: Number) -> Pair:
    """x * conj(y) / |y|^2."""
    dtype = _dtype(x, other)
    a = _pair(call, x, dtype)
    if not isinstance(other, (Pair, complex)):
        divisor = call.tensor(other, dtype)
        return a.map(lambda part: call.emit("div", part, divisor))
    b = _pair(call, other, dtype)
    top = mul(call, a, conjugate(call, b))
    size = call.emit("add", call.emit("mul", b.real, b.real), call.emit("mul", b.imag, b.imag))
    return top.map(lambda part: call.emit("div", part, size))


@complex_operator("_conj", "conj", "conj_physical", "_conj_physical")
def conjugate(call: Call, x: Pair) -> Pair:
    """a - bi."""
    return Pair(x.real, call.emit("neg", x.imag))


@complex_operator("abs")
def absolute(call: Call, x: Pair) -> Value:
    """sqrt(a^2 + b^2)."""
    _require_pair(x)
    squares = [call.emit("mul", part, part) for part in (x.real, x.imag)]
    return call.emit("sqrt", call.emit("add", *squares))


@complex_operator("angle")
def angle(call: Call, x: Pair) -> Value:
    """The angle with the positive real axis."""
    _require_pair(x)
    return call.emit("atan2", x.imag, x.real)


@complex_operator("exp")
def exp(call: Call, x: Pair) -> Pair:
    """exp(a) (cos b + i sin b)."""
    return polar(call, call.emit("exp", x.real), x.imag)


@complex_operator("polar")
def polar(call: Call, abs: Value, angle: Value) -> Pair:
    """A number of a size and an angle."""
    cosine, sine = call.emit("cos", angle), call.emit("sin", angle)
    return Pair(call.emit("mul", abs, cosine), call.emit("mul", abs, sine))


@complex_operator("complex")
def complex_of(call: Call, real: Value, imag: Value) -> Pair:
    """a + bi of two tensors."""
    shape = call.shape
    return Pair(call.broadcast(real, shape), call.broadcast(imag, shape))


@complex_operator("view_as_real", "view_as_real_copy")
def view_as_real(call: Call, x: Pair) -> Value:
    """`[..., 2]`."""
    columns = [call.reshape(part, (*part.shape, 1)) for part in (x.real, x.imag)]
    return call.emit("concat", *columns, axis=x.real.rank)


@complex_operator("view_as_complex", "view_as_complex_copy")
def view_as_complex(call: Call, x: Value) -> Pair:
    """Of `[..., 2]`."""
    last, shape = x.rank - 1, x.shape[:-1]
    real, imag = (call.reshape(call.slice(x, last, i, i + 1), shape) for i in (0, 1))
    return Pair(real, imag)


@complex_operator("_to_copy")
def to_copy(call: Call, x: Number, dtype: object = None) -> Pair:
    """To a complex type; real numbers get an imaginary part of 0."""
    if not isinstance(x, Pair) and not isinstance(x, Value):
        raise Refusal("converts a number")
    result = _pair(call, x, call.dtype)
    return result.map(lambda part: call.broadcast(part, call.shape))


@complex_operator("real")
def real(call: Call, x: Pair) -> Value:
    """The real part."""
    return x.real


@complex_operator("imag")
def imag(call: Call, x: Pair) -> Value:
    """The imaginary part."""
    return x.imag
