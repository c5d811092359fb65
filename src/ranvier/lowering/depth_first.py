"""Chains of steps -> depth-first steps, where what lies between them is larger than the cache.

    product of pixels (optional)  ->  depthwise convolution  ->  product of pixels (optional)

as in the inverted residuals of MobileNetV2 (arXiv 1801.04381). Computed layer by layer, what the
first product expands an image to goes to memory and back twice; computed band by band (Alwani et
al., "Fused-Layer CNN Accelerators", MICRO 2016) it stays in the second-level cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.claims import THREADS
from ranvier.lowering.expression import Access, Index, walk
from ranvier.lowering.kernels.contraction import COLUMN, TAP, Contraction
from ranvier.lowering.kernels.contraction import ROW as PIXEL
from ranvier.lowering.kernels.depth_first import (
    BEGIN,
    END,
    FRESH,
    IMAGE,
    ROWS,
    DepthFirst,
    Link,
    Window,
    Y,
)
from ranvier.lowering.kernels.depthwise import CHANNEL, Depthwise
from ranvier.lowering.kernels.depthwise import COLUMN as X
from ranvier.lowering.kernels.depthwise import IMAGE as N
from ranvier.lowering.kernels.depthwise import ROW as LINE
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.options import LoweringOptions
from ranvier.lowering.program import Argument, Buffer, Program, Step
from ranvier.lowering.typical import typical
from ranvier.target import Target

_ALIGNMENT = 64  # bytes of a cache line
_CACHE_SHARE = 2  # a band takes one part in so many of the second-level cache
_WEIGHT_SHARE = 4  # the products' weights at most one in so many: every band reads them
_PIECE_ROWS = 8  # input rows of a piece of work for each row that it computes once more

Values = Mapping[str, Dim]  # what the scalars of a step stand for


def fuse_chains(program: Program, target: Target, options: LoweringOptions) -> list[Step]:
    """The steps of a program, in which depth-first steps replace the chains that gain from it.

    Buffers between the steps of such a chain become empty.
    """
    uses = Counter(n for step in program.steps for n in {*step.reads, *step.writes})
    fused: list[Step] = []
    position = 0
    while position < len(program.steps):
        chain = _chain_at(program, position, uses)
        while chain is not None and not chain.is_worth(target, options):
            chain = _chain_at(program, position, uses, len(chain.steps) - 1)
        if chain is None:
            fused.append(program.steps[position])
            position += 1
        else:
            fused.append(_Fusion(program, target, chain).step())
            position += len(chain.steps)
    return fused


@dataclass(frozen=True)
class _Layout:
    """The images that a depthwise convolution reads or writes, channels last, in elements."""

    images: Dim
    height: Dim
    width: Dim
    channels: Dim
    item_bytes: int

    @property
    def pixels(self) -> Dim:
        """Of all images."""
        return self.images * self.height * self.width

    @property
    def row(self) -> Dim:
        """Elements of a row of pixels."""
        return self.width * self.channels

    @property
    def row_bytes(self) -> Dim:
        return self.row * self.item_bytes

    @property
    def image_bytes(self) -> Dim:
        return self.height * self.row_bytes


@dataclass(frozen=True)
class _Chain:
    """Two or three steps; what lies between them is read by nobody else."""

    program: Program
    before: Step | None
    middle: Step
    after: Step | None

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(s for s in (self.before, self.middle, self.after) if s is not None)

    @property
    def kernel(self) -> Depthwise:
        """That of the depthwise convolution."""
        assert isinstance(self.middle.kernel, Depthwise)
        return self.middle.kernel

    @property
    def between(self) -> tuple[int, ...]:
        """The buffers between the steps."""
        return tuple(step.writes[0] for step in self.steps[:-1])

    @cached_property
    def source(self) -> _Layout:
        """What the depthwise convolution reads, in dims of the model."""
        k, values = self.kernel, _values(self.middle)
        extents = (k.batch, k.in_height, k.in_width, k.channels)
        images, height, width, channels = (dims.substitute(n, values) for n in extents)
        return _Layout(images, height, width, channels, k.input_dtype.size)

    @cached_property
    def result(self) -> _Layout:
        """What the depthwise convolution writes, in dims of the model."""
        k, values = self.kernel, _values(self.middle)
        height, width = (dims.substitute(n, values) for n in (k.out_height, k.out_width))
        size = k.stores[0].storage.size
        return _Layout(self.source.images, height, width, self.source.channels, size)

    def is_worth(self, target: Target, options: LoweringOptions) -> bool:
        """Whether it gains, as the cost model says unless the options decide it."""
        asked = options.schedule_of(self.steps[-1].label).depth_first
        if asked is not None:
            return asked
        images = [self.source.image_bytes] if self.before else []
        images += [self.result.image_bytes] if self.after else []
        weights = sum(_weight_bytes(self.program, step) for step in (self.before, self.after))
        is_large = any(typical(size) > target.l2_bytes for size in images)
        return is_large and weights * _WEIGHT_SHARE <= target.l2_bytes

    def fits(self) -> bool:
        """Whether the steps can be called for a band, and agree on what lies between them."""
        computed = self.program.computed.keys()
        for layout in (self.source, self.result):
            if not computed.isdisjoint(dims.symbols(layout.image_bytes)):
                return False  # scratch memory is planned before the call
        movable = all(_advances(step) is not None for step in self.steps)
        return movable and self._fits_before() and self._fits_after()

    def _fits_before(self) -> bool:
        step, k, values = self.before, self.kernel, _values(self.middle)
        if step is None:
            return True
        if not isinstance(step.kernel, Contraction) or not _is_plain(step.kernel):
            return False
        strides = tuple(dims.substitute(n, values) for n in k.input_strides)
        dense = (self.source.height * self.source.row, self.source.row, self.source.channels)
        return (
            strides == dense
            and k.input_offset == 0
            and _writes_rows(step.kernel.stores[0], _values(step), self.source)
            and step.kernel.stores[0].storage is k.input_dtype
            and _begins_at_zero(step, self.between[0])
            and _begins_at_zero(self.middle, self.between[0])
            and dims.substitute(step.kernel.rows, _values(step)) == self.source.pixels
        )

    def _fits_after(self) -> bool:
        step, store = self.after, self.kernel.stores[0]
        if step is None:
            return True
        kernel = step.kernel
        if not isinstance(kernel, Contraction) or not _is_plain(kernel):
            return False
        layout, values = self.result, _values(step)
        n, y, x, c = (dims.symbol(name) for name in (N, LINE, X, CHANNEL))
        pixel = (n * layout.height + y) * layout.width + x
        offset = dims.substitute(_plain_names(store.offset), _values(self.middle))
        assert kernel.linear_row is not None
        stride, start = (dims.substitute(part, values) for part in kernel.linear_row)
        return (
            offset == pixel * layout.channels + c
            and (stride, start) == (layout.channels, 0)
            and store.storage is kernel.a_dtype
            and _begins_at_zero(self.middle, self.between[-1])
            and _begins_at_zero(step, self.between[-1])
            and dims.substitute(kernel.rows, values) == layout.pixels
        )


def _chain_at(
    program: Program, position: int, uses: Counter[int], longest: int = 3
) -> _Chain | None:
    """The longest chain of at most so many steps that begins with a step."""
    for length in range(longest, 1, -1):
        chain = _as_chain(program, program.steps[position : position + length])
        if chain is not None and _is_closed(chain, uses) and chain.fits():
            return chain
    return None


def _as_chain(program: Program, steps: Sequence[Step]) -> _Chain | None:
    """The steps as a chain, if they are of the right kinds."""
    middle = next((n for n, s in enumerate(steps) if isinstance(s.kernel, Depthwise)), None)
    if middle is None or len(steps) < 2:
        return None
    before, after = list(steps[:middle]), list(steps[middle + 1 :])
    if max(len(before), len(after)) > 1:
        return None
    if not all(isinstance(step.kernel, Contraction) for step in (*before, *after)):
        return None
    return _Chain(program, next(iter(before), None), steps[middle], next(iter(after), None))


def _is_closed(chain: _Chain, uses: Counter[int]) -> bool:
    """Whether each step writes for the next alone."""
    for step, reader in zip(chain.steps, chain.steps[1:], strict=False):
        if len(step.writes) != 1 or step.writes[0] not in reader.reads:
            return False
        buffer = step.writes[0]
        kept = chain.program.buffers[buffer].kind != "temporary"
        if kept or buffer in chain.program.reserved or uses[buffer] != 2:
            return False
    return True


def _is_plain(kernel: Contraction) -> bool:
    """Whether it is one product whose rows are pixels."""
    is_one = kernel.batches == 1 and kernel.taps == 1 and len(kernel.stores) == 1
    return is_one and kernel.linear_row is not None and kernel.sums_operand is None


def _writes_rows(store: Store, values: Values, layout: _Layout) -> bool:
    """Whether a product of pixels stores them as this layout has them."""
    offset = dims.substitute(_plain_names(store.offset), values)
    return offset == dims.symbol(PIXEL) * layout.channels + dims.symbol(COLUMN)


def _plain_names(offset: Dim) -> Dim:
    """An offset in terms of variables without their ranges, which differ between layers."""
    names = (PIXEL, COLUMN, N, LINE, X, CHANNEL)
    return dims.substitute(offset, {name: dims.symbol(name) for name in names})


def _begins_at_zero(step: Step, buffer: int) -> bool:
    return all(a.offset_bytes == 0 for a in step.arguments if a.buffer == buffer)


def _values(step: Step) -> Values:
    assert isinstance(step.kernel, (Contraction, Depthwise))
    return dict(zip(step.kernel.scalars, step.scalars, strict=True))


def _weight_bytes(program: Program, step: Step | None) -> int:
    buffers = [] if step is None else [program.buffers[a.buffer] for a in step.arguments]
    return sum(b.data.nbytes for b in buffers if b.data is not None)


# Bands -------------------------------------------------------------------------------------------
Advance = tuple[Dim, ...]  # bytes by which a pointer moves per step of each variable


def _advances(step: Step) -> list[Advance] | None:
    """How the pointer of every operand moves with the first pixel (of a product) or with image and
    row (of a convolution), in terms of the kernel's scalars; None if that is not all that changes.
    """
    kernel = step.kernel
    if isinstance(kernel, Contraction):
        row = dims.substitute(kernel.row, {TAP: 0})
        return _moves(kernel.stores, kernel.operand_count, (PIXEL,), (
            (kernel.a_operand, row, kernel.a_dtype.size),
        ))  # fmt: skip
    assert isinstance(kernel, Depthwise)
    return _moves(kernel.stores, kernel.operand_count, (N, LINE), ())


def _moves(
    stores: Sequence[Store],
    operands: int,
    variables: tuple[str, ...],
    reads: Sequence[tuple[int, Dim, int]],
) -> list[Advance] | None:
    """`reads` are (operand, offset, element size), beside what the stores read."""
    found: dict[int, Advance] = {}
    for operand, offset, size in (*reads, *_uses(stores, variables)):
        parts: list[Dim] = []
        for name in variables:
            linear = dims.linear_in(offset, name)
            if linear is None:
                return None
            parts.append(linear[0] * size)
            offset = linear[1]
        if found.setdefault(operand, tuple(parts)) != tuple(parts):
            return None
    still = (0,) * len(variables)
    return [found.get(operand, still) for operand in range(operands)]


def _uses(stores: Sequence[Store], variables: tuple[str, ...]) -> Iterator[tuple[int, Dim, int]]:
    """What stores write and read; what no pointer can move has an offset that is not linear."""
    for store in stores:
        yield store.operand, store.offset, store.storage.size
        for node in walk(store.value):
            if isinstance(node, Access):
                yield node.operand, node.offset, node.storage.size
                fixed = [d for g in node.guards for d in (g.index, g.limit)]
            else:
                fixed = [node.value] if isinstance(node, Index) else []
            for dim in fixed:
                if dims.depends_on(dim, variables):
                    variable = dims.symbol(variables[0])
                    yield store.operand, variable * variable, 1


@dataclass
class _Fusion:
    """Builds the step of a chain: its arguments and scalars are numbered as they are needed."""

    program: Program
    target: Target
    chain: _Chain
    arguments: list[Argument] = field(default_factory=list)
    scalars: dict[Dim, Dim] = field(default_factory=dict)  # dim of the model -> that of the kernel

    def step(self) -> Step:
        """The depth-first step."""
        chain, kernel = self.chain, self.chain.kernel
        (kernel_height, _), (stride, _), (dilation, _) = (
            kernel.kernel, kernel.strides, kernel.dilations
        )  # fmt: skip
        bands, band = self._bands()
        window = band_memory = None
        if chain.before is not None:
            rows = (band - 1) * stride + (kernel_height - 1) * dilation + 1
            window = self._scratch(rows * chain.source.row_bytes)
        if chain.after is not None:
            band_memory = self._scratch(band * chain.result.row_bytes)
        links = self._links(window, band_memory)
        window_at: Window | None = None
        if window is not None:
            window_at = Window(self._operand(window), self._scalar(chain.source.row_bytes))
        described = DepthFirst(
            links=links,
            images=self._scalar(chain.source.images),
            height=self._scalar(chain.source.height),
            out_height=self._scalar(chain.result.height),
            above=self._scalar(self._above),
            kernel_height=kernel_height,
            stride=stride,
            dilation=dilation,
            bands=self._scalar(bands),
            window=window_at,
            operand_count=len(self.arguments),
            scalars=tuple(str(name) for name in self.scalars.values()),
        )
        return self._replacement(described, {a.buffer for a in (window, band_memory) if a})

    def _replacement(self, kernel: DepthFirst, scratch: set[int]) -> Step:
        """One step instead of the chain's; what lay between them is gone."""
        steps, between = self.chain.steps, set(self.chain.between)
        passed: Dim = 0
        for buffer in between:
            passed = passed + self.program.buffers[buffer].size_bytes * 2
            self.program.buffers[buffer] = replace(self.program.buffers[buffer], size_bytes=0)
        flops: Dim = 0
        moved: Dim = 0
        for step in steps:
            flops, moved = flops + step.flops, moved + step.bytes
        return Step(
            kernel,
            tuple(self.arguments),
            tuple(self.scalars),
            tuple(sorted({n for step in steps for n in step.reads} - between)),
            tuple(sorted({n for step in steps for n in step.writes} - between | scratch)),
            steps[-1].label,
            steps[-1].source,
            tuple(operator for step in steps for operator in step.operators),
            flops,
            moved - passed,
            result=steps[-1].result,
            most_pieces=self._most_pieces(),
        )

    @property
    def _above(self) -> Dim:
        """Rows of padding above the image."""
        return dims.substitute(self.chain.kernel.padding[0], _values(self.chain.middle))

    @property
    def _overlap(self) -> int:
        """Rows of the window that a band shares with the one before."""
        k = self.chain.kernel
        return max((k.kernel[0] - 1) * k.dilations[0] + 1 - k.strides[0], 0)

    def _bands(self) -> tuple[Dim, Dim]:
        """The bands of an image, as many for every thread, and the rows of the highest."""
        chain = self.chain
        budget: Dim = self.target.l2_bytes // _CACHE_SHARE
        row_bytes: Dim = 0
        if chain.before is not None:
            budget = budget - chain.source.row_bytes * self._overlap
            row_bytes = row_bytes + chain.source.row_bytes * chain.kernel.strides[0]
        if chain.after is not None:
            row_bytes = row_bytes + chain.result.row_bytes
        fitting = dims.maximum(dims.floordiv(budget, dims.maximum(row_bytes, 1)), 1)
        height = chain.result.height
        fewest = dims.floordiv(height + fitting - 1, fitting)
        even = dims.floordiv(fewest + THREADS - 1, THREADS) * THREADS
        bands = dims.maximum(dims.minimum(even, height), 1)
        return bands, dims.floordiv(height + bands - 1, bands)

    def _most_pieces(self) -> Dim | None:
        """What is computed again where a piece begins is to be little of it."""
        chain = self.chain
        if chain.before is None or self._overlap == 0:
            return None
        rows = chain.result.images * chain.result.height * chain.kernel.strides[0]
        return dims.maximum(dims.floordiv(rows, _PIECE_ROWS * self._overlap), 1)

    # Links ----------------------------------------------------------------------------------------
    def _links(self, window: Argument | None, band: Argument | None) -> tuple[Link, ...]:
        chain, links = self.chain, []
        if chain.before is not None:
            assert window is not None
            width = self._scalar(chain.source.width)
            first = (IMAGE * self._scalar(chain.source.height) + FRESH) * width
            into = (FRESH - BEGIN) * self._scalar(chain.source.row_bytes)
            places = {chain.between[0]: (window, into)}
            links.append(self._product(chain.before, first, (END - FRESH) * width, places))
        links.append(self._convolution(window, band))
        if chain.after is not None:
            assert band is not None
            width = self._scalar(chain.result.width)
            first = (IMAGE * self._scalar(chain.result.height) + Y) * width
            places = {chain.between[-1]: (band, 0)}
            links.append(self._product(chain.after, first, ROWS * width, places))
        return tuple(links)

    def _product(
        self, step: Step, first: Dim, count: Dim, places: Mapping[int, tuple[Argument, Dim]]
    ) -> Link:
        """`count` pixels from `first` on; what lies in a buffer of `places` lies there instead."""
        kernel = step.kernel
        assert isinstance(kernel, Contraction)
        described = replace(
            kernel, rows=dims.symbol("$pixels"), scalars=(*kernel.scalars, "$pixels")
        )
        scalars = (*map(self._scalar, step.scalars), count)
        return Link(described, self._operands(step, (first,), places), scalars)

    def _convolution(self, window: Argument | None, band: Argument | None) -> Link:
        """The rows of the band, from an image that ends with the window."""
        step, kernel = self.chain.middle, self.chain.kernel
        names = ("$height", "$rows", "$above")
        height, rows, above = map(dims.symbol, names)
        described = replace(
            kernel, batch=1, in_height=height, out_height=rows,
            padding=(above, kernel.padding[1]), scalars=(*kernel.scalars, *names),
        )  # fmt: skip
        places: dict[int, tuple[Argument, Dim]] = {}
        if window is not None:
            places[self.chain.between[0]] = window, 0
        if band is not None:
            places[self.chain.between[-1]] = band, 0
        operands = list(self._operands(step, (IMAGE, Y), places))
        if window is None:
            number, renamed = kernel.input_operand, self._renamed(step)
            image, row = (dims.substitute(n, renamed) for n in kernel.input_strides[:2])
            begin = (IMAGE * image + BEGIN * row) * kernel.input_dtype.size
            operands[number] = operands[number][0], begin
        top = Y * kernel.strides[0] - self._scalar(self._above)
        scalars = (*map(self._scalar, step.scalars), END - BEGIN, ROWS, BEGIN - top)
        return Link(described, tuple(operands), scalars)

    def _operands(
        self,
        step: Step,
        first: tuple[Dim, ...],
        places: Mapping[int, tuple[Argument, Dim]],
    ) -> tuple[tuple[int, Dim], ...]:
        """The operands of a step whose variables begin at `first`."""
        advances, renamed = _advances(step), self._renamed(step)
        assert advances is not None
        operands: list[tuple[int, Dim]] = []
        for argument, advance in zip(step.arguments, advances, strict=True):
            moved: Dim = 0
            for part, begin in zip(advance, first, strict=True):
                moved = moved + dims.substitute(part, renamed) * begin
            argument, moved = places.get(argument.buffer, (argument, moved))
            operands.append((self._operand(argument), moved))
        return tuple(operands)

    # Numbering ------------------------------------------------------------------------------------
    def _renamed(self, step: Step) -> dict[str, Dim]:
        """The scalars of a step's kernel in terms of those of the chain."""
        return {name: self._scalar(value) for name, value in _values(step).items()}

    def _scalar(self, value: Dim) -> Dim:
        """A dim of the model as a scalar argument."""
        return self.scalars.setdefault(value, dims.symbol(f"s{len(self.scalars)}"))

    def _operand(self, argument: Argument) -> int:
        if argument not in self.arguments:
            self.arguments.append(argument)
        return self.arguments.index(argument)

    def _scratch(self, size_bytes: Dim) -> Argument:
        """Memory of every thread."""
        lines = dims.floordiv(size_bytes + _ALIGNMENT - 1, _ALIGNMENT)
        own = lines * _ALIGNMENT
        return Argument(self.program.add_buffer(Buffer("temporary", own * THREADS)), 0, own)
