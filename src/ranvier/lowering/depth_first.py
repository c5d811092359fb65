"""Chains of steps -> depth-first steps, where what lies between them is larger than the cache.

    product of pixels (optional)  ->  depthwise convolution  ->  product of pixels (optional)

as in the inverted residuals of MobileNetV2 (arXiv 1801.04381). Computed layer by layer, what the
first product expands an image to goes to memory and back twice; computed band by band (Alwani et
al., "Fused-Layer CNN Accelerators", MICRO 2016) it stays in the second-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.chains import Chain, chain_at, scalar_values
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
from ranvier.lowering.links import LinkBuilder, even_bands
from ranvier.lowering.options import LoweringOptions
from ranvier.lowering.program import Argument, Program, Step
from ranvier.lowering.typical import typical
from ranvier.target import Target

_CACHE_SHARE = 2  # a band takes one part in so many of the second-level cache
_WEIGHT_SHARE = 4  # the products' weights at most one in so many: every band reads them
_PIECE_ROWS = 8  # input rows of a piece of work for each row that it computes once more


def fuse_chains(program: Program, target: Target, options: LoweringOptions) -> list[Step]:
    """The steps of a program, in which depth-first steps replace the chains that gain from it.

    Buffers between the steps of such a chain become empty.
    """
    uses = program.uses()
    fused: list[Step] = []
    position = 0
    while position < len(program.steps):
        chain = chain_at(program, position, uses)
        while chain is not None and not _is_worth(chain, target, options):
            chain = chain_at(program, position, uses, len(chain.steps) - 1)
        if chain is None:
            fused.append(program.steps[position])
            position += 1
        else:
            fused.append(_Fusion(program, target, chain).step())
            position += len(chain.steps)
    return fused


def _is_worth(chain: Chain, target: Target, options: LoweringOptions) -> bool:
    """Whether it gains, as the cost model says unless the options decide it."""
    asked = options.schedule_of(chain.steps[-1].label).depth_first
    if asked is not None:
        return asked
    images = [chain.source.image_bytes] if chain.before else []
    images += [chain.result.image_bytes] if chain.after else []
    products = [step for step in (chain.before, chain.after) if step is not None]
    weights = sum(chain.program.weight_bytes(step) for step in products)
    is_large = any(typical(size) > target.l2_bytes for size in images)
    return is_large and weights * _WEIGHT_SHARE <= target.l2_bytes


@dataclass
class _Fusion:
    """Builds the step of a chain."""

    program: Program
    target: Target
    chain: Chain
    build: LinkBuilder = field(init=False)

    def __post_init__(self) -> None:
        self.build = LinkBuilder(self.program)

    def step(self) -> Step:
        """The depth-first step."""
        chain, kernel, build = self.chain, self.chain.kernel, self.build
        (kernel_height, _), (stride, _), (dilation, _) = (
            kernel.kernel, kernel.strides, kernel.dilations
        )  # fmt: skip
        bands, band = self._bands()
        window = band_memory = None
        if chain.before is not None:
            rows = (band - 1) * stride + (kernel_height - 1) * dilation + 1
            window = build.scratch(rows * chain.source.row_bytes)
        if chain.after is not None:
            band_memory = build.scratch(band * chain.result.row_bytes)
        links = self._links(window, band_memory)
        window_at: Window | None = None
        if window is not None:
            window_at = Window(build.operand(window), build.scalar(chain.source.row_bytes))
        described = DepthFirst(
            links=links,
            images=build.scalar(chain.source.images),
            height=build.scalar(chain.source.height),
            out_height=build.scalar(chain.result.height),
            above=build.scalar(self._above),
            kernel_height=kernel_height,
            stride=stride,
            dilation=dilation,
            bands=build.scalar(bands),
            window=window_at,
            operand_count=len(build.arguments),
            scalars=build.scalar_names,
        )
        scratch = [memory for memory in (window, band_memory) if memory is not None]
        return build.step(described, chain.steps, chain.between, scratch, self._most_pieces())

    @property
    def _above(self) -> Dim:
        """Rows of padding above the image."""
        return dims.substitute(self.chain.kernel.padding[0], scalar_values(self.chain.middle))

    @property
    def _overlap(self) -> int:
        """Rows of the window that a band shares with the one before."""
        k = self.chain.kernel
        return max((k.kernel[0] - 1) * k.dilations[0] + 1 - k.strides[0], 0)

    def _bands(self) -> tuple[Dim, Dim]:
        """The bands of an image, and the rows of the highest."""
        chain = self.chain
        budget: Dim = self.target.l2_bytes // _CACHE_SHARE
        row_bytes: Dim = 0
        if chain.before is not None:
            budget = budget - chain.source.row_bytes * self._overlap
            row_bytes = row_bytes + chain.source.row_bytes * chain.kernel.strides[0]
        if chain.after is not None:
            row_bytes = row_bytes + chain.result.row_bytes
        fitting = dims.maximum(dims.floordiv(budget, dims.maximum(row_bytes, 1)), 1)
        return even_bands(chain.result.height, fitting)

    def _most_pieces(self) -> Dim | None:
        """What is computed again where a piece begins is to be little of it."""
        chain = self.chain
        if chain.before is None or self._overlap == 0:
            return None
        rows = chain.result.images * chain.result.height * chain.kernel.strides[0]
        return dims.maximum(dims.floordiv(rows, _PIECE_ROWS * self._overlap), 1)

    # Links ----------------------------------------------------------------------------------------
    def _links(self, window: Argument | None, band: Argument | None) -> tuple[Link, ...]:
        chain, build, links = self.chain, self.build, []
        if chain.before is not None:
            assert window is not None
            width = build.scalar(chain.source.width)
            first = (IMAGE * build.scalar(chain.source.height) + FRESH) * width
            into = (FRESH - BEGIN) * build.scalar(chain.source.row_bytes)
            places = {chain.between[0]: (window, into)}
            links.append(build.product(chain.before, first, (END - FRESH) * width, places))
        links.append(self._convolution(window, band))
        if chain.after is not None:
            assert band is not None
            width = build.scalar(chain.result.width)
            first = (IMAGE * build.scalar(chain.result.height) + Y) * width
            places = {chain.between[-1]: (band, 0)}
            links.append(build.product(chain.after, first, ROWS * width, places))
        return tuple(links)

    def _convolution(self, window: Argument | None, band: Argument | None) -> Link:
        """The rows of the band, from an image that ends with the window."""
        step, kernel, build = self.chain.middle, self.chain.kernel, self.build
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
        operands = list(build.operands(step, (IMAGE, Y), places))
        if window is None:
            number, renamed = kernel.input_operand, build.renamed(step)
            image, row = (dims.substitute(n, renamed) for n in kernel.input_strides[:2])
            begin = (IMAGE * image + BEGIN * row) * kernel.input_dtype.size
            operands[number] = operands[number][0], begin
        top = Y * kernel.strides[0] - build.scalar(self._above)
        scalars = (*map(build.scalar, step.scalars), END - BEGIN, ROWS, BEGIN - top)
        return Link(described, tuple(operands), scalars)
