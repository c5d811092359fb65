"""`ranvier analyze`: how much of a model is native, and what is missing where."""

from __future__ import annotations

from typing import Annotated

import typer

from ranvier.cli.extras import require
from ranvier.cli.model_source import load_model
from ranvier.cli.options import (
    DimOption,
    FallbackOption,
    JsonOption,
    MaxSegmentsOption,
    MinNativeOption,
    ModelArgument,
    parse_dims,
)
from ranvier.cli.output import print_json
from ranvier.frontends.fallback import MAX_SEGMENTS, MIN_NATIVE_PERCENT


def analyze_command(
    model: ModelArgument,
    precision: Annotated[str, typer.Option("--precision", help="f32 or bf16.")] = "f32",
    target: Annotated[str, typer.Option("--target", help="native or a target's name.")] = "native",
    dim: DimOption = None,
    fallback: FallbackOption = None,
    max_segments: MaxSegmentsOption = MAX_SEGMENTS,
    min_native_percent: MinNativeOption = MIN_NATIVE_PERCENT,
    as_json: JsonOption = False,
) -> None:
    """Lower every operator of a model for real and report how much of it is native."""
    require("llvmlite")
    from ranvier.api import analyze

    source = load_model(model, parse_dims(dim))
    analysis = analyze(
        source.model, source.args, source.kwargs, dynamic_shapes=source.dynamic_shapes,
        precision=precision, target=target, fallback=fallback, max_segments=max_segments,
        min_native_percent=min_native_percent,
    )  # fmt: skip
    if not as_json:
        print(analysis)
        return
    operators = [
        {
            "operator": use.operator, "uses": use.uses, "native": use.supported,
            "sources": use.sources, "reason": use.reason,
        }
        for use in analysis.operators
    ]  # fmt: skip
    print_json({
        "model": model, "native_percent": analysis.native_percent, "problem": analysis.problem,
        "operators": operators, "report": analysis.report, "fallback": analysis.fallback,
    })  # fmt: skip
