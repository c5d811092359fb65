"""Checks that a graph is well formed. A table of rules; each yields faults with their place.

The verifier runs between passes in tests and under `RANVIER_DEBUG`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ranvier.errors import CompileError, GraphError
from ranvier.ir.definitions import all_graphs, defined_symbols
from ranvier.ir.dim import Symbol, symbols
from ranvier.ir.dtype import Array
from ranvier.ir.graph import Graph, Node, TensorType, Value
from ranvier.ir.operators import infer
from ranvier.ir.printer import format_attribute, format_node, format_value

CONTEXT_LINES = 3
MOST_FAULTS = 5


@dataclass(frozen=True)
class Fault:
    """What is wrong, and with which node (None: with inputs or outputs)."""

    reason: str
    index: int | None = None


Rule = Callable[[Graph], Iterable[Fault]]


def verify(graph: Graph, after: str = "") -> Graph:
    """Returns `graph` when it is well formed.

    Raises GraphError otherwise: what is wrong, the nodes around it, and `after`, the name of the
    pass that ran last.
    """
    for inner in all_graphs(graph):
        if inner is not graph:
            verify(inner, after)
    faults = [(name, fault) for name, rule in RULES.items() for fault in rule(graph)]
    if not faults:
        return graph
    origin = f" after {after}" if after else ""
    parts = [f"graph {graph.name!r} is not well formed{origin}: {len(faults)} faults"]
    for name, fault in faults[:MOST_FAULTS]:
        parts.append(f"{name}: {fault.reason}\n{_around(graph, fault.index)}".rstrip())
    raise GraphError("\n".join(parts))


def _around(graph: Graph, index: int | None) -> str:
    if index is None:
        return ""
    first = max(index - CONTEXT_LINES, 0)
    shown = graph.nodes[first : index + CONTEXT_LINES + 1]
    return "\n".join(
        f"{'  >>' if first + i == index else '    '} {_readable(node)}"
        for i, node in enumerate(shown)
    )


def _readable(node: Node) -> str:
    try:
        return format_node(node)
    except TypeError:
        return f"{node!r} {{{', '.join(node.attributes)}}}"


def _defined_once(graph: Graph) -> Iterator[Fault]:
    seen: set[Value] = set()
    for index, value in _definitions(graph):
        if value in seen:
            yield Fault(f"{format_value(value)} is defined twice", index)
        seen.add(value)


def _named_once(graph: Graph) -> Iterator[Fault]:
    seen: dict[str, Value] = {}
    for index, value in _definitions(graph):
        if not value.name:
            yield Fault("a value has no name", index)
        if seen.setdefault(value.name, value) is not value:
            yield Fault(f"two values are called %{value.name}", index)


def _definitions(graph: Graph) -> Iterator[tuple[int | None, Value]]:
    yield from ((None, value) for value in graph.inputs)
    yield from ((i, value) for i, node in enumerate(graph.nodes) for value in node.results)


def _defined_before_use(graph: Graph) -> Iterator[Fault]:
    seen = set(graph.inputs)
    for index, node in enumerate(graph.nodes):
        for operand in node.operands:
            if operand not in seen:
                yield Fault(f"{format_value(operand)} is read before it is defined", index)
        seen.update(node.results)
    for value in graph.outputs:
        if value not in seen:
            yield Fault(f"the output {format_value(value)} is not defined")


def _outputs_named(graph: Graph) -> Iterator[Fault]:
    names = graph.output_names
    if names and len(names) != len(graph.outputs):
        yield Fault(f"{len(names)} output names for {len(graph.outputs)} outputs")
    if len(set(names)) != len(names):
        yield Fault(f"output names repeat: {', '.join(names)}")


def _typed(graph: Graph) -> Iterator[Fault]:
    """Operators are known, attributes have their kinds, and result types follow from operands."""
    for index, node in enumerate(graph.nodes):
        try:
            expected = infer(node.op, node.operands, node.attributes, node.source)
        except CompileError as error:
            yield Fault(error.args[0], index)
            continue
        found = tuple(value.type for value in node.results)
        if node.op == "constant" and len(found) == 1:
            yield from _constant_typed(node, found[0], index)
        elif found != expected:
            wanted = ", ".join(map(str, expected))
            yield Fault(f"results should have the types {wanted}", index)


def _constant_typed(node: Node, type: TensorType, index: int) -> Iterator[Fault]:
    array = node.attributes["value"]
    assert isinstance(array, np.ndarray)
    given: Array = array
    if given.dtype != type.dtype.storage or tuple(given.shape) != type.shape:
        yield Fault(f"a {given.dtype}{list(given.shape)} array cannot be a {type}", index)


def _attributes_printable(graph: Graph) -> Iterator[Fault]:
    for index, node in enumerate(graph.nodes):
        for name, value in node.attributes.items():
            if isinstance(value, np.ndarray):
                continue
            try:
                format_attribute(value)
            except TypeError as error:
                yield Fault(f"attribute {name}: {error}", index)


def _symbols_agree(graph: Graph) -> Iterator[Fault]:
    """A symbol has the same range wherever it occurs."""
    known: dict[str, Symbol] = {}
    for index, value in _definitions(graph):
        for dim in value.shape:
            for name, symbol in symbols(dim).items():
                if known.setdefault(name, symbol) != symbol:
                    yield Fault(f"the symbol {name} has two ranges", index)


def _sizes_defined_once(graph: Graph) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, node in enumerate(graph.nodes):
        for name in defined_symbols(node):
            if name in seen:
                yield Fault(f"the symbol {name} is defined twice", index)
            seen.add(name)


RULES: dict[str, Rule] = {
    "single assignment": _defined_once,
    "names": _named_once,
    "order": _defined_before_use,
    "outputs": _outputs_named,
    "types": _typed,
    "attributes": _attributes_printable,
    "symbols": _symbols_agree,
    "sizes": _sizes_defined_once,
}
