"""What a run was measured on: CPU, peak, and the versions of the engines."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "onnxruntime", "openvino", "ranvier", "torch")


def describe_machine(threads: int) -> dict[str, Any]:
    """The CPU's name, the number of threads, the peak of that many cores, and versions.

    `peak_gflops` is measured now, by precision: multiply-adds on registers alone.
    """
    from ranvier.api import resolve_targets
    from ranvier.peak import peak_flops
    from ranvier.runtime.cores import select_cores

    cores = select_cores(sorted(os.sched_getaffinity(0))[:threads])
    features = resolve_targets("native")[0].features
    peaks = {name: peak_flops(features, name, cores) for name in ("f32", "bf16")}
    return {
        "cpu": _cpu_name(),
        "threads": threads,
        "peak_gflops": {name: None if peak is None else peak / 1e9 for name, peak in peaks.items()},
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # Ranvier itself, where it runs from its source
        return "source"


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine
