"""Passes over the graph: each is a frozen dataclass, called with a graph, returning a new one.

Valid graphs come in and go out. Values that stand for the same thing keep their name, so that a
compiled model can be compared with the user's model value by value.
"""

from typing import Protocol

from ranvier.ir.graph import Graph
from ranvier.passes.canonicalize import Canonicalize
from ranvier.passes.decompose import Decompose
from ranvier.passes.exact_products import ExactProducts
from ranvier.passes.fold_batch_norm import FoldBatchNorm
from ranvier.passes.fold_constants import FoldConstants
from ranvier.passes.legalize import Legalize
from ranvier.passes.precision import Precision

__all__ = [
    "Canonicalize",
    "Decompose",
    "ExactProducts",
    "FoldBatchNorm",
    "FoldConstants",
    "Legalize",
    "Pass",
    "Precision",
]


class Pass(Protocol):
    """A named function from graph to graph."""

    @property
    def name(self) -> str:
        """The pass as reports and messages call it."""

    def __call__(self, graph: Graph) -> Graph:
        """The rewritten graph."""
