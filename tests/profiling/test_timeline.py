from __future__ import annotations

import numpy as np
import pytest

from ranvier.artifact.format import Loop
from ranvier.profiling.timeline import seconds_per_tick, timeline
from ranvier.runtime.profile import order_ticks
from tests.profiling.made_up import clock


def test_times_are_seconds_since_the_first_thread_began() -> None:
    found = timeline(
        clock([[1000, 1300, 1500], [1010, 1310, 1520]], [[1200, 1500], [1290, 1520]]), 0.5
    )
    np.testing.assert_allclose(found.begins, [[0, 150], [5, 155]])
    np.testing.assert_allclose(found.ends, [[150, 250], [155, 260]])
    assert found.finishes is not None
    np.testing.assert_allclose(found.finishes, [[100, 250], [145, 260]])
    assert found.busy is not None
    np.testing.assert_allclose(found.busy, [[100, 100], [140, 105]])


def test_spans_follow_each_other_and_sum_to_the_call() -> None:
    found = timeline(
        clock([[1000, 1300, 1500], [1010, 1290, 1520]], [[1200, 1500], [1280, 1520]]), 1.0
    )
    np.testing.assert_allclose(found.spans, [290, 230])
    assert found.seconds == 520


def test_an_old_artifact_does_not_say_when_threads_finish() -> None:
    found = timeline(clock([[0, 10, 20]], None), 1.0)
    assert found.finishes is None
    assert found.busy is None
    np.testing.assert_allclose(found.spans, [10, 10])


def test_a_call_without_steps_takes_no_time() -> None:
    found = timeline(clock([[7], [9]], [[], []]), 1.0)
    assert found.spans.shape == (0,)
    assert found.seconds == 0


def test_the_clock_is_calibrated_from_the_first_call_to_the_last() -> None:
    calls = [
        clock([[at, at + 5]], None, started) for at, started in ((100, 2.0), (150, 2.9), (300, 6.0))
    ]
    assert seconds_per_tick(calls) == pytest.approx(4.0 / 200)
    assert seconds_per_tick(calls[:1]) == pytest.approx(1.0 / 5)  # wall time of the call is 1 s


def test_steps_of_a_loop_have_the_time_of_all_their_turns() -> None:
    """A loop of steps 1 to 3 between two others; step 2 took 10 ticks in 4 turns."""
    ticks = np.array([[[1, 10, 80, 88, 100, 120]], [[9, 81, 83, 90, 119, 0]]], np.uint64)
    turns = np.zeros((1, 2, 5), np.uint64)
    turns[0, :, 2] = 10, 4
    order_ticks(ticks, turns, [Loop(1, 3)])
    begins, finishes = ticks[0, 0].tolist(), ticks[1, 0, :5].tolist()
    assert begins == [1, 10, 90, 100, 100, 120]
    assert finishes == [9, 10, 100, 100, 119]


def test_steps_that_were_not_taken_have_no_time() -> None:
    ticks = np.array([[[5, 0, 7, 20, 30]], [[6, 0, 9, 25, 0]]], np.uint64)
    order_ticks(ticks, np.zeros((1, 2, 4), np.uint64), [])
    assert ticks[0, 0].tolist() == [5, 7, 7, 20, 30]
