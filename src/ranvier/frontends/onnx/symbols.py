"""Sizes of inputs: numbers, or symbols with the ranges that the user gives."""

from __future__ import annotations

import re
from collections.abc import Mapping

from onnx import TensorShapeProto, ValueInfoProto

from ranvier.errors import CompileError
from ranvier.ir.dim import Dim, Polynomial, symbol

Range = int | tuple[int, int | None]
MOST = 2**40
"""A larger number than any size that fits a computer."""
_OPEN = -1
"""Some exporters write -1 or "?" for a size that is open; ONNX would have nothing there."""


class Symbols:
    """The symbols of one model by their ONNX names.

    `ranges` has a range (low, high) or a fixed size per name; others are 1 and above.
    """

    def __init__(self, ranges: Mapping[str, Range] | None = None) -> None:
        self._ranges = dict(ranges or {})
        self._dims: dict[str, Dim] = {}
        self._names: set[str] = set()

    def shape(self, value: ValueInfoProto) -> tuple[Dim, ...]:
        """The shape of an input; CompileError when its rank is unknown."""
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            raise CompileError(f"the input {value.name} has no shape; give its dims in the model")
        return tuple(
            self._dim(dim, f"{value.name}_{axis}", value.name)
            for axis, dim in enumerate(tensor.shape.dim)
        )

    def declared(self, value: ValueInfoProto) -> tuple[Dim | None, ...] | None:
        """The sizes stated for another value, None where they are not known."""
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
            return None
        return tuple(self._stated(dim) for dim in tensor.shape.dim)

    def unused(self) -> list[str]:
        """Names with a range that no input has."""
        return sorted(self._ranges.keys() - self._dims.keys())

    def names(self) -> list[str]:
        """The names that inputs have."""
        return sorted(self._dims)

    def fresh(self, hint: str, low: int = 0, high: Dim | None = None) -> Polynomial:
        """A symbol that nothing else in the model has."""
        return symbol(self._unique(hint), low, high)

    def _stated(self, dim: TensorShapeProto.Dimension) -> Dim | None:
        if dim.HasField("dim_value"):
            return None if dim.dim_value == _OPEN else int(dim.dim_value)
        return self._dims.get(dim.dim_param) if dim.dim_param else None

    def _dim(self, dim: TensorShapeProto.Dimension, fresh: str, where: str) -> Dim:
        if dim.HasField("dim_value") and dim.dim_value != _OPEN:
            if not 0 <= dim.dim_value < MOST:
                raise CompileError(f"the input {where} has a dim of {dim.dim_value}")
            return int(dim.dim_value)
        name = dim.dim_param if _is_name(dim.dim_param) else fresh
        if name not in self._dims:
            self._dims[name] = self._new(name)
        return self._dims[name]

    def _new(self, name: str) -> Dim:
        given = self._ranges.get(name, (1, None))
        if isinstance(given, int):
            return given
        low, high = given
        if low < 0 or (high is not None and high < low):
            raise CompileError(f"the range {low}:{high} of the dim {name} is empty or negative")
        if low == high:
            return low
        return symbol(self._unique(name), low, high)

    def _unique(self, name: str) -> str:
        """A name that the IR can print: a letter, then letters, digits and underscores."""
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        plain = plain if plain[:1].isalpha() else f"d{plain}"
        found, count = plain, 1
        while found in self._names:
            found, count = f"{plain}_{count}", count + 1
        self._names.add(found)
        return found


def _is_name(text: str) -> bool:
    """Whether dims that share the text are equal; "?" says nothing."""
    return any(c.isalnum() for c in text)
