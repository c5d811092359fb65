"""Commands that need more than the base install say so by the name of the extra."""

from __future__ import annotations

import importlib.util

from ranvier.errors import CompileError

_EXTRA = {"llvmlite": "compile", "torch": "torch", "onnx": "onnx"}


def require(*libraries: str) -> None:
    """Raise CompileError, with the extra to install, when one of the libraries is missing."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise CompileError(
                f"this command needs {library}, which is not installed: "
                f"pip install 'ranvier[{_EXTRA[library]}]'"
            )
