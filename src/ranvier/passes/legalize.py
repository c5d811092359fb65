"""Rewrites operators that no kernel computes as others that one does; runs after all fusion.

Transposed convolutions become convolutions (`subpixel.py`), resampling becomes gathers and weighted
sums (`resampling.py`), attention that the attention kernel does not take becomes matrix products,
long running sums are cut into blocks (`prefix_sums.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dtype import BF16, F32
from ranvier.ir.graph import Graph, Value
from ranvier.passes.decompose import attention
from ranvier.passes.prefix_sums import cumsum
from ranvier.passes.resampling import resize
from ranvier.passes.rewrite import Match, Table, rewrite
from ranvier.passes.subpixel import conv_transpose


@dataclass(frozen=True)
class Legalize:
    """Leaves operators that lowering has kernels or rules for."""

    name: str = "legalize"

    def __call__(self, graph: Graph) -> Graph:
        """The same graph in operators that can be lowered."""
        return rewrite(graph, LEGALIZATIONS)


def _attention_without_kernel(m: Match) -> Value | None:
    """The kernel computes f32 and bf16 with head sizes that are known."""
    queries, _, values = m.node.operands[:3]
    is_known = isinstance(queries.shape[-1], int) and isinstance(values.shape[-1], int)
    if queries.dtype in (F32, BF16) and is_known:
        return None
    return attention(m)


LEGALIZATIONS: Table = (
    ("conv_transpose", conv_transpose),
    ("resize", resize),
    ("attention", _attention_without_kernel),
    ("cumsum", cumsum),
)
