from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from ranvier.lowering.barriers import place_barriers
from ranvier.lowering.program import Kernel, Step

BUFFERS = st.frozensets(st.integers(0, 5), max_size=3)


def step(reads: Sequence[int], writes: Sequence[int]) -> Step:
    kernel = cast(Kernel, None)
    return Step(kernel, (), (), tuple(reads), tuple(writes), "", "", (), 0, 0)


def barriers(*steps: tuple[Sequence[int], Sequence[int]]) -> list[bool]:
    return [each.barrier for each in place_barriers([step(*one) for one in steps])]


def test_independent_steps_need_no_meeting() -> None:
    projections = ([0, 1], [5]), ([0, 2], [6]), ([0, 3], [7])
    assert barriers(*projections) == [True, False, False]
    assert barriers(*projections, ([5, 6, 7], [8])) == [True, False, False, True]


def test_a_reader_a_writer_and_an_overwriter_wait() -> None:
    assert barriers(([0], [1]), ([1], [2])) == [True, True]
    assert barriers(([0], [1]), ([2], [1])) == [True, True]
    assert barriers(([0], [1]), ([2], [0])) == [True, True]


def test_a_dependence_on_an_older_step_of_the_stage_counts() -> None:
    assert barriers(([0], [1]), ([0], [2]), ([1], [3])) == [True, False, True]
    assert barriers(([0], [1]), ([1], [2]), ([0], [3])) == [True, True, False]


@given(st.lists(st.tuples(BUFFERS, BUFFERS), max_size=12))
def test_no_two_steps_of_a_stage_conflict(
    found: list[tuple[frozenset[int], frozenset[int]]],
) -> None:
    stages: list[list[Step]] = []
    for each in place_barriers([step(sorted(r), sorted(w)) for r, w in found]):
        if each.barrier:
            stages.append([])
        for other in stages[-1]:
            assert not set(other.writes) & {*each.reads, *each.writes}
            assert not set(other.reads) & set(each.writes)
        stages[-1].append(each)
