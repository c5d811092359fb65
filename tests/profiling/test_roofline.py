from __future__ import annotations

import pytest

from ranvier.profiling.roofline import Bound, Roofline, Work, limit_of
from tests.profiling.made_up import LEVELS

ROOFLINE = Roofline({"f32": 200e9, "bf16": 400e9}, LEVELS, "bf16", 25_000_000)


def test_work_of_one_kind_takes_amount_over_rate() -> None:
    bound = ROOFLINE.bound(Work("contraction_3", 400_000, 0, 0))
    assert bound.compute_seconds == pytest.approx(1e-6)
    assert bound.memory_seconds == 0
    assert bound.roof == "compute"
    assert bound.seconds == pytest.approx(1e-6)
    bound = ROOFLINE.bound(Work("contraction_3", 0, 0, 200_000))
    assert bound.memory_seconds == bound.seconds == pytest.approx(1e-6)
    assert bound.roof == "memory"


@pytest.mark.parametrize("kernel", ["nest_0", "depthwise_12", "sort_1", "scatter_0"])
def test_kernels_on_vector_lanes_have_the_f32_peak(kernel: str) -> None:
    assert ROOFLINE.bound(Work(kernel, 400_000, 0, 0)).compute_seconds == pytest.approx(2e-6)


def test_weights_come_from_where_a_whole_call_fits() -> None:
    bound = ROOFLINE.bound(Work("contraction_0", 0, 170_000, 200_000))
    assert bound.level == "L2"
    assert bound.memory_seconds == pytest.approx(1e-6 + 1e-6)  # L3 for weights, L2 for the rest
    large = Roofline(ROOFLINE.peaks, LEVELS, "bf16", 50_000_000)
    assert large.bound(Work("contraction_0", 0, 400_000, 0)).memory_seconds == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("size", "level"), [(2_000_000, "L2"), (2_000_001, "L3"), (32_000_001, "memory")]
)
def test_activations_come_from_the_nearest_level_that_holds_them(size: int, level: str) -> None:
    assert ROOFLINE.bound(Work("nest_0", 0, 0, size)).level == level


def test_without_a_peak_the_bound_is_unknown() -> None:
    blind = Roofline({}, LEVELS, "bf16", 25_000_000)
    bound = blind.bound(Work("nest_0", 10, 0, 10))
    assert blind.peak is None
    assert (bound.compute_seconds, bound.seconds, bound.roof) == (None, None, None)
    assert limit_of(bound, 1.0, 0.0) is None
    assert limit_of(bound, bound.memory_seconds, 0.0) == "memory"


@pytest.mark.parametrize(
    ("compute", "memory", "wait", "limit"),
    [
        (0.9, 0.2, 0.0, "compute"),
        (0.2, 0.9, 0.0, "memory"),
        (0.2, 0.3, 0.5, "imbalance"),
        (0.2, 0.1, 0.3, "other"),
        (0.34, 0.1, 0.0, "compute"),
        (0.33, 0.1, 0.0, "other"),
    ],
)
def test_the_limit_is_what_accounts_for_most(
    compute: float, memory: float, wait: float, limit: str
) -> None:
    assert limit_of(Bound(compute, memory, "L2"), 1.0, wait) == limit


def test_an_unknown_wait_leaves_open_what_else_it_could_be() -> None:
    assert limit_of(Bound(0.9, 0.1, "L2"), 1.0, None) == "compute"
    assert limit_of(Bound(0.1, 0.1, "L2"), 1.0, None) is None
