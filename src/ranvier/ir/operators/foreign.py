"""Parts of a model that a framework runs (`ranvier/segments`); front ends make them when asked to.

The definition of such a part is what the framework computes, so the interpreter needs it, too.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import cast

import numpy as np

from ranvier.ir.dtype import Array, DType
from ranvier.ir.graph import Node, TensorType
from ranvier.ir.operators.operator import (
    DIMS,
    SHAPES,
    Call,
    Kind,
    Operator,
    Types,
    choice,
    tuple_of,
)
from ranvier.segments import FRAMEWORKS, Segment, Tensor, open_segment

TEXT = Kind("a string", lambda value: isinstance(value, str))
TEXTS = Kind("a tuple of strings", tuple_of(lambda value: isinstance(value, str)))
DTYPES = Kind("a tuple of element types", tuple_of(lambda value: isinstance(value, DType)))
_BINARY = frozenset({"onnxruntime"})


def encode_document(framework: str, document: bytes) -> str:
    """A segment's document as the attribute `segment`: text, or base64 where it is binary."""
    return base64.b64encode(document).decode() if framework in _BINARY else document.decode()


def document_of(node: Node) -> bytes:
    """The document of a `foreign` node, as `open_segment` takes it."""
    return _decoded(node.attribute("framework"), node.attribute("segment"))


def _decoded(framework: str, text: str) -> bytes:
    return base64.b64decode(text, validate=True) if framework in _BINARY else text.encode()


def _infer(call: Call) -> Types:
    dtypes, shapes = cast("tuple[DType, ...]", call.attributes["dtypes"]), call.shapes()
    names = cast("tuple[str, ...]", call.attributes["operators"])
    sources = cast("tuple[str, ...]", call.attributes["sources"])
    if len(dtypes) != len(shapes) or not shapes:
        raise call.error(f"{len(dtypes)} element types for {len(shapes)} results")
    if len(names) != len(sources):
        raise call.error(f"{len(sources)} sources for {len(names)} operators")
    return tuple(TensorType(dtype, shape) for dtype, shape in zip(dtypes, shapes, strict=True))


def _reference(call: Call, *arrays: Array) -> tuple[Array, ...]:
    given = [np.ascontiguousarray(array) for array in arrays]
    results = [np.empty(tuple(map(call.size, t.shape)), t.dtype.storage) for t in call.results]
    segment = _opened(
        call.text("framework"),
        call.text("segment"),
        tuple(operand.dtype.name for operand in call.operands),
        tuple(result.dtype.name for result in call.results),
        len(call.dims("sizes")),
    )
    # A view of rank 0 becomes one of rank 1 above: the operand's own shape counts.
    shapes = [array.shape for array in arrays]
    operands = [Tensor(a.ctypes.data, s) for a, s in zip(given, shapes, strict=True)]
    segment.run(operands, call.sizes("sizes"), [Tensor(r.ctypes.data, r.shape) for r in results])
    return tuple(results)


@lru_cache(maxsize=16)
def _opened(
    framework: str, text: str, operands: tuple[str, ...], results: tuple[str, ...], sizes: int
) -> Segment:
    return open_segment(framework, _decoded(framework, text), operands, results, sizes)


OPERATORS = (
    Operator(
        "foreign",
        0,
        None,
        _infer,
        _reference,
        {
            "framework": choice(*FRAMEWORKS),
            "segment": TEXT,
            "operators": TEXTS,
            "sources": TEXTS,
            "sizes": DIMS,
            "dtypes": DTYPES,
            "shapes": SHAPES,
        },
        "raw",
    ),
)
