"""The inventory of core ATen: every overload is translated, decomposed, or refused with a reason.

`torch.export` promises that the decomposed program of any model has no other ATen operators than
those tagged `torch.Tag.core` (https://docs.pytorch.org/docs/stable/torch.compiler_ir.html).
"""

from __future__ import annotations

import torch

from ranvier.frontends.torch.complex_numbers import COMPLEX
from ranvier.frontends.torch.export import decompositions
from ranvier.frontends.torch.translations import ASSERTIONS, TABLE
from ranvier.frontends.torch.untranslated import REASONS

NUMBERS = frozenset(
    {
        "aten._local_scalar_dense.default",
        "aten.sym_numel.default",
        "aten.sym_size.int",
        "aten.sym_storage_offset.default",
        "aten.sym_stride.int",
    }
)
"""Their results are numbers of the traced program: `body.Body` makes sizes or values of them."""

REFUSED = frozenset(
    {
        # random numbers
        "aten.rand.default",
        "aten.randn.default",
        "aten.randperm.default",
        # gradients
        "aten._adaptive_avg_pool2d_backward.default",
        "aten.avg_pool2d_backward.default",
        "aten.convolution_backward.default",
        "aten.max_pool2d_with_indices_backward.default",
        # writes running statistics
        "aten._native_batch_norm_legit.default",
        # changes the size of a tensor in place
        "aten.resize_.default",
        # torch.export makes it aten.atan2.default
        "aten.atan2.out",
    }
)
"""Core overloads that no model may use; each has a reason in `untranslated.REASONS`."""


def core_overloads() -> dict[str, torch._ops.OpOverload]:
    """Every ATen overload that is tagged as core, by name."""
    found: dict[str, torch._ops.OpOverload] = {}
    for schema in torch._C._jit_get_all_schemas():
        namespace, _, packet = schema.name.partition("::")
        overload = getattr(getattr(torch.ops.aten, packet, None), schema.overload_name or "default",
                           None)  # fmt: skip
        if namespace == "aten" and overload is not None and torch.Tag.core in overload.tags:
            found[str(overload)] = overload
    return found


def test_every_core_overload_is_accounted_for() -> None:
    core = core_overloads()
    assert len(core) > 180
    removed = {name for name, overload in core.items() if overload in decompositions()}
    handled = TABLE.keys() | COMPLEX.keys() | removed | NUMBERS | ASSERTIONS
    assert sorted(core.keys() - handled) == sorted(REFUSED)


def test_what_is_refused_has_a_reason_and_no_translation() -> None:
    removed = {str(overload) for overload in decompositions()}
    assert REASONS.keys() >= REFUSED
    assert REASONS.keys().isdisjoint(TABLE.keys() | COMPLEX.keys())
    assert sorted(REASONS.keys() & removed) == []


def test_reasons_are_given_for_overloads_that_exist() -> None:
    for name in REASONS:
        _, packet, overload = name.split(".")
        assert getattr(getattr(torch.ops.aten, packet), overload) is not None
