"""Which front end reads a model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ranvier.errors import CompileError

SUFFIXES = {".pt2": "torch", ".onnx": "onnx"}


def detect(model: Any) -> str:
    """The name of the front end for a model.

    `torch` for a module, a program or a `.pt2` path; `onnx` for a `ModelProto` or an `.onnx` path.
    Imports no framework. Raises CompileError for anything that no front end reads.
    """
    if isinstance(model, (str, os.PathLike)):
        return _by_suffix(Path(model))
    torch, onnx = sys.modules.get("torch"), sys.modules.get("onnx")
    if torch is not None and isinstance(model, (torch.nn.Module, torch.export.ExportedProgram)):
        return "torch"
    if onnx is not None and isinstance(model, onnx.ModelProto):
        return "onnx"
    raise CompileError(
        f"no front end reads {type(model).__module__}.{type(model).__qualname__}; expected a "
        "torch.nn.Module, an ExportedProgram, an onnx.ModelProto, or the path of a .pt2 or .onnx "
        "file"
    )


def _by_suffix(path: Path) -> str:
    if path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    raise CompileError(
        f"no front end reads {path.suffix or 'a file without a suffix'}: {path}; known: "
        f"{', '.join(SUFFIXES)}"
    )
