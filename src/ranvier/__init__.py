"""Ranvier: compiles trained neural networks ahead of time into one file that runs on CPU cores."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranvier.runtime.model import Model as Model
    from ranvier.runtime.model import load as load

__all__ = ["Model", "load"]

_LAZY = {"Model": "ranvier.runtime.model", "load": "ranvier.runtime.model"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ranvier' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
