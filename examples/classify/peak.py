"""Measure the machine's peak: multiply-adds on registers only, on every core at once.

The loop is a few lines of LLVM IR; `bf16` is measured where the CPU has AVX512-BF16.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np

_ACCUMULATORS = 12
_ITERATIONS = 4_000_000


@dataclass(frozen=True)
class _Unit:
    """One multiply-add instruction: vector types, intrinsic, operations per instruction."""

    accumulator: str
    operand: str
    intrinsic: str
    operations: int
    accumulator_first: bool


_F32_256 = _Unit("<8 x float>", "<8 x float>", "llvm.fma.v8f32", 16, False)
_F32_512 = _Unit("<16 x float>", "<16 x float>", "llvm.fma.v16f32", 32, False)
_BF16_512 = _Unit("<16 x float>", "<32 x bfloat>", "llvm.x86.avx512bf16.dpbf16ps.512", 64, True)


def peak_gflops(precision: str, threads: int) -> float | None:
    """Peak of `threads` cores in GFLOP/s; None where the CPU has no unit for the precision."""
    unit = _unit(precision, llvm.get_host_cpu_features())
    if unit is None:
        return None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_loop(unit)), machine)
    engine.finalize_object()
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    seconds = _best_seconds(prototype(engine.get_function_address("run")), threads)
    return threads * _ITERATIONS * _ACCUMULATORS * unit.operations / seconds * 1e-9


def _unit(precision: str, features: dict[str, bool]) -> _Unit | None:
    if precision == "bf16":
        return _BF16_512 if features.get("avx512bf16") else None
    if features.get("avx512f"):
        return _F32_512
    return _F32_256 if features.get("fma") else None


def _best_seconds(run: Callable[[int, int], None], threads: int) -> float:
    buffers = [np.ones(4096, np.uint8) for _ in range(threads)]
    pointers = [(buffer.ctypes.data + 63) // 64 * 64 for buffer in buffers]
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(4):
            start = time.perf_counter()
            list(pool.map(run, pointers, [_ITERATIONS] * threads))
            best = min(best, time.perf_counter() - start)
    return best


def _loop(unit: _Unit) -> str:
    """A loop of independent multiply-adds: `_ACCUMULATORS` chains hide the latency."""
    acc, operand = unit.accumulator, unit.operand
    types = [acc, operand, operand] if unit.accumulator_first else [operand, operand, acc]
    phis, calls, total = [], [], "%b0"
    sums = []
    for k in range(_ACCUMULATORS):
        phis.append(f"  %a{k} = phi {acc} [zeroinitializer, %entry], [%b{k}, %body]")
        values = [f"{acc} %a{k}", f"{operand} %x", f"{operand} %y"]
        ordered = values if unit.accumulator_first else [*values[1:], values[0]]
        calls.append(f"  %b{k} = call {acc} @{unit.intrinsic}({', '.join(ordered)})")
        if k:
            sums.append(f"  %s{k} = fadd {acc} {total}, %b{k}")
            total = f"%s{k}"
    return "\n".join(
        [
            f"declare {acc} @{unit.intrinsic}({', '.join(types)})",
            "define void @run(ptr %p, i64 %n) {",
            "entry:",
            f"  %x = load {operand}, ptr %p, align 64",
            "  %q = getelementptr i8, ptr %p, i64 64",
            f"  %y = load {operand}, ptr %q, align 64",
            "  br label %body",
            "body:",
            "  %i = phi i64 [0, %entry], [%i1, %body]",
            *phis,
            *calls,
            "  %i1 = add i64 %i, 1",
            "  %more = icmp ult i64 %i1, %n",
            "  br i1 %more, label %body, label %done",
            "done:",
            *sums,
            f"  store {acc} {total}, ptr %p, align 64",
            "  ret void",
            "}",
        ]
    )
