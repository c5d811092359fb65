"""What every kind of segment has in common."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ranvier.errors import FrameworkError


@dataclass(frozen=True, slots=True)
class Tensor:
    """Memory of an operand or result: the address of its first byte; dense, in C order."""

    address: int
    shape: tuple[int, ...]


class Segment(Protocol):
    """A part of a model that a framework runs; calls of one segment do not overlap."""

    def run(
        self, operands: Sequence[Tensor], sizes: Sequence[int], results: Sequence[Tensor]
    ) -> None:
        """Compute `results` from `operands` and the numbers that the document calls sizes.

        Raises:
            FrameworkError: the framework failed, or gave something of another type or shape.
        """


def framework_module(package: str) -> Any:
    """Import a framework.

    Raises:
        FrameworkError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise FrameworkError(
            f"the package {package!r} is needed and cannot be imported ({error}). Install it "
            f"(pip install {package}), or compile the model without fallback"
        ) from error
