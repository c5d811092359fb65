"""What all convolutions share: an input whose channels are adjacent, and the bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir.dim import Dim
from ranvier.ir.graph import Node, Value
from ranvier.lowering.contract import DEPTH, plain_access, without_depth
from ranvier.lowering.expression import Expression
from ranvier.lowering.inline import Inliner
from ranvier.lowering.program import Tensor
from ranvier.lowering.scope import KernelScope, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


def channels_last_image(
    lowering: Lowering, x: Value, indices: tuple[Dim, ...]
) -> tuple[Tensor, Dim]:
    """(tensor, element offset at channel 0) of an image whose channels are adjacent.

    Copies `x` if its channels are not. `indices` has the channel as variable DEPTH.
    """
    found = plain_access(lowering, x, indices)
    if found is not None:
        offset = without_depth(found[1], DEPTH, x.shape[1])
        if offset is not None:
            return found[0], offset
    lowering.channels_last.add(x)
    if x in lowering.tensors:
        order = (0, *range(2, x.rank), 1)
        tensor = lowering.temporary(x.type, order)
        lowering.write_nest(x, tensor)
        lowering.tensors[x] = tensor
    tensor = lowering.materialize(x)
    offset = without_depth(linear_offset(indices, tensor.strides), DEPTH, x.shape[1])
    assert offset is not None, f"{x} is not channels last"
    return tensor, offset


def bias_term(
    lowering: Lowering, root: Node, scope: KernelScope, channel: Dim
) -> Expression | None:
    """The bias of output channel `channel` of a convolution that has one."""
    if len(root.operands) < 3:
        return None
    return Inliner(lowering, scope, loops=False).element(root.operands[2], (channel,))
