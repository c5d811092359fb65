"""Networks that PyTorch's exporters write, with symbolic sizes, beside ONNX Runtime."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from torch import nn  # noqa: E402

from tests.frontends.onnx_comparison import check  # noqa: E402


class Encoder(nn.Module):
    """Embedding, two layers of self-attention, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Any) -> Any:
        """`[batch, length]` tokens -> `[batch, 5]`."""
        return self.head(self.layers(self.embed(x)).mean(1))


class Tagger(nn.Module):
    """A bidirectional LSTM over any length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Any) -> Any:
        """`[batch, length, 8]` -> `[batch, length, 4]`."""
        return self.head(self.lstm(x)[0])


class UNet(nn.Module):
    """Down, up to the size that it was, and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.last = nn.Conv2d(24, 4, 3, padding=1)

    def forward(self, x: Any) -> Any:
        """`[batch, 3, height, width]` -> `[batch, 4, height, width]`."""
        a = torch.relu(self.first(x))
        b = torch.relu(self.down(a))
        up = nn.functional.interpolate(b, size=a.shape[2:], mode="bilinear")
        return torch.sigmoid(self.last(torch.cat([a, up], 1)))


class Causal(nn.Module):
    """Attention under a mask that is computed from the length."""

    def forward(self, x: Any) -> Any:
        """`[batch, length, 32]` -> the same."""
        batch, length, _ = x.shape
        place = torch.arange(length)
        heads = x.reshape(batch, length, 4, -1).transpose(1, 2)
        mask = place[None] <= place[:, None]
        found = nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=mask)
        return found.transpose(1, 2).flatten(2)


class Selected(nn.Module):
    """Sizes that only the data tell."""

    def forward(self, x: Any) -> Any:
        """The places and the values of what is large."""
        return torch.nonzero(x > 0.5), x[x > 0.5]


Sized = Callable[..., Any]
MODELS: dict[str, tuple[type[nn.Module], Sized, dict[int, str], list[tuple[int, ...]]]] = {
    "encoder": (
        Encoder, lambda b, t: torch.randint(0, 50, (b, t)), {0: "b", 1: "t"}, [(1, 3), (3, 9)],
    ),
    "tagger": (Tagger, lambda b, t: torch.randn(b, t, 8), {0: "b", 1: "t"}, [(1, 3), (3, 9)]),
    "u-net": (
        UNet, lambda b, h, w: torch.randn(b, 3, h, w), {0: "b", 2: "h", 3: "w"},
        [(1, 8, 11), (2, 15, 12)],
    ),
    "causal": (Causal, lambda b, t: torch.randn(b, t, 32), {0: "b", 1: "t"}, [(1, 3), (3, 9)]),
    "selected": (Selected, lambda b, t: torch.rand(b, t), {0: "b", 1: "t"}, [(1, 3), (3, 9)]),
}  # fmt: skip
FIXED_BY_THE_EXPORTER = {("encoder", "torchscript")}


def exported(module: nn.Module, example: Any, dims: dict[int, str], exporter: str) -> Any:
    """The model as one of PyTorch's two exporters writes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            shapes = (dict.fromkeys(dims, torch.export.Dim.AUTO),)
            return torch.onnx.export(
                module, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False
            ).model_proto
        file = io.BytesIO()
        torch.onnx.export(
            module, (example,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": dims}
        )
        return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", MODELS)
def test_what_pytorch_exports(name: str, exporter: str) -> None:
    if (name, exporter) in FIXED_BY_THE_EXPORTER:
        pytest.skip("this exporter writes the example's sizes into the model")
    kind, make, dims, sizes = MODELS[name]
    torch.manual_seed(0)
    example = make(2, *(7 + i for i in range(len(sizes[0]) - 1)))
    model = exported(kind().eval(), example, dims, exporter)
    (given,) = model.graph.input
    check(model, *({given.name: make(*each).numpy()} for each in sizes), tolerance=1e-4)
