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
from ranvier.ir.dtype import F32, Array, decode
from ranvier.ir.graph import Node, TensorType, Value
from ranvier.lowering.canonical import Renaming
from ranvier.lowering.contract import DEPTH, plain_access, without_depth
from ranvier.lowering.epilogue import Epilogue
from ranvier.lowering.expression import Expression, Guard, Loop
from ranvier.lowering.inline import Inliner
from ranvier.lowering.kernels import depthwise
from ranvier.lowering.kernels.contraction import BATCH, COLUMN, TAP
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.lowering.nests import in_place_pairs, moved_bytes, operation_count
from ranvier.lowering.packing import pack
from ranvier.lowering.products import (
    Extents,
    Operands,
    Product,
    accumulator_plus,
    add_contraction,
    column_variable,
    flatten_dim,
    inline_chain,
)
from ranvier.lowering.program import Step, Tensor
from ranvier.lowering.scope import KernelScope, flatten, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

FEW_CHANNELS = 8  # below this a kernel row, not a pixel, is the depth


def lower_conv(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    """Choose the kernel by geometry: depthwise, or a contraction per group."""
    if _is_depthwise(root):
        _lower_depthwise(lowering, root, epilogue)
    elif _has_few_channels(root):
        _lower_by_kernel_rows(lowering, root, epilogue)
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
        accumulator_plus(_bias(lowering, root, scope, extents.column)), scope,
    )  # fmt: skip


def _bias(lowering: Lowering, root: Node, scope: KernelScope, channel: Dim) -> Expression | None:
    if len(root.operands) < 3:
        return None
    return Inliner(lowering, scope).element(root.operands[2], (channel,))


# Depthwise ----------------------------------------------------------------------------------------
def _lower_depthwise(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    x, weight = root.operands[:2]
    strides, padding, dilations, channels = _geometry(root)
    kernel = tuple(dims.static(size) for size in weight.shape[2:])
    is_1d = len(kernel) == 1
    names = (
        (depthwise.IMAGE, depthwise.COLUMN)
        if is_1d
        else (depthwise.IMAGE, depthwise.ROW, depthwise.COLUMN)
    )
    scope = KernelScope()
    scope.bound |= {DEPTH, depthwise.IMAGE, depthwise.ROW, depthwise.COLUMN, depthwise.CHANNEL}
    probe = tuple(dims.symbol(name) for name in names)
    tensor, offset = channels_last_image(lowering, x, (probe[0], dims.symbol(DEPTH), *probe[1:]))
    input_strides, rest = _strides_of(lowering, x, tensor, offset, names)
    result = root.result.shape
    variables = tuple(
        Loop(name, size).variable
        for name, size in zip(names, (result[0], *result[2:]), strict=True)
    )
    channel = dims.symbol(depthwise.CHANNEL, 0, channels - 1)
    indices = (variables[0], channel, *variables[1:])
    inliner = Inliner(lowering, scope)
    number = scope.operand(tensor)
    sum_ = accumulator_plus(_bias(lowering, root, scope, channel))
    inliner.pending[root.result] = sum_
    out = lowering.allocate(epilogue.end)
    expression = inline_chain(inliner, epilogue, indices, sum_)

    def packed() -> Array:
        array = lowering.constant(weight)
        assert array is not None
        filters = (
            decode(array, weight.dtype)
            .astype(np.float32)
            .reshape(channels, *((1,) if is_1d else ()), *kernel)
        )
        return depthwise.pack_weights(filters.transpose(1, 2, 0))

    b = lowering.weight_from(packed, F32, ("depthwise", weight))
    weights = scope.operand(b)
    store = Store(
        scope.operand(out, written=True), linear_offset(indices, out.strides), out.dtype, expression
    )
    renaming = Renaming(frozenset(scope.bound))
    pad = tuple(p[0] for p in padding)
    two = (1, 1) if is_1d else ()
    out_width = result[-1]
    kernel_description = depthwise.Depthwise(
        batch=renaming.dim(result[0]),
        in_height=1 if is_1d else renaming.dim(x.shape[2]),
        in_width=renaming.dim(x.shape[-1]),
        out_height=1 if is_1d else renaming.dim(result[2]),
        out_width=renaming.dim(out_width),
        channels=channels,
        kernel=(*two[:1], *kernel),
        strides=(*two[:1], *strides),
        dilations=(*two[:1], *dilations),
        padding=(*((0,) if is_1d else ()), *pad),
        input_operand=number,
        input_dtype=tensor.dtype,
        input_offset=renaming.dim(rest),
        input_strides=(
            renaming.dim(input_strides[0]),
            renaming.dim(input_strides[1]),
            renaming.dim(input_strides[2]),
        ),
        weight_operand=weights,
        stores=(renaming.store(store),),
        operand_count=len(scope.tensors),
        scalars=renaming.names,
        tile=depthwise.preferred_tile(out_width if isinstance(out_width, int) else None),
    )
    outputs = dims.product(result)
    lowering.add_step(
        Step(
            kernel_description,
            scope.arguments(),
            renaming.values,
            scope.reads(),
            scope.writes(),
            epilogue.end.name,
            root.source,
            (root.op, *(n.op for n in epilogue.nodes)),
            outputs * (2 * int(np.prod(kernel))) + outputs * operation_count(expression),
            moved_bytes(scope),
            tuple(
                p
                for p in in_place_pairs(lowering, scope, out, store.offset, expression)
                if p[1] != tensor.buffer
            ),
            out,
        )
    )
    lowering.tensors[epilogue.end] = out


def _strides_of(
    lowering: Lowering, x: Value, tensor: Tensor, offset: Dim, names: tuple[str, ...]
) -> tuple[tuple[Dim, Dim, Dim], Dim]:
    """(image, row, column) strides and the constant rest of an offset.

    Copies nothing, so the offset must be linear in `names`.
    """
    strides: list[Dim] = []
    rest = offset
    for name in names:
        linear = dims.linear_in(rest, name)
        if linear is None:
            tensor = lowering.temporary(x.type, (0, *range(2, x.rank), 1))
            raise AssertionError(
                f"depthwise input {x} is not linear in its pixels: {offset} in {tensor}"
            )
        strides.append(linear[0])
        rest = linear[1]
    if len(strides) == 2:
        strides.insert(1, 0)
    return (strides[0], strides[1], strides[2]), rest
