from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ranvier import tuning
from ranvier.api import trace
from ranvier.artifact.format import Step
from ranvier.compiler import Compiled, compile_graph
from ranvier.errors import TargetError
from ranvier.ir import dim as dims
from ranvier.ir.dtype import F32
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.lowering.options import CANDIDATES, LoweringOptions, Schedule
from ranvier.runtime.profile import Profile
from ranvier.target import TARGETS
from tests.targets import NATIVE

pytestmark = pytest.mark.needs("llvmlite")

FAST = ("winograd", "depthfirst")
DIRECT = LoweringOptions(schedule=Schedule(winograd_tile=0))


def profile(steps: Sequence[tuple[str, float]], kernel: str = "winograd_0") -> Profile:
    seconds = [spent for _, spent in steps]
    ticks = np.cumsum([0, *(round(spent * 1e9) for spent in seconds)]).astype(np.uint64)
    return Profile(
        steps=tuple(Step(kernel, label, (), ()) for label, _ in steps),
        buffers=(),
        ticks=ticks[None],
        finishes=np.zeros((1, len(steps)), np.uint64),
        started=0.0,
        seconds=sum(seconds),
        flops=(0,) * len(steps),
        bytes=(0,) * len(steps),
    )


def convolution() -> Graph:
    b = GraphBuilder("convolution")
    x = b.input("x", TensorType(F32, (1, 64, 56, 56)))
    weight = np.random.default_rng(0).standard_normal((64, 64, 3, 3), np.float32)
    y = b.add(
        "conv", x, b.constant(weight, F32), strides=(1, 1), padding=((1, 1), (1, 1)),
        dilations=(1, 1), groups=1,
    )  # fmt: skip
    return b.finish([b.add("relu", y)])


def chain() -> Graph:
    b = GraphBuilder("chain")
    y = b.input("x", TensorType(F32, (1, 8, 10, 10)))
    for shape, groups, pad in (
        ((32, 8, 1, 1), 1, 0),
        ((32, 1, 3, 3), 32, 1),
        ((8, 32, 1, 1), 1, 0),
    ):
        weight = np.random.default_rng(0).standard_normal(shape, np.float32)
        y = b.add(
            "conv", y, b.constant(weight, F32), strides=(1, 1), padding=((pad, pad),) * 2,
            dilations=(1, 1), groups=groups,
        )  # fmt: skip
    return b.finish([y])


def product() -> Graph:
    b = GraphBuilder("product")
    x = b.input("x", TensorType(F32, (8, 16)))
    return b.finish([b.add("matmul", x, b.constant(np.ones((16, 32), np.float32), F32))])


def tune(graph: Graph, options: LoweringOptions) -> tuple[Compiled, tuning.Tuning]:
    x = np.random.default_rng(1).standard_normal(
        [dims.static(n) for n in graph.inputs[0].shape], np.float32
    )
    return tuning.tune(
        lambda each: compile_graph(graph, [NATIVE], options=each), options, lambda model: {"x": x}
    )


@pytest.fixture
def choices_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take as long as on a quiet machine, which tests do not have."""

    def seconds(profile: Profile) -> NDArray[np.float64]:
        return np.asarray([1.0 if step.kernel.startswith(FAST) else 2.0 for step in profile.steps])

    monkeypatch.setattr(Profile, "step_seconds", property(seconds))


@pytest.mark.usefixtures("choices_win")
def test_a_slow_choice_is_found_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_call_times", lambda *_: (2.0, 1.0))
    compiled, found = tune(convolution(), DIRECT)
    assert list(found.schedules.values()) in (["winograd tile 4x4"], ["winograd tile 2x2"])
    assert (found.untuned_ms, found.tuned_ms) == (2.0, 1.0)
    assert compiled.report.schedules == found.schedules
    assert compiled.report.kernel_counts.get("winograd") == 1
    assert f"{found.tuned_ms:.3f} ms" in str(found)


@pytest.mark.usefixtures("choices_win")
def test_a_chain_is_computed_depth_first_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cost model leaves so small a chain as it is."""
    monkeypatch.setattr(tuning, "_call_times", lambda *_: (2.0, 1.0))
    compiled, found = tune(chain(), LoweringOptions())
    assert list(found.schedules.values()) == ["depth first"]
    assert compiled.report.kernel_counts.get("depthfirst") == 1


def test_without_alternatives_the_program_stays() -> None:
    compiled, found = tune(product(), LoweringOptions())
    assert found.schedules == {}
    assert found.tuned_ms == found.untuned_ms
    assert compiled.report.schedules == {}
    assert "choices stay" in str(found)


@pytest.mark.usefixtures("choices_win")
def test_a_program_that_turns_out_slower_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_call_times", lambda *_: (1.0, 1.5))
    compiled, found = tune(convolution(), DIRECT)
    assert found.schedules == {}
    assert "winograd" not in compiled.report.kernel_counts


def test_tuning_needs_one_target_that_runs_here() -> None:
    both = tuple(TARGETS.values())[:2]
    with pytest.raises(TargetError, match="one target that runs here"):
        trace(None, target=[target.name for target in both], tune=True)


def test_sites_take_their_fastest_candidate() -> None:
    first, second = CANDIDATES[:2]
    sites = tuning._Sites()
    base = profile([("a", 4.0), ("b", 4.0), ("c", 4.0)])
    sites.compare(first, [base], [profile([("a", 3.0), ("b", 4.0), ("c", 5.0)])])
    sites.compare(second, [base], [profile([("a", 2.0), ("b", 3.9), ("c", 4.0)])])
    assert sites.winners() == {"a": second}


def test_a_site_that_schedules_do_not_decide_about_is_left_alone() -> None:
    sites = tuning._Sites()
    base, other = ([("a", seconds)] for seconds in (4.0, 1.0))
    sites.compare(CANDIDATES[0], [profile(base, "nest_0")], [profile(other, "nest_0")])
    assert sites.winners() == {}
    sites.compare(CANDIDATES[0], [profile(base)], [profile(other, "contraction_0")])
    assert sites.winners() == {"a": CANDIDATES[0]}


def test_a_result_that_is_copied_counts_twice() -> None:
    sites = tuning._Sites()
    base = profile([("y", 4.0), ("y", 0.1)])
    sites.compare(CANDIDATES[0], [base], [profile([("y", 2.0), ("y", 0.1)])])
    assert sites.winners() == {"y": CANDIDATES[0]}


def test_fused_steps_are_compared_with_all_that_they_replace() -> None:
    sites = tuning._Sites()
    base = profile([("a", 1.0), ("wide", 2.0), ("narrow", 2.0), ("end", 1.0)])
    fused = profile([("a", 1.0), ("narrow", 3.0), ("end", 1.0)])
    sites.compare(CANDIDATES[0], [base], [fused])
    assert sites.winners() == {"narrow": CANDIDATES[0]}
    slower = profile([("a", 1.0), ("narrow", 5.0), ("end", 1.0)])
    sites = tuning._Sites()
    sites.compare(CANDIDATES[0], [base], [slower])
    assert sites.winners() == {}
