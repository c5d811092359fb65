"""The packed layout of a contraction's B: panels of columns, as the micro-kernel streams them.

    packed[panel][tap][step][column in panel][element of the step]

A panel holds `vectors` vector registers of columns. A step is what one multiply-add instruction
consumes: two successive k of bf16 (`vdpbf16ps` adds the products of a pair), one k of f32. Columns
and depth are padded with zeros; the last panel is stored at full width, but only the vectors that
hold columns are read.

The layout is a function of (columns, depth, taps, dtype, lanes) alone, so the packer of constants,
the kernel that packs a B computed at run time, and the contraction agree without passing anything
around. Panel-major packing of B is that of Goto and van de Geijn, "Anatomy of High-Performance
Matrix Multiplication" (ACM TOMS 34, 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F32, DType
from ranvier.lowering.expression import Guard

MAXIMUM_VECTORS = {16: 4, 8: 2, 4: 2}  # f32 lanes -> vectors in the widest panel


@dataclass(frozen=True)
class PackedIndex:
    """Which element of B[tap, k, n] a packed offset holds; zero where a guard fails."""

    tap: Dim
    k: Dim
    n: Dim
    guards: tuple[Guard, ...]


@dataclass(frozen=True)
class PanelLayout:
    """How B[taps, depth, columns] of F32 or BF16 is packed for vectors of `lanes` f32 lanes."""

    columns: Dim
    depth: Dim
    taps: Dim
    dtype: DType
    lanes: int

    def __post_init__(self) -> None:
        if self.dtype not in (F32, BF16):
            raise ValueError(f"contractions take f32 and bf16, not {self.dtype}")

    @property
    def unit(self) -> int:
        """Elements of k in one step."""
        return 2 if self.dtype is BF16 else 1

    @property
    def vectors(self) -> int:
        """Vectors per panel: few panels of equal width; the widest for symbolic columns."""
        widest = MAXIMUM_VECTORS[self.lanes]
        if not isinstance(self.columns, int):
            return widest
        needed = max(1, -(-self.columns // self.lanes))
        return -(-needed // -(-needed // widest))

    @property
    def width(self) -> int:
        """Columns per panel."""
        return self.vectors * self.lanes

    @property
    def step_bytes(self) -> int:
        """Bytes of a step in a panel."""
        return self.width * self.unit * self.dtype.size

    @property
    def panels(self) -> Dim:
        """Panels, the partial last one included."""
        return (self.columns + (self.width - 1)) // self.width

    @property
    def steps_per_tap(self) -> Dim:
        """Steps that the depth of one tap takes, padding included."""
        return (self.depth + (self.unit - 1)) // self.unit

    @property
    def steps(self) -> Dim:
        """Steps in a panel."""
        return self.taps * self.steps_per_tap

    @property
    def panel_size(self) -> Dim:
        """Elements in a panel."""
        return self.steps * (self.width * self.unit)

    @property
    def size(self) -> Dim:
        """Elements of packed B for one batch; also the batch stride of a packed batch."""
        return self.panels * self.panel_size

    def offset(self, panel: Dim, tap: Dim, step: Dim, column: Dim, element: Dim = 0) -> Dim:
        """Packed element offset of B[tap, step * unit + element, panel * width + column]."""
        row = panel * self.steps + tap * self.steps_per_tap + step
        return (row * self.width + column) * self.unit + element

    def source(self, panel: Dim, tap: Dim, step: Dim, column: Dim, element: Dim = 0) -> PackedIndex:
        """The element of B at `offset` of the same arguments; zero where a guard fails."""
        n, k = panel * self.width + column, step * self.unit + element
        guards = tuple(
            Guard(index, limit)
            for index, limit, block in ((n, self.columns, self.width), (k, self.depth, self.unit))
            if not (isinstance(limit, int) and limit % block == 0)
        )
        return PackedIndex(tap, k, n, guards)
