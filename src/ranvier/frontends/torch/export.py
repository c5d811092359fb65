"""From what the user has (module, exported program or file) to a functional program."""

from __future__ import annotations

import inspect
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ranvier.errors import CompileError
from ranvier.frontends.torch.custom import custom_operator
from ranvier.frontends.torch.functional import is_translatable
from ranvier.frontends.torch.packed_sequences import traced_packing
from ranvier.frontends.torch.translations import TABLE
from ranvier.frontends.torch.whole_recurrences import whole_recurrences

_NOISY = ("torch.export", "torch.fx.experimental.symbolic_shapes")


def exported(
    model: Any,
    args: Sequence[Any] | torch.Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> ExportedProgram:
    """The program of a module with example inputs, of an ExportedProgram, or of a `.pt2` file.

    Operators that have a translation stay whole. Where another one occurs, it is decomposed by
    PyTorch's default decompositions. Raises CompileError when PyTorch cannot trace the model.
    """
    has_inputs = isinstance(args, torch.Tensor) or bool(args or kwargs or dynamic_shapes)
    if not isinstance(model, torch.nn.Module) and has_inputs:
        raise CompileError("example inputs and dynamic_shapes go with an nn.Module only")
    if isinstance(args, torch.Tensor):
        args, dynamic_shapes = (args,), _of_one_tensor(dynamic_shapes)
    with _quiet(), torch.no_grad():
        program = _program(model, args, kwargs, dynamic_shapes)
        _refuse_mutation(program)
        if is_translatable(program):
            return program
        try:
            functional: ExportedProgram = program.run_decompositions(decompositions())
        except Exception as error:
            from ranvier.frontends.torch.export_failures import decomposition_failure

            raise decomposition_failure(error) from error
        _refuse_mutation(functional)
        return functional


def _of_one_tensor(dynamic_shapes: Any) -> Any:
    """`{axis: dim}`, given beside a single tensor, as the shapes of a tuple of arguments."""
    is_axes = isinstance(dynamic_shapes, Mapping) and all(
        isinstance(k, int) for k in dynamic_shapes
    )
    return (dynamic_shapes,) if is_axes else dynamic_shapes


def _program(
    model: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, dynamic_shapes: Any
) -> ExportedProgram:
    if isinstance(model, ExportedProgram):
        return model
    if isinstance(model, (str, os.PathLike)):
        return _loaded(Path(model))
    if not isinstance(model, torch.nn.Module):
        raise CompileError(
            f"expected an nn.Module, an ExportedProgram or a .pt2 path, got {type(model).__name__}"
        )
    named = _in_signature_order(model, kwargs or {})
    try:
        with (
            whole_recurrences(),
            traced_packing(),
            redirect_stderr(io.StringIO()),
        ):  # where PyTorch prints the graph that it failed in
            return torch.export.export(
                model, tuple(args), named, dynamic_shapes=dynamic_shapes, strict=False
            )
    except Exception as error:
        # imported here because it needs torch._dynamo, which takes seconds to load
        from ranvier.frontends.torch.export_failures import failure

        raise failure(model, args, named, dynamic_shapes, error) from error


def _in_signature_order(model: torch.nn.Module, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    order = list(inspect.signature(model.forward).parameters)
    known = {name: kwargs[name] for name in order if name in kwargs}
    return known | dict(kwargs)


def _loaded(path: Path) -> ExportedProgram:
    if not path.is_file():
        raise CompileError(f"{path} is not a file")
    try:
        return torch.export.load(path)
    except Exception as error:
        raise CompileError(f"{path} is not a program that torch.export saved: {error}") from error


def _refuse_mutation(program: ExportedProgram) -> None:
    """A compiled model has no state, so forward may write neither buffers nor inputs."""
    signature = program.graph_signature
    buffers = sorted(set(signature.buffers_to_mutate.values()))
    if buffers:
        raise CompileError(
            f"forward writes the buffer{'s' if len(buffers) > 1 else ''} {', '.join(buffers)}; "
            "a compiled model keeps no state (call model.eval() if batch norm does it)"
        )
    inputs = sorted(set(signature.user_inputs_to_mutate.values()))
    if inputs:
        raise CompileError(f"forward writes its input {', '.join(inputs)}; work on a copy of it")


def decompositions() -> Any:
    """PyTorch's table of decompositions without the operators that have a translation."""
    table: Any = torch.export.default_decompositions()
    for name in TABLE:
        overload = _overload(name)
        if overload is not None and overload in table:
            table.pop(overload)
    for overload in [overload for overload in table if custom_operator(overload) is not None]:
        table.pop(overload)
    return table


def _overload(name: str) -> Any:
    _, packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's own warnings about its internals are no news to the user."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
