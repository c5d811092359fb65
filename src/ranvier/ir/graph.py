"""The graph IR.

graph  := name (inputs: Value*) (outputs: Value*) nodes: Node*    -- SSA, topologically ordered
value  := name : dtype [dim, ...]
node   := results = op(operands) {attributes} @ source            -- file:line of the user's model
attribute := int | float | bool | str | DType | ndarray | Dim | Graph | None | tuple of these

A graph inside a node (a branch, the body of a loop) sees nothing of the graph around it but its
inputs and the symbols of dims. Dims are in the logical order of the user's model. Where the
elements lie in memory is decided by lowering. Values and nodes compare by identity; a pass builds a
new `Graph` and never changes a node that it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import Array, DType

Shape = tuple[Dim, ...]
Attribute = object  # one of the kinds in the grammar above; the verifier checks


@dataclass(frozen=True)
class TensorType:
    """Element type and logical shape."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, eq=False)
class Value:
    """An SSA value."""

    name: str
    type: TensorType

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """Logical dims."""
        return self.type.shape

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.type.shape)

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True, eq=False)
class Node:
    """One operator application; `source` is `file:line` of the user's model, or empty."""

    op: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    source: str = ""

    @property
    def result(self) -> Value:
        """The only result; ValueError if there are several."""
        if len(self.results) != 1:
            raise ValueError(f"{self.op} has {len(self.results)} results, not one")
        return self.results[0]

    def attribute(self, name: str) -> Any:
        """An attribute; the operator table has checked its kind."""
        return self.attributes[name]

    def __repr__(self) -> str:
        names = ", ".join(f"%{v.name}" for v in self.operands)
        return f"{', '.join(map(repr, self.results))} = {self.op}({names})"


@dataclass(frozen=True)
class Graph:
    """A whole model; the trees describe nested inputs and outputs (manifest form) or are None.

    `metadata` are texts that a model carries beside its computation; no pass needs to keep them.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    output_names: tuple[str, ...] = ()
    input_tree: object = None
    output_tree: object = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def producers(self) -> dict[Value, Node]:
        """Value -> the node whose result it is; inputs have none."""
        return {result: node for node in self.nodes for result in node.results}

    def consumers(self) -> dict[Value, list[Node]]:
        """Value -> nodes that read it, once per operand position; graph outputs do not count."""
        readers: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for operand in node.operands:
                readers.setdefault(operand, []).append(node)
        return readers

    def constant(self, value: Value) -> Array | None:
        """The array behind `value` when a `constant` node produces it."""
        node = self._producers.get(value)
        if node is None or node.op != "constant":
            return None
        return cast(Array, node.attributes["value"])

    @property
    def _producers(self) -> dict[Value, Node]:
        cache = self.__dict__.get("_producer_cache")
        if cache is None:
            cache = self.producers()
            object.__setattr__(self, "_producer_cache", cache)
        return cache


class GraphBuilder:
    """Appends nodes whose result types come from the operator table's shape rules.

    >>> b = GraphBuilder("f")
    >>> x = b.input("x", TensorType(F32, (4,)))
    >>> y = b.add("relu", x)
    >>> graph = b.finish([y])
    """

    def __init__(self, name: str, names: Iterable[str] = ()) -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self._names = set(names)

    def unique(self, hint: str) -> str:
        """A value name that is not taken yet; takes it."""
        name, count = hint, 1
        while name in self._names:
            name, count = f"{hint}_{count}", count + 1
        self._names.add(name)
        return name

    def input(self, name: str, type: TensorType) -> Value:
        """Add an input."""
        value = Value(self.unique(name), type)
        self.inputs.append(value)
        return value

    def constant(
        self, array: Array, dtype: DType | None = None, name: str = "c", source: str = ""
    ) -> Value:
        """A constant of `dtype` (its own by default; give BF16 for bits held as uint16)."""
        from ranvier.ir.dtype import from_numpy

        array = np.asarray(array)
        kind = dtype or from_numpy(array.dtype)
        value = Value(self.unique(name), TensorType(kind, tuple(array.shape)))
        self.nodes.append(Node("constant", (), (value,), {"value": array}, source))
        return value

    def add(
        self, op: str, *operands: Value, name: str = "", source: str = "", **attributes: Attribute
    ) -> Value:
        """Append a node with one result and return that result."""
        return self.add_node(op, operands, attributes, (name or op,), source)[0]

    def add_node(
        self,
        op: str,
        operands: Sequence[Value],
        attributes: Mapping[str, Attribute],
        names: Sequence[str] = (),
        source: str = "",
    ) -> tuple[Value, ...]:
        """Append a node; result types come from the operator table."""
        from ranvier.ir.operators import infer

        types = infer(op, operands, attributes, source)
        hints = [
            names[i] if i < len(names) else f"{names[0] if names else op}_{i}"
            for i in range(len(types))
        ]
        results = tuple(
            Value(self.unique(hint), type) for hint, type in zip(hints, types, strict=True)
        )
        self.nodes.append(Node(op, tuple(operands), results, dict(attributes), source))
        return results

    def finish(
        self,
        outputs: Sequence[Value],
        output_names: Sequence[str] = (),
        input_tree: object = None,
        output_tree: object = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Graph:
        """The graph; outputs are called like their values unless names are given."""
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(outputs),
            tuple(self.nodes),
            tuple(output_names) or _different([value.name for value in outputs]),
            input_tree,
            output_tree,
            metadata or {},
        )


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """`names`, numbered where they repeat."""
    taken: set[str] = set()
    found = []
    for name in names:
        new, count = name, 1
        while new in taken:
            new, count = f"{name}_{count}", count + 1
        taken.add(new)
        found.append(new)
    return tuple(found)
