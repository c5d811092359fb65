"""Ranvier beside its best peer, row by row: what charts and tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.engines import LATENCY
from benchmarks.result import Result
from benchmarks.rows import ROWS
from benchmarks.startup import Startup

_PRECISIONS = ("f32", "bf16")
_PLACES = {row.label: place for place, row in enumerate(ROWS)}


def precisions(results: Sequence[Result]) -> list[str]:
    """The precisions that were measured, f32 first."""
    return [name for name in _PRECISIONS if any(one.precision == name for one in results)]


@dataclass(frozen=True)
class Pair:
    """One row in one precision and mode: Ranvier's result, and the best peer's where there is one.

    A row in which Ranvier failed is lost; so is one whose ratio is below 1.
    """

    ours: Result
    best: Result | None

    @property
    def lost(self) -> bool:
        """Whether a peer is faster, or Ranvier has no figure."""
        return bool(self.ours.failure) or self.ours.ratio < 1


def pairs(results: Sequence[Result], precision: str, mode: str) -> dict[str, Pair]:
    """The pairs by label of their row."""
    name = "ranvier" if mode == LATENCY else "ranvier-throughput"
    chosen = [result for result in results if result.precision == precision]
    engines = {(result.row.label, result.engine): result for result in chosen}
    return {
        result.row.label: Pair(result, engines.get((result.row.label, result.best_peer)))
        for result in chosen
        if result.engine == name
    }


def labels(found: Iterable[Mapping[str, Pair]]) -> list[str]:
    """The labels of all rows, in the order of `ROWS` whatever was measured first."""
    every = dict.fromkeys(label for rows in found for label in rows)
    return sorted(every, key=lambda label: _PLACES.get(label, len(_PLACES)))


@dataclass(frozen=True)
class StartupPair:
    """One model in one precision: Ranvier's start-up, and all of its peers that started."""

    ours: Startup
    peers: tuple[Startup, ...]

    def best(self, figure: Callable[[Startup], float]) -> Startup | None:
        """The peer whose figure is the lowest."""
        return min(self.peers, key=figure, default=None)


def startup_pairs(found: Sequence[Startup]) -> dict[tuple[str, str], StartupPair]:
    """The pairs by model and precision, in order."""
    result: dict[tuple[str, str], StartupPair] = {}
    for ours in found:
        if ours.engine == "ranvier" and not ours.failure:
            key = ours.model, ours.precision
            peers = [p for p in found if (p.model, p.precision) == key and p.engine != "ranvier"]
            result[key] = StartupPair(ours, tuple(p for p in peers if not p.failure))
    return result
