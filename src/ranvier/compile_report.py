"""The compile report: what became of the model's operators, and how long the compiler took."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ranvier.codegen.emit import EmittedProgram
from ranvier.frontends.fallback import FallbackSummary
from ranvier.ir.graph import Graph
from ranvier.lowering.options import LoweringOptions
from ranvier.lowering.program import Program


@dataclass(frozen=True)
class CompileReport:
    """Operators before and after fusion, distinct kernels, bytes of weights, seconds per stage.

    `native_percent` is the share of the model's operator uses that run as native code; `fallback`
    lists those that a framework runs. `schedules` names the steps that were told how to compute, by
    their result.
    """

    model: str
    precision: str
    operators_before: int
    operators_optimized: int
    kernel_calls: int
    distinct_kernels: int
    native_percent: float
    operator_counts: Mapping[str, int]
    kernel_counts: Mapping[str, int]
    weight_bytes: int
    seconds: Mapping[str, float]
    schedules: Mapping[str, str]
    fallback: FallbackSummary | None = None

    @property
    def total_seconds(self) -> float:
        """Seconds from the imported graph to the contents of the artifact."""
        return sum(self.seconds.values())

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        counts, kernels = _listed(self.operator_counts), _listed(self.kernel_counts)
        stages = ", ".join(f"{name} {s:.2f}" for name, s in self.seconds.items() if s >= 0.005)
        tiled = self.kernel_counts.get("winograd", 0)
        saving = f"  winograd         {tiled} convolutions multiply less and round differently"
        return "\n".join((
            f"{self.model} ({self.precision})",
            f"  operators        {self.operators_before} imported, {self.operators_optimized} "
            f"after optimisation, {self.kernel_calls} kernel calls after fusion",
            f"  native           {self.native_percent:.4g} %",
            *_fallback_lines(self.fallback),
            f"  per operator     {counts}",
            f"  kernels          {kernels} ({self.distinct_kernels} distinct)",
            *([saving] if tiled else []),
            f"  weights          {self.weight_bytes / 1e6:,.2f} MB",
            f"  seconds          {self.total_seconds:.2f} ({stages})",
        ))  # fmt: skip


def summarize(
    imported: Graph,
    optimized: Graph,
    program: Program,
    code: EmittedProgram,
    precision: str,
    seconds: Mapping[str, float],
    options: LoweringOptions,
    fallback: FallbackSummary | None = None,
) -> CompileReport:
    """Collect the report; lowering has refused the model already if anything is not native."""
    before = [node.op for node in imported.nodes if node.op != "constant"]
    after = [node.op for node in optimized.nodes if node.op != "constant"]
    return CompileReport(
        imported.name,
        precision,
        len(before),
        len(after),
        len(program.steps),
        len(set(code.kernels)),
        100.0 if fallback is None else fallback.native_percent,
        dict(Counter(before)),
        dict(Counter(type(step.kernel).__name__.lower() for step in program.steps)),
        sum(b.data.nbytes for b in program.buffers if b.data is not None),
        dict(seconds),
        {result: str(schedule) for result, schedule in options.schedules.items()},
        fallback,
    )


def _fallback_lines(fallback: FallbackSummary | None) -> list[str]:
    if fallback is None or not fallback.segments:
        return []
    head = f"  fallback         {fallback.framework} runs {fallback.parts}:"
    return [head, *(f"    {each}" for each in fallback.operators)]


def _listed(counts: Mapping[str, int]) -> str:
    """`conv 53, relu 49`, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)
