"""The emulation of AVX-512 does what the instructions do, and code that uses them runs in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ranvier.codegen import avx512
from ranvier.codegen.builder import (
    BFLOAT,
    FLOAT,
    I32,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    vector,
)
from ranvier.codegen.math_context import Context
from ranvier.codegen.rounded_stores import round_two
from ranvier.ir.dtype import BF16, decode, encode
from ranvier.ir.interpreter import interpret
from ranvier.target import TARGETS
from tests.codegen.contraction_cases import Matmul
from tests.codegen.jit import Compiled
from tests.emulation import is_emulated
from tests.lowering import test_prologue
from tests.lowering.native import run_native
from tests.lowering.test_depth_first import ASKED, BLOCKS, inputs

Array = npt.NDArray[Any]
WIDEST = TARGETS["x86-64-v4-bf16"]
X = np.array(
    [0, -0.0, 1, -1.5, np.inf, -np.inf, np.nan, 1e-41, 3e38, 2.7, -7.25, 126, -150, 1e9, 5.5, 9],
    np.float32,
)
Y = np.array(
    [3, np.inf, 0.5, -3, -np.inf, 1, 2, 2.5, -1, 128, -149.5, -40, 7, -1e9, 0, np.nan], np.float32
)
INDEX = np.array([0, 15, 16, 31, 7, 7, 3, -1, 100, 9, 8, 2, 1, 5, 12, 4], np.int32)
FINITE = np.random.default_rng(5).standard_normal((3, 32)).astype(np.float32)


def _round(x: Array) -> Array:
    bits: Array = encode(np.where(np.abs(x) < 2.0**-126, np.copysign(0, x), x), BF16)
    return bits


def _scale(x: Array, n: Array) -> Array:
    with np.errstate(all="ignore"):
        power = np.exp2(np.clip(np.floor(n.astype(np.float64)), -300, 300))
        scaled = (x.astype(np.float64) * power).astype(np.float32)
    undefined = np.isinf(x) & np.isneginf(n) | (x == 0) & np.isposinf(n) | np.isnan(n)
    return np.where(undefined, np.float32(np.nan), scaled)


def _fraction(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(x), np.float32(0), x - np.floor(x))


def _dot(total: Array, a: Array, b: Array) -> Array:
    x, y = (decode(bits, BF16).astype(np.float64) for bits in (a, b))
    odd = (total + x[1::2] * y[1::2]).astype(np.float32)
    result: Array = (odd + x[0::2] * y[0::2]).astype(np.float32)
    return result


def _dot_of_pairs(context: Context, total: Val, a: Val, b: Val) -> Val:
    return context.builder.call("llvm.x86.avx512bf16.dpbf16ps.512", total.type, total, a, b)


INSTRUCTIONS: dict[str, tuple[Callable[..., Val], list[Array], Callable[..., Array]]] = {
    "scale": (avx512.scale, [X, Y], _scale),
    "fraction": (avx512.fraction, [X], _fraction),
    "look up": (
        lambda context, index: avx512.look_up(context, list(FINITE[0, :16]), index),
        [INDEX],
        lambda index: FINITE[0, index % 16],
    ),
    "NaN at minus infinity": (
        avx512.nan_at_minus_infinity,
        [X, Y],
        lambda x, y: np.where(np.isneginf(y), np.float32(np.nan), x),
    ),
    "round two": (
        lambda context, low, high: round_two(context.builder, low, high),
        [X, Y],
        lambda low, high: _round(np.concatenate([low, high])),
    ),
    "dot": (
        _dot_of_pairs,
        [FINITE[0, :16], encode(FINITE[1], BF16), encode(FINITE[2], BF16)],
        _dot,
    ),
}
REAL_TOO = [True] if is_emulated(WIDEST) else [True, False]


def run(instruction: Callable[..., Val], operands: list[Array], emulate: bool) -> Array:
    """The result of one instruction; bf16 as its bits."""
    types = {"float32": FLOAT, "int32": I32, "uint16": BFLOAT}
    module = ModuleWriter(WIDEST.triple)
    names = [f"p{i}" for i in range(len(operands) + 1)]
    parameters = [(name, PTR) for name in names] + [("thread", I64), ("threads", I64)]
    f = FunctionBuilder(module, "k", parameters)
    values = [
        f.load(vector(len(x), types[x.dtype.name]), f.arg(name), 4)
        for x, name in zip(operands, names, strict=False)
    ]
    result = instruction(Context(f, WIDEST), *values)
    f.store(result, f.arg(names[-1]), 4)
    f.ret()
    f.finish()
    out = np.zeros(16, np.float32)
    Compiled(module, WIDEST, emulate)("k", [*operands, out])
    return out if result.type == vector(16, FLOAT) else out.view(np.uint16)


@pytest.mark.parametrize("name", INSTRUCTIONS)
@pytest.mark.parametrize("emulate", REAL_TOO)
def test_an_instruction(name: str, emulate: bool) -> None:
    instruction, operands, definition = INSTRUCTIONS[name]
    found = run(instruction, operands, emulate)
    np.testing.assert_array_equal(found, definition(*operands))


@pytest.mark.parametrize("emulate", REAL_TOO)
def test_the_estimate_of_a_reciprocal(emulate: bool) -> None:
    x = np.array([1, -3, 7e20, 1e-30, np.inf, -np.inf, 0, -0.0, np.nan, *X[9:]], np.float32)
    with np.errstate(divide="ignore"):
        wanted = 1 / x
    np.testing.assert_allclose(run(avx512.reciprocal_estimate, [x], emulate), wanted, 2.0**-14)


@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v4-bf16"])
def test_a_product(name: str) -> None:
    """Code for targets that this machine may lack."""
    Matmul(2, 7, 40, 64, BF16).check(TARGETS[name], 1, 2)


def test_a_block_of_convolutions() -> None:
    graph = BLOCKS["bf16"].graph()
    given = inputs(graph, 2, (9, 7))
    wanted = decode(interpret(graph, given)["y"], BF16)
    for (found,) in run_native(graph, [given], WIDEST, options=ASKED):
        assert np.abs(decode(found["y"], BF16) - wanted).max() < 0.1


def test_a_step_in_front_of_a_product() -> None:
    graph = test_prologue.LAYERS["bf16, excited"].graph()
    given = test_prologue.inputs(graph, 2, (9, 9))
    wanted = decode(interpret(graph, given)["y"], BF16)
    for (found,) in run_native(graph, [given], WIDEST, options=ASKED):
        assert np.abs(decode(found["y"], BF16) - wanted).max() < 0.1
