"""Why torch.export cannot trace a model: all its reasons, with the user's lines, and what to do.

torch.export stops at the first thing that it cannot trace. `torch.export.draft_export` goes on
with the example inputs' values, so the rest of the reasons come from it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from typing import Any, NamedTuple

import torch
from torch._dynamo.exc import UserError
from torch._logging.structured import INTERN_TABLE
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
from torch.export._draft_export import FailureReport, FailureType
from torch.fx.experimental.symbolic_shapes import (
    GuardOnDataDependentSymNode,
    PendingUnbackedSymbolNotFound,
)

from ranvier.errors import CompileError
from ranvier.frontends.torch.packed_sequences import traced_packing
from ranvier.frontends.torch.source_lines import is_user_code, line_of_traceback
from ranvier.frontends.torch.whole_recurrences import whole_recurrences

_BRANCH = (
    "torch.where chooses between tensors, torch.cond between branches, torch.while_loop repeats; "
    "torch._check(...) states what is always true of a number"
)
_SHAPE_RULE = "give the custom operator a shape rule with .register_fake"
_RANGE = "narrow the ranges in dynamic_shapes as PyTorch suggests, or leave the size constant"
_OF_DATA = "compute it outside forward, or use an operator whose result has a known size"
_ADVICE = re.compile(r"\n\s*\n|\n\s*(?:Caused by|For more|If you suspect|consider using)|\. ")

_EXPLANATION = re.compile(r"Explanation: (.+)")


class Reason(NamedTuple):
    """One thing that torch.export cannot trace: where, what, and what helps."""

    place: str
    text: str
    remedy: str = ""


def failure(
    model: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    dynamic_shapes: Any,
    error: Exception,
) -> CompileError:
    """The error to raise for what `torch.export.export` raised for a model and its inputs.

    Raises CompileError itself when the model cannot be called with the inputs at all.
    """
    _require_runs(model, args, kwargs)
    reasons = _reasons(error)
    if isinstance(error, (GuardOnDataDependentSymNode, UserError)) or _lacks_shape_rule(error):
        reasons += _of_draft(model, args, kwargs, dynamic_shapes)
    return CompileError(_message("trace", _distinct(reasons)))


def _require_runs(model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """A model's own error says more than what torch.export makes of it."""
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception as own:
        place = line_of_traceback(own.__traceback__)
        at = f" (at {place})" if place else ""
        said = f"{type(own).__name__}: {_paragraph(own)}"
        raise CompileError(f"forward itself fails with the example inputs{at}: {said}") from own


def decomposition_failure(error: Exception) -> CompileError:
    """The same for what `run_decompositions` raised."""
    return CompileError(_message("decompose", _reasons(error)))


def _message(action: str, reasons: Sequence[Reason]) -> str:
    count = "this" if len(reasons) == 1 else f"these {len(reasons)} things"
    lines = [
        f"torch.export cannot {action} the model; the limit is PyTorch's, not Ranvier's. "
        f"It cannot handle {count}:"
    ]
    lines += [f"  {r.place}: {r.text}" if r.place else f"  {r.text}" for r in reasons]
    remedies = dict.fromkeys(r.remedy for r in reasons if r.remedy)
    lines += [f"What to do: {remedy}" for remedy in remedies]
    return "\n".join(lines)


def _distinct(reasons: Sequence[Reason]) -> list[Reason]:
    """In order, one per place: the draft finds the first reason again, and shows its line."""
    described = {r.place for r in reasons if "`" in r.text}
    kept = [r for r in reasons if "`" in r.text or not r.place or r.place not in described]
    return list(dict.fromkeys(kept))


def _reasons(error: Exception) -> list[Reason]:
    place = line_of_traceback(error.__traceback__)
    if isinstance(error, UserError):
        return _violations(str(error)) or [Reason(place, _sentence(error))]
    if isinstance(error, GuardOnDataDependentSymNode):
        return [Reason(place, f"{_sentence(error)}, which depends on data", _BRANCH)]
    if isinstance(error, (DynamicOutputShapeException, DataDependentOutputException)):
        kind = "size" if isinstance(error, DynamicOutputShapeException) else "number"
        return [Reason(place, f"{error.func} gives a {kind} that depends on data", _OF_DATA)]
    if isinstance(error, PendingUnbackedSymbolNotFound):
        return [Reason(place, f"a size depends on data: {_sentence(error)}", _OF_DATA)]
    if _lacks_shape_rule(error):
        return [Reason(place, _sentence(error), _SHAPE_RULE)]
    return [Reason(place, f"{type(error).__name__}: {_sentence(error)}")]


def _lacks_shape_rule(error: Exception) -> bool:
    return isinstance(error, UnsupportedOperatorException) or "no fake impl" in str(error)


def _violations(message: str) -> list[Reason]:
    """The bulleted reasons of violated ranges, and PyTorch's suggestions."""
    body, _, suggestions = message.partition("Suggested fixes:")
    bullets = [line.strip()[2:] for line in body.splitlines() if line.strip().startswith("- ")]
    fixes = [line.strip() for line in suggestions.split("\n\n")[0].splitlines() if line.strip()]
    remedy = f"{_RANGE}: {', '.join(fixes)}" if fixes else _RANGE
    return [Reason("", bullet, remedy) for bullet in bullets]


def _sentence(error: Exception) -> str:
    """PyTorch's reason without its advice to its own developers."""
    text = str(error).strip()
    first = " ".join(_ADVICE.split(text, maxsplit=1)[0].split()).rstrip(".")
    explained = _EXPLANATION.search(text)
    if explained is not None:
        first = f"{first}: {explained[1].rstrip('.')}"
    return first or type(error).__name__


def _paragraph(error: Exception) -> str:
    return str(error).strip().split("\n\n")[0]


def _of_draft(
    model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> list[Reason]:
    try:
        with whole_recurrences(), traced_packing(), redirect_stderr(io.StringIO()):
            draft: Any = torch.export.draft_export(
                model, tuple(args), dict(kwargs), dynamic_shapes=dynamic_shapes, strict=False
            )
    except Exception:  # noqa: BLE001  (whatever stops the draft, the first reason is reported)
        return []
    report = draft._report
    files = {number: path for path, number in INTERN_TABLE.items()} | report.str_to_filename
    return [_drafted(failure, files) for failure in report.failures]


def _drafted(failure: FailureReport, files: Mapping[int, str]) -> Reason:
    data = failure.data
    if failure.failure_type == FailureType.MISSING_FAKE_KERNEL:
        return Reason("", f"`{data['op']}` has no rule for the shape of its result", _SHAPE_RULE)
    if failure.failure_type == FailureType.MISMATCHED_FAKE_KERNEL:
        text = f"`{data['op']}` has a rule for its result that does not fit: {data['reason']}"
        return Reason("", text, _SHAPE_RULE)
    place, line = _user_frame(data.get("user_stack") or (), files)
    expression = str(data["expr"])
    for symbol, source in (data.get("symbol_to_sources") or {}).items():
        expression = expression.replace(str(symbol), str(source))
    if failure.failure_type == FailureType.GUARD_ADDED:
        return Reason(place, f"`{line}` holds only for sizes with {expression}")
    return Reason(place, f"`{line}` depends on data ({expression})", _BRANCH)


def _user_frame(stack: Sequence[Mapping[str, Any]], files: Mapping[int, str]) -> tuple[str, str]:
    """Place and text of the innermost line of the user's code."""
    for frame in reversed(stack):
        path = files.get(frame["filename"], "")
        if path and is_user_code(path):
            return f"{path}:{frame['line']}", str(frame["loc"])
    return "", "a line of PyTorch"
