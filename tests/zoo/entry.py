"""One model of the zoo: how to build it, which of its sizes are symbolic, how to make inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

Sizes = Mapping[str, int]
"""A concrete size for each symbol of a model: `{"batch": 2, "height": 224, "width": 224}`."""


@dataclass(frozen=True)
class Symbol:
    """A symbolic size with its inclusive range.

    `named` sizes are proven by `torch.export` over the whole range. Where its solver cannot decide
    a guard that always holds (ceil-mode pooling), the size is left to its inference instead.
    """

    name: str
    low: int
    high: int
    named: bool = True


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo; building it needs its framework, reading this record does not.

    `axes` holds, per positional input, the symbol of each symbolic axis.
    `check_sizes` are the concrete sizes at which a compiled model is compared with PyTorch.
    `photos` says that the inputs are photos that the trained model classifies with confidence.
    `precisions` are those in which it is compared: decisions between near equals (the next token of
    a decode loop with random weights, the order of boxes) need f32. `slow` marks long jobs.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[Sizes], tuple[torch.Tensor, ...]]
    symbols: tuple[Symbol, ...]
    axes: tuple[Mapping[int, str], ...]
    example_sizes: Sizes
    check_sizes: tuple[Sizes, ...]
    trained: bool = False
    photos: bool = False
    precisions: tuple[str, ...] = ("f32", "bf16")
    slow: bool = False
    needs: tuple[str, ...] = field(default=("torch",))

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Positional inputs at `example_sizes`, for export."""
        return self.inputs(self.example_sizes)

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """The symbolic axes of every positional input, in the form that `torch.export` takes."""
        from torch.export import Dim

        dims: dict[str, Any] = {}
        for symbol in self.symbols:
            if symbol.named:
                dims[symbol.name] = Dim(symbol.name, min=symbol.low, max=symbol.high)
            else:
                dims[symbol.name] = Dim.AUTO(min=symbol.low, max=symbol.high)
        return tuple({axis: dims[name] for axis, name in axes.items()} for axes in self.axes)
