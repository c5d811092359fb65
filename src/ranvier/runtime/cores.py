"""Which CPUs a model runs on.

- `cores=` of `load`: a list "0-3,5", an iterable of CPU numbers, or a count. It wins over
  `RANVIER_NUM_CORES`.
- `RANVIER_VISIBLE_CORES`: a list; CPUs outside it cannot be used at all.
- `RANVIER_NUM_CORES`: a count.
- Else every CPU in the process's affinity mask (the cpuset), but no more than the cgroup's CPU
  quota pays for.

A list, or all CPUs, is *pinned*: thread i runs on CPU i of the list. A count (or a quota) below the
number of CPUs says how many, not which: these threads may run on any visible CPU, so that two such
processes do not meet on the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ranvier.errors import TargetError

MAXIMUM_CPU = 8191


@dataclass(frozen=True, slots=True)
class Cores:
    """The CPUs of a core group.

    Attributes:
        count: number of threads, at least 1.
        cpus: CPU numbers that the threads may use; with `pinned`, thread i uses `cpus[i]` alone.
        pinned: whether every thread has a CPU of its own.
    """

    count: int
    cpus: tuple[int, ...]
    pinned: bool


def select_cores(
    cores: int | str | Iterable[int] | None = None,
    environment: Mapping[str, str] = os.environ,
    system_root: str = "/",
) -> Cores:
    """Return the CPUs to use (see the head of this file).

    Args:
        cores: a count, a list such as "0-3,5", CPU numbers, or None for all.
        environment: where `RANVIER_NUM_CORES` and `RANVIER_VISIBLE_CORES` are looked up.
        system_root: where `proc` and `sys` are, for tests.

    Raises:
        TargetError: malformed, or a CPU that this process may not use.
    """
    visible = _visible(environment)
    if isinstance(cores, bool):
        raise TargetError(
            f"cores={cores!r}: expected a count, a list such as '0-3,5', or CPU numbers"
        )
    if isinstance(cores, int):
        return _counted(cores, visible, f"cores={cores!r}")
    if cores is not None:
        return _listed(cores, visible)
    wanted = environment.get("RANVIER_NUM_CORES", "").strip()
    if wanted:
        if not wanted.isdecimal():
            raise TargetError(
                f"RANVIER_NUM_CORES={wanted!r}: expected a number of cores, 1 or more"
            )
        return _counted(int(wanted), visible, f"RANVIER_NUM_CORES={wanted}")
    quota = cgroup_quota(system_root)
    # Rounded down: a group that spins on more cores than it has time for is throttled as a whole.
    count = len(visible) if quota is None else max(1, min(len(visible), int(quota)))
    return Cores(count, visible, pinned=count == len(visible))


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the CPU numbers of a list such as "0-3,5", in the order given.

    Raises:
        TargetError: malformed, empty, a number beyond `MAXIMUM_CPU`, or a CPU twice.
    """
    cpus: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        low, high = _cpu(first, text), _cpu(last if dash else first, text)
        if high < low:
            raise TargetError(f"the CPU list {text!r} has the empty range {part.strip()!r}")
        cpus.extend(range(low, high + 1))
    return _distinct(cpus, repr(text))


def cgroup_quota(system_root: str = "/") -> float | None:
    """Return how many CPUs' time the cgroups of this process grant, None for no limit.

    Reads cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`); the smallest limit on the way to the
    root counts.
    """
    limits: list[float] = []
    for line in _lines(os.path.join(system_root, "proc/self/cgroup")):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mounts, read = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"), _quota_v1
        else:
            continue
        for mount in mounts:
            for folder in _upwards(os.path.join(system_root, mount), path):
                limit = read(folder)
                if limit is not None:
                    limits.append(limit)
    return min(limits, default=None)


def _visible(environment: Mapping[str, str]) -> tuple[int, ...]:
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    fence = environment.get("RANVIER_VISIBLE_CORES", "").strip()
    if not fence:
        return allowed
    listed = parse_cpu_list(fence)
    _require(listed, allowed, f"RANVIER_VISIBLE_CORES={fence}")
    return listed


def _counted(count: int, visible: tuple[int, ...], what: str) -> Cores:
    if not 1 <= count <= len(visible):
        raise TargetError(
            f"{what}: this process may use 1 to {len(visible)} cores ({_ranges(visible)})"
        )
    return Cores(count, visible, pinned=count == len(visible))


def _listed(cores: str | Iterable[int], visible: tuple[int, ...]) -> Cores:
    if isinstance(cores, str):
        listed = parse_cpu_list(cores)
    else:
        numbers = list(cores)
        if not numbers or not all(type(n) is int and 0 <= n <= MAXIMUM_CPU for n in numbers):
            raise TargetError(f"cores={numbers!r:.80}: expected CPU numbers")
        listed = _distinct(numbers, repr(numbers))
    _require(listed, visible, f"cores={cores!r:.80}")
    return Cores(len(listed), listed, pinned=True)


def _require(listed: tuple[int, ...], allowed: tuple[int, ...], what: str) -> None:
    beyond = sorted(set(listed) - set(allowed))
    if beyond:
        raise TargetError(
            f"{what}: this process may not use CPU {_ranges(beyond)}; it may use "
            f"{_ranges(allowed)} (cpuset, affinity and RANVIER_VISIBLE_CORES decide)"
        )


def _cpu(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 6 or int(text) > MAXIMUM_CPU:
        raise TargetError(
            f"the CPU list {whole!r:.80} is malformed; expected numbers and ranges such as '0-3,5'"
        )
    return int(text)


def _distinct(cpus: list[int], what: str) -> tuple[int, ...]:
    if len(set(cpus)) != len(cpus):
        raise TargetError(f"the CPU list {what:.80} names a CPU twice")
    return tuple(cpus)


def _ranges(cpus: Iterable[int]) -> str:
    """Return CPU numbers as "0-3,5"."""
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _upwards(mount: str, path: str) -> Iterable[str]:
    """Yield a cgroup's folder and those above; a container may see its own only as the root."""
    parts = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        yield os.path.join(mount, *parts[:depth])


def _quota_v2(folder: str) -> float | None:
    words = " ".join(_lines(os.path.join(folder, "cpu.max"))).split()
    if len(words) != 2 or not words[0].isdecimal() or not words[1].isdecimal() or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(folder: str) -> float | None:
    quota, period = (
        _lines(os.path.join(folder, f"cpu.cfs_{name}_us")) for name in ("quota", "period")
    )
    if (
        not quota
        or not period
        or not quota[0].isdecimal()
        or not period[0].isdecimal()
        or period[0] == "0"
    ):
        return None  # a quota of -1 means no limit
    return int(quota[0]) / int(period[0])


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []  # the file is not there under the other cgroup version, or the container hides it
