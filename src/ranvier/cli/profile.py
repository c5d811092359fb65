"""`ranvier profile`: where the time of a call goes, kernel by kernel."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from ranvier.profiling import (
    ArtifactProfile,
    KernelTime,
    chrome_trace,
    document,
    page,
    profile_artifact,
)
from ranvier.profiling.groups import Group, by_operators, by_source, operators_text


class Order(StrEnum):
    """Order of the table."""

    TIME = "time"
    EXECUTION = "execution"


class Rows(StrEnum):
    """What a row of the table stands for."""

    KERNEL = "kernel"
    OPERATORS = "operators"
    SOURCE = "source"


def profile_command(
    artifact: ArtifactArgument,
    sizes: SetOption = None,
    cores: CoresOption = None,
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, help="Calls; the figures are their medians.")
    ] = 10,
    by: Annotated[
        Rows, typer.Option("--by", help="One row for each kernel call, or sums of several.")
    ] = Rows.KERNEL,
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
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page with roofline plot, timeline and tables."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show time, work, limits and source line of every kernel call."""
    found = profile_artifact(artifact, parse_sizes(sizes), parse_cores(cores), repeat)
    if trace is not None:
        trace.write_text(json.dumps(chrome_trace(found)), encoding="utf-8")
    if html is not None:
        html.write_text(page(found), encoding="utf-8")
    kernels = _ordered(found, order)[:top]
    if as_json:
        print_json(plain(document(found, kernels)))
        return
    _print(found, by, kernels, top)
    for path in (trace, html):
        if path is not None:
            print(f"wrote {path}")


def _ordered(found: ArtifactProfile, order: Order) -> tuple[KernelTime, ...]:
    if order is Order.EXECUTION:
        return found.kernels
    return tuple(sorted(found.kernels, key=lambda kernel: -kernel.microseconds))


def _print(
    found: ArtifactProfile, by: Rows, kernels: Sequence[KernelTime], top: int | None
) -> None:
    if by is Rows.KERNEL:
        _print_kernels(found, kernels)
    elif by is Rows.OPERATORS:
        _print_groups(found, "operators", by_operators(found.kernels)[:top])
    else:
        _print_groups(found, "source", by_source(found.kernels)[:top])
    print(_roofs(found))


def _title(found: ArtifactProfile) -> str:
    sizes = ", ".join(f"{name}={size}" for name, size in found.sizes.items()) or "fixed sizes"
    return (
        f"{found.name} ({found.precision}, {found.target}, {cores_text(found.cores)}, {sizes}): "
        f"{found.microseconds:.1f} µs, {percent(found.share_of_peak)} of peak, "
        f"{percent(found.share_waiting)} waiting"
    )


def _print_kernels(found: ArtifactProfile, kernels: Sequence[KernelTime]) -> None:
    columns = (
        ">#", "value", "kernel", ">µs", ">share", ">GFLOP/s", ">GB/s", ">of peak", ">of roof",
        "limit", ">balance", ">wait µs", "operators", "source",
    )  # fmt: skip
    print_table(_title(found), columns, [_kernel_row(kernel) for kernel in kernels])


def _kernel_row(kernel: KernelTime) -> tuple[str, ...]:
    return (
        str(kernel.index), kernel.label, kernel.kernel, f"{kernel.microseconds:.1f}",
        percent(kernel.share), f"{kernel.gflops:.1f}", f"{kernel.gbytes_per_second:.1f}",
        percent(kernel.share_of_peak), percent(kernel.share_of_roof), kernel.limit or "?",
        _known(kernel.imbalance, 2), _known(kernel.wait_microseconds, 1),
        operators_text(kernel.operators), short_source(kernel.source),
    )  # fmt: skip


def _print_groups(found: ArtifactProfile, heading: str, groups: Sequence[Group]) -> None:
    columns = (heading, ">calls", ">µs", ">share", ">GFLOP/s", ">GB/s", ">wait µs")
    rows = [
        (
            short_source(group.name), str(len(group.kernels)), f"{group.microseconds:.1f}",
            percent(group.share), f"{group.gflops:.1f}", f"{group.gbytes_per_second:.1f}",
            _known(group.wait_microseconds, 1),
        )
        for group in groups
    ]  # fmt: skip
    print_table(_title(found), columns, rows)


def _roofs(found: ArtifactProfile) -> str:
    roofline = found.roofline
    parts = [f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in roofline.peaks.items()]
    parts += [f"{level.name} {level.bytes_per_second / 1e9:.0f} GB/s" for level in roofline.levels]
    note = "" if roofline.peaks else "; arithmetic unknown, measuring it needs llvmlite"
    return f"roofs: {', '.join(parts)}{note}"


def _known(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"
