"""The table from an ONNX operator to the functions that express it in the operators of the IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Translate = Callable[..., Any]
"""`(call, *operands, **attributes) -> Value | tuple of (Value | None)`.

Positional parameters are the operands in the order of ONNX's schema (None where one is left out),
keyword-only parameters the attributes by their ONNX name. An attribute that the function does not
take is refused.
"""

Function = TypeVar("Function", bound=Translate)

TABLE: dict[tuple[str, str], dict[int, Translate]] = {}
"""(domain, operator) -> version of the operator set from which on a function holds."""

ML, TRAINING, PREVIEW = "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.preview"


def onnx_operator(*names: str, since: int = 1, domain: str = "") -> Callable[[Function], Function]:
    """Registers a function for operators from version `since` of their operator set on."""

    def register(function: Function) -> Function:
        for name in names:
            versions = TABLE.setdefault((domain, name), {})
            if since in versions:
                raise ValueError(f"{domain}::{name} is registered twice for version {since}")
            versions[since] = function
        return function

    return register


def translation(domain: str, name: str, version: int) -> Translate | None:
    """The function for an operator of a version of its operator set; None where there is none."""
    versions = TABLE.get((domain, name), {})
    fitting = [since for since in versions if since <= version]
    return versions[max(fitting)] if fitting else None
