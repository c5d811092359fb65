"""Graphs as text. `parser.parse` reads the same form back.

text      := block+          -- the graph, then those inside its nodes, to which nodes refer by name
block     := "graph" string "{" line* "}"
line      := "symbol" name int ".." (dim | "*")
           | "input" value | "output" string "=" reference
           | "input_tree" json | "output_tree" json
           | value ("," value)* "=" op "(" references ")" [attributes] ["@" string]
references:= [reference ("," reference)*]
value     := reference ":" dtype "[" [dim ("," dim)*] "]"
reference := "%" (word | string)
attributes:= "{" name "=" attribute ("," name "=" attribute)* "}"
attribute := int | float | true | false | none | string | dtype | "<" dim ">" | tensor | tuple
           | "graph" string
tuple     := "(" [attribute ("," attribute)* [","]] ")"
tensor    := "tensor" "[" [number ("," number)*] "]" | "tensor" "#" digest

A tensor's shape and element type are those of the node's result. Larger tensors are given by the
first 16 hexadecimal digits of the SHA-256 of their bytes; their values are kept out of line.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, MutableMapping

import numpy as np

from ranvier.ir.definitions import all_graphs
from ranvier.ir.dim import Polynomial, Symbol, symbols
from ranvier.ir.dtype import BOOL, Array, DType, decode
from ranvier.ir.graph import Attribute, Graph, Node, Value

INLINE_ELEMENTS = 16
_WORD = re.compile(r"[\w.\-/]+")


def format_graph(
    graph: Graph,
    tensors: MutableMapping[str, Array] | None = None,
    inline_elements: int = INLINE_ELEMENTS,
) -> str:
    """The text of a graph; `tensors` collects the constants that are not inline, by digest.

    Graphs inside nodes follow as blocks of their own; raises ValueError when two have one name.
    """
    blocks: dict[str, Graph] = {}
    for each in all_graphs(graph):
        if blocks.setdefault(each.name, each) is not each:
            raise ValueError(f"two graphs are called {each.name!r}")
    return "".join(_format_block(each, tensors, inline_elements) for each in blocks.values())


def _format_block(
    graph: Graph, tensors: MutableMapping[str, Array] | None, inline_elements: int
) -> str:
    lines = [f"graph {json.dumps(graph.name)} {{"]
    lines += [f"  {_format_symbol(symbol)}" for symbol in graph_symbols(graph).values()]
    lines += [f"  input {format_value(value)}" for value in graph.inputs]
    lines += [f"  {format_node(node, tensors, inline_elements)}" for node in graph.nodes]
    names = graph.output_names or [value.name for value in graph.outputs]
    for name, value in zip(names, graph.outputs, strict=True):
        lines.append(f"  output {json.dumps(name)} = {_reference(value)}")
    for label, tree in (("input_tree", graph.input_tree), ("output_tree", graph.output_tree)):
        if tree is not None:
            lines.append(f"  {label} {json.dumps(tree)}")
    return "\n".join([*lines, "}"]) + "\n"


def format_node(
    node: Node,
    tensors: MutableMapping[str, Array] | None = None,
    inline_elements: int = INLINE_ELEMENTS,
) -> str:
    """One line: `%y: f32[n] = relu(%x) @ "model.py:3"`."""
    results = ", ".join(map(format_value, node.results))
    operands = ", ".join(map(_reference, node.operands))
    written = []
    for name, value in node.attributes.items():
        if isinstance(value, np.ndarray):
            dtype = node.results[0].dtype
            written.append(f"{name}={_format_tensor(value, dtype, tensors, inline_elements)}")
        else:
            written.append(f"{name}={format_attribute(value)}")
    attributes = f" {{{', '.join(written)}}}" if written else ""
    source = f" @ {json.dumps(node.source)}" if node.source else ""
    return f"{results} = {node.op}({operands}){attributes}{source}"


def format_value(value: Value) -> str:
    """`%name: dtype[dims]`."""
    return f"{_reference(value)}: {value.type}"


def format_attribute(value: Attribute) -> str:
    """The text of any attribute but a tensor; raises TypeError for what the grammar has not."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, Polynomial):
        return f"<{value}>"
    if isinstance(value, Graph):
        return f"graph {json.dumps(value.name)}"
    if isinstance(value, (int, DType)):
        return str(value)
    if isinstance(value, tuple):
        entries = ", ".join(map(format_attribute, value))
        return f"({entries},)" if len(value) == 1 else f"({entries})"
    raise TypeError(f"{type(value).__name__} is not a kind of attribute")


def graph_symbols(graph: Graph) -> dict[str, Symbol]:
    """The symbols of every type and attribute in a graph, by name, in the order of appearance."""
    found: dict[str, Symbol] = {}
    for value in graph.inputs:
        _collect(value.shape, found)
    for node in graph.nodes:
        _collect(node.attributes.values(), found)
        for value in node.results:
            _collect(value.shape, found)
    return found


def tensor_digest(array: Array) -> str:
    """First 16 hexadecimal digits of the SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]


def _collect(entries: Iterable[object], found: dict[str, Symbol]) -> None:
    for entry in entries:
        if isinstance(entry, Polynomial):
            for name, symbol in symbols(entry).items():
                _collect([symbol.maximum], found)
                found.setdefault(name, symbol)
        elif isinstance(entry, tuple):
            _collect(entry, found)


def _format_symbol(symbol: Symbol) -> str:
    most = "*" if symbol.maximum is None else symbol.maximum
    return f"symbol {symbol.name} {symbol.minimum}..{most}"


def _reference(value: Value) -> str:
    plain = _WORD.fullmatch(value.name)
    return f"%{value.name}" if plain else f"%{json.dumps(value.name)}"


def _format_float(value: float) -> str:
    if math.isfinite(value):
        text = repr(value)
        return text if any(mark in text for mark in ".e") else f"{text}.0"
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _format_tensor(
    array: Array, dtype: DType, tensors: MutableMapping[str, Array] | None, inline_elements: int
) -> str:
    if array.size > inline_elements:
        digest = tensor_digest(array)
        if tensors is not None:
            tensors[digest] = array
        return f"tensor#{digest}"
    values = decode(array, dtype).reshape(-1)
    return f"tensor[{', '.join(_format_element(value, dtype) for value in values)}]"


def _format_element(value: np.generic, dtype: DType) -> str:
    if dtype == BOOL:
        return "true" if value else "false"
    return str(value)
