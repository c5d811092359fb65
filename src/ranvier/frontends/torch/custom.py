"""Operators of `torch.library` that a user has registered with `ranvier.register_operator`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node as FxNode

from ranvier.frontends.torch.arguments import by_name
from ranvier.frontends.torch.call import Call, Refusal
from ranvier.ir.graph import Attribute, Value
from ranvier.ir.operators.custom import CUSTOM, CustomOperator


def custom_operator(target: object) -> CustomOperator | None:
    """The registered operator that an FX target names: "namespace::name" or with ".overload"."""
    if not isinstance(target, torch._ops.OpOverload):
        return None
    overload = target._overloadname
    name = str(target._schema.name)
    return CUSTOM.get(name if overload == "default" else f"{name}.{overload}")


def expand(
    call: Call, operator: CustomOperator, node: FxNode, resolve: Callable[[Any], Any]
) -> Value | tuple[Value, ...]:
    """Its results. Tensors of the schema, also those in lists, are operands; the rest attributes.

    Raises Refusal when the operator writes one of its arguments.
    """
    assert isinstance(node.target, torch._ops.OpOverload)
    if node.target._schema.is_mutable:
        raise Refusal("writes one of its arguments; return a new tensor instead")
    operands: list[Value] = []
    attributes: dict[str, Attribute] = {}
    for name, _, value in by_name(node):
        found = resolve(value)
        if isinstance(found, Value):
            operands.append(found)
        elif isinstance(found, Sequence) and any(isinstance(entry, Value) for entry in found):
            operands += [entry for entry in found if entry is not None]
        elif not _is_missing_tensor(node.target, name, found):
            attributes[name] = tuple(found) if isinstance(found, list) else found
    results = operator.expand(call.builder, operands, attributes, call.name, call.source)
    return results[0] if len(call.expected) == 1 else results


def _is_missing_tensor(target: torch._ops.OpOverload, name: str, value: object) -> bool:
    """Whether an optional tensor was left out."""
    kinds = {argument.name: str(argument.type) for argument in target._schema.arguments}
    return value is None and "Tensor" in kinds[name]
