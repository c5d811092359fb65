from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.errors import TargetError
from ranvier.runtime import cores
from ranvier.runtime.cores import Cores, cgroup_quota, parse_cpu_list, select_cores


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def select(given: object = None, root: object = "/nowhere", **environment: str) -> Cores:
    return select_cores(given, environment, str(root))  # type: ignore[arg-type]


def test_all_by_default() -> None:
    assert select() == Cores(8, tuple(range(8)), pinned=True)


@pytest.mark.parametrize("given", ["2-3,5", [2, 3, 5], (2, 3, 5), iter([2, 3, 5])])
def test_a_list_is_pinned(given: object) -> None:
    assert select(given) == Cores(3, (2, 3, 5), pinned=True)


def test_a_count_is_not_pinned_unless_it_is_all() -> None:
    assert select(3) == Cores(3, tuple(range(8)), pinned=False)
    assert select(8) == Cores(8, tuple(range(8)), pinned=True)


def test_environment() -> None:
    assert select(RANVIER_NUM_CORES="2") == Cores(2, tuple(range(8)), pinned=False)
    assert select(RANVIER_VISIBLE_CORES="4-7") == Cores(4, (4, 5, 6, 7), pinned=True)
    both = select(RANVIER_VISIBLE_CORES="4-7", RANVIER_NUM_CORES="2")
    assert both == Cores(2, (4, 5, 6, 7), pinned=False)
    assert select("1", RANVIER_NUM_CORES="2") == Cores(1, (1,), pinned=True)


@pytest.mark.parametrize(
    "given",
    [0, -1, 9, True, "", "8", "3-1", "a", "1,,2", "-1", "1-", "1,1", "1-3,2", [], [9], [1, 1]],
)
def test_refused(given: object) -> None:
    with pytest.raises(TargetError):
        select(given)


@pytest.mark.parametrize(
    "environment",
    [
        {"RANVIER_NUM_CORES": "many"},
        {"RANVIER_NUM_CORES": "0"},
        {"RANVIER_NUM_CORES": "9"},
        {"RANVIER_VISIBLE_CORES": "7-9"},
        {"RANVIER_VISIBLE_CORES": "x"},
    ],
)
def test_a_bad_environment_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(TargetError, match=next(iter(environment)) + "|CPU list"):
        select(**environment)


def test_visible_cores_fence_in_the_argument() -> None:
    with pytest.raises(TargetError, match=r"may not use CPU 3; it may use 0-1"):
        select("1,3", RANVIER_VISIBLE_CORES="0-1")


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True))
def test_lists_round_trip(cpus: list[int]) -> None:
    assert parse_cpu_list(",".join(map(str, cpus))) == tuple(cpus)
    assert parse_cpu_list(cores._ranges(cpus)) == tuple(sorted(cpus))


@given(st.text(alphabet="0123456789-, x", max_size=12))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    cpus: tuple[int, ...] | None = None
    with contextlib.suppress(TargetError):
        cpus = parse_cpu_list(text)
    assert cpus is None or len(cpus) > 0


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_quota_of_cgroup_v2_is_the_smallest_on_the_way_up(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/cpu.max": "600000 100000\n",
        },
    )
    assert cgroup_quota(str(root)) == 2.5
    assert select(root=root) == Cores(2, tuple(range(8)), pinned=False)


def test_quota_of_cgroup_v1(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/x\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup_quota(str(root)) == 0.5
    assert select(root=root).count == 1


@pytest.mark.parametrize("quota", ["-1\n", "\n", "many\n"])
def test_no_quota(tmp_path: Path, quota: str) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "2:cpu:/\ngarbage\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": quota,
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup_quota(str(root)) is None


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    selected = select_cores(None, {})
    assert set(selected.cpus) <= os.sched_getaffinity(0)
    assert 1 <= selected.count <= len(selected.cpus)
