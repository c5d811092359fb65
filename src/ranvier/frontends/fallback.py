"""Fallback to a framework: what is asked for, its limits, and what became of a model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ranvier.errors import CompileError, UnsupportedOperatorError
from ranvier.frontends.findings import Finding, missing_message, operator_uses
from ranvier.ir.graph import Graph
from ranvier.ir.operators.foreign import document_of
from ranvier.segments import FRAMEWORKS, open_segment

MAX_SEGMENTS = 4
MIN_NATIVE_PERCENT = 50.0

_log = logging.getLogger("ranvier")


@dataclass(frozen=True)
class Fallback:
    """What may be left to a framework.

    Attributes:
        framework: "torch" or "onnxruntime".
        max_segments: parts that it may run; data crosses over at both ends of each.
        min_native_percent: share of the model's operator uses that native code has to run.
    """

    framework: str
    max_segments: int = MAX_SEGMENTS
    min_native_percent: float = MIN_NATIVE_PERCENT

    def require_front_end(self, framework: str) -> None:
        """Raises CompileError unless the model comes from this framework."""
        if self.framework not in FRAMEWORKS:
            known = ", ".join(FRAMEWORKS)
            raise CompileError(f"no fallback to {self.framework!r}; known: {known}")
        if self.framework != framework:
            raise CompileError(
                f"the operators of this model are those of {framework}: pass fallback={framework!r}"
            )


@dataclass(frozen=True)
class FallbackOperator:
    """An operator that a framework runs: how often, at which lines of the model, and why."""

    operator: str
    uses: int
    sources: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        places = ", ".join(source or "unknown place" for source in self.sources)
        return f"{self.operator} x {self.uses} (at {places}): {self.reason}"


@dataclass(frozen=True)
class FallbackSummary:
    """What a framework runs of a model, and which share of the operator uses stays native."""

    framework: str
    segments: int
    native_percent: float
    operators: tuple[FallbackOperator, ...]

    @property
    def parts(self) -> str:
        """The number of segments, as a phrase."""
        return f"{self.segments} segment{'s' if self.segments > 1 else ''}"

    def __str__(self) -> str:
        lines = [
            f"{self.framework} runs {self.parts} of the model; {self.native_percent:.1f} % of the "
            "operators are native:"
        ]
        return "\n".join([*lines, *(f"  {each}" for each in self.operators)])


def summarize_fallback(
    fallback: Fallback, segments: int, total: int, moved: Iterable[Finding]
) -> FallbackSummary:
    """What a partition means for a model with `total` operator uses; logs it as a warning.

    `moved` has every use that the framework runs, with the reason. Raises UnsupportedOperatorError
    beyond the limits.
    """
    findings = list(moved)
    percent = 100.0 * (total - len(findings)) / total if total else 100.0
    uses = operator_uses(findings)
    operators = tuple(FallbackOperator(u.operator, u.uses, u.sources, u.reason) for u in uses)
    summary = FallbackSummary(fallback.framework, segments, percent, operators)
    exceeded = _exceeded(fallback, summary)
    if exceeded:
        raise UnsupportedOperatorError("\n".join([*exceeded, missing_message(uses)]))
    if segments:
        _log.warning("fallback: %s", summary)
    return summary


def require_loadable(graph: Graph) -> Graph:
    """A graph whose segments can be opened, as they will be when the artifact is loaded.

    Raises FrameworkError where one cannot: an element type that its framework has not, for example.
    """
    for node in graph.nodes:
        if node.op == "foreign":
            open_segment(
                node.attribute("framework"),
                document_of(node),
                [value.dtype.name for value in node.operands],
                [value.dtype.name for value in node.results],
                len(node.attribute("sizes")),
            )
    return graph


def _exceeded(fallback: Fallback, summary: FallbackSummary) -> Sequence[str]:
    """The limits that a partition exceeds, with what would allow it."""
    lines = []
    if summary.segments > fallback.max_segments:
        lines.append(
            f"{summary.framework} would run {summary.parts} of the model; the limit is "
            f"{fallback.max_segments}, and max_segments={summary.segments} "
            f"(--max-segments {summary.segments}) would allow it"
        )
    if summary.native_percent < fallback.min_native_percent:
        enough = int(summary.native_percent)
        lines.append(
            f"only {summary.native_percent:.1f} % of the operators would be native; the limit is "
            f"{fallback.min_native_percent:g} %, and min_native_percent={enough} "
            f"(--min-native-percent {enough}) would allow it"
        )
    return lines
