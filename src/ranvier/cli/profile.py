"""`ranvier profile`: where the time of a call goes, kernel by kernel."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import (
    ArtifactArgument,
    CoresOption,
    JsonOption,
    SetOption,
    parse_cores,
    parse_sizes,
)
from ranvier.cli.output import cores_text, percent, plain, print_json, print_table, short_source
from ranvier.step_times import StepTime, StepTimes, chrome_trace, profile_artifact


class Order(StrEnum):
    """Order of the table."""

    TIME = "time"
    EXECUTION = "execution"


def profile_command(
    artifact: ArtifactArgument,
    sizes: SetOption = None,
    cores: CoresOption = None,
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, help="Calls; the table has their medians.")
    ] = 10,
    order: Annotated[Order, typer.Option("--sort", help="By time or in execution order.")] = (
        Order.TIME
    ),
    top: Annotated[int | None, typer.Option("--top", min=1, help="Show only the first rows.")] = (
        None
    ),
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Write one call as trace events for Chrome or Perfetto."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show time, work and source line of every kernel call."""
    found = profile_artifact(artifact, parse_sizes(sizes), parse_cores(cores), repeat)
    if trace is not None:
        trace.write_text(json.dumps(chrome_trace(found.last)))
    rows = list(found.steps)
    if order is Order.TIME:
        rows.sort(key=lambda step: -step.microseconds)
    rows = rows[:top]
    if as_json:
        _print_json(found, rows)
        return
    _print(found, rows)
    if trace is not None:
        print(f"wrote {trace}")


def _print_json(found: StepTimes, rows: list[StepTime]) -> None:
    print_json({
        "name": found.name, "precision": found.precision, "target": found.target,
        "cores": found.cores, "sizes": found.sizes, "microseconds": found.microseconds,
        "steps": plain(rows),
    })  # fmt: skip


def _print(found: StepTimes, rows: list[StepTime]) -> None:
    sizes = ", ".join(f"{name}={size}" for name, size in found.sizes.items()) or "fixed sizes"
    title = (
        f"{found.name} ({found.precision}, {found.target}, {cores_text(found.cores)}, {sizes}): "
        f"{found.microseconds:.1f} µs"
    )
    columns = (
        ">#", "value", "kernel", ">µs", ">share", ">GFLOP/s", ">GB/s", ">of peak", "operators",
        "source",
    )  # fmt: skip
    print_table(title, columns, [_row(step) for step in rows])


def _row(step: StepTime) -> tuple[str, ...]:
    return (
        str(step.index), step.label, step.kernel, f"{step.microseconds:.1f}", percent(step.share),
        f"{step.gflops:.1f}", f"{step.gbytes_per_second:.1f}", percent(step.share_of_peak),
        ", ".join(step.operators), short_source(step.source),
    )  # fmt: skip
