"""A graph under construction: the model's own, or one inside a node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ranvier.frontends.onnx.contents import Contents
from ranvier.ir.graph import Graph, GraphBuilder, Value
from ranvier.ir.liveness import without_dead_nodes


@dataclass(eq=False)
class Frame:
    """Where nodes are appended, what is known of their results, and what comes from around."""

    builder: GraphBuilder
    contents: Contents = field(default_factory=Contents)
    outer: Frame | None = None
    captured: dict[Value, Value] = field(default_factory=dict)
    """Values of the graph around -> the inputs that stand for them."""

    def capture(self, value: Value, owner: Frame) -> Value:
        """What stands here for a value of this graph or of one around it."""
        if owner is self:
            return value
        assert self.outer is not None
        seen = self.outer.capture(value, owner)
        if seen not in self.captured:
            inside = self.builder.input(value.name, value.type)
            self.contents.copy(seen, self.outer.contents, inside)
            self.captured[seen] = inside
        return self.captured[seen]

    def finish(self, outputs: tuple[Value, ...], captured: tuple[Value, ...]) -> Graph:
        """The graph, with inputs for `captured` behind those that were made for its own sake."""
        assert self.outer is not None
        for value in captured:
            self.capture(value, self.outer)
        taken = set(self.captured.values())
        own = [value for value in self.builder.inputs if value not in taken]
        inputs = (*own, *(self.captured[value] for value in captured))
        return without_dead_nodes(replace(self.builder.finish(outputs), inputs=inputs))
