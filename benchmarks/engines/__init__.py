"""The engines under comparison, one file each; an engine's package is imported when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.engines.engine import Engine
    from benchmarks.job import Job

LATENCY, THROUGHPUT = "latency", "throughput"


@dataclass(frozen=True)
class Setup:
    """An engine as it is set up: for the latency of one call, or for the throughput of many.

    `form` is what it loads: "module", "onnx" or "ranvier". Ranvier is no peer of itself.
    """

    name: str
    mode: str
    precisions: tuple[str, ...]
    form: str
    packages: tuple[str, ...]

    @property
    def peer(self) -> bool:
        """Whether Ranvier is compared with it."""
        return self.form != "ranvier"


_BOTH = ("f32", "bf16")
SETUPS = {
    setup.name: setup
    for setup in (
        Setup("torch-eager", LATENCY, _BOTH, "module", ("torch",)),
        Setup("torch-compile", LATENCY, _BOTH, "module", ("torch",)),
        Setup("onnxruntime", LATENCY, ("f32",), "onnx", ("onnxruntime",)),
        Setup("openvino", LATENCY, _BOTH, "onnx", ("openvino",)),
        Setup("ranvier", LATENCY, _BOTH, "ranvier", ("ranvier",)),
        Setup("onnxruntime-throughput", THROUGHPUT, ("f32",), "onnx", ("onnxruntime",)),
        Setup("openvino-throughput", THROUGHPUT, _BOTH, "onnx", ("openvino",)),
        Setup("ranvier-throughput", THROUGHPUT, _BOTH, "ranvier", ("ranvier",)),
    )
}
"""All setups by name, in the order of tables."""


def make(job: Job) -> Engine:
    """The engine that `job` names, ready to be prepared."""
    match job.engine:
        case "torch-eager" | "torch-compile":
            from benchmarks.engines.pytorch import PyTorch

            return PyTorch(job)
        case "onnxruntime" | "onnxruntime-throughput":
            from benchmarks.engines.onnx_runtime import OnnxRuntime

            return OnnxRuntime(job)
        case "openvino" | "openvino-throughput":
            from benchmarks.engines.open_vino import OpenVino

            return OpenVino(job)
        case "ranvier" | "ranvier-throughput":
            from benchmarks.engines.ranvier_engine import RanvierEngine

            return RanvierEngine(job)
    raise ValueError(f"no engine {job.engine!r}; known: {', '.join(SETUPS)}")
