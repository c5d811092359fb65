"""What sizes to expect where a model leaves them open, for decisions of the compiler."""

from __future__ import annotations

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim

IMAGE_SIZE = 224  # height or width of an image


def typical(dim: Dim, size: int = IMAGE_SIZE) -> int:
    """`dim` with every symbol at `size`, or as near to it as its range allows; at least 1."""
    values = {}
    for name, symbol in dims.symbols(dim).items():
        low, high = symbol.bounds()
        values[name] = max(min(size, size if high is None else high), low or 0)
    return max(dims.evaluate(dim, values), 1)
