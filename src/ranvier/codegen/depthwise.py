"""Code of the depthwise convolution kernel (`lowering/kernels/depthwise.py`).

    for strip of a few output rows of this thread:
        for tile of output columns:
            for part of the channels of this thread:
                for output row of the strip:
                    for vector of channels in the part:
                        for ky inside the image:  load each input column once, for all outputs
                        stores

The channels of neighbouring pixels lie side by side, so tiles read and write memory in order, and
find all input rows but the newest in the second-level cache; of that the next one is fetched ahead.
Within a strip they find them in the first-level cache, as the input of a part fits there. Threads
share (strip, chunk of channels a cache line wide) evenly. Rows are cut into tiles of nearly equal
size, so no output is computed in vain.
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
from ranvier.codegen.depthwise_geometry import Geometry, Line, Sizes, Strip, Tile
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
    weights: Val  # address of those of the first kernel row inside the image
    row: Val  # address of the first input row inside the image, first column of the tile


@dataclass
class _State:
    """What the kernel rows before have left: sums, vector-major, and where the next row lies."""

    sums: list[Val]
    row: Val
    weights: Val


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
        self.three_columns = self._three_columns()
        share = places.share()
        with f.loop(share.first, share.last, 1, "strip") as number:
            strip = places.strip(share, number)
            places.tiles(lambda tile: self._parts(places, tile, strip))
        f.ret()
        f.finish()

    def _three_columns(self) -> Val:
        """Bytes from an input column to the third after it, in a register where not static."""
        bytes_ = self.f.binary("mul", self.sizes.column_stride, int_const(3))
        is_static = isinstance(self.kernel.input_strides[2], int)
        return bytes_ if is_static else self.f.opaque(bytes_)

    def _parts(self, places: Geometry, tile: Tile, strip: Strip) -> None:
        """This thread's channels of a tile in all rows of a strip, part by part."""
        f, part = self.f, places.part_channels(self.target.l1_bytes * 3 // 4)
        with f.loop(strip.first_channel, strip.last_channel, part, "part") as first:
            end = f.binary("add", first, int_const(part))
            end = f.call("llvm.smin.i64", I64, end, strip.last_channel)
            with f.loop(strip.first_y, strip.last_y, 1, "row") as y:
                self._channels(tile, places.line(strip.image, y), first, end)

    def _channels(self, tile: Tile, line: Line, first: Val, last: Val) -> None:
        """Channels `first` to before `last` of a tile in one output row."""
        f, channels = self.f, self.sizes.channels
        whole = f.binary("sub", channels, int_const(self.rest))
        end = f.call("llvm.smin.i64", I64, last, whole)
        with f.loop(first, end, self.group, "channel") as channel:
            self._store(tile, self._block(tile, line, channel, self.group))
        if self.rest:
            with f.when(f.compare("icmp sge", last, channels), "rest"):
                self._store(tile, self._block(tile, line, whole, self.rest))

    def _block(self, tile: Tile, line: Line, channel: Val, live: int) -> _Block:
        f, k = self.f, self.kernel
        size = int_const(k.input_dtype.size)
        place = f.binary("add", line.offset, tile.start)
        place = f.binary("add", place, f.binary("mul", channel, size))
        row = f.element_pointer(f.arg(f"b{k.input_operand}"), "i8", place)
        channels = Channels(channel, live, self.sizes.channels)
        return _Block(line, channels, self._weights(line, channel), row)

    def _weights(self, line: Line, channel: Val) -> Val:
        """Address of the weights of the first kernel row for the group that begins at `channel`."""
        f, taps = self.f, self.kernel.kernel[0] * self.kernel.kernel[1]
        size = weight_block(self.pairs)
        block = f.binary("udiv", channel, int_const(size))
        within = f.binary("urem", channel, int_const(size))
        start = f.binary("add", f.binary("mul", block, int_const(taps * size)), within)
        above = f.binary("mul", line.first_ky, int_const(self._weight_words))
        base = f.arg(f"b{self.kernel.weight_operand}")
        return f.element_pointer(base, FLOAT, f.binary("add", start, above))

    @property
    def _weight_words(self) -> int:
        """Words from one kernel row of the packed weights to the next."""
        return self.kernel.kernel[1] * weight_block(self.pairs)

    def _vectors(self, live: int) -> int:
        """Vectors that hold `live` channels."""
        return -(-live // self.lanes)

    # Sums -----------------------------------------------------------------------------------------
    def _sum(self, tile: Tile, block: _Block) -> list[list[Val]]:
        """The sums of a tile's outputs, by output and vector."""
        f, line = self.f, block.line
        zeros = [float_const(0.0, self.vector)] * (tile.size * self._vectors(block.channels.live))
        state, at = _State(zeros, block.row, block.weights), line.first_ky
        if self.pairs:
            count = f.binary("sub", line.last_ky, at)
            end = f.binary("add", at, f.binary("and", count, int_const(-2)))
            state = self._sum_rows(tile, block, state, at, end, 2)
            at = end
        sums = self._sum_rows(tile, block, state, at, line.last_ky, 1).sums
        return [sums[output :: tile.size] for output in range(tile.size)]

    def _sum_rows(
        self, tile: Tile, block: _Block, state: _State, at: Val, end: Val, rows: int
    ) -> _State:
        """Add kernel rows `at` ... `end - 1`, `rows` of them at a time."""
        f = self.f
        step = self._kernel_row_bytes()
        carried = [*state.sums, state.row, state.weights]
        with f.loop_carrying(at, end, rows, carried, "ky") as loop:
            *sums, row, weights = loop.values
            following = [row]
            for _ in range(rows):
                following.append(f.element_pointer(following[-1], "i8", step))
            load = self._input(tile, block, following[:rows])
            taps = self._row_weights(weights, block)
            for column, outputs in tile.columns.items():
                for vector_, value in enumerate(load(column)):
                    for to in outputs:
                        number = vector_ * tile.size + to.output
                        sums[number] = self._multiply_add(sums[number], value, taps[to.kx][vector_])
            words = int_const(rows * self._weight_words)
            loop.next = [*sums, following[rows], f.element_pointer(weights, FLOAT, words)]
        *sums, row, weights = loop.results
        return _State(sums, row, weights)

    def _kernel_row_bytes(self) -> Val:
        """From an input row to the one that the next kernel row is for."""
        return self.f.binary("mul", self.sizes.row_stride, int_const(self.kernel.dilations[0]))

    def _places(self, first: Val) -> Callable[[int], Val]:
        """Addresses of a row's input columns by number, from that of column 0.

        One of three is a pointer, the next two are once and twice the distance of columns away from
        it: registers are few.
        """
        f, pointers, distance = self.f, [first], self.sizes.column_stride

        def place(column: int) -> Val:
            anchor, beside = divmod(column, 3)
            while anchor >= len(pointers):
                pointers.append(f.element_pointer(pointers[-1], "i8", self.three_columns))
            away = f.binary("mul", distance, int_const(beside))
            return f.element_pointer(pointers[anchor], "i8", away) if beside else pointers[anchor]

        return place

    def _fetch_ahead(self, tile: Tile, block: _Block) -> None:
        """Ask for the input that the same tile of the next output row is the first to read."""
        f, k, line = self.f, self.kernel, block.line
        last = f.binary("sub", f.binary("sub", line.last_ky, line.first_ky), int_const(1))
        newest = f.binary("mul", last, self._kernel_row_bytes())
        row = f.element_pointer(block.row, "i8", newest)
        columns = list(tile.columns)[: tile.size * k.strides[1]]
        for _ in range(k.strides[0]):
            row = f.element_pointer(row, "i8", self.sizes.row_stride)
            place = self._places(row)
            for column in columns:
                memory.prefetch(f, place(column))

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

    def _input(self, tile: Tile, block: _Block, rows: list[Val]) -> _Row:
        """The input columns of one row, or of two rows as pairs, by the rows' addresses."""
        lanes = self._vectors(block.channels.live) * self.lanes
        mask = block.channels.mask(self.f, 0, lanes)
        places = [self._places(row) for row in rows]

        def load(column: int, place: Callable[[int], Val]) -> Val:
            at = place(column)
            if column in tile.exists:
                at = self.f.select(tile.exists[column], at, self.zeros)
            return self._load_bits(at, mask, lanes)

        if not self.pairs:
            return lambda column: [self._as_float(load(column, places[0]))]
        return lambda column: self._as_pairs([load(column, place) for place in places])

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
