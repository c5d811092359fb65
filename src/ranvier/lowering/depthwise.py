"""Depthwise convolutions -> depthwise steps. Layers that differ in size only share one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F32, U32, Array, decode
from ranvier.ir.graph import Node, Value
from ranvier.lowering.channels_last import bias_term, channels_last_image
from ranvier.lowering.contract import DEPTH
from ranvier.lowering.epilogue import Epilogue
from ranvier.lowering.expression import Expression, Loop, relaxed
from ranvier.lowering.inline import Inliner
from ranvier.lowering.kernels.depthwise import (
    CHANNEL,
    CHANNEL_UNIT,
    COLUMN,
    IMAGE,
    ROW,
    Depthwise,
    pack_weights,
    preferred_tile,
    uses_pairs,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.nests import in_place_pairs, moved_bytes, operation_count
from ranvier.lowering.products import AbstractRenaming, accumulator_plus, inline_chain
from ranvier.lowering.program import Step, Tensor
from ranvier.lowering.scope import KernelScope, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


def lower_depthwise(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    """Append the step of a convolution with one filter per channel, over one or two dims."""
    x, result = root.operands[0], root.result.shape
    names = (IMAGE, COLUMN) if x.rank == 3 else (IMAGE, ROW, COLUMN)
    scope = KernelScope()
    scope.bound |= {DEPTH, IMAGE, ROW, COLUMN, CHANNEL}
    probe = tuple(dims.symbol(name) for name in names)
    tensor, offset = channels_last_image(lowering, x, (probe[0], dims.symbol(DEPTH), *probe[1:]))
    input_strides, start = _strides_of(x, offset, names)
    channels = dims.static(result[1])
    sizes = zip(names, (result[0], *result[2:]), strict=True)
    image, *pixel = (Loop(name, size).variable for name, size in sizes)
    channel = dims.symbol(CHANNEL, 0, channels - 1)
    indices = (image, channel, *pixel)
    number = scope.operand(tensor)
    out, store = _store(lowering, root, epilogue, scope, indices)
    weights = scope.operand(_packed_weights(lowering, root, channels))
    renaming = AbstractRenaming(frozenset(scope.bound))
    kernel, strides, dilations, low, high = _geometry(root)
    height, out_height = (1, 1) if x.rank == 3 else (x.shape[2], result[2])
    described = Depthwise(
        batch=renaming.dim(result[0]),
        in_height=renaming.dim(height),
        in_width=renaming.dim(x.shape[-1]),
        out_height=renaming.dim(out_height),
        out_width=renaming.dim(result[-1]),
        channels=_channels(renaming, channels),
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        padding=low,
        right_padding=high[1],
        input_operand=number,
        input_dtype=tensor.dtype,
        input_offset=renaming.dim(start),
        input_strides=(
            renaming.number(input_strides[0]),
            renaming.number(input_strides[1]),
            renaming.number(input_strides[2]),
        ),
        weight_operand=weights,
        stores=(renaming.store(store),),
        operand_count=len(scope.tensors),
        scalars=renaming.names,
        tile=preferred_tile(kernel[1], uses_pairs(tensor.dtype, lowering.target.has_bf16_dot)),
    )
    in_place = in_place_pairs(lowering, scope, out, store.offset, store.value)
    operations = 2 * kernel[0] * kernel[1] + operation_count(store.value)
    lowering.add_step(
        Step(
            described,
            scope.arguments(),
            renaming.values,
            scope.reads(),
            scope.writes(),
            epilogue.end.name,
            root.source,
            (root.op, *(n.op for n in epilogue.nodes)),
            dims.product(result) * operations,
            moved_bytes(scope),
            tuple(pair for pair in in_place if pair[1] != tensor.buffer),
            out,
        )
    )
    lowering.tensors[epilogue.end] = out


def _channels(renaming: AbstractRenaming, channels: int) -> Dim:
    """The number of channels as a scalar argument with a static remainder."""
    whole, rest = divmod(channels, CHANNEL_UNIT)
    return renaming.number(whole) * CHANNEL_UNIT + rest if whole else rest


Pair = tuple[int, int]


def _geometry(root: Node) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    """(kernel, strides, dilations, padding before, padding behind), each (vertical, horizontal)."""

    def pair(values: tuple[int, ...], missing: int) -> Pair:
        return (missing, values[0]) if len(values) == 1 else (values[0], values[1])

    padding = root.attribute("padding")
    return (
        pair(tuple(dims.static(size) for size in root.operands[1].shape[2:]), 1),
        pair(tuple(root.attribute("strides")), 1),
        pair(tuple(root.attribute("dilations")), 1),
        pair(tuple(before for before, _ in padding), 0),
        pair(tuple(behind for _, behind in padding), 0),
    )


def _store(
    lowering: Lowering,
    root: Node,
    epilogue: Epilogue,
    scope: KernelScope,
    indices: tuple[Dim, ...],
) -> tuple[Tensor, Store]:
    """Where the end of the epilogue is stored, and the store."""
    inliner = Inliner(lowering, scope, loops=False)
    sum_: Expression = accumulator_plus(bias_term(lowering, root, scope, indices[1]))
    inliner.pending[root.result] = sum_
    out = lowering.allocate(epilogue.end)
    value = relaxed(inline_chain(inliner, epilogue, indices, sum_), out.dtype)
    number = scope.operand(out, written=True)
    return out, Store(number, linear_offset(indices, out.strides), out.dtype, value)


def _packed_weights(lowering: Lowering, root: Node, channels: int) -> Tensor:
    weight = root.operands[1]
    pairs = uses_pairs(root.operands[0].dtype, lowering.target.has_bf16_dot)

    def packed() -> Array:
        array = lowering.constant(weight)
        assert array is not None
        filters = decode(array, weight.dtype).astype(np.float32)
        filters = filters.reshape(channels, *_geometry(root)[0])
        return pack_weights(filters.transpose(1, 2, 0), pairs)

    return lowering.weight_from(packed, U32 if pairs else F32, ("depthwise", weight, pairs))


def _strides_of(x: Value, offset: Dim, names: tuple[str, ...]) -> tuple[tuple[Dim, Dim, Dim], Dim]:
    """(image, row, column) strides and the constant rest of an offset that is linear in `names`."""
    strides: list[Dim] = []
    rest = offset
    for name in names:
        linear = dims.linear_in(rest, name)
        assert linear is not None, f"depthwise input {x} is not linear in its pixels: {offset}"
        strides.append(linear[0])
        rest = linear[1]
    if len(strides) == 2:
        strides.insert(1, 0)
    return (strides[0], strides[1], strides[2]), rest
