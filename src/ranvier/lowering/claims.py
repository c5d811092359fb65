"""Which steps threads share by claims: large ones, whose threads may help each other.

Equal shares end at the same time only where all cores are equally fast. On a machine that others
use too, one is half as fast as its neighbour for a while. So a large step is cut into several
pieces for each thread, and a thread that is done with its own takes those of its neighbours. As a
thread begins with its own pieces, what it wrote in the step before is mostly in its cache.

Each thread has a counter for its pieces of a step (`codegen/claims.py`). Steps of one stage,
between two meetings, have different counters; two sets of them take turns, so that every thread can
clear its counters of the next stage while all are in this one.
"""

from __future__ import annotations

from dataclasses import replace

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.kernels.attention import Attention
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.control import MARKS, Reserve
from ranvier.lowering.kernels.depth_first import DepthFirst
from ranvier.lowering.kernels.depthwise import Depthwise
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.kernels.winograd import Winograd
from ranvier.lowering.program import Buffer, Counters, Pieces, Program, Step

THREADS = dims.symbol("threads", 1)  # the size of the core group, known at run time
_PIECE_WORK = 1 << 20  # operations plus twice the bytes moved: about 10 microseconds
_LINE_WORDS = 8  # counters in a cache line, which belongs to one thread
_SHARED = (Nest, Contraction, Winograd, Depthwise, DepthFirst, Attention)


def share_steps(program: Program) -> None:
    """Give the steps that are worth it their pieces, and the program its counters."""
    count = used = 0
    for index, step in enumerate(program.steps):
        if step.barrier or isinstance(step.kernel, (*MARKS, Reserve)):
            used = 0
        most = _most_pieces(step)
        if isinstance(step.kernel, _SHARED) and _may_reach(most, 4):  # two for each of two threads
            program.steps[index] = replace(step, pieces=Pieces(used, most))
            used += 1
            count = max(count, used)
    if count:
        _add_counters(program, count)


def _most_pieces(step: Step) -> Dim:
    wanted = dims.floordiv(step.flops + 2 * step.bytes, _PIECE_WORK)
    return wanted if step.most_pieces is None else dims.minimum(wanted, step.most_pieces)


def _may_reach(dim: Dim, value: int) -> bool:
    _, most = dims.bounds(dim)
    return most is None or most >= value


def _add_counters(program: Program, count: int) -> None:
    """Their memory lives as long as the program runs."""
    row_words = -(-count // _LINE_WORDS) * _LINE_WORDS
    buffer = program.add_buffer(Buffer("temporary", 2 * 8 * row_words * THREADS))
    for index in (0, len(program.steps) - 1):
        step = program.steps[index]
        program.steps[index] = replace(step, reads=(*step.reads, buffer))
    program.counters = Counters(buffer, count, row_words)
