"""How more cores help: the same artifact on one core and on all, in alternating turns.

On a machine that others use too, cores are slower together than each is alone. What that leaves is
measured as well: as many copies as there are cores, each on a core of its own. The rows are those
of the comparison whose batch is 8 or more, and those of more than 1 GFLOP.

usage: python -m benchmarks.scaling --models resnet50,swin_t --json scaling.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import ranvier
from benchmarks.comparison import prepare_model
from benchmarks.engines.engine import Pace, input_arrays, timed_calls, timed_threads
from benchmarks.job import Job, Material, sizes_key
from benchmarks.rows import ROWS, Row, Sizes, select
from benchmarks.table import figure, markdown, percent

_LEAST_FLOPS = 1e9
_LEAST_BATCH = 8


@dataclass(frozen=True)
class Scaling:
    """Medians of one row: milliseconds of a call.

    `alone_ms` is on one core, `together_ms` on `threads` cores, `apart_ms` on one core while all
    others run a copy. `spread` is half the distance between the least and the greatest ratio of a
    round.
    """

    model: str
    sizes: Sizes
    precision: str
    threads: int
    alone_ms: float
    together_ms: float
    apart_ms: float
    spread: float

    @property
    def row(self) -> Row:
        """The row that was measured."""
        return Row(self.model, self.sizes)

    @property
    def ratio(self) -> float:
        """How many times as fast the cores are together."""
        return self.alone_ms / self.together_ms

    @property
    def limit(self) -> float:
        """How many times as much the cores do with a copy each."""
        return self.threads * self.alone_ms / self.apart_ms


def write(found: Sequence[Scaling], path: Path) -> None:
    """Write JSON."""
    path.write_text(json.dumps({"scaling": [asdict(one) for one in found]}, indent=1) + "\n")


def read(path: Path) -> list[Scaling]:
    """The inverse of `write`."""
    return [Scaling(**fields) for fields in json.loads(path.read_text())["scaling"]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all rows and print a table."""
    options = _parser().parse_args(arguments)
    found: list[Scaling] = []
    rows = select(ROWS, options.models, options.batch)
    with TemporaryDirectory(prefix="ranvier-scaling-") as temporary:
        for model, group in groupby(rows, key=lambda row: row.model):
            folder = (options.folder or Path(temporary)) / model
            sizes = [row.sizes for row in group]
            reason = prepare_model(model, sizes, options.precision, ["ranvier"], folder)
            if reason:
                raise RuntimeError(f"{model}: {reason}")
            for precision in options.precision:
                found += [
                    _measure(Job("ranvier", model, each, precision, 1, str(folder)), options)
                    for each in sizes
                    if _is_large(each, folder)
                ]
                if options.json:
                    write(found, options.json)
    print(table(found))


def table(found: Sequence[Scaling]) -> str:
    """A row and precision per line."""
    head = ["model", "precision", "one core, ms", "all cores, ms", "ratio", "spread", "copies"]
    lines = [
        [
            one.row.label,
            one.precision,
            figure(one.alone_ms),
            figure(one.together_ms),
            figure(one.ratio),
            f"±{percent(one.spread / one.ratio)}",
            figure(one.limit),
        ]
        for one in found
    ]
    return markdown(head, lines, texts=2)


def _is_large(sizes: Sizes, folder: Path) -> bool:
    flops = json.loads(Material(folder).facts.read_text())["flops"][sizes_key(sizes)]
    return bool(sizes["batch"] >= _LEAST_BATCH or flops >= _LEAST_FLOPS)


def _measure(job: Job, options: argparse.Namespace) -> Scaling:
    cpus = sorted(os.sched_getaffinity(0))
    path, inputs = job.material.artifact(job.precision), input_arrays(job)
    pace = Pace(options.seconds, calls=3, longest=4 * options.seconds)
    with ExitStack() as stack:
        alone, together, *others = (
            stack.enter_context(ranvier.load(path, cores=cores))
            for cores in (cpus[:1], cpus, *([cpu] for cpu in cpus[1:]))
        )
        calls = {model: partial(model, *inputs) for model in (alone, together, *others)}
        for call in calls.values():
            call()
        copies = [calls[model] for model in (alone, *others)]
        rounds = [
            [
                timed_calls(calls[alone], pace),
                timed_calls(calls[together], pace),
                timed_threads(copies, pace),
            ]
            for _ in range(options.rounds)
        ]
    times = [[statistics.median(turn.latencies_ms) for turn in turns] for turns in rounds]
    ratios = [one / all_ for one, all_, _ in times]
    return Scaling(
        job.model,
        job.sizes,
        job.precision,
        len(cpus),
        *(statistics.median(each) for each in zip(*times, strict=True)),
        spread=(max(ratios) - min(ratios)) / 2,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    add = parser.add_argument
    add("--models", type=lambda text: text.split(","), default=[], help="all unless given")
    add("--batch", type=lambda text: [int(n) for n in text.split(",")], default=[])
    add("--precision", type=lambda text: text.split(","), default=["f32", "bf16"])
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.2, help="length of one turn of one group")
    add("--json", type=Path, help="also write all figures to this file")
    add("--folder", type=Path, help="keep compiled models here")
    return parser


if __name__ == "__main__":
    main()
