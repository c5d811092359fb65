"""Which steps threads share by claims, and with which counters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from ranvier.lowering.claims import THREADS, share_steps
from ranvier.lowering.kernels.control import Reserve
from ranvier.lowering.kernels.depthwise import Depthwise
from ranvier.lowering.kernels.sort import Sort
from ranvier.lowering.program import Counters, Kernel, Program, Step

LARGE, SMALL = 1 << 30, 1 << 10


def step(kind: type, flops: int, barrier: bool) -> Step:
    kernel = cast(Kernel, kind.__new__(kind))
    return Step(kernel, (), (), (), (1,), "", "", (), flops, 0, barrier=barrier)


def shared(steps: Sequence[Step]) -> Program:
    program = Program(steps=list(steps))
    share_steps(program)
    return program


def counters(*steps: Step) -> list[int | None]:
    return [each.pieces and each.pieces.counter for each in shared(steps).steps]


def test_steps_of_a_stage_have_counters_of_their_own() -> None:
    first, joined = step(Depthwise, LARGE, True), step(Depthwise, LARGE, False)
    assert counters(first, joined, joined, first, joined) == [0, 1, 2, 0, 1]


def test_all_meet_behind_a_reservation() -> None:
    large = step(Depthwise, LARGE, False)
    assert counters(large, step(Reserve, 0, True), large) == [0, None, 0]


def test_small_steps_and_those_that_cannot_be_cut_are_not_shared() -> None:
    small, sort = step(Depthwise, SMALL, True), step(Sort, LARGE, True)
    assert counters(small, sort, step(Depthwise, LARGE, False)) == [None, None, 0]
    assert shared([small, sort]).counters is None


def test_a_step_with_a_limit_is_cut_no_finer() -> None:
    large = step(Depthwise, LARGE, True)
    steps = shared([large, replace(large, most_pieces=5), replace(large, most_pieces=3)]).steps
    assert [each.pieces and each.pieces.most for each in steps] == [1024, 5, None]


@pytest.mark.parametrize(("count", "lines"), [(1, 1), (8, 1), (9, 2)])
def test_the_counters_live_through_the_whole_program(count: int, lines: int) -> None:
    program = shared([step(Depthwise, LARGE, index == 0) for index in range(count)])
    assert program.counters == Counters(0, count, 8 * lines)
    assert program.buffers[0].size_bytes == 2 * 64 * lines * THREADS
    assert 0 in program.steps[0].reads
    assert 0 in program.steps[-1].reads
