"""Where a depthwise convolution reads and writes: shares, strips of rows, tiles of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ranvier.codegen.builder import I64, FunctionBuilder, Val, int_const
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.memory import LINE
from ranvier.codegen.work_split import cut
from ranvier.lowering.kernels.depthwise import Depthwise, tile_sizes

_STRIP_ROWS = 4  # at most
_STRIPS_PER_SHARE = 8  # so many at least, as long as rows are left to share


@dataclass(frozen=True)
class Tap:
    """Output `output` of a tile uses the input column through weight column `kx`."""

    output: int
    kx: int


@dataclass
class Sizes:
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
class Share:
    """The work of this thread: (strip, chunk) number `begin` to before `end`."""

    begin: Val
    end: Val
    chunks: Val  # in a strip
    strips: Val  # in an image
    first: Val  # strip of all images
    last: Val  # behind the last strip


@dataclass
class Strip:
    """Neighbouring output rows of an image, and the channels of them that this thread computes."""

    image: Val
    first_y: Val
    last_y: Val  # behind the last one
    first_channel: Val
    last_channel: Val  # behind the last one, or behind the padding of its chunk


@dataclass
class Tile:
    """Output columns `x` ... `x + size - 1`, and where its input columns lie in a row."""

    size: int
    x: Val
    columns: Mapping[int, list[Tap]]
    start: Val  # of the first of them in a row, in bytes
    exists: dict[int, Val]  # i1, for the columns that may lie outside the image


@dataclass
class Line:
    """An output row, and the input rows inside the image that it reads."""

    image: Val
    y: Val
    offset: Val  # of the first of them in the input operand, in bytes
    first_ky: Val
    last_ky: Val


@dataclass
class Geometry:
    """Computes places in function `f`; `environment` has the scalars of the kernel.

    `group` channels are computed together.
    """

    f: FunctionBuilder
    kernel: Depthwise
    environment: dict[str, Val]
    group: int
    sizes: Sizes = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = self._sizes()
        self._cut = self._tile_sizes()

    def _sizes(self) -> Sizes:
        k, index = self.kernel, IndexEmitter(self.f, self.environment, None)
        size = k.input_dtype.size
        image_stride, row_stride, column_stride = k.input_strides
        return Sizes(
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
    def share(self) -> Share:
        """This thread's share of (strip of all images, chunk of channels), strips first."""
        f, s = self.f, self.sizes
        batch = IndexEmitter(f, self.environment, None).scalar(self.kernel.batch)
        chunks = f.ceil_div(s.channels, int_const(self.chunk_channels))
        strips = f.ceil_div(s.out_height, self._strip_rows(batch, chunks))
        pieces = f.binary("mul", f.binary("mul", batch, strips), chunks)
        begin, end = cut(f, pieces, f.arg("thread"), f.arg("threads"))
        some = self._max(chunks, int_const(1))
        first, last = f.binary("udiv", begin, some), f.ceil_div(end, some)
        return Share(begin, end, chunks, strips, first, last)

    def _strip_rows(self, batch: Val, chunks: Val) -> Val:
        """Rows in a strip: `_STRIP_ROWS`, or fewer where there would be too few strips to share."""
        f = self.f
        rows = f.binary("mul", f.binary("mul", batch, self.sizes.out_height), chunks)
        shares = f.binary("mul", f.arg("threads"), int_const(_STRIPS_PER_SHARE))
        wanted = self._min(f.binary("udiv", rows, shares), int_const(_STRIP_ROWS))
        return self._max(wanted, int_const(1))

    @property
    def chunk_channels(self) -> int:
        """Channels that are a cache line of input."""
        return max(self.group, LINE // self.kernel.input_dtype.size)

    def strip(self, share: Share, number: Val) -> Strip:
        """A strip: its rows, and its part in this thread's share."""
        f = self.f
        before = f.binary("mul", number, share.chunks)
        low = self._max(f.binary("sub", share.begin, before), int_const(0))
        high = self._min(f.binary("sub", share.end, before), share.chunks)
        channels = (f.binary("mul", c, int_const(self.chunk_channels)) for c in (low, high))
        image, place = (f.binary(op, number, share.strips) for op in ("udiv", "urem"))
        rows = cut(f, self.sizes.out_height, place, share.strips)
        return Strip(image, *rows, *channels)

    def line(self, image: Val, y: Val) -> Line:
        """An output row, with ky clipped to the image."""
        f, s, k = self.f, self.sizes, self.kernel
        (dy, sy), kh = (k.dilations[0], k.strides[0]), k.kernel[0]
        top = f.binary("sub", f.binary("mul", y, int_const(sy)), s.top)
        above = f.binary("sub", int_const(0), top)
        first_ky = self._max(self._ceil_div(above, int_const(dy)), int_const(0))
        below = f.binary("sub", s.height, top)
        last_ky = self._min(self._ceil_div(below, int_const(dy)), int_const(kh))
        start_row = f.binary("add", top, f.binary("mul", first_ky, int_const(dy)))
        offset = f.binary("add", s.start, f.binary("mul", image, s.image_stride))
        offset = f.binary("add", offset, f.binary("mul", start_row, s.row_stride))
        return Line(image, y, offset, first_ky, last_ky)

    def part_channels(self, bytes_: int) -> int:
        """Channels, whole chunks, of which a tile's input to a strip takes at most `bytes_`."""
        k = self.kernel
        rows, columns = (
            (outputs - 1) * k.strides[axis] + (k.kernel[axis] - 1) * k.dilations[axis] + 1
            for axis, outputs in enumerate((_STRIP_ROWS, k.tile))
        )
        fitting = bytes_ // (rows * columns * k.input_dtype.size)
        return max(fitting // self.chunk_channels, 1) * self.chunk_channels

    # Tiles ----------------------------------------------------------------------------------------
    def _tile_sizes(self) -> tuple[Val, Val]:
        """How rows are cut (`tile_sizes`): the smaller size, and the tiles that have one more."""
        f, width, tile = self.f, self.sizes.out_width, self.kernel.tile
        tiles = f.ceil_div(width, int_const(tile))
        narrow = f.compare("icmp ult", width, int_const((tile + 1) // 2))
        tiles = self._max(f.select(narrow, width, tiles), int_const(1))
        return f.binary("udiv", width, tiles), f.binary("urem", width, tiles)

    def tiles(self, body: Callable[[Tile], None]) -> None:
        """Emit `body` for all tiles of a row: first the larger ones, then those a column less."""
        f, (base, larger) = self.f, self._cut
        sizes = tile_sizes(self.kernel.out_width, self.kernel.tile)
        with f.loop(int_const(0), int_const(2), 1, "part") as part:
            is_first = f.compare("icmp eq", part, int_const(0))
            size = f.select(is_first, f.binary("add", base, int_const(1)), base)
            before = f.binary("mul", larger, f.binary("add", base, int_const(1)))
            start = f.select(is_first, int_const(0), before)
            end = f.select(is_first, before, self.sizes.out_width)
            labels = {known: f.label("tiles") for known in sizes}
            after = f.label("after")
            cases = " ".join(f"i64 {known}, label %{label}" for known, label in labels.items())
            f.raw(f"switch {size}, label %{after} [{cases}]")
            for known, label in labels.items():
                f.begin(label)
                with f.loop(start, end, known, "x") as x:
                    body(self._tile(known, x))
                f.jump(after)
            f.begin(after)

    def _tile(self, size: int, x: Val) -> Tile:
        f, s, k = self.f, self.sizes, self.kernel
        columns = _columns(size, k.kernel[1], k.strides[1], k.dilations[1])
        left = f.binary("sub", f.binary("mul", x, int_const(k.strides[1])), s.left)
        start = f.binary("mul", left, s.column_stride)
        before, behind = k.padding[1], k.right_padding
        exists = {}
        for column in columns:
            from_end = max(columns) - column
            inside = isinstance(before, int) and column >= before
            if not (inside and isinstance(behind, int) and from_end >= behind):
                position = f.binary("add", left, int_const(column))
                exists[column] = f.compare("icmp ult", position, s.width)
        return Tile(size, x, columns, start, exists)

    # Integers -------------------------------------------------------------------------------------
    def _ceil_div(self, a: Val, b: Val) -> Val:
        """(a + b - 1) / b rounded towards zero: the ceiling for a >= 0, at most 0 otherwise."""
        above = self.f.binary("sub", self.f.binary("add", a, b), int_const(1))
        return self.f.binary("sdiv", above, b)

    def _min(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.smin.i64", I64, a, b)

    def _max(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.smax.i64", I64, a, b)


def _columns(tile: int, width: int, stride: int, dilation: int) -> Mapping[int, list[Tap]]:
    """The input columns of a tile, relative to its first, each with the taps that read it."""
    columns: dict[int, list[Tap]] = {}
    for output in range(tile):
        for kx in range(width):
            columns.setdefault(output * stride + kx * dilation, []).append(Tap(output, kx))
    return dict(sorted(columns.items()))
