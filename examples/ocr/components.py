"""Connected components of a mask, as the ends of their runs of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""`[count, 2]`: x, y."""


def components(mask: NDArray[np.bool_]) -> list[Points]:
    """The first and the last pixel of every run of every component of 8 neighbours, by turns.

    Their convex hull is that of the whole component.
    """
    rows, first, last = _runs(mask)
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    for above, below in _touching(rows, first, last):
        parent[root(above)] = root(below)
    found: dict[int, list[int]] = {}
    for run in range(len(rows)):
        found.setdefault(root(run), []).append(run)
    ends = np.stack([np.stack([first, rows], 1), np.stack([last, rows], 1)], 1).astype(np.float64)
    return [ends[runs].reshape(-1, 2) for runs in found.values()]


def pixels_of(image: NDArray[np.float32], ends: Points) -> NDArray[np.float32]:
    """The pixels of an image that are in one component."""
    runs = ends.reshape(-1, 2, 2).astype(np.int64)
    return np.concatenate([image[y, x : last + 1] for (x, y), (last, _) in runs])


def _runs(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, first and last column of every run of true pixels, in reading order."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, first = np.nonzero(edges == 1)
    _, behind = np.nonzero(edges == -1)
    return rows, first, behind - 1


def _touching(
    rows: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Pairs of runs in neighbouring rows that touch, corners included."""
    pairs = []
    above = 0
    for run in range(len(rows)):
        while rows[above] < rows[run] - 1 or (
            rows[above] == rows[run] - 1 and last[above] < first[run] - 1
        ):
            above += 1
        other = above
        while rows[other] == rows[run] - 1 and first[other] <= last[run] + 1:
            pairs.append((other, run))
            other += 1
    return pairs
