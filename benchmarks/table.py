"""Tables of results as Markdown, which reads well as plain text too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.result import Result

_HEAD = (
    "engine",
    "mode",
    "median ms",
    "spread",
    "p99 ms",
    "items/s",
    "ratio",
    "of peak",
    "error",
)


def text_table(results: Sequence[Result]) -> str:
    """All engines of one row and precision, failures below with their reasons."""
    first = results[0]
    title = f"\n## {first.row.label}, {first.precision}; {first.threads} threads\n"
    table = markdown(_HEAD, (_cells(result) for result in results), texts=2)
    reasons = [f"\n{result.engine}: {result.failure}" for result in results if result.failure]
    return "\n".join([title, table, *reasons])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table; the first `texts` columns are text, the others figures."""
    columns = len(head)
    lines = [head, ["---"] * texts + ["---:"] * (columns - texts), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float, places: int = 2) -> str:
    """A number with so many decimals; a dash where there is none."""
    return "–" if value != value else f"{value:.{places}f}"


def percent(value: float) -> str:
    """A share as whole percent; a dash where there is none."""
    return "–" if value != value else f"{value:.0%}"


def _cells(result: Result) -> list[str]:
    if result.failure:
        return [result.engine, result.mode, "failed", *["–"] * (len(_HEAD) - 3)]
    return [
        result.engine,
        result.mode,
        figure(result.median_ms, 3 if result.median_ms < 1 else 2),
        f"±{percent(result.spread)}",
        figure(result.p99_ms),
        figure(result.items_per_second, 1),
        figure(result.ratio),
        percent(result.share_of_peak),
        f"{result.error:.1e}",
    ]
