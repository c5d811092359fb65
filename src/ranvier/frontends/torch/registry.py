"""The table from an ATen overload to the function that expresses it in the operators of the IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Translate = Callable[..., Any]
"""`(call, *arguments by schema name) -> Value | tuple of (Value | None)`.

The first tensor, `self` or `input` in ATen's schema, is passed as `x`, `min` and `max` as `low`
and `high`. A schema argument that the function does not take is refused unless it has its default.
"""

Function = TypeVar("Function", bound=Translate)

TABLE: dict[str, Translate] = {}


def aten(*overloads: str) -> Callable[[Function], Function]:
    """Registers a function for overloads; `relu` stands for `aten.relu.default`."""

    return operator(*(f"aten.{o}" if "." in o else f"aten.{o}.default" for o in overloads))


def operator(*names: str) -> Callable[[Function], Function]:
    """Registers a function for operators of any library: `torchvision.nms.default`."""

    def register(function: Function) -> Function:
        for name in names:
            if name in TABLE:
                raise ValueError(f"{name} is registered twice")
            TABLE[name] = function
        return function

    return register
