from __future__ import annotations

from dataclasses import replace

import pytest

from ranvier.profiling.groups import by_operators, by_source, operators_text
from tests.profiling.made_up import kernel, profile


def test_groups_sum_to_the_whole() -> None:
    kernels = profile(7).kernels
    for groups in (by_operators(kernels), by_source(kernels)):
        assert sum(group.microseconds for group in groups) == pytest.approx(70)
        assert sum(group.share for group in groups) == pytest.approx(1)
        assert sorted(k for group in groups for k in group.kernels) == list(range(7))
        times = [group.microseconds for group in groups]
        assert times == sorted(times, reverse=True)


def test_lines_of_the_model() -> None:
    groups = {group.name: group for group in by_source(profile(4).kernels)}
    assert set(groups) == {"/models/net.py:10", "/models/net.py:11"}
    first = groups["/models/net.py:10"]
    assert first.kernels == (0, 2)
    assert (first.microseconds, first.wait_microseconds) == (20, 2)
    assert first.gflops == pytest.approx(6_000_000 / 20e-6 / 1e9)
    assert first.gbytes_per_second == pytest.approx((60_000 + 180_000) / 20e-6 / 1e9)


def test_unknown_waits_and_sources() -> None:
    (group,) = by_source([replace(kernel(0, wait=None), source=""), replace(kernel(1), source="")])
    assert group.name == "(unknown)"
    assert group.wait_microseconds is None


def test_operators_are_counted() -> None:
    assert operators_text(("conv", "cast", "relu", "cast")) == "conv, 2 cast, relu"
    assert operators_text(()) == "(copy)"
