"""Chains of steps around a depthwise convolution that can be computed band by band.

product of pixels (optional)  ->  depthwise convolution  ->  product of pixels (optional)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.expression import Access, Index, walk
from ranvier.lowering.kernels.contraction import COLUMN, TAP, Contraction
from ranvier.lowering.kernels.contraction import ROW as PIXEL
from ranvier.lowering.kernels.depthwise import CHANNEL, Depthwise
from ranvier.lowering.kernels.depthwise import COLUMN as X
from ranvier.lowering.kernels.depthwise import IMAGE as N
from ranvier.lowering.kernels.depthwise import ROW as LINE
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.lowering.program import Program, Step

Values = Mapping[str, Dim]  # what the scalars of a step stand for
Advance = tuple[Dim, ...]  # bytes by which a pointer moves per step of each variable


@dataclass(frozen=True)
class Layout:
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
        """Bytes of a row of pixels."""
        return self.row * self.item_bytes

    @property
    def image_bytes(self) -> Dim:
        """Bytes of one image."""
        return self.height * self.row_bytes


@dataclass(frozen=True)
class Chain:
    """Two or three steps; what lies between them is read by nobody else."""

    program: Program
    before: Step | None
    middle: Step
    after: Step | None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them, in order."""
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
    def source(self) -> Layout:
        """What the depthwise convolution reads, in dims of the model."""
        k, values = self.kernel, scalar_values(self.middle)
        extents = (k.batch, k.in_height, k.in_width, k.channels)
        images, height, width, channels = (dims.substitute(n, values) for n in extents)
        return Layout(images, height, width, channels, k.input_dtype.size)

    @cached_property
    def result(self) -> Layout:
        """What the depthwise convolution writes, in dims of the model."""
        k, values = self.kernel, scalar_values(self.middle)
        height, width = (dims.substitute(n, values) for n in (k.out_height, k.out_width))
        size = k.stores[0].storage.size
        return Layout(self.source.images, height, width, self.source.channels, size)

    def fits(self) -> bool:
        """Whether the steps can be called for a band, and agree on what lies between them."""
        computed = self.program.computed.keys()
        for layout in (self.source, self.result):
            if not computed.isdisjoint(dims.symbols(layout.image_bytes)):
                return False  # scratch memory is planned before the call
        movable = all(advances(step) is not None for step in self.steps)
        return movable and self._fits_before() and self._fits_after()

    def _fits_before(self) -> bool:
        step, k, values = self.before, self.kernel, scalar_values(self.middle)
        if step is None:
            return True
        if not isinstance(step.kernel, Contraction) or not is_plain(step.kernel):
            return False
        strides = tuple(dims.substitute(n, values) for n in k.input_strides)
        dense = (self.source.height * self.source.row, self.source.row, self.source.channels)
        return (
            strides == dense
            and k.input_offset == 0
            and _writes_rows(step.kernel.stores[0], scalar_values(step), self.source)
            and step.kernel.stores[0].storage is k.input_dtype
            and _begins_at_zero(step, self.between[0])
            and _begins_at_zero(self.middle, self.between[0])
            and dims.substitute(step.kernel.rows, scalar_values(step)) == self.source.pixels
        )

    def _fits_after(self) -> bool:
        step, store = self.after, self.kernel.stores[0]
        if step is None:
            return True
        kernel = step.kernel
        if not isinstance(kernel, Contraction) or not is_plain(kernel):
            return False
        layout, values = self.result, scalar_values(step)
        n, y, x, c = (dims.symbol(name) for name in (N, LINE, X, CHANNEL))
        pixel = (n * layout.height + y) * layout.width + x
        offset = dims.substitute(_plain_names(store.offset), scalar_values(self.middle))
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


def chain_at(program: Program, position: int, uses: Counter[int], longest: int = 3) -> Chain | None:
    """The longest chain of at most so many steps that begins with a step."""
    for length in range(longest, 1, -1):
        chain = _as_chain(program, program.steps[position : position + length])
        if chain is not None and is_closed(program, chain.steps, uses) and chain.fits():
            return chain
    return None


def _as_chain(program: Program, steps: Sequence[Step]) -> Chain | None:
    """The steps as a chain, if they are of the right kinds."""
    middle = next((n for n, s in enumerate(steps) if isinstance(s.kernel, Depthwise)), None)
    if middle is None or len(steps) < 2:
        return None
    before, after = list(steps[:middle]), list(steps[middle + 1 :])
    if max(len(before), len(after)) > 1:
        return None
    if not all(isinstance(step.kernel, Contraction) for step in (*before, *after)):
        return None
    return Chain(program, next(iter(before), None), steps[middle], next(iter(after), None))


def is_closed(program: Program, steps: Sequence[Step], uses: Counter[int]) -> bool:
    """Whether each step writes for the next alone; `uses` counts the steps that use a buffer."""
    for step, reader in pairwise(steps):
        if len(step.writes) != 1 or step.writes[0] not in reader.reads:
            return False
        buffer = step.writes[0]
        kept = program.buffers[buffer].kind != "temporary"
        if kept or buffer in program.reserved or uses[buffer] != 2:
            return False
    return True


def is_plain(kernel: Contraction) -> bool:
    """Whether it is one product whose rows are pixels."""
    is_one = kernel.batches == 1 and kernel.taps == 1 and len(kernel.stores) == 1
    return is_one and kernel.linear_row is not None and kernel.sums_operand is None


def _writes_rows(store: Store, values: Values, layout: Layout) -> bool:
    """Whether a product of pixels stores them as this layout has them."""
    offset = dims.substitute(_plain_names(store.offset), values)
    return offset == dims.symbol(PIXEL) * layout.channels + dims.symbol(COLUMN)


def _plain_names(offset: Dim) -> Dim:
    """An offset in terms of variables without their ranges, which differ between layers."""
    names = (PIXEL, COLUMN, N, LINE, X, CHANNEL)
    return dims.substitute(offset, {name: dims.symbol(name) for name in names})


def _begins_at_zero(step: Step, buffer: int) -> bool:
    return all(a.offset_bytes == 0 for a in step.arguments if a.buffer == buffer)


def scalar_values(step: Step) -> Values:
    """What the scalars of a step's kernel stand for, in dims of the model."""
    assert isinstance(step.kernel, (Contraction, Depthwise, Nest))
    return dict(zip(step.kernel.scalars, step.scalars, strict=True))


# Bands -------------------------------------------------------------------------------------------
def advances(step: Step) -> list[Advance] | None:
    """How the pointer of every operand moves with the first pixel (of a product), with image and
    row (of a convolution) or with all loops but the last (of a nest), in terms of the kernel's
    scalars; None if that is not all that changes.
    """
    kernel = step.kernel
    if isinstance(kernel, Nest):
        names = [loop.name for loop in kernel.loops]
        moves = _moves(kernel.stores, kernel.operand_count, tuple(names[:-1]), ())
        parts = [part for advance in moves or () for part in advance]
        return None if any(dims.depends_on(part, names) for part in parts) else moves
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
