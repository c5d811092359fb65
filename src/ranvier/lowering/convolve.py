"""Convolutions -> contraction or depthwise steps.

With channels last, a row of the contraction is one output pixel: for each kernel position (tap) the
input channels of one input pixel lie side by side. Pixels outside the image read zeros (guards).
When there are very few input channels a whole kernel row becomes the depth: the input is copied
once into a zero-padded image, so `kernel width x channels` lie side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import Array
from ranvier.ir.graph import Node, TensorType, Value
from ranvier.lowering.channels_last import bias_term, channels_last_image
from ranvier.lowering.contract import DEPTH
from ranvier.lowering.depthwise import lower_depthwise
from ranvier.lowering.epilogue import Epilogue
from ranvier.lowering.expression import Guard, Loop
from ranvier.lowering.kernels.contraction import BATCH, COLUMN, TAP
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.lowering.packing import pack
from ranvier.lowering.products import (
    Extents,
    Operands,
    Product,
    accumulator_plus,
    add_contraction,
    column_variable,
    flatten_dim,
)
from ranvier.lowering.scope import KernelScope, flatten, linear_offset
from ranvier.lowering.winograd import choose_tile, lower_winograd

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

FEW_CHANNELS = 8  # below this a kernel row, not a pixel, is the depth


def lower_conv(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    """Choose the kernel by geometry: depthwise, Winograd, or a contraction per group."""
    tile = choose_tile(lowering, root, epilogue)
    if _is_depthwise(root):
        lower_depthwise(lowering, root, epilogue)
    elif _has_few_channels(root):
        _lower_by_kernel_rows(lowering, root, epilogue)
    elif tile is not None:
        lower_winograd(lowering, root, epilogue, tile)
    else:
        _lower_by_pixels(lowering, root, epilogue)


def _geometry(
    root: Node,
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...], int]:
    strides, padding, dilations = (
        tuple(root.attribute(k)) for k in ("strides", "padding", "dilations")
    )
    return strides, padding, dilations, root.attribute("groups")


def _is_depthwise(root: Node) -> bool:
    weight = root.operands[1]
    groups = _geometry(root)[3]
    return (
        groups == weight.shape[0] and weight.shape[1] == 1 and groups > 1 and weight.rank in (3, 4)
    )


def _has_few_channels(root: Node) -> bool:
    weight, (_, _, dilations, groups) = root.operands[1], _geometry(root)
    channels, width = map(dims.static, (weight.shape[1], weight.shape[-1]))
    return groups == 1 and channels < FEW_CHANNELS and width > 1 and dilations[-1] == 1


def _lower_by_pixels(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    x, weight = root.operands[:2]
    strides, padding, dilations, groups = _geometry(root)
    kernel = tuple(dims.static(size) for size in weight.shape[2:])
    depth, columns = dims.static(weight.shape[1]), dims.static(weight.shape[0]) // groups
    scope, rows = _scope(root)
    taps = tuple(scope.loop(size) for size in kernel)
    spatial = [
        rows[1 + a].variable * strides[a] + taps[a].variable * dilations[a] - padding[a][0]
        for a in range(len(kernel))
    ]
    batch = dims.symbol(BATCH, 0, groups - 1) if groups > 1 else 0
    channel = dims.symbol(DEPTH, 0, depth - 1)
    first = batch * depth
    tensor, offset = channels_last_image(lowering, x, (rows[0].variable, channel, *spatial))
    offset = offset + first
    product = Product(
        groups, dims.product(loop.extent for loop in rows), columns, int(np.prod(kernel)), depth
    )
    extents = Extents((), rows, batch * columns + column_variable(columns), 1, root.result.shape)
    tap = dims.symbol(TAP, 0, product.taps - 1)
    guards = tuple(
        Guard(_flat(index, taps, tap, extents, product), size)
        for index, size, (low, high) in zip(spatial, x.shape[2:], padding, strict=True)
        if low or high
    )
    row = _flat(offset, taps, tap, extents, product)
    layout = PanelLayout(columns, depth, product.taps, x.dtype, lowering.target.lanes)

    def packed() -> Array:
        array = lowering.constant(weight)
        assert array is not None
        grouped = array.reshape(groups, columns, depth, -1)
        return pack(grouped.transpose(0, 3, 2, 1), layout)

    b = lowering.weight_from(packed, x.dtype, ("conv", weight, layout, groups))
    operands = Operands(tensor, row, guards, b, layout.size if groups > 1 else 0)
    _finish(lowering, root, epilogue, product, operands, extents, scope)


def _lower_by_kernel_rows(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    x, weight = root.operands[:2]
    strides, padding, dilations, _ = _geometry(root)
    kernel = tuple(dims.static(size) for size in weight.shape[2:])
    channels, columns = dims.static(weight.shape[1]), dims.static(weight.shape[0])
    image = _padded_image(lowering, x, padding, root.source)
    scope, rows = _scope(root)
    taps = tuple(scope.loop(size) for size in kernel[:-1])
    spatial = [rows[1 + a].variable * strides[a] for a in range(len(kernel))]
    for axis, loop in enumerate(taps):
        spatial[axis] = spatial[axis] + loop.variable * dilations[axis]
    tensor = lowering.tensors[image]
    offset = linear_offset((rows[0].variable, 0, *spatial), tensor.strides)
    depth = kernel[-1] * channels
    product = Product(
        1,
        dims.product(loop.extent for loop in rows),
        columns,
        int(np.prod(kernel[:-1], dtype=int)),
        depth,
    )
    extents = Extents((), rows, column_variable(columns), 1, root.result.shape)
    tap = dims.symbol(TAP, 0, product.taps - 1)
    row = _flat(offset, taps, tap, extents, product)
    layout = PanelLayout(columns, depth, product.taps, x.dtype, lowering.target.lanes)

    def packed() -> Array:
        array = lowering.constant(weight)
        assert array is not None
        by_row = array.reshape(columns, channels, -1, kernel[-1])
        return pack(by_row.transpose(2, 3, 1, 0).reshape(-1, depth, columns), layout)

    b = lowering.weight_from(packed, x.dtype, ("conv rows", weight, layout))
    operands = Operands(tensor, row, (), b, 0)
    _finish(lowering, root, epilogue, product, operands, extents, scope)


def _padded_image(
    lowering: Lowering, x: Value, padding: tuple[tuple[int, int], ...], source: str
) -> Value:
    """`x` channels last with its zero padding around it, once for all convolutions that read it."""
    key = (x, padding)
    if key not in lowering.padded:
        low = (0, 0, *(p[0] for p in padding))
        high = (0, 0, *(p[1] for p in padding))
        shape = tuple(size + a + b for size, a, b in zip(x.shape, low, high, strict=True))
        image = Value(f"{x.name}.padded", TensorType(x.dtype, shape))
        attributes = {"low": low, "high": high, "mode": "constant", "value": 0.0}
        lowering.add_node(Node("pad", (x,), (image,), attributes, source))
        lowering.channels_last.add(image)
        lowering.materialize(image)
        lowering.padded[key] = image
    return lowering.padded[key]


def _scope(root: Node) -> tuple[KernelScope, tuple[Loop, ...]]:
    """A scope with loops over the result's images and pixels."""
    scope = KernelScope()
    scope.bound |= {COLUMN, DEPTH, BATCH, TAP}
    shape = root.result.shape
    return scope, tuple(scope.loop(size) for size in (shape[0], *shape[2:]))


def _flat(dim: Dim, taps: tuple[Loop, ...], tap: Dim, extents: Extents, product: Product) -> Dim:
    return flatten_dim(flatten(dim, taps, tap) if taps else dim, extents, product)


def _finish(
    lowering: Lowering,
    root: Node,
    epilogue: Epilogue,
    product: Product,
    operands: Operands,
    extents: Extents,
    scope: KernelScope,
) -> None:
    scope.operand(operands.a)
    add_contraction(
        lowering, root, epilogue, product, operands, extents,
        accumulator_plus(bias_term(lowering, root, scope, extents.column)), scope,
    )  # fmt: skip
