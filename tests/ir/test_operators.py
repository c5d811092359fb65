"""Shape rules on symbolic dims, what they refuse, and definitions that PyTorch does not cover."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.errors import CompileError
from ranvier.ir.dim import Dim, evaluate, symbol
from ranvier.ir.dtype import BF16, BOOL, F16, F32, F64, I32, I64, DType
from ranvier.ir.graph import TensorType
from ranvier.ir.operators import OPERATORS, infer
from tests.ir.operator_run import normal, run

N, H, W = symbol("n", 1), symbol("h", 16, 512), symbol("w", 16, 512)
ROOT = Path(__file__).parents[2]


def t(*shape: Dim, dtype: DType = F32) -> TensorType:
    return TensorType(dtype, shape)


CONV = {"strides": (2, 2), "padding": ((1, 1), (1, 1)), "dilations": (1, 1), "groups": 1}
SYMBOLIC: list[tuple[str, list[TensorType], dict[str, object], TensorType]] = [
    ("add", [t(N, 1, H), t(4, 1)], {}, t(N, 4, H)),
    ("where", [t(N, dtype=BOOL), t(), t(1)], {}, t(N)),
    ("less", [t(N), t(N)], {}, t(N, dtype=BOOL)),
    ("reshape", [t(N, 2, H)], {"shape": (N * H, 2)}, t(N * H, 2)),
    ("concat", [t(N, H), t(N, 3)], {"axis": 1}, t(N, H + 3)),
    ("slice", [t(N, H)], {"starts": (0, 1), "stops": (N, H), "steps": (1, 2)}, t(N, H // 2)),
    ("pad", [t(H)], {"low": (2,), "high": (-1,), "mode": "edge", "value": 0}, t(H + 1)),
    ("conv", [t(N, 3, H, W), t(8, 3, 3, 3), t(8)], CONV, t(N, 8, (H + 1) // 2, (W + 1) // 2)),
    ("matmul", [t(N, 1, H, 4), t(3, 4, W)], {}, t(N, 3, H, W)),
    ("gather", [t(100, 8), t(N, H, dtype=I64)], {"axis": 0}, t(N, H, 8)),
    ("reduce_mean", [t(N, H, W)], {"axes": (1,), "keepdims": True}, t(N, 1, W)),
    ("iota", [], {"size": N, "dtype": I64}, t(N, dtype=I64)),
    ("resize", [t(N, 3, H, W)], {"size": (H * 2, 7), "mode": "nearest",
     "coordinates": "asymmetric", "antialias": False}, t(N, 3, H * 2, 7)),
    ("layer_norm", [t(N, 8, dtype=BF16), t(8), t(8)], {"axis": 1, "epsilon": 1e-5},
     t(N, 8, dtype=BF16)),
    ("attention", [t(N, 2, H, 4), t(N, 2, W, 4), t(N, 2, W, 5), t(N, 1, 1, W, dtype=BOOL)],
     {"scale": 0.5, "causal": False}, t(N, 2, H, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "attributes", "expected"), SYMBOLIC)
def test_symbolic_shapes(
    op: str, operands: list[TensorType], attributes: dict[str, object], expected: TensorType
) -> None:
    assert infer(op, operands, attributes) == (expected,)


REFUSED: list[tuple[str, list[TensorType], dict[str, object], str]] = [
    ("add", [t(N, 3), t(4)], {}, "cannot broadcast dims 3 and 4"),
    ("add", [t(N), t(H)], {}, "cannot broadcast dims n and h"),
    ("add", [t(2), t(2, dtype=F64)], {}, "equal element types"),
    ("add", [t(2)], {}, "takes 2 to 2 operands"),
    ("exp", [t(2, dtype=I32)], {}, "not defined on i32"),
    ("clamp", [t(2)], {"min": 0}, r"missing attributes \['max'\]"),
    ("clamp", [t(2)], {"min": "a", "max": None}, "min must be a number or None"),
    ("relu", [t(2)], {"alpha": 1}, r"unknown \['alpha'\]"),
    ("reshape", [t(N, 4)], {"shape": (N, 5)}, "cannot be proved equal"),
    ("transpose", [t(N, 4)], {"permutation": (0, 0)}, "not a permutation"),
    ("slice", [t(4)], {"starts": (0,), "stops": (5,), "steps": (1,)}, "not within"),
    ("slice", [t(4)], {"starts": (0,), "stops": (4,), "steps": (0,)}, "not within"),
    ("concat", [t(N, 3), t(H, 3)], {"axis": 1}, "differ outside axis 1"),
    ("softmax", [t(N, 3)], {"axis": 2}, "axis 2 is outside"),
    ("softmax", [t(N, 3)], {"axis": -1}, "axis -1 is outside"),
    ("matmul", [t(N, 3), t(4, 5)], {}, "inner dims 3 and 4 differ"),
    ("conv", [t(N, 4, 8, 8), t(8, 3, 3, 3)], CONV, "4 channels, but"),
    ("conv", [t(N, 3, 8, 8), t(8, 3, 3, 3), t(7)], CONV, "needs a bias"),
    ("conv", [t(N, 3, 1, 1), t(8, 3, 9, 9)], CONV, "exceeds"),
    ("reduce_sum", [t(N, 3)], {"axes": (1, 1), "keepdims": True}, "repeat"),
    ("gather", [t(5), t(N)], {"axis": 0}, "indices must be integers"),
    ("top_k", [t(5)], {"k": 6, "axis": 0, "largest": True}, "k is 6"),
    ("layer_norm", [t(N, 8), t(7)], {"axis": 1, "epsilon": 1e-5}, "parameters need"),
    ("gelu", [t(2)], {"approximate": "sigmoid"}, 'must be "none" or "tanh"'),
    ("made_up", [], {}, "no 'made_up'"),
]


@pytest.mark.parametrize(("op", "operands", "attributes", "message"), REFUSED)
def test_refusals_name_operator_types_and_source(
    op: str, operands: list[TensorType], attributes: dict[str, object], message: str
) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        infer(op, operands, attributes, "model.py:7")
    assert "model.py:7" in str(caught.value)
    assert op in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 4), st.booleans())
def test_window_counts_are_the_same_for_symbols(
    size: int, kernel: int, stride: int, edge: int, ceil_mode: bool
) -> None:
    attributes = {"kernel": (kernel,), "strides": (stride,), "padding": ((edge, edge),),
                  "dilations": (1,), "ceil_mode": ceil_mode}  # fmt: skip
    (symbolic,) = infer("max_pool", [t(N, symbol("s", 1))], attributes)
    if size + 2 * edge < kernel:
        return
    (concrete,) = infer("max_pool", [t(N, size)], attributes)
    assert evaluate(symbolic.shape[1], {"s": size}) == concrete.shape[1]


def test_contract_and_table_name_the_same_operators() -> None:
    table = re.findall(r"^\|.*$", (ROOT / "docs/operators.md").read_text(), re.MULTILINE)
    words = set(re.findall(r"[a-z][a-z_0-9]+", re.sub(r"\{[^}]*\}", "", " ".join(table))))
    assert OPERATORS.keys() - words == set()


def test_f16_and_bf16_are_computed_in_f32() -> None:
    x = np.array([60000.0, 2.0], np.float16)
    found = run("reduce_mean", x, axes=(0,), keepdims=False)
    assert found.dtype == F16.storage
    assert found == np.float16(30001.0)


def test_stable_selection_and_nan_order() -> None:
    x = np.array([1.0, np.nan, 3.0, 1.0, 3.0], np.float32)
    types = [TensorType(F32, (5,))]
    attributes: dict[str, object] = {"k": 3, "axis": 0, "largest": True}
    results = infer("top_k", types, attributes)
    from ranvier.ir.operators import evaluate as evaluate_operator

    _, positions = evaluate_operator("top_k", [x], types, attributes, results)
    assert positions.tolist() == [1, 2, 4]


@pytest.mark.parametrize("op", ["maximum", "minimum", "add"])
def test_nan_propagates(op: str) -> None:
    assert np.isnan(run(op, np.array([np.nan], np.float32), np.array([1.0], np.float32))).all()


@pytest.mark.parametrize("op", ["relu", "reduce_max", "clamp"])
def test_nan_passes_through(op: str) -> None:
    attributes: dict[str, dict[str, object]] = {
        "reduce_max": {"axes": (0,), "keepdims": False},
        "clamp": {"min": 0.0, "max": 1.0},
    }
    assert np.isnan(run(op, np.array([np.nan], np.float32), **attributes.get(op, {}))).all()


def test_empty_batch() -> None:
    assert run("softmax", normal(0, 4), axis=1).shape == (0, 4)
    assert run("conv", normal(0, 3, 8, 8), normal(4, 3, 3, 3), **CONV).shape == (0, 4, 4, 4)
    assert run("matmul", normal(0, 3), normal(3, 2)).shape == (0, 2)


def test_integer_power_with_negative_exponent() -> None:
    found = run("pow", np.array([2, 1, -1, 3]), np.array([-1, -5, -3, 2]))
    assert found.tolist() == [0, 1, -1, 9]


def test_extremum_of_ceil_mode_is_decided_without_min() -> None:
    attributes = {"kernel": (3,), "strides": (2,), "padding": ((0, 0),), "dilations": (1,),
                  "ceil_mode": True}  # fmt: skip
    (found,) = infer("max_pool", [t(H)], attributes)
    assert found.shape == (H // 2,)
