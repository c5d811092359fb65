from __future__ import annotations

import pytest

from ranvier.profiling import bandwidth
from ranvier.profiling.bandwidth import memory_levels
from ranvier.runtime.cores import Cores, select_cores


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_ROUNDS", 1)
    monkeypatch.setattr(bandwidth, "_BYTES_PER_ROUND", 1 << 24)


def test_the_levels_of_this_machine_end_with_memory() -> None:
    levels = memory_levels(Cores(1, select_cores().cpus[:1], pinned=True))
    assert levels[-1].name == "memory"
    assert levels[-1].capacity_bytes is None
    capacities = [level.capacity_bytes for level in levels[:-1]]
    assert capacities == sorted(c for c in capacities if c is not None)
    for level in levels:
        assert 1e8 < level.bytes_per_second < 1e13


def test_levels_that_do_not_stand_apart_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {1: 32_000, 2: 1_000_000, 3: 1_500_000}
    monkeypatch.setattr(bandwidth, "cache_bytes", lambda cores: sizes)
    monkeypatch.setattr(bandwidth, "_read_rate", lambda cores, size_bytes: float(size_bytes))
    two = Cores(2, (0, 1), pinned=False)
    levels = memory_levels.__wrapped__(two)
    assert [level.name for level in levels] == ["L2", "memory"]
    assert levels[0].bytes_per_second == 250_000  # half of the level, shared by two threads
    assert levels[1].bytes_per_second == bandwidth._MEMORY_BYTES
    sizes = {}
    assert [level.name for level in memory_levels.__wrapped__(two)] == ["memory"]
