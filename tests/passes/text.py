"""Text in, text out: passes as functions of the graph's text form."""

from __future__ import annotations

from ranvier.ir.parser import parse
from ranvier.ir.printer import format_graph
from ranvier.ir.verifier import verify
from ranvier.passes import Pass


def apply(text: str, *passes: Pass) -> str:
    """The text of the graph after `passes`, verified before and after each."""
    graph = verify(parse(text))
    for transform in passes:
        graph = verify(transform(graph), transform.name)
    return format_graph(graph, inline_elements=64)


def body(lines: str, output: str = "y") -> str:
    """A graph over a symbolic n with these lines; its output is `%y`."""
    return f'graph "f" {{\n symbol n 1..64\n{lines}\n output "out" = %{output}\n}}'


def nodes(text: str) -> list[str]:
    """The operators of a printed graph, constants left out."""
    found = [
        line.partition(" = ")[2].partition("(")[0] for line in text.splitlines() if "(" in line
    ]
    return [op for op in found if op and op != "constant"]
