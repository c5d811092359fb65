"""Operands and attributes of an ONNX node, bound to the parameters of a translation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto
from onnx.helper import get_attribute_value

from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import Translate
from ranvier.frontends.onnx.value_list import Result

_KINDS: dict[str, type] = {
    "int": int,
    "float": float,
    "str": str,
    "GraphProto": GraphProto,
    "TensorProto": TensorProto,
    "TypeProto": TypeProto,
    "None": type(None),
}
"""Types by their names in the annotations of translations."""
_NO_EFFECT = frozenset({"consumed_inputs", "training_mode", "momentum", "seed"})
"""Attributes that change no result in inference, when their value is zero or beside the point."""


def bind(
    translate: Translate, operands: Sequence[Result | None], attributes: Mapping[str, Any]
) -> tuple[list[Result | None], dict[str, Any]]:
    """Arguments of a translation. Raises Refusal for what the translation does not take."""
    shape = _shape(translate)
    given = list(operands)
    while given and given[-1] is None and not shape.variadic:
        given.pop()
    if len(given) < shape.required:
        raise Refusal(f"has {len(given)} operands, but needs {shape.required}")
    if len(given) > shape.most and not shape.variadic:
        raise Refusal(f"has {len(given)} operands, but takes {shape.most}")
    if any(given[i] is None for i in shape.present):
        raise Refusal("leaves out an operand that is not optional")
    bound = {}
    for name, value in attributes.items():
        if name in shape.attributes:
            _require_kind(name, value, shape.attributes[name])
            bound[name] = value
        elif name == "training_mode" and value:
            raise Refusal("is in training mode")
        elif name not in _NO_EFFECT:
            raise Refusal(f"has the attribute {name}={value}, which is not supported")
    missing = shape.mandatory - bound.keys()
    if missing:
        raise Refusal(f"lacks the attribute {', '.join(sorted(missing))}")
    return given, bound


def _require_kind(name: str, value: Any, annotation: str) -> None:
    """Refuses a value that is not of the type that a translation says it takes."""
    annotation = annotation.replace("Ints", "tuple[int, ...]")
    kinds = [kind for mark, kind in _KINDS.items() if mark in annotation]
    items = value if isinstance(value, tuple) else (value,)
    is_list = "tuple[" in annotation
    if isinstance(value, tuple) != is_list or not all(isinstance(i, tuple(kinds)) for i in items):
        raise Refusal(f"has an attribute {name} of {type(value).__name__}, expected {annotation}")


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Attributes as Python values: numbers, strings, tuples of them, or protos."""
    return {attribute.name: _plain(attribute) for attribute in node.attribute}


def _plain(attribute: AttributeProto) -> Any:
    value = get_attribute_value(attribute)
    if attribute.type == AttributeProto.STRING:
        return value.decode("utf-8", "replace")
    if attribute.type == AttributeProto.STRINGS:
        return tuple(text.decode("utf-8", "replace") for text in value)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return value
    return tuple(value)


class _Shape:
    """How many operands a translation takes, and which attributes."""

    def __init__(self, translate: Translate) -> None:
        parameters = list(inspect.signature(translate).parameters.values())[1:]
        plain = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.most = len(plain)
        self.required = sum(p.default is p.empty for p in plain)
        self.present = [
            i for i, p in enumerate(plain) if p.default is p.empty and "None" not in p.annotation
        ]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.attributes = {p.name: str(p.annotation) for p in named}
        self.mandatory = frozenset(p.name for p in named if p.default is p.empty)


@cache
def _shape(translate: Translate) -> _Shape:
    return _Shape(translate)
