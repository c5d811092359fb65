"""All translations of ATen operators; importing this module fills the table."""

from __future__ import annotations

from ranvier.frontends.torch import (
    aten_contractions,
    aten_data_sizes,
    aten_distances,
    aten_elementwise,
    aten_grids,
    aten_indexing,
    aten_normalization,
    aten_pads,
    aten_parts,
    aten_pooling,
    aten_recurrent,
    aten_reductions,
    aten_resampling,
    aten_scans,
    aten_scatters,
    aten_selection,
    aten_sources,
    aten_special,
    aten_strides,
    aten_views,
    aten_windows,
    complex_numbers,
    fourier,
    torchvision_nms,
    torchvision_roi_align,
)
from ranvier.frontends.torch.registry import TABLE

__all__ = ["ASSERTIONS", "GROUPS", "TABLE"]

GROUPS = (
    aten_contractions,
    aten_data_sizes,
    aten_distances,
    aten_elementwise,
    aten_grids,
    aten_indexing,
    aten_normalization,
    aten_pads,
    aten_parts,
    aten_pooling,
    aten_recurrent,
    aten_reductions,
    aten_resampling,
    aten_scans,
    aten_scatters,
    aten_selection,
    aten_sources,
    aten_special,
    aten_strides,
    aten_views,
    aten_windows,
    complex_numbers,
    fourier,
    torchvision_nms,
    torchvision_roi_align,
)

ASSERTIONS = frozenset(
    {
        "aten._assert_async.default",
        "aten._assert_async.msg",
        "aten._assert_scalar.default",
        "aten._assert_tensor_metadata.default",
        "aten._functional_assert_async.msg",
        "aten._functional_assert_scalar.default",
        "aten._linalg_check_errors.default",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
    }
)
"""Checks of what tracing assumed; they have no result that a model reads."""
