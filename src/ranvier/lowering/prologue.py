"""Element-wise steps in front of products of pixels -> depth-first steps, where images are large.

    element-wise step  ->  product of pixels

as the normalisation and ReLU before every 1x1 convolution of DenseNet (arXiv 1608.06993), or the
multiplication that ends a squeeze-and-excitation (arXiv 1709.01507). What the first computes for a
band of pixels stays in the second-level cache, where the product reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.chains import advances, is_closed, is_plain, scalar_values
from ranvier.lowering.expression import Access, Loop, Reduce, walk
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.depth_first import IMAGE, ROWS, DepthFirst, Link, Y
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.links import PIXELS, LinkBuilder, even_bands
from ranvier.lowering.options import LoweringOptions
from ranvier.lowering.program import Argument, Program, Step
from ranvier.lowering.typical import typical
from ranvier.target import Target

_CACHE_SHARE = 4  # one part in so many of the second-level cache: threads share many bands evenly
_WEIGHT_SHARE = 4  # the product's weights at most one in so many: every band reads them
_TILE_ROWS = 24  # a multiple of the height of almost every register tile


def fuse_prologues(program: Program, target: Target, options: LoweringOptions) -> list[Step]:
    """The steps of a program, in which depth-first steps replace prologues and their products
    where that gains.

    Buffers between two such steps become empty.
    """
    uses = program.uses()
    fused: list[Step] = []
    for step in program.steps:
        found = _as_prologue(program, [*fused[-1:], step], uses)
        if found is None or not found.is_worth(target, options):
            fused.append(step)
        else:
            fused[-1] = found.step(target)
    return fused


@dataclass(frozen=True)
class Prologue:
    """The two steps; what lies between them is read by nobody else.

    The loops of the first are those over images (which may be missing), pixels and channels.
    """

    program: Program
    before: Step
    product: Step

    @property
    def nest(self) -> Nest:
        """The kernel of the first step."""
        assert isinstance(self.before.kernel, Nest)
        return self.before.kernel

    @property
    def images(self) -> Dim:
        """In dims of the model; one where the first step need not tell images apart."""
        outer = self.nest.loops[:-2]
        return self._extent(outer[0]) if outer else 1

    @property
    def pixels(self) -> Dim:
        """Of an image."""
        return self._extent(self.nest.loops[-2])

    @property
    def channels(self) -> Dim:
        """Of a pixel."""
        return self._extent(self.nest.loops[-1])

    @property
    def pixel_bytes(self) -> Dim:
        """Of what lies between the steps."""
        return self.channels * self.nest.stores[0].storage.size

    def fits(self) -> bool:
        """Whether the steps can be called for a band, and agree on what lies between them."""
        kernel = self.product.kernel
        assert isinstance(kernel, Contraction)
        if not _is_elementwise(self.nest) or not is_plain(kernel):
            return False
        if any(advances(step) is None for step in (self.before, self.product)):
            return False
        image_bytes = self.pixels * self.pixel_bytes
        if not self.program.computed.keys().isdisjoint(dims.symbols(image_bytes)):
            return False  # scratch memory is planned before the call
        values = scalar_values(self.product)
        assert kernel.linear_row is not None
        return (
            self._stores_pixels()
            and self.nest.stores[0].storage is kernel.a_dtype
            and dims.substitute(kernel.rows, values) == self.images * self.pixels
            and tuple(dims.substitute(n, values) for n in kernel.linear_row) == (self.channels, 0)
        )

    def _stores_pixels(self) -> bool:
        """Whether the first step writes pixel after pixel."""
        *outer, pixel, channel = (dims.symbol(loop.name) for loop in self.nest.loops)
        row = outer[0] * self.nest.loops[-2].extent + pixel if outer else pixel
        plain = {loop.name: dims.symbol(loop.name) for loop in self.nest.loops}
        offset = dims.substitute(self.nest.stores[0].offset, plain)
        return offset == row * self.nest.loops[-1].extent + channel

    def _extent(self, loop: Loop) -> Dim:
        return dims.substitute(loop.extent, scalar_values(self.before))

    def is_worth(self, target: Target, options: LoweringOptions) -> bool:
        """Whether it gains, as the cost model says unless the options decide it."""
        asked = options.schedule_of(self.product.label).depth_first
        if asked is not None:
            return asked
        assert self.before.result is not None
        image = dims.product(self.before.result.shape[1:]) * self.nest.stores[0].storage.size
        weights = self.program.weight_bytes(self.product)
        return typical(image) > target.l2_bytes and weights * _WEIGHT_SHARE <= target.l2_bytes

    def step(self, target: Target) -> Step:
        """The depth-first step."""
        build = LinkBuilder(self.program)
        tiles = dims.floordiv(self.pixels + _TILE_ROWS - 1, _TILE_ROWS)
        tile_bytes = dims.maximum(self.pixel_bytes * _TILE_ROWS, 1)
        fitting = dims.maximum(dims.floordiv(target.l2_bytes // _CACHE_SHARE, tile_bytes), 1)
        bands, highest = even_bands(tiles, fitting)
        band = build.scratch(highest * _TILE_ROWS * self.pixel_bytes)
        images, pixels = build.scalar(self.images), build.scalar(self.pixels)
        links = (
            self._band_of_nest(build, band),
            build.product(self.product, IMAGE * pixels + Y, ROWS, {self.between: (band, 0)}),
        )
        described = DepthFirst(
            links=links,
            images=images,
            height=pixels,
            out_height=pixels,
            above=0,
            kernel_height=1,
            stride=1,
            dilation=1,
            bands=build.scalar(bands),
            window=None,
            operand_count=len(build.arguments),
            scalars=build.scalar_names,
            granule=_TILE_ROWS,
        )
        return build.step(described, (self.before, self.product), (self.between,), (band,))

    @property
    def between(self) -> int:
        """The buffer between the steps."""
        return self.before.writes[0]

    def _band_of_nest(self, build: LinkBuilder, band: Argument) -> Link:
        """The first step for the pixels of a band."""
        nest = self.nest
        *outer, pixel, channel = nest.loops
        alone = [replace(loop, extent=1) for loop in outer]
        described = replace(
            nest,
            loops=(*alone, replace(pixel, extent=PIXELS), channel),
            scalars=(*nest.scalars, str(PIXELS)),
        )
        first = (IMAGE, Y) if outer else (Y,)
        scalars = (*map(build.scalar, self.before.scalars), ROWS)
        return Link(
            described, build.operands(self.before, first, {self.between: (band, 0)}), scalars
        )


def _as_prologue(program: Program, steps: Sequence[Step], uses: Counter[int]) -> Prologue | None:
    """The two steps as a prologue and its product, if they are."""
    kinds = [type(step.kernel) for step in steps]
    if kinds != [Nest, Contraction] or not is_closed(program, steps, uses):
        return None
    found = Prologue(program, *steps)
    return found if found.fits() else None


def _is_elementwise(nest: Nest) -> bool:
    """Whether every element follows from elements at places that its own place tells."""
    if len(nest.stores) != 1 or len(nest.loops) not in (2, 3):
        return False
    nodes = [node for store in nest.stores for node in walk(store.value)]
    return not any(
        isinstance(node, Reduce) or (isinstance(node, Access) and node.indirect) for node in nodes
    )
