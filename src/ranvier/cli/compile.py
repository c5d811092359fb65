"""`ranvier compile`: a model becomes an artifact."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranvier.cli.extras import require
from ranvier.cli.model_source import ModelSource, load_model
from ranvier.cli.options import (
    DimOption,
    FallbackOption,
    JsonOption,
    MaxSegmentsOption,
    MinNativeOption,
    ModelArgument,
    parse_dims,
)
from ranvier.cli.output import megabytes, print_json
from ranvier.errors import CompileError
from ranvier.frontends.fallback import MAX_SEGMENTS, MIN_NATIVE_PERCENT

if TYPE_CHECKING:
    from ranvier.api import CompiledModel


def compile_command(
    model: ModelArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The artifact to write; MODEL's name with .rvr."),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="f32, or bf16 for contractions and activations.")
    ] = "f32",
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", help="native or a target's name; repeat it or separate by commas."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The model's name.")] = None,
    no_winograd: Annotated[
        bool, typer.Option("--no-winograd", help="Compute every convolution directly.")
    ] = False,
    dim: DimOption = None,
    fallback: FallbackOption = None,
    max_segments: MaxSegmentsOption = MAX_SEGMENTS,
    min_native_percent: MinNativeOption = MIN_NATIVE_PERCENT,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Measure schedules on this machine and keep the fastest."),
    ] = False,
    emit: Annotated[
        list[str] | None,
        typer.Option(
            "--emit",
            metavar="STAGE",
            help="Print a stage (graph, optimized, llvm.TARGET) instead of the report; "
            "without -o no artifact is written.",
        ),
    ] = None,
    workdir: Annotated[
        Path | None, typer.Option("--workdir", help="Write every stage and the report there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile a model ahead of time into one .rvr file."""
    require("llvmlite")
    source = load_model(model, parse_dims(dim))
    compiled = _trace(
        source, precision=precision, target=_targets(target), name=name, winograd=not no_winograd,
        tune=tune, fallback=fallback, max_segments=max_segments,
        min_native_percent=min_native_percent,
    )  # fmt: skip
    if workdir is not None:
        _write_stages(compiled, workdir)
    for stage in emit or ():
        print(_stage_text(compiled, stage))
    path = output
    if path is None and not emit:
        path = Path(f"{source.name}.rvr")
    if path is not None:
        compiled.save(path)
    if as_json and not emit:
        print_json(_document(compiled, path))
    elif not emit:
        print(compiled.report)
        if compiled.tuning is not None:
            print(compiled.tuning)
        print(f"wrote {path}, {megabytes(os.path.getsize(str(path)))}")


def _trace(source: ModelSource, **options: Any) -> CompiledModel:
    from ranvier.api import trace

    return trace(
        source.model, source.args, source.kwargs, dynamic_shapes=source.dynamic_shapes,
        progress=sys.stderr.isatty(), **options,
    )  # fmt: skip


def _targets(options: list[str] | None) -> list[str]:
    names = [name.strip() for option in options or ["native"] for name in option.split(",")]
    return [name for name in names if name]


def _stage_text(compiled: CompiledModel, stage: str) -> str:
    if stage not in compiled.stages:
        raise CompileError(f"no stage {stage!r}; stages: {', '.join(compiled.stages)}")
    return compiled.stages[stage]


def _write_stages(compiled: CompiledModel, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stage, text in compiled.stages.items():
        suffix = ".ll" if stage.startswith("llvm.") else ".txt"
        (folder / f"{stage}{suffix}").write_text(text)
    (folder / "report.json").write_text(compiled.report.to_json())


def _document(compiled: CompiledModel, path: Path | None) -> dict[str, object]:
    size = None if path is None else os.path.getsize(path)
    report = {**dataclasses.asdict(compiled.report), "total_seconds": compiled.report.total_seconds}
    tuning = None if compiled.tuning is None else dataclasses.asdict(compiled.tuning)
    artifact = None if path is None else str(path)
    return {"artifact": artifact, "bytes": size, "report": report, "tuning": tuning}
