"""The main job on real input: compile a trained classifier, deploy it without PyTorch, compare.

usage: python examples/classify/demo.py [SECONDS_PER_MEASUREMENT]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compile_model import (
    compile_to,
    imagenet_labels,
    measure_pytorch,
    operations,
    run_pytorch,
    trained_model,
)
from measure import Latency
from numpy.typing import NDArray
from peak import peak_gflops
from photo import cat_photo, preprocess, top_labels
from rich.console import Console
from rich.table import Table
from torch import nn

PRECISIONS = ("f32", "bf16")
_HERE = Path(__file__).resolve().parent
_BUILD = _HERE.parents[1] / "build" / "demo"


def main(seconds: float = 3.0) -> None:
    """Run the demo; `seconds` is spent on each latency measurement."""
    console = Console()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    _BUILD.mkdir(parents=True, exist_ok=True)
    model, labels, image = trained_model(), imagenet_labels(), preprocess(cat_photo())
    (_BUILD / "labels.json").write_text(json.dumps(labels))

    paths = [_BUILD / f"efficientnet_lite0.{precision}.rvr" for precision in PRECISIONS]
    for precision, path in zip(PRECISIONS, paths, strict=True):
        console.rule(f"Compile EfficientNet-Lite0, {precision}")
        console.print(str(compile_to(model, image, precision, path)), markup=False)
        console.print(f"wrote {path.name}, {path.stat().st_size / 1e6:.1f} MB")

    console.rule("Deploy in a fresh process that cannot import torch, onnx or llvmlite")
    served = serve_elsewhere(paths, seconds)
    expected = top_labels(run_pytorch(model, image)[0], labels)
    console.print(label_table(expected, served))
    console.print(speed_table(model, image, served, seconds, threads))


def serve_elsewhere(paths: list[Path], seconds: float) -> list[dict[str, Any]]:
    """Run `deploy.py` in a new interpreter; its results in the order of `paths`."""
    command = [sys.executable, str(_HERE / "deploy.py"), str(seconds)]
    command += [str(_BUILD / "labels.json"), *map(str, paths)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = json.loads(output)["artifacts"]
    return [artifacts[path.name] for path in paths]


def label_table(expected: list[tuple[str, float]], served: list[dict[str, Any]]) -> Table:
    """Top five labels: PyTorch beside the artifacts."""
    table = Table(title=f"Top five labels of {cat_photo().name}")
    for title in ("PyTorch f32", *(f"Ranvier {precision}" for precision in PRECISIONS)):
        table.add_column(title)
    columns = [expected, *(result["top"] for result in served)]
    for row in zip(*columns, strict=True):
        table.add_row(*(f"{probability:.3f}  {label}" for label, probability in row))
    return table


def speed_table(
    model: nn.Module,
    image: NDArray[np.float32],
    served: list[dict[str, Any]],
    seconds: float,
    threads: int,
) -> Table:
    """Load time, latency, throughput and share of peak at batch 1: PyTorch eager and Ranvier."""
    table = Table(title=f"Batch 1, {threads} threads", caption="share of peak: of the same unit")
    for title in ("engine", "load ms", "p50 ms", "p90 ms", "p99 ms", "images/s", "share of peak"):
        table.add_column(title, justify="left" if title == "engine" else "right")
    gflop = operations(model, image) * 1e-9
    for precision, result in zip(PRECISIONS, served, strict=True):
        peak = peak_gflops(precision, threads)
        eager = measure_pytorch(model, image, precision, seconds)
        table.add_row(f"PyTorch eager {precision}", "-", *_figures(eager, gflop, peak))
        ours = Latency(**result["latency"])
        load_ms = f"{result['load_ms']:.1f}"
        table.add_row(f"Ranvier {precision}", load_ms, *_figures(ours, gflop, peak))
    return table


def _figures(latency: Latency, gflop: float, peak: float | None) -> list[str]:
    rate = latency.images_per_second()
    share = f"{rate * gflop / peak:.0%}" if peak else "-"
    times = (latency.p50_ms, latency.p90_ms, latency.p99_ms)
    return [*(f"{time_ms:.2f}" for time_ms in times), f"{rate:.0f}", share]


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
