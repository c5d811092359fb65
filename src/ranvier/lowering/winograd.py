"""Convolutions of stride 1 -> Winograd steps, where a cost model expects them to be faster.

A larger tile saves more multiplications but has larger weights, which a network reads from memory
once per run: late layers with many channels and few pixels stay direct.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F32, Array, DType, decode, encode
from ranvier.ir.graph import Node
from ranvier.lowering.channels_last import bias_term, channels_last_image
from ranvier.lowering.contract import DEPTH
from ranvier.lowering.epilogue import Epilogue
from ranvier.lowering.inline import Inliner
from ranvier.lowering.kernels.contraction import BATCH
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.lowering.kernels.winograd import (
    Winograd,
    block_tiles,
    scratch_layout,
    transform_weights,
)
from ranvier.lowering.nests import in_place_pairs, moved_bytes, operation_count
from ranvier.lowering.packing import pack
from ranvier.lowering.products import (
    VARIABLES,
    AbstractRenaming,
    Extents,
    Product,
    accumulator_plus,
    column_variable,
    epilogue_store,
)
from ranvier.lowering.program import Step, Tensor
from ranvier.lowering.scope import KernelScope
from ranvier.lowering.typical import typical
from ranvier.target import Target

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

_TILES = {3: (4, 2), 5: (2,)}  # kernel size -> sizes of tiles to choose from
_GAIN = 1.1  # how many times faster it has to look
# The cost model counts multiply-adds of whole vectors. Measured with `benchmarks.kernels.winograd`:
_TRANSFORM = 5.0  # per element of V or M
_BYTE = 0.2  # per byte of weights: time to read them, and what they take in files and memory


@dataclass(frozen=True)
class _Layer:
    """A convolution that could be computed by tiles; sizes are those of its result."""

    images: int
    height: int
    width: int
    channels: int
    columns: int
    kernel: int
    dtype: DType
    target: Target

    def direct(self) -> float:
        """The cost of the direct convolution."""
        taps = self.kernel**2
        return self._products(taps * self.images * self.height * self.width, taps)

    def tiled(self, tile: int) -> float:
        """The cost with tiles of `tile x tile` outputs."""
        tiles = self.images * -(-self.height // tile) * -(-self.width // tile)
        points = (tile + self.kernel - 1) ** 2
        vectors = (self.channels + self.columns) / self.target.lanes
        return self._products(points * tiles, points) + _TRANSFORM * points * tiles * vectors

    def _products(self, rows: int, taps: int) -> float:
        """`rows` rows of `channels` times weights of `taps` taps."""
        dot = self.dtype is BF16 and self.target.has_bf16_dot
        vectors = -(-self.columns // self.target.lanes)
        steps = self.channels / (2 if dot else 1)
        size = taps * self.channels * self.columns * self.dtype.size
        return rows * steps * vectors + _BYTE * size


def choose_tile(lowering: Lowering, root: Node, epilogue: Epilogue) -> int | None:
    """The size of the output tiles for the convolution `root`; None if it is better done directly.

    Where sizes are symbolic it is chosen for a typical image, and for the smallest batch.
    """
    x, weight = root.operands[:2]
    if not lowering.options.winograd or weight.rank != 4 or root.attribute("groups") != 1:
        return None
    if {*root.attribute("strides"), *root.attribute("dilations")} != {1}:
        return None
    if any(_to_integer(reader) for reader in lowering.consumers.get(root.result, ())):
        return None  # sums of integers, which tiles would round
    columns, channels, kernel, width = map(dims.static, weight.shape)
    if kernel != width or channels < lowering.target.lanes or x.dtype not in (F32, BF16):
        return None
    images, _, *size = root.result.shape
    height, width = map(typical, size)
    batch = typical(images, 1)
    layer = _Layer(batch, height, width, channels, columns, kernel, x.dtype, lowering.target)
    tiles = _TILES.get(kernel, ())
    asked = lowering.options.schedule_of(epilogue.end.name).winograd_tile
    if asked is not None:
        return asked if asked in tiles else None
    best = min(tiles, key=layer.tiled, default=None)
    return best if best is not None and layer.tiled(best) * _GAIN < layer.direct() else None


def _to_integer(node: Node) -> bool:
    return node.op == "cast" and node.result.dtype.is_integer


def lower_winograd(lowering: Lowering, root: Node, epilogue: Epilogue, tile: int) -> None:
    """Append the step of a convolution by tiles of `tile x tile` outputs."""
    x, weight = root.operands[:2]
    columns, channels, kernel = (dims.static(size) for size in weight.shape[:3])
    scope = KernelScope()
    scope.bound |= {DEPTH, *VARIABLES}
    shape = root.result.shape
    loops = tuple(scope.loop(size) for size in (shape[0], *shape[2:]))
    tensor, strides, start = _input(lowering, root)
    input_operand = scope.operand(tensor)
    product = Product(1, dims.product(loop.extent for loop in loops), columns, 1, channels)
    extents = Extents((), loops, column_variable(columns), 1, shape)
    sum_ = accumulator_plus(bias_term(lowering, root, scope, extents.column))
    out = lowering.allocate(epilogue.end)
    inliner = Inliner(lowering, scope, loops=False)
    store, operators = epilogue_store(inliner, root, epilogue, out, extents, product, sum_)
    points = tile + kernel - 1
    block = block_tiles(points, channels, columns, x.dtype, lowering.target)
    layout = PanelLayout(columns, channels, points**2, x.dtype, lowering.target.lanes)
    scratch = scratch_layout(block, points, channels, x.dtype, layout.width).size
    renaming = AbstractRenaming(frozenset(scope.bound))
    described = Winograd(
        tile=tile,
        kernel=kernel,
        images=renaming.number(shape[0]),
        in_height=renaming.number(x.shape[2]),
        in_width=renaming.number(x.shape[3]),
        out_height=renaming.number(shape[2]),
        out_width=renaming.number(shape[3]),
        channels=channels,
        columns=columns,
        dtype=x.dtype,
        padding=_padding_before(root),
        input_operand=input_operand,
        input_offset=renaming.dim(start),
        input_strides=(
            renaming.number(strides[0]), renaming.number(strides[1]), renaming.number(strides[2]),
        ),
        weight_operand=scope.operand(_packed_weights(lowering, root, tile, layout)),
        scratch_operand=scope.operand(lowering.scratch_of_threads(scratch), written=True),
        stores=(renaming.store(store),),
        operand_count=len(scope.tensors),
        scalars=renaming.names,
        block=block,
    )  # fmt: skip
    outputs = dims.product(shape)
    tiles = shape[0] * _tiles_along(shape[2], tile) * _tiles_along(shape[3], tile)
    in_place = in_place_pairs(lowering, scope, out, store.offset, store.value)
    # A smaller block would read all weights for fewer tiles.
    most_pieces = dims.floordiv(tiles, block)
    lowering.add_step(
        Step(
            described,
            scope.arguments(),
            renaming.values,
            scope.reads(),
            scope.writes(),
            epilogue.end.name,
            root.source,
            (root.op, *operators),
            tiles * (2 * points**2 * channels * columns) + outputs * operation_count(store.value),
            moved_bytes(scope),
            tuple(pair for pair in in_place if pair[1] != tensor.buffer),
            out,
            most_pieces=most_pieces,
        )
    )
    lowering.tensors[epilogue.end] = out


def _tiles_along(size: Dim, tile: int) -> Dim:
    return dims.floordiv(size + (tile - 1), tile)


def _padding_before(root: Node) -> tuple[int, int]:
    """Zeros above and to the left; those below and to the right follow from the sizes."""
    (top, _), (left, _) = root.attribute("padding")
    return top, left


def _input(lowering: Lowering, root: Node) -> tuple[Tensor, tuple[Dim, Dim, Dim], Dim]:
    """(tensor, strides of image, row and pixel, offset of the first element), in elements."""
    x = root.operands[0]
    names = (BATCH, "$y", "$x")
    image, y, column = (dims.symbol(name) for name in names)
    indices = (image, dims.symbol(DEPTH), y, column)
    tensor, rest = channels_last_image(lowering, x, indices)
    if any(dims.linear_in(rest, name) is None for name in names):
        tensor = lowering.temporary(x.type, (0, 2, 3, 1))
        lowering.write_nest(x, tensor)
        rest = image * tensor.strides[0] + y * tensor.strides[2] + column * tensor.strides[3]
    strides = []
    for name in names:
        linear = dims.linear_in(rest, name)
        assert linear is not None
        strides.append(linear[0])
        rest = linear[1]
    return tensor, (strides[0], strides[1], strides[2]), rest


def _packed_weights(lowering: Lowering, root: Node, tile: int, layout: PanelLayout) -> Tensor:
    weight = root.operands[1]

    def packed() -> Array:
        array = lowering.constant(weight)
        assert array is not None
        filters = np.asarray(decode(array, weight.dtype), np.float32)
        return pack(encode(transform_weights(filters, tile), weight.dtype), layout)

    return lowering.weight_from(packed, weight.dtype, ("winograd", weight, tile, layout))
