"""Segments of PyTorch: a list of operator calls, looked up in `torch.ops`.

    document := {"calls": [call], "results": [reference]}
    call     := {"operator": "namespace.name.overload", "arguments": [value], "named": {str: value}}
    value    := number | string | true | false | null | [value] | {"operand": n} | {"size": n}
              | {"float": "inf" | "-inf" | "nan"} | {"dtype" | "layout" | "memory_format": name}
              | {"device": "cpu"} | reference
    reference:= {"call": n} | {"call": n, "item": n}

Nothing is unpickled and no Python source is run. `{"call": n}` is the result of an earlier call,
`item` one of several.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ranvier.errors import FrameworkError
from ranvier.segments.segment import Tensor, framework_module

_DTYPES = {
    "f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i8": "int8",
    "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16",
    "u32": "uint32", "u64": "uint64", "bool": "bool", "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz", "f8e5m2": "float8_e5m2", "f8e5m2fnuz": "float8_e5m2fnuz",
}  # fmt: skip
_OPERATOR = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)")
_NAMED = ("dtype", "layout", "memory_format")

Environment = tuple[list[Any], Sequence[int], list[Any]]  # operands, sizes, results of calls
Reader = Callable[[Environment], Any]


class TorchSegment:
    """Runs operators of PyTorch in the caller's thread and PyTorch's own worker threads."""

    def __init__(
        self,
        document: bytes,
        operands: Sequence[str],
        results: Sequence[str],
        sizes: int = 0,
        threads: int | None = None,
    ) -> None:
        """Raises FrameworkError when PyTorch, an operator or a type is missing, or for a document
        that is not of this form. PyTorch's threads are those of its process: `threads` is unused.
        """
        self._torch, self._process = framework_module("torch"), os.getpid()
        parsed = _parsed(document)
        self._sizes = sizes
        self._operands = [self._dtype(name) for name in operands]
        self._results = [self._dtype(name) for name in results]
        self._calls: list[_Call] = []
        for each in parsed["calls"]:
            self._calls.append(self._call(each))
        self._outputs = [self._reader(each) for each in parsed["results"]]
        if len(self._outputs) != len(results):
            raise _malformed(f"{len(self._outputs)} results for {len(results)} tensors")

    def run(
        self, operands: Sequence[Tensor], sizes: Sequence[int], results: Sequence[Tensor]
    ) -> None:
        """Compute `results`; operands are read where they lie."""
        if os.getpid() != self._process:
            # The threads of the parent's PyTorch are gone, and waiting for them never ends; PyTorch
            # sets its own worker processes to one thread, too.
            self._torch.set_num_threads(1)
            self._process = os.getpid()
        given = [self._view(t, d) for t, d in zip(operands, self._operands, strict=True)]
        environment: Environment = (given, sizes, [])
        with self._torch.no_grad():
            for call in self._calls:
                environment[2].append(call.run(environment))
            for read, tensor, dtype in zip(self._outputs, results, self._results, strict=True):
                self._store(read(environment), tensor, dtype)

    def _store(self, found: Any, tensor: Tensor, dtype: Any) -> None:
        if not isinstance(found, self._torch.Tensor) or found.dtype != dtype:
            kind = getattr(found, "dtype", type(found).__name__)
            raise FrameworkError(f"PyTorch gave {kind} where the artifact expects {dtype}")
        if tuple(found.shape) != tensor.shape:
            raise FrameworkError(
                f"PyTorch gave the shape {tuple(found.shape)} where the artifact expects "
                f"{tensor.shape}; this version of PyTorch computes something else"
            )
        self._view(tensor, dtype).copy_(found)

    def _view(self, tensor: Tensor, dtype: Any) -> Any:
        """A tensor on memory that stays where it is."""
        count = int(np.prod(tensor.shape, dtype=np.int64))
        if not count:
            return self._torch.empty(tensor.shape, dtype=dtype)
        raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(tensor.address)
        return self._torch.frombuffer(raw, dtype=dtype).view(tensor.shape)

    # Reading the document -------------------------------------------------------------------------
    def _call(self, document: Any) -> _Call:
        if not isinstance(document, dict):
            raise _malformed(f"a call is {document!r:.60}")
        name = document.get("operator")
        arguments, named = document.get("arguments", []), document.get("named", {})
        if not isinstance(arguments, list) or not isinstance(named, dict):
            raise _malformed(f"the arguments of {name!r:.60} are no list and no object")
        overload = self._overload(str(name))
        return _Call(
            str(name),
            overload,
            [self._reader(each) for each in arguments],
            {key: self._reader(each) for key, each in named.items()},
        )

    def _overload(self, name: str) -> Any:
        match = _OPERATOR.fullmatch(name)
        if match is None:
            raise _malformed(f"{name!r:.60} is no operator")
        parts = match.groups()
        found = self._look_up(*parts)
        if found is None and _can_be_imported(parts[0]):
            framework_module(parts[0])  # torchvision registers what torch.ops.torchvision has
            found = self._look_up(*parts)
        if found is None:
            raise FrameworkError(
                f"PyTorch {self._torch.__version__} has no operator {name}. Import the module "
                "that registers it before the artifact is loaded, or install the version of "
                "PyTorch that the model was compiled with"
            )
        return found

    def _look_up(self, namespace: str, packet: str, overload: str) -> Any:
        found = getattr(getattr(self._torch.ops, namespace), packet, None)
        found = getattr(found, overload, None)
        return found if isinstance(found, self._torch._ops.OpOverload) else None

    def _reader(self, value: Any) -> Reader:
        if isinstance(value, list):
            parts = [self._reader(each) for each in value]
            return lambda environment: [part(environment) for part in parts]
        if not isinstance(value, dict):
            return lambda environment: value
        if set(value) <= {"call", "item"} and "call" in value:
            return _reference(value, len(self._calls))
        ((kind, content),) = value.items() if len(value) == 1 else (("", None),)
        if kind == "operand":
            place = _number(content, len(self._operands))
            return lambda environment: environment[0][place]
        if kind == "size":
            number = _number(content, self._sizes)
            return lambda environment: environment[1][number]
        if kind == "float" and content in ("inf", "-inf", "nan"):
            special = float(content)
            return lambda environment: special
        if kind == "device":
            if content != "cpu":
                raise _malformed(f"the device {content!r:.60} is not the CPU")
            device = self._torch.device("cpu")
            return lambda environment: device
        if kind in _NAMED:
            found = getattr(self._torch, str(content), None)
            if isinstance(found, getattr(self._torch, kind)):
                return lambda environment: found
        raise _malformed(f"{value!r:.60} is no argument")

    def _dtype(self, name: str) -> Any:
        found = getattr(self._torch, _DTYPES.get(name, ""), None)
        if found is None:
            raise FrameworkError(f"PyTorch {self._torch.__version__} has no element type {name}")
        return found


class _Call:
    """One operator with its arguments."""

    def __init__(
        self, name: str, overload: Any, arguments: list[Reader], named: dict[str, Reader]
    ) -> None:
        self._name, self._overload = name, overload
        self._arguments, self._named = arguments, named

    def run(self, environment: Environment) -> Any:
        try:
            arguments = [read(environment) for read in self._arguments]
            named = {key: read(environment) for key, read in self._named.items()}
            return self._overload(*arguments, **named)
        except FrameworkError:
            raise
        except Exception as error:  # operators raise what they like
            raise FrameworkError(f"{self._name} failed in PyTorch: {error}") from error


def _parsed(document: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error)) from error
    lists = [parsed.get(key) for key in ("calls", "results")] if isinstance(parsed, dict) else []
    if not lists or not all(isinstance(each, list) for each in lists):
        raise _malformed("expected an object with calls and results")
    return dict(parsed)


def _reference(value: dict[str, Any], known: int) -> Reader:
    place = _number(value["call"], known)
    if "item" not in value:
        return lambda environment: environment[2][place]
    item = _number(value["item"], 1 << 16)

    def read(environment: Environment) -> Any:
        results = environment[2][place]
        if not isinstance(results, (tuple, list)) or item >= len(results):
            raise FrameworkError(f"call {place} of a PyTorch segment has no result {item}")
        return results[item]

    return read


def _number(value: object, limit: int) -> int:
    if not isinstance(value, int) or not 0 <= value < limit:
        raise _malformed(f"{value!r:.60} where a number below {limit} should be")
    return value


def _malformed(reason: str) -> FrameworkError:
    return FrameworkError(f"the document of a PyTorch segment is malformed: {reason}")


def _can_be_imported(package: str) -> bool:
    return package not in sys.modules and importlib.util.find_spec(package) is not None
