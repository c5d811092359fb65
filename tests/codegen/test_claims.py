"""Threads that share steps by claims: every piece once, and the answers of one thread."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import llvmlite.binding as llvm
import numpy as np
import pytest

import ranvier
from ranvier.codegen.host import host_ir
from ranvier.lowering import claims

RUN = "define void @ranvier_run(ptr %c, i64 %t, i64 %n) {\n  ret void\n}\n"
LINE = 8
Claim = Callable[[np.ndarray, int, int, int], int]

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


@pytest.fixture(scope="module")
def claim() -> Iterator[Claim]:
    """`ranvier_claim` of (counters, pieces, thread, threads)."""
    module = llvm.parse_assembly(host_ir())
    module.link_in(llvm.parse_assembly(RUN))
    machine = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault")
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        kinds = ctypes.c_void_p, *[ctypes.c_int64] * 4
        address = engine.get_function_address("ranvier_claim")
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(address)
        yield lambda counters, *rest: function(counters.ctypes.data, LINE, *rest)


@pytest.mark.parametrize("threads", [1, 2, 3, 6])
def test_every_piece_is_claimed_once(claim: Claim, threads: int) -> None:
    pieces = 500
    counters = np.zeros(threads * LINE, np.int64)
    start = Barrier(threads)

    def work(thread: int) -> list[int]:
        found = []
        start.wait()
        while (number := claim(counters, pieces, thread, threads)) >= 0:
            found.append(number)
        return found

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(work, range(threads)))
    assert sorted(number for each in found for number in each) == list(range(threads * pieces))


def test_a_thread_helps_those_of_its_block_only(claim: Claim) -> None:
    counters = np.zeros(6 * LINE, np.int64)
    numbers = []
    while (number := claim(counters, 2, 1, 6)) >= 0:
        numbers.append(number)
    assert numbers == [2, 3, 0, 1, 6, 7, 4, 5]  # its own, then those of threads 0, 3 and 2


@pytest.mark.needs("torch")
@pytest.mark.parametrize("target", ["x86-64-v3", "native"])
def test_answers_are_those_of_one_thread(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torch import nn

    class Model(nn.Module):
        """A stage of two branches, a 3x3 and a depthwise convolution, attention and a loop."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 32, 3, padding=1)
            self.left, self.right = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3, padding=1)
            self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
            self.recurrent = nn.GRU(32, 16, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.stem(x).relu()
            y = self.depthwise(torch.sigmoid(self.left(y)) + self.right(y))
            rows = y.flatten(2).transpose(1, 2)
            rows = rows + self.attention(rows, rows, rows, need_weights=False)[0]
            return self.recurrent(rows)[0]

    torch.manual_seed(3)
    monkeypatch.setattr(claims, "_PIECE_WORK", 1)  # as if all steps were large
    x = torch.randn(2, 3, 13, 9)
    batch = torch.export.Dim("batch", min=1, max=8)
    path = tmp_path / "model.rvr"
    ranvier.trace(Model().eval(), (x,), dynamic_shapes=({0: batch},), target=target).save(path)
    with ranvier.load(path, cores=1) as one, ranvier.load(path) as all_:
        for size in (1, 5, 2):
            given = np.resize(x.numpy(), (size, *x.shape[1:]))
            expected = np.asarray(one(given))
            for _ in range(20):
                np.testing.assert_array_equal(np.asarray(all_(given)), expected)
