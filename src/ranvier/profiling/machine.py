"""What Linux says of the CPU: its name, and the caches that a group of cores can fill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ranvier.runtime.cores import Cores

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cpu_name(cpuinfo: str = "/proc/cpuinfo") -> str:
    """The model name of the first CPU; "unknown" where the system does not tell."""
    with open(cpuinfo, encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return "unknown"


def cache_bytes(cores: Cores, system_root: str = "/") -> dict[int, int]:
    """Bytes of data that the caches of a core group hold together, by level: `{1: ..., 2: ...}`.

    A cache that several of the cores share counts once. Of cores that are not pinned, the first
    `count` stand for all. Levels that the system does not describe are left out.
    """
    found: dict[tuple[int, str], int] = {}  # (level, CPUs that share it) -> bytes
    for cpu in cores.cpus[: cores.count]:
        for folder in _cache_folders(Path(system_root), cpu):
            words = [_word(folder / name) for name in ("level", "shared_cpu_list", "size", "type")]
            level, shared, size, kind = words
            if level.isdecimal() and size[:-1].isdecimal() and kind in ("Data", "Unified"):
                found[int(level), shared] = int(size[:-1]) * _UNITS.get(size[-1], 0)
    total: dict[int, int] = {}
    for (number, _), size_bytes in sorted(found.items()):
        total[number] = total.get(number, 0) + size_bytes
    return total


def _cache_folders(root: Path, cpu: int) -> Iterator[Path]:
    yield from sorted((root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index*"))


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""  # some virtual machines hide sizes
