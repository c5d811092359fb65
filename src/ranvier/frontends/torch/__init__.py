"""Front end for PyTorch: `nn.Module`, `ExportedProgram` or a `.pt2` file becomes a Graph.

The model is traced by torch.export; every ATen operator of the trace is expressed in the operators
of the IR by a small function of `registry.TABLE`. Whatever cannot be expressed is collected over
the whole model and reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ranvier.errors import UnsupportedOperatorError
from ranvier.frontends.fallback import Fallback, FallbackSummary, require_loadable
from ranvier.frontends.findings import Finding, OperatorUse, missing_message, operator_uses
from ranvier.frontends.torch.complex_numbers import COMPLEX
from ranvier.frontends.torch.export import exported
from ranvier.frontends.torch.higher_order import HIGHER_ORDER
from ranvier.frontends.torch.segments import SegmentedBody, plan_segments
from ranvier.frontends.torch.translations import TABLE
from ranvier.frontends.torch.translator import Translator
from ranvier.ir.graph import Graph

__all__ = [
    "OperatorUse",
    "import_torch",
    "import_torch_partly",
    "supported_operators",
    "survey",
]


def import_torch(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    name: str | None = None,
) -> Graph:
    """The graph of an `nn.Module` with example inputs, an `ExportedProgram` or a `.pt2` path.

    `args`, `kwargs` and `dynamic_shapes` are those of `torch.export.export`. Raises
    UnsupportedOperatorError, which lists every operator without a translation with its count and
    source lines, and CompileError when PyTorch cannot trace the model or forward writes a buffer.
    """
    program = exported(model, args, kwargs, dynamic_shapes)
    translator = Translator(program, name or _name(model))
    graph = translator.run()
    _require_all(translator.findings)
    return graph


def import_torch_partly(
    model: Any,
    fallback: Fallback,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    name: str | None = None,
) -> tuple[Graph, FallbackSummary]:
    """The graph of a model in which PyTorch runs what has no translation, and what that is.

    Other arguments are those of `import_torch`. Raises UnsupportedOperatorError beyond the limits
    of `fallback`, and for what PyTorch cannot run as a part of an artifact.
    """
    program = exported(model, args, kwargs, dynamic_shapes)
    plan = plan_segments(program, fallback)
    translator = Translator(program, name or _name(model), partial(SegmentedBody, plan))
    graph = translator.run()
    _require_all(translator.findings)
    return require_loadable(graph), plan.summary


def survey(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> list[OperatorUse]:
    """The operators that a model uses, most frequent first; takes what `import_torch` takes."""
    translator = Translator(exported(model, args, kwargs, dynamic_shapes), "survey")
    translator.run()
    return operator_uses(translator.findings)


def supported_operators() -> list[str]:
    """The ATen overloads that have a translation, sorted: `aten.add.Tensor`, ..."""
    known = TABLE.keys() | COMPLEX.keys() | HIGHER_ORDER.keys()
    return sorted(name for name in known if not name.startswith("ranvier."))


def _require_all(findings: Sequence[Finding]) -> None:
    missing = [use for use in operator_uses(findings) if not use.supported]
    if missing:
        raise UnsupportedOperatorError(missing_message(missing))


def _name(model: Any) -> str:
    if isinstance(model, torch.nn.Module):
        return type(model).__name__
    return "model" if isinstance(model, torch.export.ExportedProgram) else Path(model).stem
