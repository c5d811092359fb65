"""What is known of the elements of small tensors while a model is translated.

Shapes are computed by tensors in ONNX: `Shape`, `Gather`, `Concat`, `Mul`, ... To keep them
symbolic, every value that the front end emits may carry its elements. `Contents` evaluates the
emitted operators on them; what no rule can decide is not known, and computed at run time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ranvier.frontends.onnx.element_rules import RULES, static_shape
from ranvier.frontends.onnx.elements import OPEN, Elements, Open, Unknown
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, BOOL, DType, from_bf16, to_bf16
from ranvier.ir.graph import Node, Value

MOST_ELEMENTS = 1024
"""Tensors with more elements are no shapes."""
MOST_OPEN = 16
"""Rows with more unknown elements are no shapes."""


class Contents:
    """Elements of the values of one graph, as far as they are known."""

    def __init__(self) -> None:
        self._known: dict[Value, Elements] = {}

    def get(self, value: Value) -> Elements | None:
        """The elements of a value, or None."""
        return self._known.get(value)

    def copy(self, value: Value, of: Contents, inside: Value) -> None:
        """Make known of `inside` what other contents know of `value`."""
        found = of.get(value)
        if found is not None:
            self._known[inside] = found

    def learn(self, node: Node) -> None:
        """Evaluates a node that has just been emitted on what is known of its operands."""
        if len(node.results) != 1 or not _is_small(node.result):
            return
        rule = RULES.get(node.op)
        operands = [self._elements(operand) for operand in node.operands]
        if rule is None or any(operand is None for operand in operands):
            return
        try:
            found = rule(node, *operands)
        except Unknown:
            return
        elements: Any = np.empty(static_shape(node.result), dtype=object)
        elements[...] = found
        if elements.size == 0 or {type(element) for element in elements.ravel().tolist()} != {Open}:
            self._known[node.result] = _rounded(elements, node.result.dtype)

    def _elements(self, value: Value) -> Elements | None:
        """What is known of a value; of a short row of integers, at least how many there are."""
        found = self._known.get(value)
        if found is not None or not _is_small(value) or not value.dtype.is_integer:
            return found
        shape = static_shape(value)
        if math.prod(shape) > MOST_OPEN:
            return None
        return np.full(shape, OPEN, dtype=object)


def _is_small(value: Value) -> bool:
    count = dims.product(value.shape)
    if not isinstance(count, int) or count > MOST_ELEMENTS or value.dtype.name not in _KINDS:
        return False
    return all(isinstance(size, int) for size in value.shape)


_KINDS = frozenset(
    {"f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool"}
)


def _rounded(elements: Elements, dtype: DType) -> Elements:
    """Plain numbers as an element of `dtype` holds them; Unknown becomes impossible afterwards."""
    for place, element in np.ndenumerate(elements):
        if isinstance(element, (int, float)):
            elements[place] = _round(element, dtype)
    return elements


def _round(number: float, dtype: DType) -> Any:
    if dtype == BOOL:
        return bool(number)
    if dtype.is_integer:
        return int(number)
    if dtype == BF16:
        return float(from_bf16(to_bf16(np.asarray(number, np.float32))))
    with np.errstate(over="ignore"):
        return float(dtype.storage.type(number))
