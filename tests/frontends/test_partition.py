"""Partitions of random graphs: right by construction of their schedule, and the fewest segments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.frontends.partition import Partition, PartitionNode, partition


@st.composite
def graphs(draw: st.DrawFn, most: int = 8) -> list[PartitionNode]:
    nodes: list[PartitionNode] = []
    for i in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(["native", "foreign", "foreign", "either", "free"]))
        reads = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        nodes.append(PartitionNode(kind, tuple(sorted(reads))))
    return nodes


def check(nodes: Sequence[PartitionNode], found: Partition, outputs: Sequence[int]) -> None:
    """Everything that can be read has been computed; who computes it is allowed to."""
    known: set[int] = set()  # what native code has, and segments can be given
    segments = iter(found.results)
    for entry in found.schedule:
        if isinstance(entry, int):
            assert nodes[entry].kind != "foreign"
            assert nodes[entry].kind == "free" or set(nodes[entry].reads) <= known
            known.add(entry)
            continue
        inside: set[int] = set()
        for i in entry:
            assert nodes[i].kind in ("foreign", "either")
            assert set(nodes[i].reads) <= known | inside
            inside.add(i)
        results = next(segments)
        assert results <= inside
        known |= results
    foreign = {i for i, node in enumerate(nodes) if node.kind == "foreign"}
    run = [i for segment in found.segments for i in segment if i in foreign]
    assert sorted(run) == sorted(foreign)
    assert {i for i, node in enumerate(nodes) if node.kind == "native"} | set(outputs) <= known


@settings(max_examples=400, deadline=None)
@given(graphs(), st.data())
def test_a_partition_can_be_run_in_the_order_of_its_schedule(
    nodes: list[PartitionNode], data: st.DataObject
) -> None:
    outputs = data.draw(st.lists(st.integers(0, len(nodes) - 1), max_size=3)) if nodes else []
    check(nodes, partition(nodes, outputs), outputs)


def grouped(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """All partitions of a set."""
    if not items:
        yield []
        return
    for rest in grouped(items[1:]):
        yield [[items[0]], *rest]
        for i, group in enumerate(rest):
            yield [*rest[:i], [items[0], *group], *rest[i + 1 :]]


def is_runnable(nodes: Sequence[PartitionNode], groups: Sequence[Sequence[int]]) -> bool:
    """Whether groups, and native nodes one by one, can be put in an order (no cycle)."""
    group_of = {i: number for number, group in enumerate(groups) for i in group}
    waiting = {group_of.get(i, -1 - i) for i in range(len(nodes))}
    done: set[int] = set()
    while waiting:
        ready = {
            unit
            for unit in waiting
            if all(
                group_of.get(read, -1 - read) in done | {unit}
                for i in ((groups[unit]) if unit >= 0 else [-1 - unit])
                if nodes[i].kind != "free"
                for read in nodes[i].reads
            )
        }
        if not ready:
            return False
        waiting -= ready
        done |= ready
    return True


@settings(max_examples=200, deadline=None)
@given(graphs(7))
def test_no_partition_has_fewer_segments(nodes: list[PartitionNode]) -> None:
    """Compared with every way to group the nodes, and to let the framework run cheap ones."""
    found = len(partition(nodes).segments)
    foreign = [i for i, node in enumerate(nodes) if node.kind == "foreign"]
    either = [i for i, node in enumerate(nodes) if node.kind == "either"]
    for count in range(len(either) + 1):
        for taken in itertools.combinations(either, count):
            for groups in grouped([*foreign, *taken]):
                used = sum(any(i in foreign for i in group) for group in groups)
                if used < found:
                    assert not is_runnable(nodes, groups)


def test_a_native_operator_between_two_foreign_ones_parts_them() -> None:
    nodes = [
        PartitionNode("foreign"),
        PartitionNode("native", (0,)),
        PartitionNode("foreign", (1,)),
        PartitionNode("foreign", (0,)),
    ]
    found = partition(nodes, [2, 3])
    assert found.schedule == ((0, 3), 1, (2,))
    assert found.results == (frozenset({0, 3}), frozenset({2}))


def test_a_cheap_operator_is_taken_along_and_run_natively_too_where_its_result_is_read() -> None:
    nodes = [
        PartitionNode("foreign"),
        PartitionNode("either", (0,)),
        PartitionNode("foreign", (1,)),
        PartitionNode("native", (1, 2)),
    ]
    found = partition(nodes, [3])
    assert found.schedule == ((0, 1, 2), 1, 3)
    assert found.results == (frozenset({0, 2}),)


def test_a_cheap_operator_stays_native_where_taking_it_along_saves_nothing() -> None:
    nodes = [
        PartitionNode("native"),
        PartitionNode("either", (0,)),
        PartitionNode("foreign", (1,)),
    ]
    assert partition(nodes, [2]).schedule == (0, 1, (2,))


def test_sizes_are_known_before_data() -> None:
    nodes = [
        PartitionNode("foreign"),
        PartitionNode("free", (0,)),
        PartitionNode("foreign", (0, 1)),
    ]
    assert partition(nodes, [2]).schedule == (1, (0, 2))


def test_branches_share_segments() -> None:
    branches = [
        node
        for i in range(4)
        for node in (PartitionNode("native"), PartitionNode("foreign", (2 * i,)))
    ]
    assert partition(branches, []).segments == ((1, 3, 5, 7),)
