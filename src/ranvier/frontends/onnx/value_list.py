"""ONNX sequences whose length is known: lists of values that exist while a model is translated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ranvier.ir.dtype import DType
from ranvier.ir.graph import Value


@dataclass(frozen=True)
class ValueList:
    """The tensors of a sequence; `dtype` is that of all of them, also where there are none."""

    items: tuple[Value, ...]
    dtype: DType


Result = Value | ValueList


def flatten(results: Iterable[Result]) -> list[Value]:
    """All tensors, in order."""
    found: list[Value] = []
    for result in results:
        found += result.items if isinstance(result, ValueList) else [result]
    return found


def unflatten(values: Sequence[Value], like: Iterable[Result]) -> tuple[Result, ...]:
    """Tensors in the nesting of `like`."""
    rest: Iterator[Value] = iter(values)
    return tuple(
        ValueList(tuple(next(rest) for _ in result.items), result.dtype)
        if isinstance(result, ValueList)
        else next(rest)
        for result in like
    )
