"""The machine's peak: fused multiply-adds on registers alone, on every core of a group at once.

The loop is a few lines of LLVM IR, compiled when the peak is asked for, so it needs llvmlite.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from ranvier.runtime.cores import Cores
from ranvier.runtime.cpu import plain
from ranvier.runtime.mapping import Code, address_of

_ITERATIONS = 500_000
_ROUNDS = 30

Loop = Callable[[int, int], None]


@dataclass(frozen=True)
class _Unit:
    """A multiply-add instruction.

    Attributes:
        accumulator, operand: LLVM vector types.
        intrinsic: LLVM's name of it.
        operations: multiplications and additions per instruction.
        chains: independent instructions in flight; they fit into the registers.
        accumulator_first: order of the intrinsic's arguments.
    """

    accumulator: str
    operand: str
    intrinsic: str
    operations: int
    chains: int
    accumulator_first: bool = False


_F32_256 = _Unit("<8 x float>", "<8 x float>", "llvm.fma.v8f32", 16, 12)
_F32_512 = _Unit("<16 x float>", "<16 x float>", "llvm.fma.v16f32", 32, 24)
_BF16_512 = _Unit("<16 x float>", "<32 x bfloat>", "llvm.x86.avx512bf16.dpbf16ps.512", 64, 24, True)


def can_measure() -> bool:
    """Whether the peak can be measured here: llvmlite is installed."""
    return importlib.util.find_spec("llvmlite") is not None


def peak_flops(features: Sequence[str], precision: str, cores: Cores) -> float | None:
    """The highest rate, in operations per second, of a core group with these CPU features.

    Args:
        features: what the program may use, LLVM's names or the kernel's.
        precision: "f32" or "bf16"; bf16 without a dot product unit computes at the rate of f32.
        cores: the group; all its threads run at once.

    Returns:
        None without llvmlite, or for features without a fused multiply-add.
    """
    unit = _unit({plain(feature) for feature in features}, precision)
    if unit is None or not can_measure():
        return None
    return _measured(unit, cores)


def _unit(features: set[str], precision: str) -> _Unit | None:
    if precision == "bf16" and "avx512bf16" in features:
        return _BF16_512
    if "avx512f" in features:
        return _F32_512
    return _F32_256 if "fma" in features else None


@cache
def _measured(unit: _Unit, cores: Cores) -> float:
    code = _compile(unit)
    loop: Loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.symbols["peak"])
    operations = cores.count * _ITERATIONS * unit.chains * unit.operations
    return operations / _best_seconds(loop, cores)


def _best_seconds(loop: Loop, cores: Cores) -> float:
    """The shortest of a few rounds; the threads are the pool's own, so pinning them harms none."""
    memory = [np.zeros(256, np.uint8) for _ in range(cores.count)]
    pointers = [(address_of(block) + 63) // 64 * 64 for block in memory]

    def share(thread: int) -> None:
        if cores.pinned:
            os.sched_setaffinity(0, {cores.cpus[thread]})
        loop(pointers[thread], _ITERATIONS)

    best = float("inf")
    with ThreadPoolExecutor(cores.count) as pool:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            list(pool.map(share, range(cores.count)))
            best = min(best, time.perf_counter() - start)
    return best


def _compile(unit: _Unit) -> Code:
    from ranvier.codegen.image import build_image

    features = ["avx2", "fma", "avx512f", "avx512vl", "avx512bf16"]
    count = 2 if unit is _F32_256 else 4 if unit is _F32_512 else 5
    image = build_image(_loop(unit), features=features[:count], optimized=False)
    descriptor = os.memfd_create("ranvier-peak", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, image.data)
        return Code(descriptor, 0, len(image.data), image.symbols)
    finally:
        os.close(descriptor)


def _loop(unit: _Unit) -> str:
    """`void @peak(ptr memory, i64 iterations)`: chains of multiply-adds that hide the latency."""
    acc, operand = unit.accumulator, unit.operand
    types = [acc, operand, operand] if unit.accumulator_first else [operand, operand, acc]
    heads, calls, sums, total = [], [], [], "%next0"
    for k in range(unit.chains):
        heads.append(f"  %sum{k} = phi {acc} [zeroinitializer, %entry], [%next{k}, %body]")
        factors = [f"{operand} %x", f"{operand} %y"]
        ordered = [f"{acc} %sum{k}", *factors] if unit.accumulator_first else [
            *factors, f"{acc} %sum{k}"
        ]  # fmt: skip
        calls.append(f"  %next{k} = call {acc} @{unit.intrinsic}({', '.join(ordered)})")
        if k:
            sums.append(f"  %total{k} = fadd {acc} {total}, %next{k}")
            total = f"%total{k}"
    return "\n".join([
        f"declare {acc} @{unit.intrinsic}({', '.join(types)})",
        "define void @peak(ptr %memory, i64 %iterations) {",
        "entry:",
        f"  %x = load {operand}, ptr %memory, align 64",
        "  %second = getelementptr i8, ptr %memory, i64 64",
        f"  %y = load {operand}, ptr %second, align 64",
        "  br label %body",
        "body:",
        "  %i = phi i64 [0, %entry], [%after, %body]",
        *heads, *calls,
        "  %after = add i64 %i, 1",
        "  %more = icmp ult i64 %after, %iterations",
        "  br i1 %more, label %body, label %done",
        "done:",
        *sums,
        f"  store {acc} {total}, ptr %memory, align 64",
        "  ret void",
        "}",
    ])  # fmt: skip
