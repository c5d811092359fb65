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
    from ranvier.ir.operators.custom import register_operator as register_operator
    from ranvier.runtime.model import Model as Model
    from ranvier.runtime.model import load as load
    from ranvier.verification import Verification as Verification
    from ranvier.verification import verify as verify

__all__ = [
    "Analysis",
    "CompiledModel",
    "Model",
    "Verification",
    "__version__",
    "analyze",
    "load",
    "register_operator",
    "trace",
    "verify",
]

_LAZY = {
    "Analysis": "ranvier.api",
    "CompiledModel": "ranvier.api",
    "Model": "ranvier.runtime.model",
    "Verification": "ranvier.verification",
    "analyze": "ranvier.api",
    "load": "ranvier.runtime.model",
    "register_operator": "ranvier.ir.operators.custom",
    "trace": "ranvier.api",
    "verify": "ranvier.verification",
}  # kept out of `import ranvier`: a machine that only runs artifacts has NumPy alone


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ranvier' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
