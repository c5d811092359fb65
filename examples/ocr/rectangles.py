"""Rectangles of any direction: around points, measured, grown.

A rectangle is `[4, 2]`: the corners x, y clockwise from the upper left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from components import Points
from numpy.typing import NDArray

Rectangle = NDArray[np.float64]


def smallest_rectangle(points: Points) -> Rectangle:
    """The rectangle of least area around points; one of its sides lies on their convex hull."""
    hull = convex_hull(points)
    edges = np.roll(hull, -1, axis=0) - hull
    lengths = np.hypot(*edges.T)
    directions = edges[lengths > 0] / lengths[lengths > 0, None]
    if not len(directions):
        directions = np.array([[1.0, 0.0]])
    normals = np.stack([-directions[:, 1], directions[:, 0]], axis=1)
    along, across = hull @ directions.T, hull @ normals.T
    low, high = np.stack([along.min(0), across.min(0)]), np.stack([along.max(0), across.max(0)])
    best = int(np.argmin((high - low).prod(axis=0)))
    (a, c), (b, d) = low[:, best], high[:, best]
    axes = np.stack([directions[best], normals[best]])
    return clockwise(np.array([[a, c], [b, c], [b, d], [a, d]]) @ axes)


def convex_hull(points: Points) -> Points:
    """The corners of the convex hull (Andrew, Another efficient algorithm, IPL 9, 1979)."""
    ordered = np.unique(points, axis=0)
    if len(ordered) < 3:
        return ordered
    halves = []
    for sequence in (ordered, ordered[::-1]):
        half: list[tuple[float, float]] = []
        for x, y in sequence.tolist():
            while len(half) > 1 and _turns_right(half[-2], half[-1], (x, y)):
                half.pop()
            half.append((x, y))
        halves += half[:-1]
    return np.array(halves)


def _turns_right(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0


def clockwise(corners: Points) -> Rectangle:
    """Four corners from the upper left on: of the two on the left, and of those on the right."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    top_left, bottom_left = by_x[:2][np.argsort(by_x[:2, 1], kind="stable")]
    top_right, bottom_right = by_x[2:][np.argsort(by_x[2:, 1], kind="stable")]
    return np.stack([top_left, top_right, bottom_right, bottom_left])


def sides(rectangle: Rectangle) -> tuple[float, float]:
    """Width and height, each the longer one of opposite sides."""
    top, right, bottom, left = np.hypot(*(np.roll(rectangle, -1, axis=0) - rectangle).T)
    return float(max(top, bottom)), float(max(left, right))


def grown(rectangle: Rectangle, distance: float) -> Rectangle:
    """The rectangle with all sides moved outwards by a distance in pixels."""
    width, height = sides(rectangle)
    right = (rectangle[1] - rectangle[0]) / max(width, 1e-9) * distance
    down = (rectangle[3] - rectangle[0]) / max(height, 1e-9) * distance
    return rectangle + np.stack([-right - down, right - down, right + down, down - right])
