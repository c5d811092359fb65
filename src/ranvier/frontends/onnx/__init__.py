"""Front end for ONNX: a path, bytes or a `ModelProto` becomes a Graph.

Every node is expressed in the operators of the IR by a small function of `registry.TABLE`; an
operator without one is expanded where the standard defines it as a function. Sizes that the model
computes from shapes are folded into symbolic dims. Whatever cannot be expressed is collected over
the whole model and reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto

from ranvier.errors import UnsupportedOperatorError
from ranvier.frontends.fallback import Fallback, FallbackSummary
from ranvier.frontends.findings import OperatorUse, missing_message, operator_uses
from ranvier.frontends.onnx.reader import Source, read_model
from ranvier.frontends.onnx.segments import with_segments
from ranvier.frontends.onnx.symbols import Range
from ranvier.frontends.onnx.translations import TABLE
from ranvier.frontends.onnx.translator import Translator
from ranvier.ir.graph import Graph

__all__ = [
    "OperatorUse",
    "import_onnx",
    "import_onnx_partly",
    "supported_operators",
    "survey",
]


def import_onnx(
    model: Source, dims: Mapping[str, Range] | None = None, name: str | None = None
) -> Graph:
    """The graph of an ONNX model.

    `dims` gives symbolic dims, by their name in the model (or `input_axis` where they have none), a
    range (low, high) or a fixed size; without one they are 1 and above. The graph carries the
    model's metadata. Raises UnsupportedOperatorError, which lists everything without a translation
    with its count, nodes and reasons, and CompileError for a model that is malformed.
    """
    loaded = read_model(model)
    translator = Translator(loaded, name or _name(model, loaded), dims)
    graph = translator.run()
    missing = [
        use for use in operator_uses(dict.fromkeys(translator.findings)) if not use.supported
    ]
    if missing:
        raise UnsupportedOperatorError(missing_message(missing))
    return replace(graph, metadata={entry.key: entry.value for entry in loaded.metadata_props})


def import_onnx_partly(
    model: Source,
    fallback: Fallback,
    dims: Mapping[str, Range] | None = None,
    name: str | None = None,
) -> tuple[Graph, FallbackSummary]:
    """The graph of a model in which ONNX Runtime runs what has no translation, and what that is.

    Other arguments are those of `import_onnx`. Raises UnsupportedOperatorError beyond the limits of
    `fallback` and for what ONNX Runtime cannot run as a part of an artifact, FrameworkError where
    it is not installed.
    """
    loaded = read_model(model)
    graph, summary = with_segments(loaded, name or _name(model, loaded), dims, fallback)
    metadata = {entry.key: entry.value for entry in loaded.metadata_props}
    return replace(graph, metadata=metadata), summary


def survey(model: Source, dims: Mapping[str, Range] | None = None) -> list[OperatorUse]:
    """The operators that a model uses, what is missing first; takes what `import_onnx` takes."""
    translator = Translator(read_model(model), "survey", dims)
    translator.run()
    return operator_uses(dict.fromkeys(translator.findings))


def supported_operators() -> list[str]:
    """The operators that have a translation, sorted: `Add`, ..., `ai.onnx.ml::Binarizer`."""
    return sorted(f"{domain}::{name}" if domain else name for domain, name in TABLE)


def _name(source: Source, model: ModelProto) -> str:
    if isinstance(source, (str, os.PathLike)):
        return Path(source).stem
    return model.graph.name or "model"
