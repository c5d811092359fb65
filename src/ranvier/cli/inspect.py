"""`ranvier inspect`: what an artifact says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer

from ranvier.artifact.reader import Artifact
from ranvier.cli.options import (
    ArtifactArgument,
    CoresOption,
    JsonOption,
    SetOption,
    parse_cores,
    parse_sizes,
)
from ranvier.cli.output import cores_text, megabytes, plain, print_json, print_table, short_source
from ranvier.errors import InputError, RanvierError
from ranvier.inspection import Inspection, Memory, ProgramSummary, inspect_artifact, memory_for
from ranvier.runtime.cores import select_cores
from ranvier.sample_inputs import complete_sizes


def inspect_command(
    artifact: ArtifactArgument,
    sizes: SetOption = None,
    cores: CoresOption = None,
    target: Annotated[
        str | None, typer.Option("--target", help="The target whose steps and memory are shown.")
    ] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Print the compiled graph.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Print the kernel calls.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of an artifact and show its signature, programs, memory and hashes."""
    found = inspect_artifact(artifact)
    program = _program(found, target)
    memory = _memory(artifact, program, parse_sizes(sizes), parse_cores(cores))
    if as_json:
        document = plain(found)
        assert isinstance(document, dict)
        print_json({**document, "memory": memory})
        return
    if graph:
        print(found.graph)
    if steps:
        _print_steps(program)
    if not graph and not steps:
        _print_summary(found, memory)


def _program(found: Inspection, target: str | None) -> ProgramSummary:
    """The program that is asked for, else the best that runs here, else the first."""
    if target is not None:
        named = [program for program in found.programs if program.target == target]
        if not named:
            raise InputError(
                f"no program for {target!r}; there are "
                f"{', '.join(program.target for program in found.programs)}"
            )
        return named[0]
    fitting = [program for program in found.programs if not program.lacking]
    return max(fitting or found.programs[:1], key=lambda program: len(program.features))


def _memory(
    artifact: str, program: ProgramSummary, given: Mapping[str, int], cores: int | str | None
) -> Memory | None:
    """Memory at the given sizes; None when a symbol has none and no size was asked for."""
    with Artifact(artifact, "none") as opened:
        manifest = opened.manifest
    try:
        sizes = complete_sizes(manifest, given)
    except RanvierError:
        if given:
            raise
        return None
    return memory_for(artifact, program.target, sizes, select_cores(cores).count)


def _print_summary(found: Inspection, memory: Memory | None) -> None:
    producer = ", ".join(f"{name} {version}" for name, version in found.producer.items())
    lines = [("name", found.name), ("file", f"{found.path}, {megabytes(found.bytes)}")]
    lines += [("precision", found.precision), ("made by", producer or "unknown")]
    lines += [("input", text) for text in found.inputs]
    lines += [("output", text) for text in found.outputs]
    lines += [("symbol", f"{s.name}: {s.minimum} to {s.maximum}") for s in found.symbols]
    for program in found.programs:
        lines += _program_lines(program)
    lines.append(("operators", _counts(found.operators) or "not recorded"))
    lines += [("metadata", f"{name}: {_short(text)}") for name, text in found.metadata.items()]
    lines.append(("weights", megabytes(found.weight_bytes)))
    lines.append(("memory", _memory_text(memory)))
    for name, text in lines:
        print(f"{name:10} {text}")
    entries = [("manifest.json", "", found.manifest_sha256)]
    entries += [(name, megabytes(e.size), e.sha256) for name, e in found.entries.items()]
    print_table("", ("entry", ">size", "SHA-256"), entries)


def _short(text: str, most: int = 60) -> str:
    """A text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}... ({len(text)} characters)"


def _program_lines(program: ProgramSummary) -> list[tuple[str, str]]:
    here = f"needs {', '.join(program.lacking)}" if program.lacking else "runs here"
    return [
        ("target", f"{program.target} ({here}), code {megabytes(program.code_bytes)}"),
        ("  features", " ".join(program.features)),
        ("  kernels", f"{len(program.steps)} calls of {program.distinct_kernels}: "
         f"{_counts(program.kernel_counts)}"),
        *_fallback_lines(program),
    ]  # fmt: skip


def _fallback_lines(program: ProgramSummary) -> list[tuple[str, str]]:
    """What frameworks run, with the number of uses of every operator."""
    lines = []
    for framework in dict.fromkeys(step.framework for step in program.steps if step.framework):
        steps = [step for step in program.steps if step.framework == framework]
        uses = Counter(operator for step in steps for operator in step.operators)
        named = ", ".join(f"{operator} x {count}" for operator, count in uses.items())
        count = f"{len(steps)} step{'s' if len(steps) > 1 else ''}"
        lines.append(("  fallback", f"{framework} runs {count}: {named}"))
    return lines


def _memory_text(memory: Memory | None) -> str:
    if memory is None:
        return "depends on the sizes: give them with --set NAME=SIZE"
    sizes = ", ".join(f"{name}={size}" for name, size in memory.sizes.items()) or "fixed sizes"
    parts = ("weights", "temporaries", "inputs", "outputs")
    listed = ", ".join(f"{part} {megabytes(getattr(memory, part))}" for part in parts)
    return f"{listed} ({sizes}, {cores_text(memory.threads)})"


def _print_steps(program: ProgramSummary) -> None:
    rows = [
        (
            str(i),
            step.label,
            step.kernel,
            ", ".join(step.operators),
            step.flops,
            short_source(step.source),
        )
        for i, step in enumerate(program.steps)
    ]
    columns = (">#", "value", "kernel", "operators", "operations", "source")
    print_table(f"Kernel calls of {program.target}", columns, rows)


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)
