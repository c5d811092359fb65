"""One core's peak of multiply-adds per dtype: independent accumulators in registers, no memory."""

from __future__ import annotations

from benchmarks.kernels.native import Native, best_seconds
from ranvier.codegen.builder import (
    BFLOAT,
    FLOAT,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    int_const,
    vector,
)
from ranvier.ir.dtype import BF16, DType
from ranvier.target import Target

_ITERATIONS = 100_000


def peak_gflops(dtype: DType, target: Target, budget: float = 0.3) -> float:
    """GFLOP/s of one core with the multiply-add that contractions of `dtype` use on `target`."""
    dot = dtype is BF16 and target.has_bf16_dot
    chains = 24 if target.registers >= 32 else 12
    lanes = target.lanes
    module = ModuleWriter(target.triple)
    parameters = [("p", PTR), ("n", I64), ("thread", I64), ("threads", I64)]
    f = FunctionBuilder(module, "peak", parameters)
    sums = vector(lanes, FLOAT)
    operand = vector(2 * lanes, BFLOAT) if dot else sums
    x = f.load(operand, f.arg("p"), 64)
    y = f.load(operand, f.element_pointer(f.arg("p"), "i8", int_const(64)), 64)
    zero = [Val("zeroinitializer", sums)] * chains
    with f.loop_carrying(int_const(0), f.arg("n"), 1, zero) as loop:
        if dot:
            name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
            loop.next = [f.call(name, sums, v, x, y) for v in loop.values]
        else:
            loop.next = [f.call(f"llvm.fma.v{lanes}f32", sums, x, y, v) for v in loop.values]
    total = loop.results[0]
    for value in loop.results[1:]:
        total = f.binary("fadd", total, value)
    f.store(total, f.arg("p"), 64)
    f.ret()
    f.finish()
    import numpy as np

    from benchmarks.kernels.native import aligned

    buffer = aligned(np.zeros(64, np.float32))
    native = Native(str(module), target)
    function = native.function("peak", 1, 3)
    seconds = best_seconds(function, [buffer.ctypes.data, _ITERATIONS], 1, budget)
    return _ITERATIONS * chains * lanes * (4 if dot else 2) / seconds * 1e-9
