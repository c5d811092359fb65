"""Brings a graph into the form that later passes and lowering look for."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.graph import Graph
from ranvier.passes.activation_rules import ACTIVATIONS, BOUNDS
from ranvier.passes.elementwise_rules import BROADCASTS, IDENTITIES
from ranvier.passes.flattened_rows import FLATTENED_ROWS
from ranvier.passes.gather_rules import GATHERS
from ranvier.passes.rewrite import rewrite
from ranvier.passes.view_rules import VIEWS


@dataclass(frozen=True)
class Canonicalize:
    """Cleans up: the graph means the same, and the passes after it have fewer forms to know.

    Drops identities, composes views and casts, makes numbers scalars, names activations that models
    spell out, merges equal nodes and removes dead ones.
    """

    name: str = "canonicalize"

    def __call__(self, graph: Graph) -> Graph:
        """The canonical graph."""
        return rewrite(
            graph, IDENTITIES, BROADCASTS, VIEWS, FLATTENED_ROWS, GATHERS, BOUNDS, ACTIVATIONS
        )
