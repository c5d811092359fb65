"""`ranvier bench`: latency, throughput, share of peak and memory of an artifact."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ranvier.bench import Benchmark, Measurement, bench
from ranvier.cli.options import (
    ArtifactArgument,
    CoresOption,
    JsonOption,
    SetOption,
    parse_cores,
    parse_numbers,
    parse_sizes,
)
from ranvier.cli.output import cores_text, megabytes, percent, print_json, print_table


def bench_command(
    artifact: ArtifactArgument,
    batch: Annotated[
        str, typer.Option("--batch", help="Batch sizes such as 1,2,4,8; the smallest otherwise.")
    ] = "",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, help="Time per batch size, after a warm-up.")
    ] = 2.0,
    sizes: SetOption = None,
    cores: CoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency and throughput with random inputs."""
    progress = _say if sys.stderr.isatty() and not as_json else None
    found = bench(
        artifact, parse_numbers(batch, "--batch"), parse_sizes(sizes), seconds, parse_cores(cores),
        progress,
    )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        _print(found)


def _say(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr)


def _print(found: Benchmark) -> None:
    columns = (
        "sizes", ">calls", ">p50 ms", ">p90 ms", ">p95 ms", ">p99 ms", ">average/s", ">maximum/s",
        ">GFLOP", ">of peak", ">resident", ">arena",
    )  # fmt: skip
    title = f"{found.name} ({found.precision}, {found.target}, {cores_text(found.cores)})"
    print_table(title, columns, [_row(each) for each in found.measurements])
    print(f"load {found.load_ms:.1f} ms; peak {found.peak_note}")
    if len(found.measurements) > 1:
        best = found.fastest
        print(f"highest throughput: batch {best.batch}, {best.average_per_second:.1f}/s")


def _row(each: Measurement) -> tuple[str, ...]:
    latencies = (each.p50_ms, each.p90_ms, each.p95_ms, each.p99_ms)
    return (
        ", ".join(f"{name}={size}" for name, size in each.sizes.items()) or "fixed",
        str(each.calls), *(f"{ms:.3f}" for ms in latencies), f"{each.average_per_second:.1f}",
        f"{each.maximum_per_second:.1f}", f"{each.gflop:.3g}", percent(each.share_of_peak),
        megabytes(each.resident_bytes), megabytes(each.arena_bytes),
    )  # fmt: skip
