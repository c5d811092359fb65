"""How fast a core group reads: from its second-level caches, its last-level cache, and memory.

NumPy alone does the reading, so this works wherever an artifact runs. A reduction over the rows of
a matrix whose row stride is 0 reads one small array again and again inside one native call, on
vectors and without the interpreter lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.profiling.machine import cache_bytes
from ranvier.runtime.cores import Cores

_ROUNDS = 5
_BYTES_PER_ROUND = 1 << 28  # of each thread
_MEMORY_BYTES = 1 << 24  # of each thread at least, so that no cache holds it

Reduction = Callable[[NDArray[Any], NDArray[Any]], object]

# Neither is the fastest at every level; both are vectorised in NumPy.
_REDUCTIONS: tuple[tuple[type, Reduction], ...] = (
    (np.int64, lambda matrix, out: np.add.reduce(matrix, axis=1, out=out)),
    (np.int32, lambda matrix, out: np.maximum.reduce(matrix, axis=1, out=out)),
)


@dataclass(frozen=True)
class Level:
    """A level of the memory hierarchy, as a core group sees it.

    Attributes:
        name: "L2", "L3" or "memory".
        capacity_bytes: what it holds for all threads together; None for memory.
        bytes_per_second: the highest rate at which all threads together read from it.
    """

    name: str
    capacity_bytes: int | None
    bytes_per_second: float


@cache
def memory_levels(cores: Cores) -> tuple[Level, ...]:
    """The levels below the first cache, nearest first; memory is always the last.

    The first level is left out: no reduction is as fast as it.
    """
    sizes = cache_bytes(cores)
    levels = []
    previous = sizes.get(1, 0)
    for number, size in sizes.items():
        # Half of a level, so that neighbours leave room, has to be clear of the level before it.
        if number > 1 and size // 2 > previous:
            rate = _read_rate(cores, size // 2 // cores.count)
            levels.append(Level(f"L{number}", size, rate))
            previous = size
    beyond = max(_MEMORY_BYTES, 4 * max(sizes.values(), default=0) // cores.count)
    return (*levels, Level("memory", None, _read_rate(cores, beyond)))


def _read_rate(cores: Cores, size_bytes: int) -> float:
    """Bytes per second of all threads, each reading its own `size_bytes` again and again."""
    return max(_timed(cores, size_bytes, dtype, reduce) for dtype, reduce in _REDUCTIONS)


def _timed(cores: Cores, size_bytes: int, dtype: type, reduce: Reduction) -> float:
    repeat = max(1, _BYTES_PER_ROUND // size_bytes)
    rows: list[NDArray[Any]] = [
        np.ones(size_bytes // np.dtype(dtype).itemsize, dtype) for _ in range(cores.count)
    ]
    matrices = [np.broadcast_to(row, (repeat, row.size)) for row in rows]
    results: list[NDArray[Any]] = [np.empty(repeat, dtype) for _ in rows]

    def share(thread: int) -> None:
        if cores.pinned:
            os.sched_setaffinity(0, {cores.cpus[thread]})
        reduce(matrices[thread], results[thread])

    best = float("inf")
    with ThreadPoolExecutor(cores.count) as pool:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            list(pool.map(share, range(cores.count)))
            best = min(best, time.perf_counter() - start)
    return sum(row.nbytes for row in rows) * repeat / best
