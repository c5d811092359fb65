"""Constant matrices times vectors: right for any matrix, and short where rows or columns pair."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.codegen.builder import FLOAT, I64, PTR, FunctionBuilder, ModuleWriter, int_const
from ranvier.codegen.constant_matrix import Row, multiply
from ranvier.lowering.kernels.winograd import transforms
from tests.codegen.jit import Compiled
from tests.targets import HOST

if not HOST:
    pytest.skip("this CPU runs none of the targets", allow_module_level=True)
coefficients = st.sampled_from([Fraction(n, 2) for n in range(-4, 5)])
rows = st.lists(coefficients, min_size=4, max_size=4).filter(any)


def emitted(matrix: list[Row]) -> ModuleWriter:
    """`void @k(ptr x, ptr y, i64 thread, i64 threads)`: y = matrix @ x."""
    module = ModuleWriter(HOST[0].triple)
    f = FunctionBuilder(module, "k", [("x", PTR), ("y", PTR), ("thread", I64), ("threads", I64)])
    x, y = f.arg("x"), f.arg("y")
    operands = [
        f.load(FLOAT, f.element_pointer(x, FLOAT, int_const(k)), 4) for k in range(len(matrix[0]))
    ]
    for k, value in enumerate(multiply(f, matrix, operands)):
        f.store(value, f.element_pointer(y, FLOAT, int_const(k)), 4)
    f.ret()
    f.finish()
    return module


def operations(matrix: list[Row]) -> int:
    """Arithmetic instructions that the product takes."""
    lines = str(emitted(matrix)).split("\n")
    return sum(any(op in line for op in ("= fadd", "= fsub", "= fmul", "= call")) for line in lines)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(rows, min_size=1, max_size=5))
def test_product(matrix: list[Row]) -> None:
    x = np.array([1.0, -3.0, 16.0, 5.0], np.float32)
    y = np.zeros(len(matrix), np.float32)
    Compiled(emitted(matrix), HOST[0])("k", [x, y])
    np.testing.assert_allclose(y, np.array(matrix, float) @ x, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("tile", "input_", "output"), [(2, 4, 4), (4, 12, 12)])
def test_pairs_share_their_halves(tile: int, input_: int, output: int) -> None:
    """One operation per coefficient would be 4 and 4, and 16 and 19."""
    matrices = transforms(tile, 3)
    assert operations(list(matrices.input)) == input_
    assert operations(list(matrices.output)) == output
