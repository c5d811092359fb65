"""The depth-first kernel: a band of image rows goes through a chain of kernels before the next one.

    product of pixels (optional)  ->  depthwise convolution  ->  product of pixels (optional)
    element-wise step  ->  product of pixels

What the first product computes is a *window*: the input rows that the convolution needs for a band
of its output rows. It lies in scratch memory of the thread, as does the band that the step before
the last product writes. Of the window that the band before has left, rows that are needed again
move to its beginning, so that every row is computed once per share of the work. The second form has
no window, and a single pixel for a row.

- The kernels of the chain are ordinary ones, described for a single band: `Link` says with what
  pointers and scalars each is called, in terms of the chain's scalars and of the variables of a
  band. The band is the `rows` rows from row `y` on of the output of `image`. The window is the rows
  of the input from `begin` to before `end`, of which those before `fresh` are there already.
- Work is split evenly over threads by bands.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.depthwise import Depthwise
from ranvier.lowering.kernels.nest import Nest

IMAGE, Y, ROWS, BEGIN, FRESH, END = (
    dims.symbol(f"${name}") for name in ("image", "y", "rows", "begin", "fresh", "end")
)


@dataclass(frozen=True)
class Link:
    """A kernel of the chain: its operands, each an operand of the chain and an offset in bytes, and
    its scalars.
    """

    kernel: Contraction | Depthwise | Nest
    operands: tuple[tuple[int, Dim], ...]
    scalars: tuple[Dim, ...]


@dataclass(frozen=True)
class Window:
    """Where the window lies, and the bytes of a row."""

    operand: int
    row_bytes: Dim


@dataclass(frozen=True)
class DepthFirst:
    """Static description; extents are names of scalar arguments or integers.

    `height` is that of the image that the convolution reads, `out_height` that of its result, and
    `above` the rows of padding above the image. All bands but the last of an image are a multiple
    of `granule` rows.
    """

    links: tuple[Link, ...]
    images: Dim
    height: Dim
    out_height: Dim
    above: Dim
    kernel_height: int
    stride: int
    dilation: int
    bands: Dim  # of an image
    window: Window | None
    operand_count: int
    scalars: tuple[str, ...]
    granule: int = 1
