"""Which steps all threads have to meet before: those that touch what a step since the last meeting
has written, or that write what one has read.

Steps without a meeting between them form a *stage*: the projections of one attention, the branches
of an Inception block. A thread that is done with its share of one begins the next at once, so a
stage balances as a whole. The memory plan keeps all buffers of a stage apart. All meet at the marks
of branches and loops, behind a `Reserve`, and on both sides of what a framework runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ranvier.lowering.kernels.control import MARKS, LoopEnd, Reserve
from ranvier.lowering.kernels.foreign import Foreign
from ranvier.lowering.program import Step


def place_barriers(steps: Sequence[Step]) -> list[Step]:
    """The same steps, each with its `barrier`; the first needs none but has one by convention."""
    placed: list[Step] = []
    read: set[int] = set()
    written: set[int] = set()
    for step in steps:
        reads, writes = set(step.reads), set(step.writes)
        meets = not placed or bool(written & (reads | writes) or read & writes)
        if isinstance(step.kernel, MARKS):
            meets = not isinstance(step.kernel, LoopEnd)  # the head, which follows it, meets
        if isinstance(step.kernel, Foreign) or (placed and isinstance(placed[-1].kernel, Foreign)):
            meets = True
        if meets or (placed and isinstance(placed[-1].kernel, (Reserve, LoopEnd))):
            read, written = set(), set()
        read |= reads
        written |= writes
        placed.append(replace(step, barrier=meets))
    return placed
