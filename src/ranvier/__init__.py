"""Ranvier: compiles trained neural networks ahead of time into one file that runs on CPU cores."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ranvier.api import Analysis as Analysis
    from ranvier.api import CompiledModel as CompiledModel
    from ranvier.api import analyze as analyze
    from ranvier.api import trace as trace
    from ranvier.runtime.model import Model as Model
    from ranvier.runtime.model import load as load

__all__ = ["Analysis", "CompiledModel", "Model", "__version__", "analyze", "load", "trace"]

_LAZY = {
    "Analysis": "ranvier.api",
    "CompiledModel": "ranvier.api",
    "Model": "ranvier.runtime.model",
    "analyze": "ranvier.api",
    "load": "ranvier.runtime.model",
    "trace": "ranvier.api",
}  # kept out of `import ranvier`: a machine that only runs artifacts has NumPy alone


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ranvier' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
