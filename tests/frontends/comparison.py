"""Imports a module and compares the graph with PyTorch.

The graph is run by the reference interpreter, and, compiled, as native code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ranvier.frontends.torch import import_torch
from ranvier.ir.dtype import BF16, decode
from ranvier.ir.graph import Graph
from ranvier.ir.interpreter import interpret
from ranvier.ir.verifier import verify
from tests.lowering.native import run_native


class Function(torch.nn.Module):
    """A module around a plain function of tensors."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        """The function's result."""
        return self.function(*args)


def to_numpy(tensor: torch.Tensor) -> Any:
    """Storage array of a tensor (bf16 as uint16)."""
    plain = tensor.detach().contiguous()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


def named(graph: Graph, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Any:
    """The tensors among a module's arguments as storage arrays, by the names of the inputs."""
    tensors = [v for v in pytree.tree_leaves((args, dict(kwargs or {}))) if torch.is_tensor(v)]
    return dict(zip((v.name for v in graph.inputs), map(to_numpy, tensors), strict=True))


def run(graph: Graph, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> list[Any]:
    """Outputs of a graph for the arguments that its module takes."""
    return list(interpret(graph, named(graph, args, kwargs)).values())


def results(module: Any, args: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors among a module's results."""
    with torch.no_grad():
        return [v for v in pytree.tree_leaves(module(*args)) if torch.is_tensor(v)]


def assert_same(graph: Graph, module: Any, args: Sequence[Any], tolerance: float = 1e-5) -> None:
    """The graph and the module give the same element types, shapes and values."""
    assert_equal(run(graph, args), results(module, args), tolerance)


def assert_native(
    graph: Graph, module: Any, runs: Sequence[Sequence[Any]], tolerance: float = 1e-5
) -> None:
    """As `assert_same` for compiled code, on one core and on two."""
    expected = [results(module, args) for args in runs]
    flat = replace(graph, input_tree=None, output_tree=None)
    for outputs in run_native(flat, [named(graph, args) for args in runs]):
        for found, wanted in zip(outputs, expected, strict=True):
            assert_equal(list(found.values()), wanted, tolerance)


def assert_equal(found: Sequence[Any], expected: Sequence[torch.Tensor], tolerance: float) -> None:
    """Arrays and tensors of the same element types, shapes and values."""
    assert len(found) == len(expected)
    for array, tensor in zip(found, expected, strict=True):
        wanted = to_numpy(tensor)
        assert array.dtype == wanted.dtype
        assert array.shape == wanted.shape
        if tensor.dtype == torch.bfloat16:
            array, wanted = decode(array, BF16), decode(wanted, BF16)
        np.testing.assert_allclose(array, wanted, rtol=tolerance, atol=tolerance)


def check(
    function: Callable[..., Any],
    *args: Any,
    dynamic: Any = None,
    others: Sequence[Sequence[Any]] = (),
    tolerance: float = 1e-5,
    native: bool = True,
) -> Graph:
    """Imports a function or module with `args` and compares on `args` and on `others`.

    With `native`, compiled code is compared, too.

    `dynamic` has the symbolic axes of every argument: `{0: Dim("batch")}` or None.
    """
    module = function if isinstance(function, torch.nn.Module) else Function(function)
    module.eval()
    shapes = None if dynamic is None else (dynamic,)
    if dynamic is not None and not isinstance(module, Function):
        shapes = dynamic
    graph = import_torch(module, args, dynamic_shapes=shapes)
    verify(graph)
    for given in (args, *others):
        assert_same(graph, module, given, tolerance)
    if native:
        assert_native(graph, module, [args, *others], tolerance)
    return graph
