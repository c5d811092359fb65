"""Matrix products -> contraction steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import Array
from ranvier.ir.graph import Node, Value
from ranvier.lowering.epilogue import Epilogue
from ranvier.lowering.expression import Access, Accumulator, Expression, Guard, Literal, Loop
from ranvier.lowering.inline import Inliner, broadcast_indices, guarded, row_major
from ranvier.lowering.kernels.contraction import COLUMN
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.lowering.nests import add_nest
from ranvier.lowering.packing import pack
from ranvier.lowering.products import (
    Extents,
    Operands,
    Product,
    add_contraction,
    column_variable,
    flatten_dim,
)
from ranvier.lowering.program import Tensor
from ranvier.lowering.scope import KernelScope, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

DEPTH = "$k"


def lower_matmul(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    """a[..., M, K] @ b[..., K, N]: leading dims that `b` lacks are rows, the others are batches."""
    a, b = root.operands
    shape = root.result.shape
    columns, depth = b.shape[-1], a.shape[-1]
    lead = shape[:-2]
    shared = all(size == 1 for size in b.shape[:-2])
    batch_dims, row_dims = ((), (*lead, shape[-2])) if shared else (lead, (shape[-2],))
    scope = KernelScope()
    scope.bound |= {COLUMN, DEPTH}
    batch = tuple(scope.loop(size) for size in batch_dims)
    rows = tuple(scope.loop(size) for size in row_dims)
    product = Product(dims.product(batch_dims), dims.product(row_dims), columns, 1, depth)
    extents = Extents(batch, rows, column_variable(columns), len(shape) - 1, shape)
    layout = PanelLayout(columns, depth, 1, a.dtype, lowering.target.lanes)
    image = flattened_image(lowering, a, b)
    if image is not None:
        operands = Operands(
            image,
            flatten_dim(rows[0].variable * depth, extents, product),
            (),
            _packed_for_image(lowering, b, layout, dims.static(image.shape[1])),
            0,
        )
    else:
        packed, batch_stride = _packed_b(lowering, b, layout, batch)
        a_indices = _a_indices(a, tuple(loop.variable for loop in (*batch, *rows)), depth)
        tensor, offset = rows_of(lowering, a, a_indices)
        row = flatten_dim(offset, extents, product)
        operands = Operands(tensor, row, (), packed, batch_stride)
    scope.operand(operands.a)
    add_contraction(lowering, root, epilogue, product, operands, extents, Accumulator(), scope)


def _a_indices(a: Value, leading: tuple[Dim, ...], depth: Dim) -> tuple[Dim, ...]:
    full = (*leading, dims.symbol(DEPTH, 0, depth - 1))
    return broadcast_indices(a, full)


def rows_of(
    lowering: Lowering, value: Value, indices: tuple[Dim, ...], depth: str = DEPTH
) -> tuple[Tensor, Dim]:
    """(tensor, element offset without the depth) of rows that are contiguous in `depth`.

    Copies `value` if its rows are not.
    """
    found = plain_access(lowering, value, indices)
    if found is not None:
        offset = without_depth(found[1], depth, value.shape[-1])
        if offset is not None:
            return found[0], offset
    tensor = lowering.tensors.get(value)
    if tensor is not None:  # in memory, but with another dim innermost
        copied = lowering.temporary(value.type)
        lowering.write_nest(value, copied)
        tensor = copied
    else:
        tensor = lowering.materialize(value)
    offset = without_depth(linear_offset(indices, tensor.strides), depth, value.shape[-1])
    if offset is None:
        copied = lowering.temporary(value.type)
        lowering.write_nest(value, copied)
        tensor = copied
        offset = without_depth(linear_offset(indices, copied.strides), depth, value.shape[-1])
    assert offset is not None
    return tensor, offset


def without_depth(offset: Dim, depth: str, extent: Dim) -> Dim | None:
    """`offset` at depth 0 if its stride in `depth`, of size `extent`, is 1, else None."""
    if extent == 1:
        return dims.substitute(offset, {depth: 0})
    if not dims.depends_on(offset, (depth,)):
        return None
    linear = dims.linear_in(offset, depth)
    return linear[1] if linear is not None and linear[0] == 1 else None


def plain_access(
    lowering: Lowering, value: Value, indices: tuple[Dim, ...]
) -> tuple[Tensor, Dim] | None:
    """(tensor, element offset) behind `value` when it is memory seen through index maps only."""
    probe = KernelScope()
    if value not in lowering.tensors and not _is_view_chain(lowering, value):
        return None
    expression = Inliner(lowering, probe).element(value, indices)
    if not isinstance(expression, Access) or expression.guards or expression.indirect:
        return None
    if expression.storage is not value.dtype:
        return None
    return probe.tensors[expression.operand], expression.offset


def _is_view_chain(lowering: Lowering, value: Value) -> bool:
    """Whether `value` is an index map over something that is in memory already."""
    while value not in lowering.tensors:
        node = lowering.producer(value)
        if node.op not in ("reshape", "transpose", "broadcast", "slice", "reverse", "roll"):
            return False
        value = node.operands[0]
    return True


def _packed_b(
    lowering: Lowering, b: Value, layout: PanelLayout, batch: tuple[Loop, ...]
) -> tuple[Tensor, Dim]:
    """(packed B, its batch stride): constants are packed now, all else by a nest at run time."""
    array = lowering.constant(b)
    fixed = isinstance(layout.columns, int) and isinstance(layout.depth, int)
    if array is not None and fixed and all(size == 1 for size in b.shape[:-2]):
        return _packed_constant(lowering, b, array.reshape(1, *array.shape[-2:]), layout), 0
    return _pack_at_run_time(lowering, b, layout, batch)


def flattened_image(lowering: Lowering, a: Value, b: Value) -> Tensor | None:
    """The channels-last image behind `a = reshape(image, [N, C * H * W])`.

    None unless B is a constant, whose rows can be permuted to the image's order instead.
    """
    node = lowering.producer_or_none(a)
    if node is None or node.op != "reshape" or a in lowering.tensors or a.rank != 2 or b.rank != 2:
        return None
    image = node.operands[0]
    tensor = lowering.tensors.get(image)
    if tensor is None or image not in lowering.channels_last or lowering.constant(b) is None:
        return None
    inner = image.shape[1:]
    dense = row_major((*inner[1:], inner[0]))
    expected = (dims.product(inner), dense[-1], *dense[:-1])
    is_flat = a.shape[0] == image.shape[0] and all(isinstance(size, int) for size in inner)
    return tensor if is_flat and tensor.strides == expected else None


def _packed_for_image(lowering: Lowering, b: Value, layout: PanelLayout, channels: int) -> Tensor:
    """B with its rows in the order of a channels-last image instead of (channel, pixel)."""

    def packed() -> Array:
        array = lowering.constant(b)
        assert array is not None
        by_channel = array.reshape(channels, -1, array.shape[1])
        return pack(by_channel.transpose(1, 0, 2).reshape(1, *array.shape), layout)

    return lowering.weight_from(packed, b.dtype, ("flattened", b, layout))


def _packed_constant(lowering: Lowering, b: Value, array: Array, layout: PanelLayout) -> Tensor:
    origin = array if array.base is None else array.base
    key = (
        "packed",
        id(origin),
        array.strides,
        array.shape,
        array.__array_interface__["data"][0],
        layout,
    )
    lowering.keep_alive(origin)
    return lowering.weight_from(lambda: pack(array[None], layout), b.dtype, key)


def _pack_at_run_time(
    lowering: Lowering, b: Value, layout: PanelLayout, batch: tuple[Loop, ...]
) -> tuple[Tensor, Dim]:
    """A nest writes B in panels, zero padded: `packed[batch][panel][step][column][element]`."""
    scope = KernelScope()
    lead = tuple(scope.loop(loop.extent) for loop in batch)
    panel, step = scope.loop(layout.panels), scope.loop(layout.steps_per_tap)
    column, element = scope.loop(layout.width), scope.loop(layout.unit)
    source = layout.source(panel.variable, 0, step.variable, column.variable, element.variable)
    leading = tuple(loop.variable for loop in lead) or (0,) * (b.rank - 2)
    indices = (*leading, source.k, source.n)
    body = Inliner(lowering, scope).element(b, broadcast_indices(b, indices), source.guards)
    expression = _zero_outside(body, source.guards)
    batches = dims.product(loop.extent for loop in batch)
    tensor = lowering.scratch(layout.dtype, batches * layout.size)
    flat = flatten_batch(lead)
    offset = flat * layout.size + layout.offset(
        panel.variable, 0, step.variable, column.variable, element.variable
    )
    loops = (*lead, panel, step, column, element)
    kept = tuple(loop for loop in loops if loop.extent != 1)
    add_nest(lowering, scope, kept, tensor, offset, expression, (b, "", ["pack"]))
    return tensor, layout.size if batch else 0


def flatten_batch(loops: tuple[Loop, ...]) -> Dim:
    """The row-major number of an iteration of `loops`."""
    total: Dim = 0
    for loop in loops:
        total = total * loop.extent + loop.variable
    return total


def _zero_outside(body: Expression, guards: tuple[Guard, ...]) -> Expression:
    if not guards or (isinstance(body, Access) and body.guards == guards):
        return body
    return guarded(guards, body, Literal(0.0, body.dtype))
