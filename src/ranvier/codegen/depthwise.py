"""Code of the depthwise convolution kernel (`lowering/kernels/depthwise.py`).

    for (image, row, channel chunk) of this thread:
        for vector of channels:
            for tile of output columns:
                for ky inside the image:  load each input column once, use it for all its outputs
                stores

A tile whose input columns all exist and whose channels fill the vector is computed without any
check. Any other tile reads a vector of zeros in place of a missing column (a select of the address,
so the loop stays free of branches) and masks the channels. This is the direct convolution of
"High Performance Zero-Memory Overhead Direct Convolutions" (arXiv 1809.10170) with one filter per
channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ranvier.codegen import memory
from ranvier.codegen.builder import (
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
    vector,
)
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.indices import IndexEmitter, Lanes, lane_steps
from ranvier.codegen.math_context import Context
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32
from ranvier.lowering.expression import Access, walk
from ranvier.lowering.kernels.depthwise import (
    CHANNEL,
    COLUMN,
    IMAGE,
    ROW,
    WEIGHT_BLOCK,
    Depthwise,
)
from ranvier.target import Target

_PIECES_PER_THREAD = 16  # rows are split by channels too while a thread has fewer pieces than this


def emit_depthwise(module: ModuleWriter, name: str, kernel: Depthwise, target: Target) -> None:
    """Add the function `name` for `kernel` to the module (calling convention: architecture.md).

    Raises:
        CompileError: an input type other than f32 and bf16.
    """
    if kernel.input_dtype not in (F32, BF16):
        raise CompileError(f"depthwise convolution reads f32 or bf16, not {kernel.input_dtype}")
    _Emitter(module, name, kernel, target).emit()


@dataclass(frozen=True)
class _Tap:
    """Output `output` of a tile uses the input column through weight column `kx`."""

    output: int
    kx: int


_Load = Callable[[Val, int], Val]  # (row offset in bytes, column of the tile) -> vector of channels


@dataclass
class _Sizes:
    """i64 values that hold for the whole call; strides are in bytes."""

    height: Val
    width: Val
    out_height: Val
    out_width: Val
    channels: Val
    top: Val
    left: Val
    start: Val
    image_stride: Val
    row_stride: Val
    column_stride: Val


@dataclass
class _Block:
    """One vector of channels in one output row."""

    variables: dict[str, Val]
    channel: Val
    full: Val  # i1: all lanes are channels
    mask: Val  # <lanes x i1>
    weights: Val
    rows: Val  # address of the first input row inside the image, column 0, first channel
    first_ky: Val
    last_ky: Val


@dataclass
class _Emitter:
    module: ModuleWriter
    name: str
    kernel: Depthwise
    target: Target
    f: FunctionBuilder = field(init=False)
    sizes: _Sizes = field(init=False)

    def __post_init__(self) -> None:
        k = self.kernel
        parameters = [(f"b{i}", PTR) for i in range(k.operand_count)]
        parameters += [(scalar, I64) for scalar in k.scalars]
        parameters += [("thread", I64), ("threads", I64)]
        self.f = FunctionBuilder(self.module, self.name, parameters)
        self.lanes = self.target.lanes
        self.vector = vector(self.lanes, FLOAT)
        self.columns = _columns(k.tile, k.kernel[1], k.strides[1], k.dilations[1])
        self.zeros = memory.zeros(Context(self.f, self.target))

    def emit(self) -> None:
        f = self.f
        self.spill = f.emit(f"alloca [{self.kernel.tile} x {self.vector}], align 64", PTR)
        self.environment = {scalar: f.arg(scalar) for scalar in self.kernel.scalars}
        self.sizes = self._sizes()
        self._pieces()
        f.ret()
        f.finish()

    def _sizes(self) -> _Sizes:
        k, index = self.kernel, IndexEmitter(self.f, self.environment, None)
        size = k.input_dtype.size
        image_stride, row_stride, column_stride = k.input_strides
        return _Sizes(
            height=index.scalar(k.in_height),
            width=index.scalar(k.in_width),
            out_height=index.scalar(k.out_height),
            out_width=index.scalar(k.out_width),
            channels=index.scalar(k.channels),
            top=index.scalar(k.padding[0]),
            left=index.scalar(k.padding[1]),
            start=index.scalar(k.input_offset * size),
            image_stride=index.scalar(image_stride * size),
            row_stride=index.scalar(row_stride * size),
            column_stride=index.scalar(column_stride * size),
        )

    # Work of this thread --------------------------------------------------------------------------
    def _pieces(self) -> None:
        """Loop over this thread's share of (image, row, channel chunk)."""
        f, s = self.f, self.sizes
        batch = IndexEmitter(f, self.environment, None).scalar(self.kernel.batch)
        thread, threads = f.arg("thread"), f.arg("threads")
        rows = f.binary("mul", batch, s.out_height)
        blocks = self._ceil_div(s.channels, int_const(self.lanes))
        wanted = f.binary("mul", threads, int_const(_PIECES_PER_THREAD))
        chunks = self._ceil_div(wanted, self._max(rows, int_const(1)))
        chunks = f.select(f.compare("icmp eq", threads, int_const(1)), int_const(1), chunks)
        chunks = self._max(self._min(chunks, blocks), int_const(1))
        pieces = f.binary("mul", rows, chunks)
        first = f.binary("udiv", f.binary("mul", pieces, thread), threads)
        following = f.binary("add", thread, int_const(1))
        last = f.binary("udiv", f.binary("mul", pieces, following), threads)
        with f.loop(first, last) as piece:
            row, chunk = f.binary("udiv", piece, chunks), f.binary("urem", piece, chunks)
            image, y = f.binary("udiv", row, s.out_height), f.binary("urem", row, s.out_height)
            begin = f.binary("udiv", f.binary("mul", chunk, blocks), chunks)
            after = f.binary("add", chunk, int_const(1))
            end = f.binary("udiv", f.binary("mul", after, blocks), chunks)
            self._row(image, y, begin, end)

    def _row(self, image: Val, y: Val, begin: Val, end: Val) -> None:
        """One output row: clip ky to the image, then loop over the vectors of channels."""
        f, s, k = self.f, self.sizes, self.kernel
        (dy, sy), kh = (k.dilations[0], k.strides[0]), k.kernel[0]
        top = f.binary("sub", f.binary("mul", y, int_const(sy)), s.top)
        above = f.binary("sub", int_const(0), top)
        zero = int_const(0)
        first_ky = self._max(self._ceil_div(above, int_const(dy)), zero)
        below = f.binary("sub", s.height, top)
        last_ky = self._min(self._ceil_div(below, int_const(dy)), int_const(kh))
        start_row = f.binary("add", top, f.binary("mul", first_ky, int_const(dy)))
        offset = f.binary("add", s.start, f.binary("mul", image, s.image_stride))
        offset = f.binary("add", offset, f.binary("mul", start_row, s.row_stride))
        with f.loop(begin, end) as block:
            channel = f.binary("mul", block, int_const(self.lanes))
            place = f.binary("add", offset, self._bytes(channel, k.input_dtype.size))
            rows = f.element_pointer(f.arg(f"b{k.input_operand}"), "i8", place)
            left = f.binary("sub", s.channels, channel)
            full = f.compare("icmp sge", left, int_const(self.lanes))
            steps = lane_steps(self.lanes, 1, I32)
            present = f.cast("trunc", self._min(left, int_const(self.lanes)), I32)
            mask = f.compare("icmp slt", steps, f.splat(present, self.lanes))
            variables = {IMAGE: image, ROW: y, CHANNEL: channel}
            weights = self._weights(channel)
            self._columns(_Block(variables, channel, full, mask, weights, rows, first_ky, last_ky))

    def _weights(self, channel: Val) -> Val:
        """Address of the weights of tap 0 for the vector of channels."""
        f, taps = self.f, self.kernel.kernel[0] * self.kernel.kernel[1]
        block = f.binary("udiv", channel, int_const(WEIGHT_BLOCK))
        within = f.binary("urem", channel, int_const(WEIGHT_BLOCK))
        start = f.binary("mul", block, int_const(taps * WEIGHT_BLOCK))
        base = f.arg(f"b{self.kernel.weight_operand}")
        return f.element_pointer(base, FLOAT, f.binary("add", start, within))

    def _columns(self, block: _Block) -> None:
        """Loop over the tiles of a row."""
        f, s, k = self.f, self.sizes, self.kernel
        with f.loop(int_const(0), s.out_width, k.tile) as x:
            remaining = f.binary("sub", s.out_width, x)
            whole = f.compare("icmp sge", remaining, int_const(k.tile))
            totals = self._tile(block, x, whole)
            unrolled, counted, done = f.label("whole"), f.label("part"), f.label("stored")
            f.branch(f.binary("and", whole, block.full), unrolled, counted)
            f.begin(unrolled)
            emitter = self._epilogue(block, None)
            for output, total in enumerate(totals):
                self._store(emitter, f.binary("add", x, int_const(output)), total)
            f.jump(done)
            f.begin(counted)
            self._store_part(block, x, remaining, totals)
            f.jump(done)
            f.begin(done)

    def _tile(self, block: _Block, x: Val, whole: Val) -> list[Val]:
        """The sums of a tile; three codes: all columns inside, some outside, some lanes unused."""
        f, s = self.f, self.sizes
        left = f.binary("sub", f.binary("mul", x, int_const(self.kernel.strides[1])), s.left)
        farthest = f.binary("add", left, int_const(max(self.columns)))
        inside = f.binary("and", whole, f.compare("icmp sge", left, int_const(0)))
        inside = f.binary("and", inside, f.compare("icmp slt", farthest, s.width))
        wide, plain, border = f.label("wide"), f.label("plain"), f.label("border")
        masked, done = f.label("masked"), f.label("summed")
        f.branch(block.full, wide, masked)
        f.begin(wide)
        f.branch(inside, plain, border)
        incoming: list[tuple[list[Val], str]] = []

        def sum_in(load: _Load) -> None:
            incoming.append((self._sum(block, load), f.block))
            f.jump(done)

        f.begin(plain)
        sum_in(self._plain_loads(block, left))
        f.begin(border)
        sum_in(self._checked_loads(block, left, None))
        f.begin(masked)
        sum_in(self._checked_loads(block, left, block.mask))
        f.begin(done)
        return [
            f.phi(self.vector, *((totals[output], origin) for totals, origin in incoming))
            for output in range(self.kernel.tile)
        ]

    def _plain_loads(self, block: _Block, left: Val) -> _Load:
        f, s = self.f, self.sizes
        start = f.element_pointer(block.rows, "i8", f.binary("mul", left, s.column_stride))
        offsets = {j: f.binary("mul", int_const(j), s.column_stride) for j in self.columns}

        def load(row_offset: Val, column: int) -> Val:
            row = f.element_pointer(start, "i8", row_offset)
            return self._load(f.element_pointer(row, "i8", offsets[column]), None)

        return load

    def _checked_loads(self, block: _Block, left: Val, mask: Val | None) -> _Load:
        f, s = self.f, self.sizes
        exists, places = {}, {}
        for column in self.columns:
            position = f.binary("add", left, int_const(column))
            exists[column] = f.compare("icmp ult", position, s.width)
            offset = f.binary("mul", position, s.column_stride)
            places[column] = f.element_pointer(block.rows, "i8", offset)

        def load(row_offset: Val, column: int) -> Val:
            place = f.element_pointer(places[column], "i8", row_offset)
            place = f.select(exists[column], place, self.zeros)
            return self._load(place, mask)

        return load

    # Sums and stores ------------------------------------------------------------------------------
    def _sum(self, block: _Block, load: _Load) -> list[Val]:
        """The accumulators of a tile."""
        f, k = self.f, self.kernel
        zeros = [float_const(0.0, self.vector)] * k.tile
        step = f.binary("mul", self.sizes.row_stride, int_const(k.dilations[0]))
        with f.loop_carrying(block.first_ky, block.last_ky, 1, zeros, "ky") as loop:
            passed = f.binary("sub", loop.index, block.first_ky)
            row_offset = f.binary("mul", passed, step)
            tap = f.binary("mul", loop.index, int_const(k.kernel[1] * WEIGHT_BLOCK))
            row_weights = f.element_pointer(block.weights, FLOAT, tap)
            weights = [
                f.load(self.vector, self._at(row_weights, kx * WEIGHT_BLOCK), 4 * self.lanes)
                for kx in range(k.kernel[1])
            ]
            for column, taps in self.columns.items():
                value = load(row_offset, column)
                for tap_ in taps:
                    total = loop.next[tap_.output]
                    loop.next[tap_.output] = f.call(
                        f"llvm.fma.v{self.lanes}f32", self.vector, value, weights[tap_.kx], total
                    )
        return loop.results

    def _store_part(self, block: _Block, x: Val, remaining: Val, totals: list[Val]) -> None:
        """Store the outputs that exist, by way of the stack; masks lanes for the last channels."""
        f, size = self.f, 4 * self.lanes
        for output, total in enumerate(totals):
            f.store(total, f.element_pointer(self.spill, self.vector, int_const(output)), size)
        end = self._min(remaining, int_const(self.kernel.tile))
        full, part, done = f.label("full"), f.label("lanes"), f.label("stored")
        f.branch(block.full, full, part)
        for label, mask in ((full, None), (part, block.mask)):
            f.begin(label)
            emitter = self._epilogue(block, mask)
            with f.loop(int_const(0), end) as position:
                place = f.element_pointer(self.spill, self.vector, position)
                column = f.binary("add", x, position)
                self._store(emitter, column, f.load(self.vector, place, size))
            f.jump(done)
        f.begin(done)

    def _epilogue(self, block: _Block, mask: Val | None) -> ExpressionEmitter:
        """An emitter for the stores of a block that has loaded what is the same for all columns."""
        k = self.kernel
        operands = [self.f.arg(f"b{i}") for i in range(k.operand_count)]
        variables = {**self.environment, **block.variables}
        lanes = Lanes(CHANNEL, self.lanes, mask)
        emitter = ExpressionEmitter(self.f, self.target, operands, variables, lanes)
        for node in (node for store in k.stores for node in walk(store.value)):
            if isinstance(node, Access) and not node.indirect and not _moves(node):
                emitter.emit(node)
        return emitter

    def _store(self, emitter: ExpressionEmitter, x: Val, total: Val) -> None:
        """Emit the stores of one output column."""
        inner = emitter.nested({COLUMN: x}).with_accumulator(total)
        for store in self.kernel.stores:
            inner.store(store)

    def _load(self, place: Val, mask: Val | None) -> Val:
        """Input channels at an address as f32, zero where masked."""
        if self.kernel.input_dtype is F32:
            return self._load_bits(place, self.vector, mask)
        bits = self._load_bits(place, vector(self.lanes, I16), mask)
        wide = self.f.cast("zext", bits, vector(self.lanes, I32))
        shifted = self.f.binary("shl", wide, int_const(16, wide.type))
        return self.f.cast("bitcast", shifted, self.vector)

    def _load_bits(self, place: Val, type: str, mask: Val | None) -> Val:
        size = self.kernel.input_dtype.size
        if mask is None:
            return self.f.load(type, place, size)
        if size < 4 and self.lanes < 16:
            return self._load_lanes(place, type, mask)
        suffix = f"v{self.lanes}{'f32' if size == 4 else 'i16'}.p0"
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

    # Integers -------------------------------------------------------------------------------------
    def _at(self, base: Val, elements: int) -> Val:
        return self.f.element_pointer(base, FLOAT, int_const(elements)) if elements else base

    def _bytes(self, elements: Val, size: int) -> Val:
        return self.f.binary("mul", elements, int_const(size))

    def _ceil_div(self, a: Val, b: Val) -> Val:
        """(a + b - 1) / b rounded towards zero: the ceiling for a >= 0, at most 0 otherwise."""
        above = self.f.binary("sub", self.f.binary("add", a, b), int_const(1))
        return self.f.binary("sdiv", above, b)

    def _min(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.smin.i64", I64, a, b)

    def _max(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.smax.i64", I64, a, b)


def _moves(node: Access) -> bool:
    """Whether an element or its guards differ between output columns."""
    parts = [node.offset, *(part for guard in node.guards for part in (guard.index, guard.limit))]
    return any(dims.depends_on(part, (COLUMN,)) for part in parts)


def _columns(tile: int, width: int, stride: int, dilation: int) -> Mapping[int, list[_Tap]]:
    """The input columns of a tile, relative to its first, each with the taps that read it."""
    columns: dict[int, list[_Tap]] = {}
    for output in range(tile):
        for kx in range(width):
            columns.setdefault(output * stride + kx * dilation, []).append(_Tap(output, kx))
    return dict(sorted(columns.items()))
