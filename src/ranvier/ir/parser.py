"""Reads the text form of graphs; the grammar stands in `printer`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ranvier.errors import GraphError
from ranvier.ir.dim import Dim, maximum, minimum, symbol
from ranvier.ir.dtype import BOOL, BY_NAME, Array, DType, encode
from ranvier.ir.graph import Attribute, Graph, Node, TensorType, Value

T = TypeVar("T")

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")
    | (?P<reference>%(?:[\w.\-/]+|"(?:[^"\\]|\\.)*"))
    | (?P<number>(?:\d+\.(?!\.)\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d+))
    | (?P<digest>\#[0-9a-f]+)
    | (?P<name>[A-Za-z_][\w.]*::[A-Za-z_][\w.]*|[A-Za-z_]\w*)
    | (?P<mark>\.\.|//|[-+*%(){}\[\],:=@<>]))""",
    re.VERBOSE,
)
_WORDS: dict[str, Attribute] = {
    "none": None, "true": True, "false": False, "nan": float("nan"), "inf": float("inf"), **BY_NAME,
}  # fmt: skip


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


@dataclass
class _Line:
    """The tokens of one line and where it stands."""

    tokens: list[_Token]
    number: int
    position: int = 0

    def error(self, expected: str) -> GraphError:
        found = self.tokens[self.position].text if self.position < len(self.tokens) else "the end"
        return GraphError(f"line {self.number}: expected {expected}, found {found}")

    def peek(self, text: str) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position].text == text

    def accept(self, text: str) -> bool:
        if not self.peek(text):
            return False
        self.position += 1
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.error(repr(text))

    def take(self, kind: str) -> str:
        if self.position >= len(self.tokens) or self.tokens[self.position].kind != kind:
            raise self.error(f"a {kind}")
        self.position += 1
        return self.tokens[self.position - 1].text

    def kind(self) -> str:
        return self.tokens[self.position].kind if self.position < len(self.tokens) else "end"

    def end(self) -> None:
        if self.position < len(self.tokens):
            raise self.error("the end of the line")


@dataclass
class _Parser:
    tensors: Mapping[str, Array]
    graphs: Mapping[str, Graph]
    symbols: dict[str, Dim] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[tuple[str, Value]] = field(default_factory=list)
    trees: dict[str, object] = field(default_factory=dict)

    def statement(self, line: _Line) -> None:
        """One line between the braces."""
        if line.accept("symbol"):
            name, low = line.take("name"), int(line.take("number"))
            line.expect("..")
            high = None if line.accept("*") else self.dim(line)
            self.symbols[name] = symbol(name, low, high)
        elif line.accept("input"):
            self.inputs.append(self.value(line))
        elif line.accept("output"):
            name = json.loads(line.take("string"))
            line.expect("=")
            self.outputs.append((name, self.reference(line)))
        else:
            self.node(line)
        line.end()

    def node(self, line: _Line) -> None:
        names = [self.declaration(line)]
        while line.accept(","):
            names.append(self.declaration(line))
        line.expect("=")
        op = line.take("name")
        line.expect("(")
        operands = tuple(self.sequence(line, ")", self.reference))
        results = tuple(self.define(line, name, type) for name, type in names)
        pairs = self.sequence(line, "}", self.attribute) if line.accept("{") else []
        attributes = {
            name: value(results[0].type, line) if isinstance(value, _Tensor) else value
            for name, value in pairs
        }
        source = json.loads(line.take("string")) if line.accept("@") else ""
        self.nodes.append(Node(op, operands, results, attributes, source))

    def declaration(self, line: _Line) -> tuple[str, TensorType]:
        name = _unquoted(line.take("reference")[1:])
        line.expect(":")
        dtype = self.dtype(line)
        line.expect("[")
        return name, TensorType(dtype, tuple(self.sequence(line, "]", self.dim)))

    def define(self, line: _Line, name: str, type: TensorType) -> Value:
        if name in self.values:
            raise GraphError(f"line {line.number}: %{name} is defined twice")
        value = self.values[name] = Value(name, type)
        return value

    def value(self, line: _Line) -> Value:
        return self.define(line, *self.declaration(line))

    def reference(self, line: _Line) -> Value:
        name = _unquoted(line.take("reference")[1:])
        if name not in self.values:
            raise GraphError(f"line {line.number}: %{name} is read before it is defined")
        return self.values[name]

    def dtype(self, line: _Line) -> DType:
        name = line.take("name")
        if name not in BY_NAME:
            raise GraphError(f"line {line.number}: {name} is not an element type")
        return BY_NAME[name]

    def sequence(self, line: _Line, close: str, item: Callable[[_Line], T]) -> list[T]:
        """Items up to `close`, with a comma between them and perhaps after the last."""
        found: list[T] = []
        while not line.accept(close):
            found.append(item(line))
            if not line.peek(close):
                line.expect(",")
        return found

    def attribute(self, line: _Line) -> tuple[str, Attribute]:
        name = line.take("name")
        line.expect("=")
        return name, self.constant(line)

    def constant(self, line: _Line) -> Attribute:
        if line.accept("("):
            return tuple(self.sequence(line, ")", self.constant))
        if line.accept("<"):
            dim = self.dim(line)
            line.expect(">")
            return dim
        if line.kind() == "string":
            text: str = json.loads(line.take("string"))
            return text
        if line.accept("tensor"):
            return self.tensor(line)
        if line.accept("graph"):
            return self.graph(line)
        return self.scalar(line)

    def scalar(self, line: _Line) -> Attribute:
        sign = -1 if line.accept("-") else 1
        if line.kind() == "number":
            text = line.take("number")
            return sign * (float(text) if any(mark in text for mark in ".e") else int(text))
        name = line.take("name")
        if name not in _WORDS:
            raise GraphError(f"line {line.number}: {name} is not an attribute")
        word = _WORDS[name]
        return -word if sign < 0 and isinstance(word, float) else word

    def graph(self, line: _Line) -> Graph:
        name = json.loads(line.take("string"))
        if name not in self.graphs:
            raise GraphError(f"line {line.number}: no block after this one is graph {name!r}")
        return self.graphs[name]

    def tensor(self, line: _Line) -> _Tensor:
        if line.kind() == "digest":
            digest = line.take("digest")[1:]
            if digest not in self.tensors:
                raise GraphError(f"line {line.number}: no tensor #{digest} was given")
            return _Tensor(stored=self.tensors[digest])
        line.expect("[")
        return _Tensor(values=tuple(self.sequence(line, "]", self.scalar)))

    def dim(self, line: _Line) -> Dim:
        total = self.product(line)
        while line.peek("+") or line.peek("-"):
            if line.accept("+"):
                total = total + self.product(line)
            else:
                line.expect("-")
                total = total - self.product(line)
        return total

    def product(self, line: _Line) -> Dim:
        total = self.atom(line)
        while True:
            if line.accept("*"):
                total = total * self.atom(line)
            elif line.accept("//"):
                total = total // self.atom(line)
            elif line.accept("%"):
                total = total % self.atom(line)
            else:
                return total

    def atom(self, line: _Line) -> Dim:
        if line.accept("-"):
            return self.atom(line) * -1
        if line.accept("("):
            dim = self.dim(line)
            line.expect(")")
            return dim
        if line.kind() == "number":
            return int(line.take("number"))
        name = line.take("name")
        if name in ("min", "max") and line.accept("("):
            left, right = self.sequence(line, ")", self.dim)
            return minimum(left, right) if name == "min" else maximum(left, right)
        if name not in self.symbols:
            raise GraphError(f"line {line.number}: the symbol {name} is not declared")
        return self.symbols[name]


@dataclass(frozen=True)
class _Tensor:
    """A tensor attribute before its node's result type is known."""

    values: tuple[Attribute, ...] = ()
    stored: Array | None = None

    def __call__(self, type: TensorType, line: _Line) -> Array:
        shape = tuple(dim for dim in type.shape if isinstance(dim, int))
        if self.stored is not None:
            return self.stored
        if len(shape) != type.rank or int(np.prod(shape)) != len(self.values):
            count = len(self.values)
            raise GraphError(f"line {line.number}: {count} elements do not make a {type}")
        wide = type.dtype.is_float or type.dtype.is_narrow
        kind = np.float64 if wide else np.bool_ if type.dtype == BOOL else type.dtype.storage
        return encode(np.array(self.values, dtype=kind).reshape(shape), type.dtype)


def parse(text: str, tensors: Mapping[str, Array] | None = None) -> Graph:
    """The graph that `printer.format_graph` wrote; `tensors` holds constants by digest.

    Raises GraphError with the line number for malformed text. Run the verifier on the result when
    the text is not known to be valid.
    """
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    ends = [position + 1 for position, (_, line) in enumerate(lines) if line == "}"]
    if not ends or ends[-1] != len(lines):
        raise GraphError('a graph is written as graph "name" { ... }')
    graphs: dict[str, Graph] = {}
    for first, end in reversed(list(zip([0, *ends], ends, strict=False))):  # inner graphs first
        graph = _block(lines[first:end], tensors or {}, graphs)
        if graphs.setdefault(graph.name, graph) is not graph:
            raise GraphError(f"line {lines[first][0]}: two graphs are called {graph.name!r}")
    return graph


def _block(
    lines: Sequence[tuple[int, str]], tensors: Mapping[str, Array], graphs: Mapping[str, Graph]
) -> Graph:
    head = _line(*lines[0])
    head.expect("graph")
    name = json.loads(head.take("string"))
    head.expect("{")
    head.end()
    parser = _Parser(tensors, graphs)
    for number, line in lines[1:-1]:
        label, _, rest = line.partition(" ")
        if label in ("input_tree", "output_tree"):
            parser.trees[label] = json.loads(rest)
        else:
            parser.statement(_line(number, line))
    return Graph(
        name,
        tuple(parser.inputs),
        tuple(value for _, value in parser.outputs),
        tuple(parser.nodes),
        tuple(label for label, _ in parser.outputs),
        parser.trees.get("input_tree"),
        parser.trees.get("output_tree"),
    )


def _line(number: int, text: str) -> _Line:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise GraphError(f"line {number}: cannot read {text[position:].strip()!r}")
        assert found.lastgroup is not None
        tokens.append(_Token(found.lastgroup, found[found.lastgroup]))
        position = found.end()
    return _Line(tokens, number)


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    name: str = json.loads(text)
    return name
