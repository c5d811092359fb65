"""`ranvier verify`: a model and its artifact on the same inputs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

import typer

from ranvier.cli.model_source import load_model
from ranvier.cli.options import (
    ArtifactArgument,
    CoresOption,
    JsonOption,
    ModelArgument,
    parse_cores,
    parse_numbers,
)
from ranvier.cli.output import plain, print_json, print_table, short_source
from ranvier.verification import Case, Difference, Verification, verify


def verify_command(
    model: ModelArgument,
    artifact: ArtifactArgument,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare also every value that is written to memory.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", help="Normwise relative error; 1e-4 for f32, 3e-2 for bf16."),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=SIZE[,SIZE]",
            help="Further sizes of a symbol; with several symbols, every combination.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="For inputs at further sizes.")] = 0,
    cores: CoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare an artifact's outputs with the original model's; exit code 1 when they differ."""
    source = load_model(model)
    found = verify(
        source.model, artifact, source.args, source.kwargs,
        dynamic_shapes=source.dynamic_shapes, sizes=_combinations(sizes or ()), layers=layers,
        tolerance=tolerance, cores=parse_cores(cores), seed=seed,
    )  # fmt: skip
    if as_json:
        document = plain(found)
        assert isinstance(document, dict)
        print_json({
            **document, "passed": found.passed, "first_failing_layer": found.first_failing_layer
        })  # fmt: skip
    else:
        _print(found)
    if not found.passed:
        raise typer.Exit(1)


def _combinations(settings: Sequence[str]) -> list[dict[str, int]]:
    choices: dict[str, tuple[int, ...]] = {}
    for text in settings:
        name, equals, numbers = text.partition("=")
        values = parse_numbers(numbers, "--set")
        if not equals or not name or not values:
            raise typer.BadParameter(f"{text!r} is not NAME=SIZE[,SIZE]", param_hint="--set")
        choices[name.strip()] = values
    if not choices:
        return []
    return [dict(zip(choices, each, strict=True)) for each in itertools.product(*choices.values())]


def _print(found: Verification) -> None:
    print(f"{found.name} ({found.precision}, {found.target}), tolerance {found.tolerance:g}")
    columns = ("", "value", "shape", ">relative", ">maximum", ">cosine", "operators", "source")
    for case in found.cases:
        rows = [_row(found, each, "output") for each in case.outputs]
        rows += [_row(found, each, "") for each in case.layers]
        print_table(_title(case), columns, rows)
        if case.unmatched:
            print(f"not in the original: {', '.join(case.unmatched)}")
    first = found.first_failing_layer
    if first is not None:
        print(f"first layer beyond the tolerance: {first.name}, {first.source or 'no source line'}")
    print("passed" if found.passed else "FAILED")


def _title(case: Case) -> str:
    sizes = ", ".join(f"{name}={size}" for name, size in case.sizes.items())
    return sizes or "fixed sizes"


def _row(found: Verification, each: Difference, kind: str) -> tuple[str, ...]:
    return (
        "ok" if found.within(each) else "FAIL", f"{each.name} ({kind})" if kind else each.name,
        "×".join(map(str, each.shape)) or "scalar", f"{each.relative_error:.2e}",
        f"{each.maximum_error:.2e}", f"{each.cosine:.7f}", ", ".join(each.operators),
        short_source(each.source),
    )  # fmt: skip
