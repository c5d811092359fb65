"""Tensors whose elements follow from sizes alone, written down without the nodes behind them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ranvier.frontends.onnx.elements import Elements
from ranvier.frontends.onnx.frame import Frame
from ranvier.ir import dim as dims
from ranvier.ir.dim import Polynomial
from ranvier.ir.dtype import I64, DType, encode
from ranvier.ir.graph import Value


def follows_from_sizes(elements: Elements | None, given: Collection[str]) -> bool:
    """Whether all elements are numbers and dims over the symbols of inputs."""
    if elements is None:
        return False
    return all(
        isinstance(each, (int, float))
        or (isinstance(each, Polynomial) and dims.symbols(each).keys() <= set(given))
        for each in elements.reshape(-1).tolist()
    )


def emit_elements(frame: Frame, elements: Elements, dtype: DType, name: str) -> Value:
    """A value with these elements."""
    flat = elements.reshape(-1).tolist()
    if not any(isinstance(each, Polynomial) for each in flat):
        array = encode(np.array(flat).reshape(elements.shape), dtype)
        return _learned(frame, frame.builder.constant(array, dtype, name))
    parts = [_one(frame, each, dtype, name) for each in flat]
    row = parts[0] if len(parts) == 1 else _add(frame, "concat", *parts, name=name, axis=0)
    if row.shape == elements.shape:
        return row
    return _add(frame, "reshape", row, name=name, shape=tuple(elements.shape))


def _one(frame: Frame, element: Polynomial | float, dtype: DType, name: str) -> Value:
    if not isinstance(element, Polynomial):
        array = encode(np.array([element]), dtype)
        return _learned(frame, frame.builder.constant(array, dtype, name))
    size = _add(frame, "dim", name=name, value=element, dtype=I64)
    cast = size if dtype == I64 else _add(frame, "cast", size, name=name, dtype=dtype)
    return _add(frame, "reshape", cast, name=name, shape=(1,))


def _add(frame: Frame, op: str, *operands: Value, name: str, **attributes: object) -> Value:
    return _learned(frame, frame.builder.add_node(op, operands, attributes, (name,))[0])


def _learned(frame: Frame, value: Value) -> Value:
    frame.contents.learn(frame.builder.nodes[-1])
    return value
