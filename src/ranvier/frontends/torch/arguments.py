"""Arguments of an FX node, bound to the parameters of a translation by the operator's schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

from ranvier.frontends.torch.call import Refusal
from ranvier.frontends.torch.dtypes import from_torch
from ranvier.frontends.torch.registry import Translate
from ranvier.ir.graph import Value

_RENAMED = {"self": "x", "input": "x", "min": "low", "max": "high"}
_NO_EFFECT = frozenset(
    {
        "device", "pin_memory", "memory_format", "non_blocking", "copy", "generator", "momentum",
        "cudnn_enabled", "cudnn_enable", "benchmark", "deterministic", "allow_tf32",
    }
)  # fmt: skip
"""Arguments that change no element of a result in inference on a CPU."""


def bind(
    node: torch.fx.Node, translate: Translate, resolve: Callable[[Any], Any]
) -> dict[str, Any]:
    """Arguments by parameter name; `resolve` turns an FX argument into what the IR has for it.

    Raises Refusal for an argument that the translation does not take and that differs from the
    schema's default.
    """
    taken = _parameters(translate)
    bound: dict[str, Any] = {}
    for name, default, value in by_name(node):
        parameter = _RENAMED.get(name, name)
        if parameter in taken:
            bound[parameter] = resolve(value)
            _require_static_type(node, name, bound[parameter], taken[parameter])
        elif name == "layout":
            _require_strided(value)
        elif name not in _NO_EFFECT and value is not None and value != default:
            raise Refusal(f"{name} is {value}, which is not supported")
    return bound


@cache
def _parameters(translate: Translate) -> Mapping[str, str]:
    """Parameters of a translation, with their annotations."""
    found = inspect.signature(translate).parameters
    return {name: str(parameter.annotation) for name, parameter in found.items()}


def _require_static_type(node: torch.fx.Node, name: str, value: Any, annotation: str) -> None:
    """Refuses a number that data give where a translation needs one that is known, or a size."""
    entries = value if isinstance(value, list) else [value]
    if not any(isinstance(entry, Value) for entry in entries):
        return
    assert isinstance(node.target, torch._ops.OpOverload)
    kinds = {argument.name: str(argument.type) for argument in node.target._schema.arguments}
    takes_values = "Value" in annotation or "Operand" in annotation or "_empty" in annotation
    if "Tensor" not in kinds[name] and not takes_values:
        raise Refusal(
            f"{name} is a number that depends on data and may be negative; "
            "torch._check(number >= 0) makes it a size"
        )


def by_name(node: torch.fx.Node) -> list[tuple[str, Any, Any]]:
    """(name, default, value) of every argument in the schema of a node's operator."""
    assert isinstance(node.target, torch._ops.OpOverload)
    bound = []
    for i, argument in enumerate(node.target._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        given: Mapping[str, Any] = node.kwargs
        value = node.args[i] if i < len(node.args) else given.get(argument.name, default)
        bound.append((argument.name, default, value))
    return bound


def _require_strided(layout: torch.layout | None) -> None:
    if layout not in (None, torch.strided):
        raise Refusal(f"layout is {layout}; only dense tensors are supported")


def plain(value: Any) -> Any:
    """A Python argument as the IR has it: torch dtypes become element types."""
    if not isinstance(value, torch.dtype):
        return value
    dtype = from_torch(value)
    if dtype is None:
        raise Refusal(f"dtype is {value}, which is not supported")
    return dtype
