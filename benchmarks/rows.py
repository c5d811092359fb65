"""The rows of the comparison: models of the zoo, each at the sizes that people ask about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Row:
    """One model of the zoo at one size of each of its symbols, `{"batch": 8, "tokens": 128}`."""

    model: str
    sizes: Sizes

    @property
    def label(self) -> str:
        """The row's name in tables and charts: "minilm, 16 tokens, batch 8"."""
        parts = [self.model]
        if "tokens" in self.sizes:
            parts.append(f"{self.sizes['tokens']} tokens")
        if "height" in self.sizes and self.sizes["height"] != _SIDE:
            parts.append(f"{self.sizes['height']}x{self.sizes['width']}")
        return ", ".join([*parts, f"batch {self.sizes['batch']}"])


_SIDE = 224
_FREE_SIDE = (
    "resnet50",
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "densenet121",
    "vgg16_bn",
    "convnext_tiny",
)
_FIXED_SIDE = ("efficientnet_lite0", "vit_b_16", "swin_t")
_BATCHES = (1, 8)


def _rows() -> Iterable[Row]:
    for batch in (1, 64, 512):
        yield Row("mnist_cnn", {"batch": batch})
    for model in _FREE_SIDE:
        for batch in _BATCHES:
            yield Row(model, {"batch": batch, "height": _SIDE, "width": _SIDE})
    for model in _FIXED_SIDE:
        for batch in _BATCHES:
            yield Row(model, {"batch": batch})
    for model, tokens in (("minilm", 16), ("minilm", 128), ("bert_base", 128), ("gpt2", 128)):
        for batch in _BATCHES:
            yield Row(model, {"batch": batch, "tokens": tokens})
    for batch in _BATCHES:
        yield Row("craft", {"batch": batch, "height": 640, "width": 640})


ROWS = tuple(_rows())
QUICK = tuple(
    row
    for row in ROWS
    if row.sizes["batch"] == 1
    and row.model in ("mnist_cnn", "mobilenet_v2", "minilm")
    and row.sizes.get("tokens") != 16
)


def select(rows: Iterable[Row], models: Iterable[str], batches: Iterable[int]) -> list[Row]:
    """The rows of these models and batches, all where none is named.

    Raises:
        ValueError: a model or batch that no row has.
    """
    rows, models, batches = list(rows), set(models), set(batches)
    for name, wanted, known in (
        ("model", models, {row.model for row in rows}),
        ("batch", batches, {row.sizes["batch"] for row in rows}),
    ):
        if wanted - known:
            raise ValueError(f"no row has the {name} {sorted(wanted - known)}; {sorted(known)}")
    return [
        row
        for row in rows
        if (not models or row.model in models) and (not batches or row.sizes["batch"] in batches)
    ]
