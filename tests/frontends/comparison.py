"""Imports a module and compares the graph, run by the reference interpreter, with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ranvier.frontends.torch import import_torch
from ranvier.ir.graph import Graph
from ranvier.ir.interpreter import interpret
from ranvier.ir.verifier import verify


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


def run(graph: Graph, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> list[Any]:
    """Outputs of a graph for the arguments that its module takes."""
    tensors = [v for v in pytree.tree_leaves((args, dict(kwargs or {}))) if torch.is_tensor(v)]
    arrays = dict(zip((v.name for v in graph.inputs), map(to_numpy, tensors), strict=True))
    return list(interpret(graph, arrays).values())


def assert_same(graph: Graph, module: Any, args: Sequence[Any], tolerance: float = 1e-5) -> None:
    """The graph and the module give the same element types, shapes and values."""
    expected = [v for v in pytree.tree_leaves(module(*args)) if torch.is_tensor(v)]
    found = run(graph, args)
    assert len(found) == len(expected)
    for array, tensor in zip(found, expected, strict=True):
        wanted = to_numpy(tensor)
        assert array.dtype == wanted.dtype
        assert array.shape == wanted.shape
        np.testing.assert_allclose(array, wanted, rtol=tolerance, atol=tolerance)


def check(
    function: Callable[..., Any],
    *args: Any,
    dynamic: Any = None,
    others: Sequence[Sequence[Any]] = (),
    tolerance: float = 1e-5,
) -> Graph:
    """Imports a function or module with `args` and compares on `args` and on `others`.

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
    return graph
