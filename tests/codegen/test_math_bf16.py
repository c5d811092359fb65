"""Functions whose results are rounded to bf16 may be shorter by what the rounding hides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.nest import emit_nest
from ranvier.ir.dtype import BF16, F32, from_bf16
from ranvier.lowering.expression import Access, Apply, Expression, Loop, Reduce, relaxed
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.target import Target
from tests.codegen.jit import Compiled
from tests.targets import HOST


def gelu(value: Expression, approximate: str) -> Apply:
    return Apply("gelu", (value,), F32, (("approximate", approximate),))


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_for_bf16(target: Target, approximate: str) -> None:
    special = [0.0, -0.0, np.nan, 3e38, -3e38, -4.0, 4.0, 1e-30]
    x = np.concatenate([np.linspace(-9, 9, 20001), special]).astype(np.float32)
    loop = Loop("j", len(x))
    value = relaxed(gelu(Access(0, loop.variable, F32), approximate), BF16)
    nest = Nest((loop,), (Store(1, loop.variable, BF16, value),), 2, (), 0)
    module = ModuleWriter(target.triple)
    emit_nest(module, "kernel", nest, target)
    bits = np.zeros(len(x), np.uint16)
    Compiled(module, target)("kernel", [x, bits])
    got = from_bf16(bits)
    want = torch.nn.functional.gelu(torch.from_numpy(x).double(), approximate=approximate).numpy()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    error = np.abs(got[finite] - want[finite])
    assert (error <= 1.5e-4 + np.abs(want[finite]) * 2.0**-8).all()


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["sigmoid", "silu"])
def test_logistic_for_bf16(target: Target, name: str) -> None:
    special = [0.0, -0.0, np.nan, np.inf, 3e38, -3e38, -1e3, -87.4, 89.0]
    x = np.concatenate([np.linspace(-20, 20, 20001), special]).astype(np.float32)
    loop = Loop("j", len(x))
    value = relaxed(Apply(name, (Access(0, loop.variable, F32),), F32), BF16)
    nest = Nest((loop,), (Store(1, loop.variable, BF16, value),), 2, (), 0)
    module = ModuleWriter(target.triple)
    emit_nest(module, "kernel", nest, target)
    bits = np.zeros(len(x), np.uint16)
    Compiled(module, target)("kernel", [x, bits])
    got = from_bf16(bits)
    function = torch.sigmoid if name == "sigmoid" else torch.nn.functional.silu
    want = function(torch.from_numpy(x).double()).numpy()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    error = np.abs(got[finite] - want[finite])
    assert (error <= 2e-36 + np.abs(want[finite]) * (2.0**-8 + 2e-4)).all()


def test_only_bf16_results_are_relaxed() -> None:
    loop = Loop("j", 4)
    value = gelu(Access(0, loop.variable, F32), "none")
    assert relaxed(value, F32) == value
    total = Reduce("sum", (loop,), value, F32)
    assert relaxed(total, BF16) == total
