"""Ranvier beside PyTorch, ONNX Runtime and OpenVINO: same model, inputs and threads, in one run.

Every engine lives in a process of its own. They take turns; those that wait are stopped. A round
is one turn of every engine, in alternating order, so drift of the machine hits all alike.

usage: python -m benchmarks.peers --models resnet50,mobilenet_v2 --batch 1,8 --json peers.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import engines
from benchmarks.comparison import Plan, Result, compare
from benchmarks.job import Job, sizes_of
from tests import zoo


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, print one table per model and batch."""
    options = _parser().parse_args(arguments)
    plan = Plan(options.rounds, options.seconds)
    results: list[Result] = []
    for jobs in _comparisons(options):
        found = compare(jobs, plan)
        print(_table(found), flush=True)
        results += found
        if options.json:
            text = json.dumps([_document(result) for result in results], indent=1)
            options.json.write_text(text + "\n")


def _document(result: Result) -> dict[str, object]:
    """A result for JSON, which has no NaN: a figure that is missing is null."""
    fields = asdict(result)
    missing = [name for name, value in fields.items() if value != value]
    return fields | dict.fromkeys(missing)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    threads = len(os.sched_getaffinity(0))
    parser.add_argument("--models", default="resnet50", help="comma list, or 'all'")
    parser.add_argument("--batch", default="1", help="comma list of batch sizes")
    parser.add_argument("--tokens", type=int, default=128, help="sequence length")
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--precision", default="f32,bf16", help="comma list of f32, bf16")
    parser.add_argument("--engines", default=",".join(engines.DEFAULT), help="comma list")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one turn")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser


def _comparisons(options: argparse.Namespace) -> Iterator[list[Job]]:
    models = zoo.names() if options.models == "all" else options.models.split(",")
    for model in models:
        for batch in map(int, options.batch.split(",")):
            sizes = sizes_of(model, batch, options.tokens)
            yield [
                Job(engine, model, sizes, precision, options.threads, folder="")
                for engine in options.engines.split(",")
                for precision in options.precision.split(",")
                if precision in engines.PRECISIONS[engine]
            ]


def _table(results: Sequence[Result]) -> str:
    first = results[0]
    sizes = ", ".join(f"{name} {size}" for name, size in first.sizes.items())
    lines = [f"\n## {first.model}: {sizes}; {first.threads} threads", ""]
    lines.append("| engine | precision | median ms | spread | p99 ms | items/s | ratio | error |")
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    lines += [_row(result) for result in results if not result.failure]
    lines += [f"\n{result.failure}" for result in results if result.failure]
    return "\n".join(lines)


def _row(result: Result) -> str:
    return (
        f"| {result.engine} | {result.precision} | {result.median_ms:.2f} "
        f"| ±{result.spread:.0%} | {result.p99_ms:.2f} | {result.items_per_second:.1f} "
        f"| {result.ratio:.2f} | {result.error:.1e} |"
    )


if __name__ == "__main__":
    main()
