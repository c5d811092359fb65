"""Models with operators that Ranvier has no native form for, as a user would give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim


@torch.library.custom_op("ranvier_tests::ranks", mutates_args=())
def ranks(x: torch.Tensor, scale: float, powers: list[int]) -> list[torch.Tensor]:
    """Several results of different types, for a list of numbers."""
    return [*(torch.pow(x * scale, power) for power in powers), x.argsort(-1)]


@ranks.register_fake
def _(x: torch.Tensor, scale: float, powers: list[int]) -> list[torch.Tensor]:
    return [*(torch.empty_like(x) for _ in powers), torch.empty_like(x, dtype=torch.int64)]


@torch.library.custom_op("ranvier_tests::ramp", mutates_args=())
def ramp(x: torch.Tensor, size: int) -> torch.Tensor:
    """A result whose size is a number among the arguments."""
    return x.sum() + torch.arange(size, dtype=x.dtype)


@ramp.register_fake
def _(x: torch.Tensor, size: int) -> torch.Tensor:
    return x.new_empty(size)


@torch.library.custom_op("ranvier_tests::bump", mutates_args=("x",))
def bump(x: torch.Tensor) -> None:
    """Writes its argument."""
    x.add_(1)


@bump.register_fake
def _(x: torch.Tensor) -> None:
    return None


class Scattered(nn.Module):
    """Two operators without a native form in different places, and one more behind a view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.hidden, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """f32[batch, 3, h, w] -> f32[batch, 5], f32[2 * batch, 4]."""
        pooled = torch.relu(self.conv(image)).mean((2, 3))
        wave = torch.special.bessel_j0(pooled)
        hidden = torch.relu(self.hidden(wave))
        first = torch.special.bessel_j1(hidden)
        second = torch.special.bessel_j0(first.reshape(-1, 4))
        return self.head(first + pooled), second


class Custom(nn.Module):
    """A custom operator with several results, of which one is not read."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """f32[n, 6] -> f32[n, 6], i64[n, 6]."""
        first, _, third, order = torch.ops.ranvier_tests.ranks(torch.tanh(x), 0.5, [1, 2, 3])
        return torch.relu(first * third), order + 1


class Ramp(nn.Module):
    """Sizes that follow from those of the input are arguments."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """f32[n, m] -> f32[n * m + 1]."""
        row = torch.ops.ranvier_tests.ramp(x, x.shape[0] * x.shape[1] + 1)
        return torch.cat([x.reshape(-1) * 2, x[0, :1]]) + row


class Mutating(nn.Module):
    """Uses an operator that no segment can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """f32[n] -> f32[n]."""
        y = x * 2
        torch.ops.ranvier_tests.bump(y)
        return y


def scattered() -> tuple[Any, ...]:
    """Symbolic batch of 1 to 64."""
    torch.manual_seed(0)
    shapes = ({0: Dim("batch", min=1, max=64)},)
    return Scattered().eval(), (torch.randn(2, 3, 8, 8),), {}, shapes


def onnx_model(path: Path) -> Path:
    """Operators of ONNX Runtime alone in two places, one of them behind a view; symbolic batch.

    ONNX Runtime does not know the shape of what `CDist` gives: the model states it.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    floats = {"w": (6, 8), "v": (8, 8), "large": (300, 8), "small": (8, 8)}
    constants = {name: rng.normal(size=s).astype(np.float32) for name, s in floats.items()}
    constants |= {
        "zero": np.array(0), "first": np.array([0]), "two": np.array([2]), "four": np.array([4]),
        "rows": np.array([-1, 8]),
    }  # fmt: skip
    microsoft = {"domain": "com.microsoft"}
    distance = {"metric": "euclidean", **microsoft}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("CDist", ["a", "small"], ["b"], name="near", **distance),
        helper.make_node("Shape", ["b"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "first"], ["n1"]),
        helper.make_node("Concat", ["n1", "two", "four"], ["target"], axis=0),
        helper.make_node("Reshape", ["b", "target"], ["c"], name="view"),
        helper.make_node("SampleOp", ["c"], ["d"], name="sample", **microsoft),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Reshape", ["e", "rows"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["g"]),
        helper.make_node("CDist", ["g", "large"], ["h"], name="far", **distance),
        helper.make_node("Tanh", ["h"], ["y"]),
    ]
    outputs, stated = {"y": None, "b": ["batch", 8]}, {"h": ["batch", 300]}
    graph = helper.make_graph(
        nodes,
        "scattered",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        value_info=[
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in stated.items()
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path
