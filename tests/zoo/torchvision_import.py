"""Import torchvision beside a PyTorch build that its native operators were not compiled for.

Importing torchvision registers shape functions for `torchvision::nms` and `torchvision::qnms`;
where its native library does not load these names are unknown and the import fails. Defining
the names first is enough for the models, none of which calls them.
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
