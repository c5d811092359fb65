"""Import torchvision beside a PyTorch build that its native operators were not compiled for.

Importing torchvision registers shape functions for `torchvision::nms` and `torchvision::qnms`;
where its native library does not load these names are unknown and the import fails. Defining
the names first is enough for models that call none of them; detectors get `nms` in Python.
"""

from __future__ import annotations

from types import ModuleType

import torch

_DETECTION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_definitions: list[torch.library.Library] = []
"""Keeps the definitions alive: a library object takes them back when it is collected."""


def define_detection_operators() -> None:
    """Make `import torchvision` work, for callers and for packages that import it themselves."""
    if _definitions:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _DETECTION_OPERATORS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)  # type: ignore[no-untyped-call]
    _definitions.append(library)


def import_torchvision_models() -> ModuleType:
    """The module `torchvision.models`."""
    define_detection_operators()
    import torchvision.models

    models: ModuleType = torchvision.models
    return models


def import_torchvision_operators() -> ModuleType:
    """The module `torchvision.ops`; `nms` computes where the native library does not load, too."""
    define_detection_operators()
    import torchvision.ops

    operators: ModuleType = torchvision.ops
    if not torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU"):
        torch.library.impl("torchvision::nms", "CPU", _nms)
    if not torchvision.extension._has_ops():
        torchvision.ops.boxes._assert_has_ops = _assert_nothing
    return operators


def _assert_nothing() -> None:
    """In the place of torchvision's check for its native library; a function, for TorchScript."""


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """As torchvision's C++ code: in the order of scores, a box drops later ones that overlap it."""
    order = scores.argsort(descending=True, stable=True)
    low, high = boxes[order, :2], boxes[order, 2:]
    areas = (high - low).prod(1)
    dropped = torch.zeros(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if dropped[i]:
            continue
        shared = (torch.minimum(high, high[i]) - torch.maximum(low, low[i])).clamp(min=0).prod(1)
        overlaps = shared / (areas[i] + areas - shared) > iou_threshold
        overlaps[: i + 1] = False
        dropped |= overlaps
    return order[~dropped]
