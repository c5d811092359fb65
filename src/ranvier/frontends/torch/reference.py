"""A PyTorch model as the reference of its artifact: its results, and the values inside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec
from torch.fx import Interpreter
from torch.fx import Node as FxNode
from torch.utils import _pytree as pytree

from ranvier.errors import CompileError
from ranvier.frontends.torch.export import exported

Array = NDArray[Any]
Bind = Callable[[Sequence[object], Mapping[str, object]], Sequence[object]]


class Reference:
    """The original model beside an artifact.

    Args:
        model: an `nn.Module`, an `ExportedProgram` or the path of a `.pt2` file.
        args, kwargs: example inputs; those that the program was exported with when left out. A
            single tensor may stand for `(tensor,)`.
        dynamic_shapes: as the artifact was compiled with; the values inside the model have the
            artifact's names only then.

    Raises:
        CompileError: there are no example inputs, or the model cannot be traced.
    """

    def __init__(
        self,
        model: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        dynamic_shapes: Any = None,
    ) -> None:
        if isinstance(args, torch.Tensor):
            args = (args,)
        self._model = _loaded(model)
        self._dynamic_shapes = dynamic_shapes
        self._program: ExportedProgram | None = None
        self._call = self._model
        if isinstance(self._model, ExportedProgram):
            self._call = self._model.module()
            if not args and not kwargs:
                args, kwargs = _examples(self._model)
        self.args, self.kwargs = tuple(args), dict(kwargs or {})

    @property
    def needs_examples(self) -> bool:
        """Whether inputs have to be made up: a program without its own is refused before."""
        return False

    def outputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[object]:
        """The leaves of the model's result in order: arrays, and constants as they are."""
        with torch.no_grad():
            result = self._call(*args, **kwargs)
        return [as_array(leaf) for leaf in pytree.tree_leaves(result)]

    def values(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], names: Collection[str]
    ) -> dict[str, Array]:
        """The values inside the model that have one of `names`, run node by node.

        Raises:
            CompileError: torch.export cannot trace the model.
        """
        program = self._functional()
        leaves = pytree.tree_leaves((tuple(args), dict(kwargs)))
        capture = _Capture(program.graph_module, names)
        with torch.no_grad():
            capture.run(*_placeholders(program, leaves))
        return capture.found

    def resampled(self, bind: Bind, shapes: Sequence[tuple[int, ...]], seed: int) -> Any:
        """Arguments of other sizes: every element is drawn from the example's elements.

        So the numbers are of the example's kind: pixels stay pixels and indices stay valid.

        Args:
            bind: arguments of a call -> the values of the artifact's inputs, in order.
            shapes: shape of every input of the artifact.
            seed: the same seed draws the same elements.

        Returns:
            args, kwargs
        """
        leaves, spec = pytree.tree_flatten((self.args, self.kwargs))
        marks = [_Mark(i) if isinstance(leaf, torch.Tensor) else leaf for i, leaf in
                 enumerate(leaves)]  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        marked_args, marked_kwargs = pytree.tree_unflatten(marks, spec)
        for mark, shape in zip(bind(marked_args, marked_kwargs), shapes, strict=True):
            if isinstance(mark, _Mark):
                leaves[mark.leaf] = _draw(leaves[mark.leaf], shape, generator)
        return pytree.tree_unflatten(leaves, spec)

    def _functional(self) -> ExportedProgram:
        if self._program is None:
            if isinstance(self._model, ExportedProgram):
                self._program = exported(self._model)
            else:
                self._program = exported(self._model, self.args, self.kwargs, self._dynamic_shapes)
        return self._program


class _Mark:
    """Stands for the tensor at a leaf of the arguments."""

    def __init__(self, leaf: int) -> None:
        self.leaf = leaf


class _Capture(Interpreter):
    """Runs a graph and copies the results of the nodes with given names."""

    def __init__(self, module: torch.fx.GraphModule, names: Collection[str]) -> None:
        super().__init__(module)
        self._names = names
        self.found: dict[str, Array] = {}

    def run_node(self, n: FxNode) -> Any:
        result = super().run_node(n)
        if n.name in self._names and isinstance(result, torch.Tensor):
            self.found[n.name] = _to_numpy(result.clone())
        return result


def as_array(value: object) -> object:
    """A tensor as an array (bf16 widened to f32), anything else as it is."""
    return _to_numpy(value) if isinstance(value, torch.Tensor) else value


def _to_numpy(tensor: torch.Tensor) -> Array:
    tensor = tensor.detach()
    wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    return np.asarray(wide.resolve_conj().resolve_neg().numpy())


def _loaded(model: Any) -> Any:
    if isinstance(model, torch.nn.Module | ExportedProgram):
        return model
    if not isinstance(model, str | os.PathLike):
        raise CompileError(
            f"expected an nn.Module, an ExportedProgram or a .pt2 path, got {type(model).__name__}"
        )
    path = Path(model)
    if not path.is_file():
        raise CompileError(f"{path} is not a file")
    try:
        return torch.export.load(path)
    except Exception as error:
        raise CompileError(f"{path} is not a program that torch.export saved: {error}") from error


def _examples(program: ExportedProgram) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if program.example_inputs is None:
        raise CompileError("the program carries no example inputs; pass some to compare with")
    args, kwargs = program.example_inputs
    return args, kwargs


def _placeholders(program: ExportedProgram, leaves: Sequence[Any]) -> list[Any]:
    """A value for every placeholder: parameters, buffers, constants, and the inputs in order."""
    inputs = iter(leaves)
    return [
        next(inputs) if spec.kind is InputKind.USER_INPUT else _state(program, spec)
        for spec in program.graph_signature.input_specs
    ]


def _state(program: ExportedProgram, spec: InputSpec) -> Any:
    target = str(spec.target)
    return program.state_dict[target] if target in program.state_dict else program.constants[target]


def _draw(
    example: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator
) -> torch.Tensor:
    if example.numel() == 0:
        return torch.zeros(shape, dtype=example.dtype)
    picked = torch.randint(0, example.numel(), shape, generator=generator)
    return example.reshape(-1)[picked]
