"""How long turns last, how many rounds fit, and what a turn becomes in a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.comparison import Plan, compare, is_prepared
from benchmarks.engines.engine import Pace, Turn, timed_calls, timed_threads
from benchmarks.job import Job, Material, sizes_key
from benchmarks.table import text_table
from benchmarks.turns import Worker, WorkerFailedError

PACE = Pace(seconds=0.4, calls=5, longest=1.5)
JOB = Job("ranvier", "mnist_cnn", {"batch": 2}, "f32", 1, "")


@pytest.mark.parametrize(
    ("elapsed", "calls", "more"),
    [
        (0.0, 0, True),
        (0.3, 9, True),
        (0.5, 4, True),
        (0.5, 5, False),
        (9.0, 0, True),
        (2.0, 1, False),
    ],
)
def test_a_turn_has_its_time_and_calls_but_ends(elapsed: float, calls: int, more: bool) -> None:
    assert PACE.wants_more(elapsed, calls) is more


def test_rounds_fit_into_the_time_of_a_row() -> None:
    plan = Plan(PACE, rounds=5, fewest=2, row_seconds=30)
    assert [plan.rounds_for(seconds) for seconds in (1, 7, 10, 100)] == [5, 4, 3, 2]


def test_timed_calls_counts_and_times_each() -> None:
    turn = timed_calls(lambda: None, Pace(0.0, 7, 10.0))
    assert turn.calls == len(turn.latencies_ms) == 7
    assert sum(turn.latencies_ms) == pytest.approx(1000 * turn.seconds)


def test_threads_add_their_rates() -> None:
    turn = timed_threads([lambda: None, lambda: None], Pace(0.0, 50, 10.0))
    assert turn.calls == 100
    assert turn.calls / turn.seconds > 0


def fake_turns(monkeypatch: pytest.MonkeyPatch, failing: str = "") -> None:
    """Workers that take 1 ms with 1 ms more per letter of their engine's name."""
    monkeypatch.setattr(Worker, "__init__", lambda self, job: setattr(self, "job", job))
    monkeypatch.setattr(Worker, "__exit__", lambda *_: None)
    monkeypatch.setattr(Worker, "prepared", lambda self: {"prepare_s": 1.0, "error": 1e-6})

    def turn(self: Worker, pace: Pace) -> Turn:
        if self.job.engine == failing:
            raise WorkerFailedError("out of memory")
        time_ms = float(len(self.job.engine))
        return Turn(10, time_ms / 100, (time_ms,) * 10)

    monkeypatch.setattr(Worker, "turn", turn)


def prepared(folder: Path, failures: dict[str, str]) -> None:
    facts = {
        "forms": ["onnx", "ranvier"],
        "precisions": ["f32"],
        "flops": {sizes_key(JOB.sizes): 2_000_000},
        "failures": failures,
    }
    Material(folder).facts.write_text(json.dumps(facts))


def jobs(folder: Path, *engines: str) -> list[Job]:
    return [Job(engine, JOB.model, JOB.sizes, "f32", 1, str(folder)) for engine in engines]


def test_figures_of_engines_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_turns(monkeypatch)
    prepared(tmp_path, {})
    plan = Plan(PACE, 5, 2, 30.0)
    names = ("ranvier", "openvino", "ranvier-throughput")
    ours, peer, busy = compare(jobs(tmp_path, *names), plan, peak_flops=1e9)
    assert (ours.median_ms, ours.p99_ms, ours.spread, ours.rounds) == (7.0, 7.0, 0.0, 5)
    assert ours.items_per_second == pytest.approx(2 * 1000 / 7)
    assert ours.share_of_peak == pytest.approx(2e6 / 7e-3 / 1e9)
    assert ours.ratio == pytest.approx(8 / 7)
    assert busy.items_per_second == pytest.approx(2 * 1000 / 18)
    assert busy.ratio == pytest.approx(8 / 18)
    assert peer.ratio == 1.0


def test_failures_stay_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_turns(monkeypatch, failing="torch-eager")
    prepared(tmp_path, {"onnx": "no such operator", "ranvier-bf16": "not asked for"})
    names = ("torch-eager", "openvino", "ranvier")
    found = compare(jobs(tmp_path, *names), Plan(PACE, 2, 2, 30.0), peak_flops=1e9)
    assert [result.failure for result in found] == ["out of memory", "no such operator", ""]
    text = text_table(found)
    assert "| openvino | latency | failed |" in text
    assert "openvino: no such operator" in text
    assert "torch-eager: out of memory" in text


def test_a_folder_is_used_again_only_for_what_it_has(tmp_path: Path) -> None:
    assert not is_prepared(tmp_path, [JOB.sizes], ["f32"], ["ranvier"])
    prepared(tmp_path, {"onnx": "a reason is an answer"})
    assert is_prepared(tmp_path, [JOB.sizes], ["f32"], ["ranvier", "openvino"])
    assert not is_prepared(tmp_path, [{"batch": 3}], ["f32"], ["ranvier"])
    assert not is_prepared(tmp_path, [JOB.sizes], ["bf16"], ["ranvier"])
    assert not is_prepared(tmp_path, [JOB.sizes], ["f32"], ["torch-eager"])
