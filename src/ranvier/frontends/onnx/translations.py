"""The whole table: importing this module registers the translations of every group."""

from __future__ import annotations

import importlib

from ranvier.frontends.onnx.registry import TABLE, translation

GROUPS = (
    "casts",
    "elementwise",
    "views",
    "gathers",
    "reductions",
    "sources",
    "contractions",
    "einsum",
    "pooling",
    "quantization",
    "normalization",
    "attention",
    "control",
    "sequences",
    "resize",
    "sampling",
    "regions",
    "columns",
    "selection",
    "boxes",
    "signal",
    "recurrent",
    "training",
    "classical",
    "trees",
    "contrib",
)

for _group in GROUPS:
    importlib.import_module(f"ranvier.frontends.onnx.{_group}")

__all__ = ["TABLE", "translation"]
