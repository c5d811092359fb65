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
from photo import cat_photo, preprocess, top_labels
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from ranvier.peak import peak_flops
from ranvier.runtime.cores import Cores, select_cores
from ranvier.runtime.cpu import host_features

PRECISIONS = ("f32", "bf16")
_HERE = Path(__file__).resolve().parent
_BUILD = _HERE.parents[1] / "build" / "demo"


def main(seconds: float = 3.0) -> None:
    """Run the demo; `seconds` is spent on each latency measurement."""
    console = Console()
    cores = select_cores(None)
    torch.set_num_threads(cores.count)
    _BUILD.mkdir(parents=True, exist_ok=True)
    model, labels, image = trained_model(), imagenet_labels(), preprocess(cat_photo())
    (_BUILD / "labels.json").write_text(json.dumps(labels))

    paths = [_BUILD / f"efficientnet_lite0.{precision}.rvr" for precision in PRECISIONS]
    for precision, path in zip(PRECISIONS, paths, strict=True):
        console.rule(f"Compile EfficientNet-Lite0, {precision}")
        report = compile_to(model, image, precision, path)
        console.print(str(report), markup=False, highlight=False, soft_wrap=True)
        shown = os.path.relpath(path)
        console.print(f"wrote {shown}, {path.stat().st_size / 1e6:.1f} MB\n", soft_wrap=True)

    console.rule("Deploy in a fresh process where importing torch, onnx or llvmlite fails")
    with console.status("Running there"):
        answer = serve_elsewhere(paths, seconds)
    served = [answer["artifacts"][path.name] for path in paths]
    console.print(f"imported NumPy and Ranvier's runtime in {answer['import_ms']:.0f} ms\n")
    console.print(label_table(top_labels(run_pytorch(model, image)[0], labels), served))
    with console.status("Measuring PyTorch"):
        table = speed_table(model, image, served, seconds, cores)
    console.print(table)


def serve_elsewhere(paths: list[Path], seconds: float) -> dict[str, Any]:
    """Run `deploy.py` in a new interpreter and return what it found."""
    command = [sys.executable, str(_HERE / "deploy.py"), str(seconds)]
    command += [str(_BUILD / "labels.json"), *map(str, paths)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    answer: dict[str, Any] = json.loads(output)
    return answer


def label_table(expected: list[tuple[str, float]], served: list[dict[str, Any]]) -> Table:
    """Top five labels: PyTorch beside the artifacts."""
    title = f"The five most probable labels of {cat_photo().name}"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for heading in ("PyTorch f32", *(f"Ranvier {precision}" for precision in PRECISIONS)):
        table.add_column(heading, no_wrap=True)
    columns = [expected, *(result["top"] for result in served)]
    for row in zip(*columns, strict=True):
        table.add_row(*(f"{probability:.3f}  {label}" for label, probability in row))
    return table


def speed_table(
    model: nn.Module,
    image: NDArray[np.float32],
    served: list[dict[str, Any]],
    seconds: float,
    cores: Cores,
) -> Table:
    """Load time, latency, throughput and share of peak at batch 1: PyTorch eager and Ranvier."""
    table = Table(
        title=f"One image per call, {cores.count} threads, times in milliseconds",
        caption="PyTorch: eager, channels last. Peak: of that precision, measured now.",
        box=box.SIMPLE_HEAD,
    )
    headings = ("engine", "load", "p50", "p90", "p99", "images/s", "of peak", "speed")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "engine" else "right", no_wrap=True)
    flops = operations(model, image)
    for precision, result in zip(PRECISIONS, served, strict=True):
        peak = peak_flops(sorted(host_features()), precision, cores)
        eager = measure_pytorch(model, image, precision, seconds)
        ours = Latency(**result["latency"])
        load_ms = f"{result['load_ms']:.1f}"
        ratio = f"{eager.p50_ms / ours.p50_ms:.1f}x"
        table.add_row(f"PyTorch {precision}", "-", *_figures(eager, flops, peak), "1.0x")
        table.add_row(f"Ranvier {precision}", load_ms, *_figures(ours, flops, peak), ratio)
    return table


def _figures(latency: Latency, flops: int, peak: float | None) -> list[str]:
    rate = latency.images_per_second()
    share = f"{rate * flops / peak:.0%}" if peak else "-"
    times = (latency.p50_ms, latency.p90_ms, latency.p99_ms)
    return [*(f"{time_ms:.2f}" for time_ms in times), f"{rate:.0f}", share]


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
