"""Elements of small tensors as the front end knows them: numbers, sizes, and those still open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.ir.dim import Dim

Elements = npt.NDArray[np.object_]
"""Every element is an int, a `Dim`, a bool, a float, a `Ratio` or `OPEN`."""


class Open:
    """Stands for an element that is computed at run time, among others that are known."""


OPEN = Open()


class Unknown(Exception):  # noqa: N818  (not an error: the element is computed at run time)
    """An element that cannot be decided while the model is translated."""


@dataclass(frozen=True)
class Ratio:
    """`numerator / denominator`, a float that comes from a size; the denominator is positive."""

    numerator: Dim
    denominator: int


def numbers(value: Elements | None) -> list[Any] | None:
    """The elements in order when all of them are plain numbers."""
    if value is None:
        return None
    found = value.reshape(-1).tolist()
    return found if all(isinstance(x, (int, float)) for x in found) else None
