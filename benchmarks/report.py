"""Writes the tables of a document from the JSON of runs, so that no figure is typed by hand.

A document says where a table goes by two lines, which stay; what is between them is replaced:

    <!-- benchmarks: latency -->
    <!-- benchmarks: end -->

There are the tables `machine`, `summary`, `latency`, `throughput`, `scaling` and `startup`. A
document may have those of several machines, `avx2/latency`: `--machine avx2` fills these, and no
other.

usage: python -m benchmarks.report peers.json --startup startup.json docs/performance.md
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean

from benchmarks import scaling
from benchmarks.engines import LATENCY, THROUGHPUT
from benchmarks.pairs import Pair, labels, pairs, precisions, startup_pairs
from benchmarks.result import Report, Result
from benchmarks.startup import Startup, read
from benchmarks.table import figure, markdown, percent

_SECTION = re.compile(
    r"(<!-- benchmarks: (?!end\b)(\S+) -->\n)(.*?)(<!-- benchmarks: end -->)", re.DOTALL
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the marked places of the documents."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON of benchmarks.peers")
    parser.add_argument("documents", type=Path, nargs="+", help="Markdown with marked places")
    parser.add_argument("--startup", type=Path, help="JSON of benchmarks.startup")
    parser.add_argument("--scaling", type=Path, help="JSON of benchmarks.scaling")
    parser.add_argument("--machine", default="", help="fill the tables of this machine")
    options = parser.parse_args(arguments)
    startup = read(options.startup) if options.startup else []
    texts = tables(Report.read(options.results), startup)
    if options.scaling:
        texts["scaling"] = scaling.table(scaling.read(options.scaling))
    for path in options.documents:
        path.write_text(fill(path.read_text(), texts, options.machine))


def fill(document: str, texts: Mapping[str, str], machine: str = "") -> str:
    """The document with the marked tables of `machine` replaced; those of others stay.

    Raises:
        ValueError: no place is marked, or a mark names a table that there is not.
    """
    prefix = f"{machine}/" if machine else ""
    known = {prefix + name: text for name, text in texts.items()}
    marked = [match[2] for match in _SECTION.finditer(document)]
    marked = [name for name in marked if name.rpartition("/")[0] == machine]
    unknown = sorted(set(marked) - set(known))
    if not marked or unknown:
        raise ValueError(f"the document marks {marked}; there are the tables {sorted(known)}")

    def replaced(match: re.Match[str]) -> str:
        text = known.get(match[2])
        return match[0] if text is None else f"{match[1]}\n{text}\n\n{match[4]}"

    return _SECTION.sub(replaced, document)


def tables(report: Report, startup: Sequence[Startup]) -> dict[str, str]:
    """All tables that the figures suffice for, by name."""
    texts = {
        "machine": _machine(report),
        "summary": _summary(report.results),
        "latency": _comparison(report.results, LATENCY, "ms", lambda one: one.median_ms),
        "throughput": _comparison(
            report.results, THROUGHPUT, "items/s", lambda one: one.items_per_second
        ),
    }
    if startup:
        texts["startup"] = _startup(startup)
    return texts


def _machine(report: Report) -> str:
    machine = report.machine
    peaks = ", ".join(
        f"{figure(value, 0)} GFLOP/s in {precision}"
        for precision, value in machine["peak_gflops"].items()
        if value is not None
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['threads']} threads, peak {peaks}; {versions}."


def _summary(results: Sequence[Result]) -> str:
    """Ratios to the best peer over all rows, by mode and precision."""
    head = ["", "precision", "rows", "lost", "geometric mean", "least", "greatest"]
    rows = []
    for mode in (LATENCY, THROUGHPUT):
        for precision in precisions(results):
            found = pairs(results, precision, mode).values()
            ratios = [pair.ours.ratio for pair in found if pair.best and not pair.ours.failure]
            if not ratios:
                continue
            lost = sum(pair.lost for pair in found)
            figures = (geometric_mean(ratios), min(ratios), max(ratios))
            counts = (str(len(found)), str(lost))
            rows.append([mode, precision, *counts, *(figure(value) for value in figures)])
    return markdown(head, rows, texts=2)


def _comparison(
    results: Sequence[Result], mode: str, unit: str, value: Callable[[Result], float]
) -> str:
    found = {precision: pairs(results, precision, mode) for precision in precisions(results)}
    head = ["model"]
    for precision in found:
        head += [f"{precision} {unit}", "best peer", "ratio", "spread", "of peak"]
    rows = []
    for label in labels(found.values()):
        row = [label]
        for compared in found.values():
            row += _cells(compared.get(label), value)
        rows.append(row)
    return markdown(head, rows)


def _cells(pair: Pair | None, value: Callable[[Result], float]) -> list[str]:
    if pair is None:
        return ["–"] * 5
    ours, best = pair.ours, pair.best
    if ours.failure:
        return ["failed", *["–"] * 4]
    beside = "none" if best is None else f"{_short(value(best))} ({best.engine})"
    ratio = f"**{figure(ours.ratio)}** ▼" if pair.lost else figure(ours.ratio)
    return [
        _short(value(ours)), beside, ratio, f"±{percent(ours.spread)}", percent(ours.share_of_peak)
    ]  # fmt: skip


def _short(value: float) -> str:
    """Four digits at most, three after the point at most."""
    if value >= 1000:
        return figure(value, 0)
    return figure(value, 3 if value < 1 else 2 if value < 100 else 1)


def _startup(found: Sequence[Startup]) -> str:
    head = ["model", ""]
    head += ["fresh process, ms", "best peer", "ratio", "import and load, ms", "best peer", "ratio"]
    head += ["memory, MB", "least peer", "ratio", "model, MB", "installed, MB"]
    rows = []
    for (model, precision), pair in startup_pairs(found).items():
        row = [model, precision]
        for value in (lambda one: one.total_ms, lambda one: one.own_ms):
            row += _beside(pair.ours, pair.best(value), value, 0, lambda us, them: them / us)
        memory = _megabytes
        row += _beside(pair.ours, pair.best(memory), memory, 0, lambda us, them: us / them)
        row += [
            figure(size / 1e6, 0) for size in (pair.ours.model_bytes, pair.ours.installed_bytes)
        ]
        rows.append(row)
    return markdown(head, rows, texts=2)


def _megabytes(one: Startup) -> float:
    return one.pss / 1e6


def _beside(
    ours: Startup,
    best: Startup | None,
    value: Callable[[Startup], float],
    places: int,
    ratio: Callable[[float, float], float],
) -> list[str]:
    own = figure(value(ours), places)
    if best is None:
        return [own, "none", "–"]
    compared = figure(ratio(value(ours), value(best)))
    return [own, f"{figure(value(best), places)} ({best.engine})", compared]


if __name__ == "__main__":
    main()
