"""The MODEL of a command: a file, or a function of the user's code that builds the model."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ranvier.cli.extras import require
from ranvier.errors import CompileError
from ranvier.frontends.detect import detect

_EXPECTED = "expected (model, args), (model, args, kwargs) or (model, args, kwargs, dynamic_shapes)"


@dataclass(frozen=True)
class ModelSource:
    """A model with what `ranvier.trace` wants to know of it; `name` is a good name for its file.

    `frontend` is the library that its front end needs.
    """

    model: Any
    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    dynamic_shapes: Any = None

    @property
    def frontend(self) -> str:
        """The front end that reads the model."""
        return detect(self.model)


def load_model(text: str, dims: Mapping[str, object] | None = None) -> ModelSource:
    """Read a MODEL argument: a path, `file.py:function` or `module:function`.

    `dims` are sizes or ranges of dims by name, which only ONNX models take.

    Raises:
        CompileError: no such file, module or function, or the function fails or returns something
            else.
    """
    where, colon, function = text.rpartition(":")
    if not colon or Path(text).exists():
        path = Path(text)
        if not path.is_file():
            raise CompileError(f"{text} is neither a file nor FILE.py:FUNCTION nor MODULE:FUNCTION")
        return _with_dims(ModelSource(text, path.stem), dims)
    build = _function(_module(where, text), function, text)
    try:
        result = build()
    except Exception as error:  # the user's code may raise anything
        raise _failed(text, error) from error
    return _with_dims(_source(result, function, text), dims)


def _with_dims(source: ModelSource, dims: Mapping[str, object] | None) -> ModelSource:
    frontend = source.frontend
    require(frontend)
    if not dims:
        return source
    if frontend != "onnx":
        raise CompileError(
            "--dim is for ONNX models; the symbolic sizes of a PyTorch model are those that it was "
            "exported with (dynamic_shapes)"
        )
    return replace(source, dynamic_shapes={**(source.dynamic_shapes or {}), **dims})


def _module(where: str, text: str) -> ModuleType:
    try:
        if not where.endswith(".py"):
            if "" not in sys.path:
                sys.path.insert(0, "")
            return importlib.import_module(where)
        path = Path(where).resolve()
        if not path.is_file():
            raise CompileError(f"{where} is not a file")
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module
    except CompileError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise _failed(text, error) from error


def _function(module: ModuleType, name: str, text: str) -> Callable[[], Any]:
    found = getattr(module, name, None)
    if not callable(found):
        raise CompileError(f"{text}: {module.__name__} has no function {name!r}")
    function: Callable[[], Any] = found
    return function


def _source(result: Any, name: str, text: str) -> ModelSource:
    if not isinstance(result, tuple) or not 2 <= len(result) <= 4:
        raise CompileError(f"{text} returned {_short(result)}; {_EXPECTED}")
    model, args, *rest = result
    kwargs = rest[0] if rest else None
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise CompileError(f"{text} returned {_short(kwargs)} as kwargs; {_EXPECTED}")
    positional = tuple(args) if isinstance(args, (list, tuple)) else (args,)
    return ModelSource(model, name, positional, kwargs, rest[1] if len(rest) > 1 else None)


def _failed(text: str, error: Exception) -> CompileError:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return CompileError(f"{text} failed{place}: {type(error).__name__}: {error}")


def _short(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (list, tuple)) else ""
    return f"a {type(value).__name__}{size}"
