"""Code for compaction: count what lies before this thread's part, then write its positions."""

from __future__ import annotations

from ranvier.codegen.builder import I1, I8, I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.indices import IndexEmitter
from ranvier.lowering.kernels.compact import Compact
from ranvier.target import Target


def emit_compact(module: ModuleWriter, name: str, kernel: Compact, target: Target) -> None:
    """Add `void @name(ptr mask, ptr positions, i64 scalars.., i64 thread, i64 threads)`."""
    parameters = [("mask", PTR), ("positions", PTR)]
    parameters += [(f"s.{n}", I64) for n in kernel.scalars]
    parameters += [("thread", I64), ("threads", I64)]
    f = FunctionBuilder(module, name, parameters)
    mask, positions, thread, threads = map(f.arg, ("mask", "positions", "thread", "threads"))
    sizes = IndexEmitter(f, {n: f.arg(f"s.{n}") for n in kernel.scalars}, None)
    extent, count = sizes.scalar(kernel.extent), sizes.scalar(kernel.count)
    low = f.binary("udiv", f.binary("mul", extent, thread), threads)
    after = f.binary("add", thread, int_const(1))
    high = f.binary("udiv", f.binary("mul", extent, after), threads)
    first = _count(f, mask, low)
    with f.loop_carrying(low, high, 1, [first]) as loop:
        (position,) = loop.values
        found = _is_true(f, mask, loop.index)
        fits = f.compare("icmp slt", position, count)
        with f.when(f.emit(f"and {I1} {found.text}, {fits.text}", I1), "keep"):
            f.store(loop.index, f.element_pointer(positions, I64, position), 8)
        loop.next[0] = f.binary("add", position, f.cast("zext", found, I64))
    f.ret()
    f.finish()


def _count(f: FunctionBuilder, mask: Val, end: Val) -> Val:
    """How many of the first `end` elements are true."""
    with f.loop_carrying(int_const(0), end, 1, [int_const(0)]) as loop:
        found = f.cast("zext", _is_true(f, mask, loop.index), I64)
        loop.next[0] = f.binary("add", loop.values[0], found)
    return loop.results[0]


def _is_true(f: FunctionBuilder, mask: Val, index: Val) -> Val:
    byte = f.load(I8, f.element_pointer(mask, I8, index), 1)
    return f.compare("icmp ne", byte, int_const(0, I8))
