"""The values that a graph or function body knows by name."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import TensorProto

from ranvier.frontends.onnx.frame import Frame
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.value_list import ValueList
from ranvier.ir.graph import Value


class Missing:
    """Stands for a result of a node that could not be translated."""


MISSING = Missing()
Entry = Value | ValueList | TensorProto | Missing
"""A tensor is an initializer that nothing has read yet."""


class Scope:
    """Names of one body; a subgraph also sees those of the body around it.

    `frame` is the graph to which the values of the names belong.
    """

    def __init__(self, frame: Frame, outer: Scope | None = None) -> None:
        self.frame = frame
        self._outer = outer
        self._entries: dict[str, Entry] = {}

    def find(self, name: str) -> tuple[Scope, Entry]:
        """The innermost scope that knows a name, and what it has; Refusal for an unknown name."""
        if name in self._entries:
            return self, self._entries[name]
        if self._outer is None:
            raise Refusal(f"reads {name}, which nothing computes")
        return self._outer.find(name)

    def set(self, name: str, entry: Entry) -> None:
        """Give a name its value; the empty name is nobody's."""
        if name:
            self._entries[name] = entry

    def declare(self, tensors: Iterable[TensorProto]) -> None:
        """Make initializers known."""
        for tensor in tensors:
            self.set(tensor.name, tensor)
