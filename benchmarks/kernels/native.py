"""Compiles kernels into this process for measurement, with the passes that images get."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np

from ranvier.target import TARGETS, Target

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def host_targets() -> list[Target]:
    """The targets whose features this CPU has, best last."""
    features = llvm.get_host_cpu_features()
    return [t for t in TARGETS.values() if all(features.get(name, False) for name in t.features)]


Kernel = Callable[..., None]


class Native:
    """A compiled module; `seconds` is what LLVM took, `assembly` what came out."""

    def __init__(self, text: str, target: Target) -> None:
        start = time.perf_counter()
        module = llvm.parse_assembly(text)
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.feature_string, opt=3, reloc="pic", codemodel="small"
        )
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = False
        options.loop_unrolling = False
        llvm.create_pass_builder(machine, options).getModulePassManager().run(
            module, llvm.create_pass_builder(machine, options)
        )
        self._machine, self._module = machine, module
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        self.seconds = time.perf_counter() - start

    @property
    def assembly(self) -> str:
        """The machine code as text."""
        return str(self._machine.emit_assembly(self._module))

    def function(self, name: str, pointers: int, integers: int) -> Kernel:
        """A kernel as a callable of `pointers` addresses and `integers` i64."""
        kinds = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * integers
        function: Kernel = ctypes.CFUNCTYPE(None, *kinds)(self._engine.get_function_address(name))
        return function


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy whose data starts at a multiple of 64 bytes."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def best_seconds(function: Kernel, arguments: Sequence[int], threads: int, budget: float) -> float:
    """The shortest time of the largest share of `threads` threads, in about `budget` seconds.

    The shares run one after the other, so the result shows how well work is split, also on a
    machine with other load; it does not show what threads cost each other in caches and memory (see
    `concurrent_seconds`).
    """
    each = budget / threads
    return max(_best_of_one(function, [*arguments, t, threads], each) for t in range(threads))


def concurrent_seconds(
    function: Kernel, arguments: Sequence[int], threads: int, budget: float
) -> float:
    """The shortest time per call with all threads at work at once; needs that many idle cores."""
    barrier = threading.Barrier(threads)
    spans: list[tuple[float, float]] = [(0.0, 0.0)] * threads
    best = float("inf")
    repeats = 20

    def work(thread: int) -> None:
        barrier.wait()
        start = time.perf_counter()
        for _ in range(repeats):
            function(*arguments, thread, threads)
        spans[thread] = (start, time.perf_counter())

    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        group = [threading.Thread(target=work, args=(t,)) for t in range(threads)]
        for member in group:
            member.start()
        for member in group:
            member.join()
        span = max(s[1] for s in spans) - min(s[0] for s in spans)
        best = min(best, span / repeats)
    return best


def _best_of_one(function: Kernel, arguments: Sequence[int], budget: float) -> float:
    best, end = float("inf"), time.perf_counter() + budget
    while time.perf_counter() < end:
        start = time.perf_counter()
        function(*arguments)
        best = min(best, time.perf_counter() - start)
    return best
