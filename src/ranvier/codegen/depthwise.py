"""Code of the depthwise convolution kernel (`lowering/kernels/depthwise.py`).

    for (image, output row) of this thread:
        for tile of output columns:
            for vector of channels of this thread:
                for ky inside the image:  load each input column once, use it for all outputs
                stores

The channels of neighbouring pixels lie side by side, so a row of tiles reads and writes memory in
order, and finds all input rows but the newest in the second-level cache; of that the next one is
fetched ahead. Threads share (row, chunk of channels a cache line wide) evenly. Rows are cut into
tiles of nearly equal size, so no output is computed in vain.
An input column that may lie outside the image is loaded from a vector of zeros (a select of the
address, so the loop stays free of branches). Two rows of bf16 are multiplied at once where the CPU
has the dot product: their channels are interleaved and meet pairs of weights. This is the direct
convolution of "High Performance Zero-Memory Overhead Direct Convolutions" (arXiv 1809.10170) with
one filter per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ranvier.codegen import memory
from ranvier.codegen.builder import (
    BFLOAT,
    FLOAT,
    I1,
    I16,
    I32,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    float_const,
    int_const,
    lanes_of,
    vector,
)
from ranvier.codegen.depthwise_epilogue import Channels, Epilogue
from ranvier.codegen.depthwise_geometry import Geometry, Line, Sizes, Tile
from ranvier.codegen.kernel_parameters import THREAD_PARAMETERS, kernel_parameters
from ranvier.codegen.math_context import Context
from ranvier.codegen.scalar_ops import LONG
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F32
from ranvier.lowering.expression import Apply, walk
from ranvier.lowering.kernels.depthwise import (
    CHANNEL_UNIT,
    IMAGE,
    ROW,
    Depthwise,
    interleaved_channels,
    uses_pairs,
    weight_block,
)
from ranvier.target import Target


def emit_depthwise(module: ModuleWriter, name: str, kernel: Depthwise, target: Target) -> None:
    """Add the function `name` for `kernel` to the module (calling convention: architecture.md).

    Raises:
        CompileError: an input type other than f32 and bf16.
    """
    if kernel.input_dtype not in (F32, BF16):
        raise CompileError(f"depthwise convolution reads f32 or bf16, not {kernel.input_dtype}")
    _Emitter(module, name, kernel, target).emit()


_Row = Callable[[int], list[Val]]  # column of the tile -> what is multiplied, by vector


@dataclass
class _Block:
    """A group of vectors of channels in one output row."""

    line: Line
    channels: Channels
    weights: Val
    rows: Val  # address of the first input row inside the image, column 0, first channel


@dataclass
class _Emitter:
    module: ModuleWriter
    name: str
    kernel: Depthwise
    target: Target
    f: FunctionBuilder = field(init=False)
    sizes: Sizes = field(init=False)

    def __post_init__(self) -> None:
        k = self.kernel
        parameters = kernel_parameters(k) + THREAD_PARAMETERS
        self.f = FunctionBuilder(self.module, self.name, parameters)
        self.lanes = self.target.lanes
        self.vector = vector(self.lanes, FLOAT)
        self.pairs = uses_pairs(k.input_dtype, self.target.has_bf16_dot)
        self.group = self.lanes * (2 if self.pairs else 1)  # channels that are computed together
        self.rest = _remainder(k.channels) % self.group
        self.zeros = memory.zeros(Context(self.f, self.target))
        nodes = (node for store in k.stores for node in walk(store.value))
        self.long = any(isinstance(node, Apply) and node.op in LONG for node in nodes)

    def emit(self) -> None:
        f = self.f
        if self.long:
            self.spill = f.emit(f"alloca [{2 * self.kernel.tile} x {self.vector}], align 64", PTR)
        self.environment = {scalar: f.arg(scalar) for scalar in self.kernel.scalars}
        places = Geometry(f, self.kernel, self.environment, self.group)
        self.sizes = places.sizes
        share = places.share()
        with f.loop(share.first, share.last, 1, "row") as row:
            line = places.line(share, row)
            places.tiles(lambda tile: self._channels(tile, line))
        f.ret()
        f.finish()

    def _channels(self, tile: Tile, line: Line) -> None:
        """This thread's channels of a tile in one output row."""
        f, channels = self.f, self.sizes.channels
        whole = f.binary("sub", channels, int_const(self.rest))
        end = f.call("llvm.smin.i64", I64, line.last_channel, whole)
        with f.loop(line.first_channel, end, self.group, "channel") as channel:
            self._store(tile, self._block(line, channel, self.group))
        if self.rest:
            with f.when(f.compare("icmp sge", line.last_channel, channels), "rest"):
                self._store(tile, self._block(line, whole, self.rest))

    def _block(self, line: Line, channel: Val, live: int) -> _Block:
        f, k = self.f, self.kernel
        size = int_const(k.input_dtype.size)
        place = f.binary("add", line.offset, f.binary("mul", channel, size))
        rows = f.element_pointer(f.arg(f"b{k.input_operand}"), "i8", place)
        channels = Channels(channel, live, self.sizes.channels)
        return _Block(line, channels, self._weights(channel), rows)

    def _weights(self, channel: Val) -> Val:
        """Address of the weights of tap 0 for the group that begins at `channel`."""
        f, taps = self.f, self.kernel.kernel[0] * self.kernel.kernel[1]
        size = weight_block(self.pairs)
        block = f.binary("udiv", channel, int_const(size))
        within = f.binary("urem", channel, int_const(size))
        start = f.binary("mul", block, int_const(taps * size))
        base = f.arg(f"b{self.kernel.weight_operand}")
        return f.element_pointer(base, FLOAT, f.binary("add", start, within))

    def _vectors(self, live: int) -> int:
        """Vectors that hold `live` channels."""
        return -(-live // self.lanes)

    # Sums -----------------------------------------------------------------------------------------
    def _sum(self, tile: Tile, block: _Block) -> list[list[Val]]:
        """The sums of a tile's outputs, by output and vector."""
        f, line = self.f, block.line
        sums = [float_const(0.0, self.vector)] * (tile.size * self._vectors(block.channels.live))
        at = line.first_ky
        if self.pairs:
            count = f.binary("sub", line.last_ky, at)
            end = f.binary("add", at, f.binary("and", count, int_const(-2)))
            sums = self._sum_rows(tile, block, sums, at, end, 2)
            at = end
        sums = self._sum_rows(tile, block, sums, at, line.last_ky, 1)
        return [sums[output :: tile.size] for output in range(tile.size)]

    def _sum_rows(
        self, tile: Tile, block: _Block, sums: list[Val], at: Val, end: Val, rows: int
    ) -> list[Val]:
        """Add kernel rows `at` ... `end - 1`, `rows` of them at a time; sums are vector-major."""
        f, k = self.f, self.kernel
        step = f.binary("mul", self.sizes.row_stride, int_const(k.dilations[0]))
        with f.loop_carrying(at, end, rows, sums, "ky") as loop:
            passed = f.binary("mul", f.binary("sub", loop.index, block.line.first_ky), step)
            load = self._input(tile, block, [passed, f.binary("add", passed, step)][:rows])
            row_words = k.kernel[1] * weight_block(self.pairs)
            tap = f.binary("mul", loop.index, int_const(row_words))
            weights = self._row_weights(f.element_pointer(block.weights, FLOAT, tap), block)
            for column, taps in tile.columns.items():
                for vector_, value in enumerate(load(column)):
                    for to in taps:
                        number = vector_ * tile.size + to.output
                        weight = weights[to.kx][vector_]
                        loop.next[number] = self._multiply_add(loop.next[number], value, weight)
        return loop.results

    def _fetch_ahead(self, tile: Tile, block: _Block) -> None:
        """Ask for the input that the same tile of the next output row is the first to read."""
        f, k, line = self.f, self.kernel, block.line
        step = f.binary("mul", self.sizes.row_stride, int_const(k.dilations[0]))
        last = f.binary("sub", f.binary("sub", line.last_ky, line.first_ky), int_const(1))
        newest = f.element_pointer(block.rows, "i8", f.binary("mul", last, step))
        columns = sorted(tile.offsets)[: tile.size * k.strides[1]]
        for below in range(1, k.strides[0] + 1):
            ahead = f.binary("mul", self.sizes.row_stride, int_const(below))
            row = f.element_pointer(newest, "i8", ahead)
            for column in columns:
                memory.prefetch(f, f.element_pointer(row, "i8", tile.offsets[column]))

    def _row_weights(self, row: Val, block: _Block) -> list[list[Val]]:
        """The weights of one kernel row, or of two as pairs, by kernel column and vector."""
        f, size = self.f, weight_block(self.pairs)

        def weight(number: int) -> Val:
            value = f.load(
                self.vector, f.element_pointer(row, FLOAT, int_const(number)), 4 * self.lanes
            )
            return f.cast("bitcast", value, self._pair_type) if self.pairs else value

        vectors = range(self._vectors(block.channels.live))
        taps = range(self.kernel.kernel[1])
        return [[weight(kx * size + v * self.lanes) for v in vectors] for kx in taps]

    def _multiply_add(self, total: Val, value: Val, weight: Val) -> Val:
        f = self.f
        if not self.pairs:
            return f.call(f"llvm.fma.v{self.lanes}f32", self.vector, value, weight, total)
        name = f"llvm.x86.avx512bf16.dpbf16ps.{self.lanes * 32}"
        return f.call(name, self.vector, total, value, weight)

    def _input(self, tile: Tile, block: _Block, offsets: list[Val]) -> _Row:
        """The input columns of one row, or of two rows as pairs, by their offsets in bytes."""
        lanes = self._vectors(block.channels.live) * self.lanes
        mask = block.channels.mask(self.f, 0, lanes)

        def load(column: int, offset: Val) -> Val:
            place = self.f.element_pointer(block.rows, "i8", offset)
            place = self.f.element_pointer(place, "i8", tile.offsets[column])
            if column in tile.exists:
                place = self.f.select(tile.exists[column], place, self.zeros)
            return self._load_bits(place, mask, lanes)

        if not self.pairs:
            return lambda column: [self._as_float(load(column, offsets[0]))]
        return lambda column: self._as_pairs([load(column, offset) for offset in offsets])

    def _as_float(self, bits: Val) -> Val:
        """Input as loaded -> f32."""
        if self.kernel.input_dtype is F32:
            return bits
        wide = self.f.cast("zext", bits, vector(self.lanes, I32))
        shifted = self.f.binary("shl", wide, int_const(16, wide.type))
        return self.f.cast("bitcast", shifted, self.vector)

    @property
    def _pair_type(self) -> str:
        return vector(2 * self.lanes, BFLOAT)

    def _as_pairs(self, rows: list[Val]) -> list[Val]:
        """One or two rows of bf16 -> (first row, second row or zero) of every channel.

        Two vectors hold the channels in the order of `interleaved_channels`: unlike any other
        shuffle, interleaving within 128 bits costs the dot products nothing on Zen 4.
        """
        f, count = self.f, lanes_of(rows[0].type)
        if len(rows) == 1 and count == self.lanes:
            wide = f.cast("zext", rows[0], vector(self.lanes, I32))
            return [f.cast("bitcast", wide, self._pair_type)]
        other = rows[1] if len(rows) == 2 else Val("zeroinitializer", rows[0].type)
        channels = range(count) if count == self.lanes else interleaved_channels()
        picks = [pick for channel in channels for pick in (channel, channel + count)]
        width = 2 * self.lanes
        parts = (picks[start : start + width] for start in range(0, len(picks), width))
        mixed = [f.shuffle(rows[0], other, part) for part in parts]
        return [f.cast("bitcast", pairs, self._pair_type) for pairs in mixed]

    # Stores ---------------------------------------------------------------------------------------
    def _store(self, tile: Tile, block: _Block) -> None:
        """Compute all outputs of a tile and store them; by way of the stack if the code is long."""
        f, size, line = self.f, 4 * self.lanes, block.line
        variables = {**self.environment, IMAGE: line.image, ROW: line.y}
        epilogue = Epilogue(f, self.kernel, self.target, variables, block.channels)
        self._fetch_ahead(tile, block)
        totals = self._sum(tile, block)
        if not self.long:
            for column, vectors in enumerate(totals):
                epilogue.store(f.binary("add", tile.x, int_const(column)), vectors)
            return
        for number, total in enumerate(total for vectors in totals for total in vectors):
            f.store(total, f.element_pointer(self.spill, self.vector, int_const(number)), size)
        count = self._vectors(block.channels.live)
        with f.loop(int_const(0), int_const(tile.size), 1, "output") as output:
            first = f.binary("mul", output, int_const(count))
            places = (
                f.element_pointer(self.spill, self.vector, f.binary("add", first, int_const(v)))
                for v in range(count)
            )
            vectors = [f.load(self.vector, place, size) for place in places]
            epilogue.store(f.binary("add", tile.x, output), vectors)

    # Loads ----------------------------------------------------------------------------------------
    def _load_bits(self, place: Val, mask: Val | None, lanes: int) -> Val:
        """Input channels at an address as they are stored, zero where masked."""
        size = self.kernel.input_dtype.size
        type = vector(lanes, FLOAT if size == 4 else I16)
        if mask is None:
            return self.f.load(type, place, size)
        if size < 4 and self.lanes < 16:
            return self._load_lanes(place, type, mask)
        suffix = f"v{lanes}{'f32' if size == 4 else 'i16'}.p0"
        zero = Val("zeroinitializer", type)
        where = Val(f"align {size} {place.text}", PTR)
        return self.f.call(f"llvm.masked.load.{suffix}", type, where, mask, zero)

    def _load_lanes(self, place: Val, type: str, mask: Val) -> Val:
        """One load per lane, zeros where masked: AVX2 has no masked moves of 16-bit elements."""
        f, result = self.f, Val("poison", type)
        for lane in range(self.lanes):
            active = f.emit(f"extractelement {mask}, i64 {lane}", I1)
            item = f.element_pointer(place, I16, int_const(lane))
            item = f.load(I16, f.select(active, item, self.zeros), 2)
            result = f.emit(f"insertelement {result}, {item}, i64 {lane}", type)
        return result


def _remainder(channels: Dim) -> int:
    """The static remainder of the number of channels by CHANNEL_UNIT."""
    for rest in range(CHANNEL_UNIT):
        if dims.divides(CHANNEL_UNIT, channels - rest):
            return rest
    raise CompileError(
        f"depthwise convolution needs channels {CHANNEL_UNIT} * n + r, not {channels}"
    )
