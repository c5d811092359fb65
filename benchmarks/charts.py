"""Draws the figures of runs as SVG: Ranvier over its best peer per row, start-up and memory.

usage: python -m benchmarks.charts peers.json --startup startup.json --to docs/charts
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from benchmarks.engines import LATENCY, THROUGHPUT
from benchmarks.pairs import Pair, labels, pairs, precisions
from benchmarks.result import Report, Result
from benchmarks.startup import STAGES, Startup, read

_WON, _LOST, _PEER = "#2f6f9f", "#c8442b", "#9aa5ad"
_STAGE_COLOURS = ("#c9cfd3", "#9aa5ad", "#e0a03c", "#c8442b", "#2f6f9f")
_STAGE_NAMES = {
    "python": "interpreter",
    "numpy": "NumPy",
    "import": "import engine",
    "load": "load model",
    "answer": "first answer",
}
_STYLE = {"font.size": 9, "svg.hashsalt": "ranvier", "axes.spines.top": False}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the charts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.charts", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON of benchmarks.peers")
    parser.add_argument("--startup", type=Path, help="JSON of benchmarks.startup")
    parser.add_argument("--to", type=Path, default=Path("docs/charts"), help="folder of the SVGs")
    options = parser.parse_args(arguments)
    startup = read(options.startup) if options.startup else []
    for path in draw(Report.read(options.results).results, startup, options.to):
        print(path)


def draw(results: Sequence[Result], startup: Sequence[Startup], folder: Path) -> list[Path]:
    """Write all charts that the figures suffice for; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        for mode in (LATENCY, THROUGHPUT):
            if any(result.mode == mode for result in results):
                written.append(_save(_ratios(results, mode), folder / f"{mode}.svg"))
        if startup:
            written.append(_save(_stages(startup), folder / "startup.svg"))
            written.append(_save(_memory(startup), folder / "memory.svg"))
    return written


def _save(chart: Any, path: Path) -> Path:
    # Without a date, so that the same figures give the same file.
    chart.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(chart)
    return path


def _ratios(results: Sequence[Result], mode: str) -> Any:
    """A panel per precision, a bar per row; lost rows in another colour and marked."""
    found = {precision: pairs(results, precision, mode) for precision in precisions(results)}
    names = labels(found.values())
    chart, axes = plt.subplots(
        1, len(found), sharey=True, figsize=(11, 1.4 + 0.26 * len(names)), squeeze=False
    )
    for axis, precision in zip(axes[0], found, strict=True):
        _ratio_panel(axis, names, found[precision])
        axis.set_title(precision, loc="left", fontweight="bold")
    what = (
        "Latency: median of the best peer" if mode == LATENCY else "Throughput: Ranvier's items/s"
    )
    over = "Ranvier's" if mode == LATENCY else "the best peer's"
    chart.suptitle(f"{what} over {over}; right of the line Ranvier is faster", y=1.0)
    chart.tight_layout()
    return chart


def _ratio_panel(axis: Any, names: Sequence[str], found: dict[str, Pair]) -> None:
    ratios = [_ratio(found.get(label)) for label in names]
    limit = 1.45 * max([1.5, *ratios])
    for place, (label, ratio) in enumerate(zip(names, ratios, strict=True)):
        pair = found.get(label)
        if pair is None:
            continue
        colour = _LOST if pair.lost else _WON
        axis.barh(place, ratio, color=colour, height=0.7, hatch="///" if pair.lost else None)
        axis.text(
            max(ratio, 1.0) + 0.01 * limit,
            place,
            _ratio_text(pair),
            va="center",
            color=colour if pair.lost else "black",
            fontsize=8,
        )
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(0, limit)
    axis.spines["right"].set_visible(False)


def _ratio(pair: Pair | None) -> float:
    return 0.0 if pair is None or not pair.ours.ratio > 0 else pair.ours.ratio


def _ratio_text(pair: Pair) -> str:
    if pair.ours.failure:
        return "failed"
    if pair.best is None:
        return "no peer runs it"
    return f"{pair.ours.ratio:.2f}  {pair.best.engine}{'  ▼ lost' if pair.lost else ''}"


def _stages(found: Sequence[Startup]) -> Any:
    """A stacked bar per engine, the stages of its start-up."""

    def bar(axis: Any, place: int, one: Startup) -> float:
        left = 0.0
        for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True):
            axis.barh(place, one.stages_ms[stage], left=left, color=colour, height=0.7)
            left += one.stages_ms[stage]
        return left

    chart = _grouped(found, bar, "{:.0f} ms")
    handles = [
        Patch(color=colour, label=_STAGE_NAMES[stage])
        for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True)
    ]
    chart.legend(handles=handles, loc="upper center", ncols=5, bbox_to_anchor=(0.5, 0.0))
    chart.suptitle("A fresh process until its first answer", y=1.04)
    return chart


def _memory(found: Sequence[Startup]) -> Any:
    """A bar per engine, its memory after the first answer."""

    def bar(axis: Any, place: int, one: Startup) -> float:
        megabytes = one.pss / 1e6
        colour = _WON if one.engine == "ranvier" else _PEER
        axis.barh(place, megabytes, color=colour, height=0.7)
        return megabytes

    chart = _grouped(found, bar, "{:.0f} MB")
    chart.suptitle("Memory after the first answer (proportional set size)", y=1.04)
    return chart


def _grouped(
    found: Sequence[Startup], bar: Callable[[Any, int, Startup], float], label: str
) -> Any:
    """A panel per model and precision, a bar per engine; long bars are cut at three of ours."""
    keys = list(dict.fromkeys((one.model, one.precision) for one in found))
    columns = min(2, len(keys))
    lines = -(-len(keys) // columns)
    chart, axes = plt.subplots(lines, columns, figsize=(11, 0.6 + 1.9 * lines), squeeze=False)
    for axis, key in zip(axes.flat, keys, strict=False):
        chosen = [one for one in found if (one.model, one.precision) == key]
        lengths = [0.0 if one.failure else bar(axis, at, one) for at, one in enumerate(chosen)]
        limit = 1.2 * _shown(lengths)
        for place, (one, length) in enumerate(zip(chosen, lengths, strict=True)):
            text = "failed" if one.failure else label.format(length)
            inside = length > limit * 0.9
            axis.text(
                0.99 * limit if inside else length + 0.01 * limit,
                place,
                f"{text} →" if inside else text,
                va="center",
                ha="right" if inside else "left",
                fontsize=8,
                color="black",
            )
        axis.set_yticks(range(len(chosen)), [one.engine for one in chosen])
        axis.set_ylim(len(chosen) - 0.4, -0.6)
        axis.set_xlim(0, limit)
        axis.set_title(f"{key[0]}, {key[1]}", loc="left", fontweight="bold")
        axis.spines["right"].set_visible(False)
    for axis in list(axes.flat)[len(keys) :]:
        axis.set_axis_off()
    chart.tight_layout()
    return chart


def _shown(lengths: Sequence[float]) -> float:
    """The longest bar that is drawn whole: one far above the others is cut."""
    ordered = sorted(lengths)
    second = ordered[-2] if len(ordered) > 1 else ordered[-1]
    return ordered[-1] if ordered[-1] < 2.5 * second else 1.2 * second


if __name__ == "__main__":
    main()
