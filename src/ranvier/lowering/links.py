"""Builds depth-first steps: how each kernel of a chain is called for a band.

The kernels of a chain are those of the steps that it replaces, but for their extents. Their
operands and scalars become operands and scalars of the chain, numbered as they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.chains import advances, scalar_values
from ranvier.lowering.claims import THREADS
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.depth_first import DepthFirst, Link
from ranvier.lowering.program import Argument, Buffer, Program, Step

PIXELS = dims.symbol("$pixels")  # the rows of a kernel that runs for a band
_ALIGNMENT = 64  # bytes of a cache line

Places = Mapping[int, tuple[Argument, Dim]]  # buffer -> where in a band it lies instead


def even_bands(rows: Dim, fitting: Dim) -> tuple[Dim, Dim]:
    """The bands of an image, as many for every thread, and the rows of the highest; `fitting` rows
    fit the cache.
    """
    fewest = dims.floordiv(rows + fitting - 1, fitting)
    even = dims.floordiv(fewest + THREADS - 1, THREADS) * THREADS
    bands = dims.maximum(dims.minimum(even, rows), 1)
    return bands, dims.floordiv(rows + bands - 1, bands)


@dataclass
class LinkBuilder:
    """Numbers the arguments and scalars of a chain's kernel, and makes its links."""

    program: Program
    arguments: list[Argument] = field(default_factory=list)
    scalars: dict[Dim, Dim] = field(default_factory=dict)  # dim of the model -> that of the kernel

    def scalar(self, value: Dim) -> Dim:
        """A dim of the model as a scalar argument."""
        return self.scalars.setdefault(value, dims.symbol(f"s{len(self.scalars)}"))

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The scalar arguments, in order."""
        return tuple(str(name) for name in self.scalars.values())

    def operand(self, argument: Argument) -> int:
        """The number of an operand."""
        if argument not in self.arguments:
            self.arguments.append(argument)
        return self.arguments.index(argument)

    def scratch(self, size_bytes: Dim) -> Argument:
        """Memory of every thread."""
        lines = dims.floordiv(size_bytes + _ALIGNMENT - 1, _ALIGNMENT)
        own = lines * _ALIGNMENT
        return Argument(self.program.add_buffer(Buffer("temporary", own * THREADS)), 0, own)

    def renamed(self, step: Step) -> dict[str, Dim]:
        """The scalars of a step's kernel in terms of those of the chain."""
        return {name: self.scalar(value) for name, value in scalar_values(step).items()}

    def operands(
        self, step: Step, first: tuple[Dim, ...], places: Places
    ) -> tuple[tuple[int, Dim], ...]:
        """The operands of a step whose variables begin at `first`; what lies in a buffer of
        `places` lies there instead.
        """
        moves, renamed = advances(step), self.renamed(step)
        assert moves is not None
        operands: list[tuple[int, Dim]] = []
        for argument, advance in zip(step.arguments, moves, strict=True):
            moved: Dim = 0
            for part, begin in zip(advance, first, strict=True):
                moved = moved + dims.substitute(part, renamed) * begin
            argument, moved = places.get(argument.buffer, (argument, moved))
            operands.append((self.operand(argument), moved))
        return tuple(operands)

    def product(self, step: Step, first: Dim, count: Dim, places: Places) -> Link:
        """A product of pixels, of which there are `count` from `first` on."""
        kernel = step.kernel
        assert isinstance(kernel, Contraction)
        described = replace(kernel, rows=PIXELS, scalars=(*kernel.scalars, str(PIXELS)))
        scalars = (*map(self.scalar, step.scalars), count)
        return Link(described, self.operands(step, (first,), places), scalars)

    def step(
        self,
        kernel: DepthFirst,
        steps: Sequence[Step],
        between: Sequence[int],
        scratch: Sequence[Argument],
        most_pieces: Dim | None = None,
    ) -> Step:
        """The step that replaces `steps`; the buffers between them become empty."""
        gone = set(between)
        passed: Dim = 0
        for buffer in gone:
            passed = passed + self.program.buffers[buffer].size_bytes * 2
            self.program.buffers[buffer] = replace(self.program.buffers[buffer], size_bytes=0)
        flops: Dim = 0
        moved: Dim = 0
        for step in steps:
            flops, moved = flops + step.flops, moved + step.bytes
        written = {n for step in steps for n in step.writes} - gone
        return Step(
            kernel,
            tuple(self.arguments),
            tuple(self.scalars),
            tuple(sorted({n for step in steps for n in step.reads} - gone)),
            tuple(sorted(written | {argument.buffer for argument in scratch})),
            steps[-1].label,
            steps[-1].source,
            tuple(operator for step in steps for operator in step.operators),
            flops,
            moved - passed,
            result=steps[-1].result,
            most_pieces=most_pieces,
        )
