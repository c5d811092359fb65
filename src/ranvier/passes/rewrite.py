"""The rewrite engine: tables of (operator, small function), applied until nothing changes.

A rule looks at one node through a `Match` and returns what stands for the node's results, or None.
Rules see operands that are already rewritten, and what they build is rewritten in turn. Every sweep
also merges equal nodes and drops those that no output needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from ranvier.errors import GraphError
from ranvier.ir.dtype import Array, DType, decode, from_numpy
from ranvier.ir.graph import Attribute, Graph, Node, TensorType, Value
from ranvier.ir.liveness import without_dead_nodes
from ranvier.ir.operators import infer

Rule = Callable[["Match"], "Value | tuple[Value, ...] | None"]
Table = tuple[tuple[str, Rule], ...]

MOST_SWEEPS = 32
MOST_DEPTH = 64
SMALL_BYTES = 4096  # constants up to this size are compared by their bytes


@dataclass(frozen=True)
class Match:
    """The node that a rule looks at, its surroundings, and the means to build its replacement."""

    node: Node
    sweep: _Sweep

    @property
    def x(self) -> Value:
        """The first operand."""
        return self.node.operands[0]

    @property
    def result(self) -> Value:
        """The only result."""
        return self.node.result

    def attribute(self, name: str) -> Any:
        """An attribute of the node."""
        return self.node.attributes[name]

    def producer(self, value: Value, *ops: str) -> Node | None:
        """The node that makes `value`, when it is one of `ops` (any, if none are given)."""
        node = self.sweep.producers.get(value)
        return node if node is not None and (not ops or node.op in ops) else None

    def stored(self, value: Value) -> Array | None:
        """The storage array of a constant, or None."""
        node = self.producer(value, "constant")
        return None if node is None else cast(Array, node.attributes["value"])

    def constant(self, value: Value) -> Array | None:
        """The numbers of a constant (bf16 as f32), or None."""
        array = self.stored(value)
        return None if array is None else decode(array, value.dtype)

    def uniform(self, value: Value) -> float | int | bool | None:
        """The number that every element of a constant, or of a view of one, has; or None."""
        view = self.producer(value, "broadcast", "reshape")
        if view is not None:
            return self.uniform(view.operands[0])
        filled = self.producer(value, "full")
        if filled is not None:
            number = filled.attributes["value"]
            assert isinstance(number, (int, float))
            return number
        array = self.constant(value)
        if array is None or array.size == 0:
            return None
        first = array.flat[0]
        if array.flat[-1] != first or not (array == first).all():
            return None
        number = first.item()
        assert isinstance(number, (int, float))
        return number

    def single_use(self, value: Value) -> bool:
        """Whether this node is the only reader of `value`, as far as is known."""
        return self.sweep.uses.get(value) == 1

    def add(self, op: str, *operands: Value, **attributes: Attribute) -> Value:
        """A new node in front of the replacement; its one result."""
        hint = f"{self.node.results[0].name}.{op}"
        return self.sweep.build(op, operands, attributes, (hint,), self.node.source, fresh=True)[0]

    def new_constant(self, array: Array, dtype: DType | None = None, name: str = "") -> Value:
        """A new constant, of the array's own element type unless `dtype` says bf16."""
        kind = dtype or from_numpy(array.dtype)
        hint = name or f"{self.node.results[0].name}.constant"
        value = Value(self.sweep.unique(hint), TensorType(kind, tuple(array.shape)))
        return self.sweep.place(Node("constant", (), (value,), {"value": array}, self.node.source))[
            0
        ]

    def become_constants(self, *arrays: Array) -> tuple[Value, ...]:
        """Constants under the names of the node's results, one storage array for each."""
        source = self.node.source
        nodes = [
            Node("constant", (), (Value(old.name, old.type),), {"value": array}, source)
            for old, array in zip(self.node.results, arrays, strict=True)
        ]
        return tuple(value for node in nodes for value in self.sweep.place(node))

    def become(self, op: str, *operands: Value, **attributes: Attribute) -> Value:
        """The node's replacement, under the node's name; to be returned by the rule."""
        names = tuple(value.name for value in self.node.results)
        return self.sweep.build(op, operands, attributes, names, self.node.source)[0]

    def again(self, *operands: Value) -> tuple[Value, ...]:
        """The node itself with other operands."""
        names = tuple(value.name for value in self.node.results)
        node = self.node
        return self.sweep.build(node.op, operands, node.attributes, names, node.source)

    def fits(self, op: str, *operands: Value, **attributes: Attribute) -> bool:
        """Whether `op(operands)` would have exactly the node's result types."""
        expected = tuple(value.type for value in self.node.results)
        return infer(op, operands, attributes, self.node.source) == expected


@dataclass
class _Sweep:
    """One pass over a graph, in order; builds the rewritten nodes."""

    rules: Mapping[str, Sequence[Rule]]
    names: set[str]
    uses: dict[Value, int]
    producers: dict[Value, Node] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    known: dict[object, Node] = field(default_factory=dict)
    changed: bool = False
    depth: int = 0

    def unique(self, hint: str) -> str:
        name, count = hint, 1
        while name in self.names:
            name, count = f"{hint}_{count}", count + 1
        self.names.add(name)
        return name

    def build(
        self,
        op: str,
        operands: Sequence[Value],
        attributes: Mapping[str, Attribute],
        names: Sequence[str],
        source: str,
        fresh: bool = False,
    ) -> tuple[Value, ...]:
        types = infer(op, operands, attributes, source)
        given = [self.unique(name) for name in names] if fresh else names
        results = tuple(Value(name, type) for name, type in zip(given, types, strict=True))
        return self.place(Node(op, tuple(operands), results, dict(attributes), source))

    def place(self, node: Node) -> tuple[Value, ...]:
        """Rewrite `node`, or merge it with an equal one, or append it."""
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise GraphError(f"rewriting {node!r} does not come to an end")
        try:
            return self._rewritten(node) or self._merged(node) or self._appended(node)
        finally:
            self.depth -= 1

    def _rewritten(self, node: Node) -> tuple[Value, ...] | None:
        before = len(self.nodes)
        for rule in self.rules.get(node.op, ()):
            found = rule(Match(node, self))
            if found is None:
                continue
            values = found if isinstance(found, tuple) else (found,)
            if [v.type for v in values] != [v.type for v in node.results]:
                raise GraphError(f"{rule.__name__} replaced {node!r} by {values}")
            self.changed = True
            return self._named(node, values) if len(self.nodes) > before else values
        return None

    def _named(self, node: Node, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """`values`, under the names of the results of `node` when a rule has just made them."""
        made = self.nodes[-1]
        names = [value.name for value in node.results]
        if made.results != values or names == [value.name for value in values]:
            return values
        results = tuple(Value(n, v.type) for n, v in zip(names, values, strict=True))
        renamed = self.nodes[-1] = self.known[_key(made)] = replace(made, results=results)
        self.producers.update((value, renamed) for value in results)
        return results

    def _merged(self, node: Node) -> tuple[Value, ...] | None:
        if node.op == "foreign":  # a framework may draw random numbers
            return None
        key = _key(node)
        twin = self.known.setdefault(key, node)
        if twin is node:
            return None
        self.changed = True
        return twin.results

    def _appended(self, node: Node) -> tuple[Value, ...]:
        self.nodes.append(node)
        self.producers.update((value, node) for value in node.results)
        return node.results


def rewrite(graph: Graph, *tables: Table) -> Graph:
    """Apply the rules of `tables` to a fixed point, merge equal nodes and drop dead ones.

    Raises GraphError when a rule changes a type or the rules do not settle.
    """
    rules: dict[str, list[Rule]] = {}
    for op, rule in (entry for table in tables for entry in table):
        rules.setdefault(op, []).append(rule)
    for _ in range(MOST_SWEEPS):
        graph, changed = _swept(graph, rules)
        if not changed:
            return graph
    raise GraphError(f"graph {graph.name!r}: rewriting does not settle in {MOST_SWEEPS} sweeps")


def _swept(graph: Graph, rules: Mapping[str, Sequence[Rule]]) -> tuple[Graph, bool]:
    uses = use_counts(graph)
    names = {value.name for node in graph.nodes for value in node.results}
    sweep = _Sweep(rules, names | {value.name for value in graph.inputs}, uses)
    current: dict[Value, Value] = {}
    for node in graph.nodes:
        operands = tuple(current.get(value, value) for value in node.operands)
        moved = node if operands == node.operands else replace(node, operands=operands)
        for old, new in zip(node.results, sweep.place(moved), strict=True):
            current[old] = new
            if new is not old:
                uses[new] = uses.get(new, 0) + uses.get(old, 0)
    outputs = tuple(current.get(value, value) for value in graph.outputs)
    rebuilt = replace(
        graph, nodes=tuple(sweep.nodes), outputs=outputs, output_names=_output_names(graph)
    )
    pruned = without_dead_nodes(rebuilt)
    return pruned, sweep.changed or len(pruned.nodes) != len(graph.nodes)


def _output_names(graph: Graph) -> tuple[str, ...]:
    """Names of the outputs, written down before their values are renamed."""
    return graph.output_names or tuple(value.name for value in graph.outputs)


def use_counts(graph: Graph) -> dict[Value, int]:
    """How often each value is read by nodes and outputs."""
    uses: dict[Value, int] = {}
    for value in (*(v for node in graph.nodes for v in node.operands), *graph.outputs):
        uses[value] = uses.get(value, 0) + 1
    return uses


def _key(node: Node) -> object:
    """Equal for nodes that compute the same values."""
    attributes = frozenset((name, _frozen(value)) for name, value in node.attributes.items())
    return node.op, node.operands, tuple(v.type for v in node.results), attributes


def _frozen(value: Attribute) -> tuple[str, object]:
    """A hashable stand-in: tells 1 from 1.0 and True, and 0.0 from -0.0; NaN equals itself."""
    if isinstance(value, np.ndarray):
        return "tensor", _array_key(value)
    if isinstance(value, Graph):
        return "graph", id(value)
    if isinstance(value, tuple):
        return "tuple", tuple(map(_frozen, value))
    if isinstance(value, float):
        return "float", value.hex()
    return type(value).__name__, value


def _array_key(array: Array) -> object:
    """The bytes of a small array; where a large one lies in memory."""
    shape, dtype = array.shape, array.dtype.str
    if array.nbytes <= SMALL_BYTES:
        return shape, dtype, array.tobytes()
    return shape, dtype, array.strides, array.__array_interface__["data"][0]
