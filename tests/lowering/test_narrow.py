"""Narrow types and bit casts in graphs of several operators, native against the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ranvier.ir.dtype import BF16, BOOL, BY_NAME, F16, F32, I8, I32, U8, U16, U32, DType, encode
from ranvier.ir.graph import GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from tests.lowering.native import CORES, run_native

E4M3, E5M2, E8M0, I4 = (BY_NAME[name] for name in ("f8e4m3fn", "f8e5m2", "f8e8m0", "i4"))
ROUND = {"saturate": True, "rounding": "nearest"}
RANDOM = np.random.default_rng(3)
Build = Callable[[GraphBuilder, Value], Value]


def check(build: Build, dtype: DType, *shape: int, low: float = -4, high: float = 4) -> None:
    b = GraphBuilder("narrow")
    x = b.input("x", TensorType(dtype, shape))
    result = build(b, x)
    graph = b.finish([result], ["y"])
    if dtype.is_integer:
        limits = np.iinfo(dtype.storage.name)
        array = RANDOM.integers(limits.min, limits.max, shape, dtype.storage, endpoint=True)
    else:
        array = np.asarray(encode(RANDOM.uniform(low, high, shape), dtype))
    inputs: dict[str, npt.NDArray[Any]] = {"x": array}
    wanted = interpret(graph, inputs)["y"]
    for (found,) in run_native(graph, [inputs]):
        np.testing.assert_array_equal(found["y"], wanted)
    assert CORES


def test_a_product_is_rounded_where_it_is_stored() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        w = b.constant(np.eye(16, dtype=np.float32))
        return b.add("narrow_cast", b.add("matmul", x, w), dtype=E4M3, **ROUND)

    check(build, F32, 9, 16)


def test_weights_in_eight_bits_are_widened_where_they_are_read() -> None:
    codes = encode(RANDOM.integers(-3, 4, (16, 24)).astype(np.float32), E5M2)

    def build(b: GraphBuilder, x: Value) -> Value:
        w = b.add("cast", b.constant(codes, E5M2), dtype=F32)
        return b.add("matmul", b.add("round", x), w)

    check(build, F32, 5, 16)


@pytest.mark.parametrize("dtype", [E4M3, E8M0, I4], ids=str)
def test_copies_of_narrow_constants_and_inputs(dtype: DType) -> None:
    constant = encode(np.asarray([1.0, 2.0, 4.0]), dtype)

    def build(b: GraphBuilder, x: Value) -> Value:
        row = b.constant(constant, dtype)
        one = b.constant(constant[:1].reshape(()), dtype)
        both = b.add("concat", b.add("broadcast", row, shape=(4, 3)), x, axis=0)
        turned = b.add("transpose", both, permutation=(1, 0))
        condition = b.constant(np.arange(11) % 2 == 0)
        return b.add("where", condition, turned, b.add("broadcast", one, shape=(3, 11)))

    check(build, dtype, 7, 3, low=1)


def test_bits_of_sixteen_bit_floats_that_were_computed() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        return b.add("bit_cast", b.add("mul", x, x), dtype=U16)

    check(build, BF16, 37)
    check(build, F16, 37)


def test_sixteen_bit_floats_from_computed_bits() -> None:
    def build(target: DType) -> Build:
        def body(b: GraphBuilder, x: Value) -> Value:
            sign = b.constant(np.asarray(0x8000, np.uint16))
            return b.add("bit_cast", b.add("bitwise_xor", x, sign), dtype=target)

        return body

    check(build(BF16), U16, 4099)
    check(build(F16), U16, 4099)


def test_bits_of_a_padded_value() -> None:
    pad = {"low": (1, 2), "high": (0, 1), "mode": "constant", "value": -2.5}

    def build(dtype: DType) -> Build:
        return lambda b, x: b.add("bit_cast", b.add("pad", x, **pad), dtype=dtype)  # type: ignore[arg-type]

    check(build(U32), F32, 5, 7)
    check(build(U16), BF16, 5, 7)


def test_bits_of_comparisons_and_padding_of_bits() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        positive = b.add("greater", x, b.constant(np.float32(0)))
        byte = b.add("bit_cast", positive, dtype=U8)
        return b.add("pad", byte, low=(1,), high=(3,), mode="constant", value=200)

    check(build, F32, 33)


def test_a_chain_of_bit_casts_and_narrow_casts() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        code = b.add("narrow_cast", x, dtype=E8M0, saturate=False, rounding="up")
        flipped = b.add("bitwise_not", b.add("bit_cast", code, dtype=I8))
        number = b.add("cast", b.add("bit_cast", flipped, dtype=E4M3), dtype=F16)
        small = b.add("cast", b.add("cast", number, dtype=I32), dtype=I4)
        return b.add("where", b.add("is_nan", number), b.add("cast", small, dtype=I8),
                     b.add("cast", b.add("cast", small, dtype=BOOL), dtype=I8))  # fmt: skip

    check(build, F32, 301)
