from __future__ import annotations

from pathlib import Path

from ranvier.profiling.machine import cache_bytes, cpu_name
from ranvier.runtime.cores import Cores


def describe(root: Path, cpu: int, caches: list[tuple[str, str, str, str]]) -> None:
    for number, words in enumerate(caches):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/cache/index{number}"
        folder.mkdir(parents=True)
        for name, word in zip(("level", "type", "size", "shared_cpu_list"), words, strict=True):
            (folder / name).write_text(word + "\n")


def test_shared_caches_count_once(tmp_path: Path) -> None:
    for cpu in range(3):
        describe(tmp_path, cpu, [
            ("1", "Data", "32K", str(cpu)), ("1", "Instruction", "64K", str(cpu)),
            ("2", "Unified", "1024K", str(cpu)), ("3", "Unified", "32M", "0-1" if cpu < 2 else "2"),
        ])  # fmt: skip
    kib, mib = 1 << 10, 1 << 20
    one, two, three = (
        cache_bytes(Cores(len(cpus), cpus, True), str(tmp_path))
        for cpus in ((0,), (0, 1), (1, 2, 0))
    )
    assert one == {1: 32 * kib, 2: mib, 3: 32 * mib}
    assert two == {1: 64 * kib, 2: 2 * mib, 3: 32 * mib}
    assert three == {1: 96 * kib, 2: 3 * mib, 3: 64 * mib}


def test_a_count_takes_as_many_caches_as_threads(tmp_path: Path) -> None:
    for cpu in range(2):
        describe(tmp_path, cpu, [("2", "Unified", "1024K", str(cpu))])
    assert cache_bytes(Cores(1, (0, 1), pinned=False), str(tmp_path)) == {2: 1 << 20}


def test_hidden_caches_are_left_out(tmp_path: Path) -> None:
    describe(tmp_path, 0, [("2", "Unified", "", "0"), ("", "Unified", "1K", "0")])
    assert cache_bytes(Cores(1, (0,), True), str(tmp_path)) == {}
    assert cache_bytes(Cores(1, (7,), True), str(tmp_path)) == {}


def test_the_cpu_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: Some CPU\n")
    assert cpu_name(str(path)) == "Some CPU"
    path.write_text("processor\t: 0\n")
    assert cpu_name(str(path)) == "unknown"
