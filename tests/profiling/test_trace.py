from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from ranvier.profiling.trace import WAIT, chrome_trace
from tests.profiling.made_up import profile


def bars(trace: dict[str, Any], thread: int) -> list[dict[str, Any]]:
    return [e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == thread]


def test_bars_of_a_thread_follow_each_other() -> None:
    trace = json.loads(json.dumps(chrome_trace(profile(3))))
    for thread in (0, 1):
        row = bars(trace, thread)
        assert [bar["name"] for bar in row if bar["cat"] != WAIT] == [
            "value_0", "value_1", "value_2"
        ]  # fmt: skip
        for earlier, later in pairwise(row):
            assert earlier["ts"] + earlier["dur"] == pytest.approx(later["ts"])
    waits = [bar["dur"] for bar in bars(trace, 1) if bar["cat"] == WAIT]
    assert waits == pytest.approx([2, 2, 2])
    assert not [bar for bar in bars(trace, 0) if bar["cat"] == WAIT]


def test_threads_have_names() -> None:
    names = [e["args"]["name"] for e in chrome_trace(profile())["traceEvents"] if e["ph"] == "M"]  # type: ignore[attr-defined]
    assert names == ["net (bf16)", "thread 0", "thread 1"]


def test_without_finishes_bars_reach_the_next_kernel() -> None:
    trace: Any = chrome_trace(profile(3, waits=False))
    assert all(bar["cat"] != WAIT for bar in bars(trace, 1))
    assert [bar["dur"] for bar in bars(trace, 1)] == pytest.approx([10, 10, 10])
