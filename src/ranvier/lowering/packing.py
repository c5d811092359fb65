"""Packing of constant B matrices at compile time; the layout itself is `kernels/panels.py`."""

from __future__ import annotations

import numpy as np

from ranvier.ir.dtype import Array
from ranvier.lowering.kernels.panels import PanelLayout


def pack(b: Array, layout: PanelLayout) -> Array:
    """Pack B for the contraction kernel.

    `b` is [taps, depth, columns] or [batch, taps, depth, columns] in the layout's storage dtype
    (bf16 as uint16 bits); the result is [batch, layout.size], contiguous (batch 1 for a `b`
    without one).
    Raises ValueError when `b` does not have the layout's extents or dtype.
    """
    expected = (layout.taps, layout.depth, layout.columns)
    if b.shape[-3:] != expected or b.ndim not in (3, 4):
        raise ValueError(f"B has shape {b.shape}, the layout wants [batch,] {expected}")
    if b.dtype != layout.dtype.storage:
        raise ValueError(f"B has dtype {b.dtype}, the layout wants {layout.dtype.storage}")
    taps, depth, columns = b.shape[-3:]
    batches = b.shape[0] if b.ndim == 4 else 1
    panels, steps = -(-columns // layout.width), -(-depth // layout.unit)
    padded = np.zeros((batches, taps, steps * layout.unit, panels * layout.width), b.dtype)
    padded[:, :, :depth, :columns] = b
    blocks = padded.reshape(batches, taps, steps, layout.unit, panels, layout.width)
    packed = np.ascontiguousarray(blocks.transpose(0, 4, 1, 2, 5, 3))
    return packed.reshape(batches, panels * taps * steps * layout.width * layout.unit)
