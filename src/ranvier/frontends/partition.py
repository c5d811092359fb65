"""Which operators of a model share a segment, when a framework runs those without a translation.

The segments of a model run one after the other, with native code between them. Operators that need
no result of a later segment go into an earlier one, so there are as few segments as any partition
can have: the number is that of the changes from native code to the framework on the path through
the model that has most of them.

A node is numbered by its place in the model; it reads only nodes before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

NodeKind = Literal["native", "foreign", "either", "free"]
"""Who can run a node: native code, the framework, or both.

"either" is native, but cheap, and a segment takes a copy of it along where that saves a segment.
"free" is native and needs no data: its result follows from sizes alone, whatever it reads.
"""

_NEVER = 1 << 60


@dataclass(frozen=True)
class PartitionNode:
    """A node of a model: who can run it, and the nodes whose results it reads."""

    kind: NodeKind
    reads: tuple[int, ...] = ()


@dataclass(frozen=True)
class Partition:
    """What runs where.

    Attributes:
        schedule: nodes that run natively (a number), and segments (a tuple of numbers in order), in
            an order in which everything is computed before it is read.
        results: by segment, the nodes in it that something outside of it reads.
    """

    schedule: tuple[int | tuple[int, ...], ...]
    results: tuple[frozenset[int], ...]

    @property
    def segments(self) -> tuple[tuple[int, ...], ...]:
        """The segments in order."""
        return tuple(entry for entry in self.schedule if isinstance(entry, tuple))


def partition(nodes: Sequence[PartitionNode], outputs: Iterable[int] = ()) -> Partition:
    """The partition of a model with the fewest segments.

    `outputs` are nodes whose results the model returns: native code hands them out.
    """
    native, inside = _levels(nodes)
    foreign = [i for i, node in enumerate(nodes) if node.kind == "foreign"]
    levels = range(1, 1 + max((inside[i] for i in foreign), default=0))
    segments = [_members(nodes, native, inside, level) for level in levels]
    needed = _needed_outside(nodes, native, segments, outputs)
    kept = [i for i in sorted(needed) if nodes[i].kind != "foreign"]
    schedule: list[int | tuple[int, ...]] = [i for i in kept if native[i] == 0]
    for level, members in zip(levels, segments, strict=True):
        schedule.append(tuple(sorted(members)))
        schedule += [i for i in kept if native[i] == level]
    read = [frozenset(needed.intersection(foreign, members)) for members in segments]
    return Partition(tuple(schedule), tuple(read))


def _levels(nodes: Sequence[PartitionNode]) -> tuple[list[int], list[int]]:
    """Per node: the segment after which native code can have its result (0: before all), and the
    first segment that can compute it itself.
    """
    native: list[int] = []
    inside: list[int] = []
    for node in nodes:
        before = max((native[read] for read in node.reads), default=0)
        within = max((min(inside[read], native[read] + 1) for read in node.reads), default=1)
        if node.kind == "foreign":
            before = within
        native.append(0 if node.kind == "free" else before)
        inside.append(within if node.kind in ("foreign", "either") else _NEVER)
    return native, inside


def _members(
    nodes: Sequence[PartitionNode], native: Sequence[int], inside: Sequence[int], level: int
) -> set[int]:
    """The nodes of a segment: those of its level, and copies of what else would come too late."""
    left = [i for i, node in enumerate(nodes) if node.kind == "foreign" and inside[i] == level]
    members: set[int] = set()
    while left:
        node = left.pop()
        if node not in members:
            members.add(node)
            left += [read for read in nodes[node].reads if native[read] >= level]
    return members


def _needed_outside(
    nodes: Sequence[PartitionNode],
    native: Sequence[int],
    segments: Sequence[set[int]],
    outputs: Iterable[int],
) -> set[int]:
    """The nodes that native code runs, and those whose results it or a later segment reads."""
    needed = {*outputs, *(i for i, n in enumerate(nodes) if n.kind in ("native", "free"))}
    for level, members in enumerate(segments, 1):
        needed |= {read for i in members for read in nodes[i].reads if native[read] < level}
    for i in reversed(range(len(nodes))):
        if i in needed and nodes[i].kind in ("native", "either"):
            needed.update(nodes[i].reads)
    return needed
