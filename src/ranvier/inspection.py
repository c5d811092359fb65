"""Reads what an artifact says of itself, without loading it for execution."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ranvier.artifact.checksum import sha256
from ranvier.artifact.expression import evaluate, expr_to_text
from ranvier.artifact.format import Entry, Manifest, Program, Symbol, Target, TensorSpec
from ranvier.artifact.metadata import read_metadata
from ranvier.artifact.reader import MANIFEST, WEIGHTS, Artifact
from ranvier.errors import ArtifactError
from ranvier.runtime.cpu import host_features, missing
from ranvier.runtime.plan import Planner, bytes_of


@dataclass(frozen=True)
class StepSummary:
    """One kernel call: what it computes, from which line of the model, with which work.

    `framework` is that which runs the step, empty for native code.
    """

    kernel: str
    label: str
    operators: tuple[str, ...]
    flops: str
    bytes: str
    source: str
    framework: str = ""


@dataclass(frozen=True)
class ProgramSummary:
    """The program of one target; `lacking` is what this CPU needs to run it."""

    target: str
    isa: str
    features: tuple[str, ...]
    lacking: tuple[str, ...]
    code_bytes: int
    kernel_counts: Mapping[str, int]
    distinct_kernels: int
    steps: tuple[StepSummary, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes that a call takes at concrete sizes; weights are shared between processes."""

    sizes: Mapping[str, int]
    threads: int
    weights: int
    temporaries: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Inspection:
    """What an artifact says of itself."""

    path: str
    bytes: int
    name: str
    precision: str
    producer: Mapping[str, str]
    metadata: Mapping[str, str]
    symbols: tuple[Symbol, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    programs: tuple[ProgramSummary, ...]
    operators: Mapping[str, int]
    weight_bytes: int
    manifest_sha256: str
    entries: Mapping[str, Entry]
    graph: str


def inspect_artifact(path: str | os.PathLike[str]) -> Inspection:
    """Read and fully check an artifact. Raises ArtifactError when it is not valid."""
    with Artifact(path, "full") as artifact:
        manifest = artifact.manifest
        programs = tuple(
            _summarize(artifact.program(i), manifest) for i in range(len(manifest.targets))
        )
        entries = manifest.entries
        return Inspection(
            artifact.path, os.stat(artifact.fileno()).st_size, manifest.name, manifest.precision,
            manifest.producer, read_metadata(artifact), manifest.symbols,
            tuple(tensor_text(spec) for spec in manifest.inputs),
            tuple(tensor_text(spec) for spec in manifest.outputs),
            programs, _operators(artifact),
            sum(entry.size for name, entry in entries.items() if name.startswith(WEIGHTS)),
            sha256(artifact.entry(MANIFEST)), entries, _text(artifact, "graph.txt"),
        )  # fmt: skip


def memory_for(
    path: str | os.PathLike[str], target: str, sizes: Mapping[str, int], threads: int
) -> Memory:
    """The memory of one call. Raises ArtifactError when the artifact has no such target."""
    with Artifact(path, "none") as artifact:
        manifest = artifact.manifest
        program = program_of(artifact, target)
        plan = Planner(program, manifest).plan(sizes, threads)
        weights = {b.entry for b in program.buffers if b.kind == "weight"}
        return Memory(
            dict(sizes), threads, sum(manifest.entries[name].size for name in weights),
            plan.arena_bytes, _total(manifest.inputs, sizes), _total(manifest.outputs, sizes),
        )  # fmt: skip


def program_of(artifact: Artifact, target: str) -> Program:
    """The program that an artifact has for a target; ArtifactError when it has none."""
    names = [each.name for each in artifact.manifest.targets]
    if target not in names:
        raise ArtifactError(f"{artifact.path} has no target {target}; it has {', '.join(names)}")
    return artifact.program(names.index(target))


def tensor_text(spec: TensorSpec) -> str:
    """A tensor as a person writes it: "image: f32[batch, 3, 224, 224]"."""
    return f"{spec.name}: {spec.dtype}[{', '.join(expr_to_text(dim) for dim in spec.shape)}]"


def lacking_here(target: Target) -> tuple[str, ...]:
    """What this machine lacks for a target, empty when it runs here."""
    return tuple(missing(target, host_features(), os.uname().machine))


def _summarize(program: Program, manifest: Manifest) -> ProgramSummary:
    steps = tuple(
        StepSummary(
            step.kernel, step.label, step.operators, expr_to_text(step.flops),
            expr_to_text(step.bytes), step.source, step.foreign.framework if step.foreign else "",
        )
        for step in program.steps
    )  # fmt: skip
    kinds = Counter(step.kernel.rpartition("_")[0] or step.kernel for step in program.steps)
    target = program.target
    return ProgramSummary(
        target.name, target.isa, target.features, lacking_here(target),
        manifest.entries[program.code].size, dict(kinds),
        len({step.kernel for step in program.steps}), steps,
    )  # fmt: skip


def _operators(artifact: Artifact) -> Mapping[str, int]:
    """Operators of the imported graph, from the compile report that the artifact carries."""
    text = _text(artifact, "report.json")
    report = json.loads(text) if text else {}
    counts = report.get("operator_counts", {}) if isinstance(report, dict) else {}
    return {str(name): int(count) for name, count in counts.items()}


def _text(artifact: Artifact, name: str) -> str:
    if name not in artifact.entry_names:
        return ""
    return artifact.entry(name).tobytes().decode(errors="replace")


def _total(specs: tuple[TensorSpec, ...], sizes: Mapping[str, int]) -> int:
    return sum(bytes_of([evaluate(dim, sizes) for dim in spec.shape], spec.dtype) for spec in specs)
