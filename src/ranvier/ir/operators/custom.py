"""Operators that users define: `register_operator`.

A custom operator is called "namespace::name" as in PyTorch, or "domain::OpType" as in ONNX. With a
decomposition it is replaced by operators of the table when a model is imported, and so compiled.
With a NumPy definition and a shape rule alone it stays in the graph: the interpreter can run it,
and there is no native code for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranvier.errors import CompileError
from ranvier.ir.dim import Polynomial
from ranvier.ir.dtype import BOOL, BY_NAME, DType
from ranvier.ir.graph import Attribute, GraphBuilder, TensorType, Value
from ranvier.ir.operators.operator import Call, Numbers, Operator, Types

Definition = Callable[..., Any]
ShapeRule = Callable[..., TensorType | Sequence[TensorType]]
Decomposition = Callable[..., Value | Sequence[Value]]

_NAME = re.compile(r"[A-Za-z_][\w.]*::[A-Za-z_][\w.]*")


class Operators:
    """The operators of the table as functions of values, for decompositions.

    `ops.add(x, 1.0)` appends an `add` and returns its result. Numbers and NumPy arrays among the
    operands become constants; numbers take the element type of the first value. Attributes are
    given by name, as docs/operators.md lists them; lists may stand for tuples, and "f32" for F32.
    """

    def __init__(self, builder: GraphBuilder, name: str, source: str = "") -> None:
        self._builder = builder
        self._name = name
        self._source = source

    def __getattr__(self, op: str) -> Callable[..., Any]:
        def append(*operands: Any, **attributes: Any) -> Value | tuple[Value, ...]:
            first = next((x for x in operands if isinstance(x, Value)), None)
            given = [self._value(x, first) for x in operands]
            plain = {name: _attribute(value) for name, value in attributes.items()}
            hints = (f"{self._name}.{op}",)
            results = self._builder.add_node(op, given, plain, hints, self._source)
            return results[0] if len(results) == 1 else results

        return append

    def _value(self, operand: Any, first: Value | None) -> Value:
        if isinstance(operand, Value):
            return operand
        if isinstance(operand, np.ndarray):
            return self._builder.constant(operand, name=f"{self._name}.c", source=self._source)
        if first is None or not isinstance(operand, (bool, int, float)):
            raise CompileError(
                f"{self._name}: {operand!r} is no operand; give a value, a NumPy array, or a "
                "number beside a value"
            )
        dtype = first.dtype
        number = bool(operand) if dtype == BOOL else operand
        number = float(operand) if dtype.is_float else number
        return self._builder.add(
            "full", name=f"{self._name}.full", source=self._source, shape=(), value=number,
            dtype=dtype,
        )  # fmt: skip


def _attribute(value: Any) -> Attribute:
    if isinstance(value, list | tuple):
        return tuple(map(_attribute, value))
    return BY_NAME.get(value, value) if isinstance(value, str) else value


@dataclass(frozen=True)
class CustomOperator(Operator):
    """A user's operator: any operands, any attributes; `decomposition` may be None."""

    decomposition: Decomposition | None = None

    def check(self, call: Call) -> None:
        """Nothing is declared, so everything fits; the shape rule has the last word."""

    def expand(
        self,
        builder: GraphBuilder,
        operands: Sequence[Value],
        attributes: Mapping[str, Attribute],
        name: str,
        source: str = "",
    ) -> tuple[Value, ...]:
        """The operator's results: those of its decomposition, or of a node of its own."""
        if self.decomposition is None:
            return builder.add_node(self.name, operands, attributes, (name,), source)
        results = self.decomposition(Operators(builder, name, source), *operands, **attributes)
        return (results,) if isinstance(results, Value) else tuple(results)


CUSTOM: dict[str, CustomOperator] = {}


def register_operator(
    name: str,
    *,
    definition: Definition | None = None,
    shape: ShapeRule | None = None,
    decomposition: Decomposition | None = None,
    replace: bool = False,
) -> None:
    """Makes a custom operator known to all front ends.

    Args:
        name: "namespace::name" of a `torch.library` operator (its default overload; others are
            "namespace::name.overload"), or "domain::OpType" of an ONNX operator.
        definition: `(*arrays, **attributes)` -> the result's array, or a tuple of them. Arrays of
            bf16 and f16 arrive as f32; results are rounded to the element type of the shape rule.
        shape: `(*types, **attributes)` -> TensorType of the result, or a tuple of them. Needed
            beside a definition. Dims may be symbolic.
        decomposition: `(ops, *values, **attributes)` -> the result, or a tuple of them, made of
            operators of the table by `ops`. What has one is compiled.
        replace: whether an operator of that name may be registered already.

    Raises:
        CompileError: the name has another form or is taken, or what is needed is missing.
    """
    if _NAME.fullmatch(name) is None:
        raise CompileError(
            f"{name!r} is no name of a custom operator; give namespace::name or domain::OpType"
        )
    if name in CUSTOM and not replace:
        raise CompileError(f"{name} is registered already; pass replace=True to change it")
    if decomposition is None and (definition is None or shape is None):
        raise CompileError(
            f"{name} needs a decomposition, or a NumPy definition together with a shape rule"
        )
    CUSTOM[name] = CustomOperator(
        name,
        0,
        None,
        _infer(name, shape),
        _reference(name, definition),
        decomposition=decomposition,
    )


def _infer(name: str, shape: ShapeRule | None) -> Callable[[Call], Types]:
    def infer(call: Call) -> Types:
        if shape is None:
            raise call.error("has no shape rule; register it with shape=")
        found = shape(*call.operands, **call.attributes)
        types = (found,) if isinstance(found, TensorType) else tuple(found)
        if not all(isinstance(type, TensorType) for type in types):
            raise call.error(f"its shape rule gave {found!r}, not TensorTypes")
        return types

    return infer


def _reference(name: str, definition: Definition | None) -> Callable[..., Any]:
    def reference(call: Call, *arrays: Numbers) -> tuple[Numbers, ...]:
        if definition is None:
            raise call.error("has no NumPy definition; register it with definition=")
        attributes = {key: _concrete(call, value) for key, value in call.attributes.items()}
        found = definition(*arrays, **attributes)
        results = tuple(map(np.asarray, found if isinstance(found, tuple) else (found,)))
        shapes = [result.shape for result in results]
        wanted = [tuple(map(call.size, type.shape)) for type in call.results]
        if shapes != wanted:
            raise call.error(f"its definition gave shapes {shapes}, its shape rule says {wanted}")
        return results

    return reference


def _concrete(call: Call, value: Attribute) -> Any:
    """An attribute as a definition gets it: sizes are numbers, element types NumPy's."""
    if isinstance(value, tuple):
        return tuple(_concrete(call, entry) for entry in value)
    if isinstance(value, Polynomial):
        return call.size(value)
    return value.storage if isinstance(value, DType) else value
