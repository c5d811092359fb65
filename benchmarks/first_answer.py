"""A fresh process: import an engine, load a model, answer once; how long, and how much memory.

usage: python benchmarks/first_answer.py BEGIN ENGINE PRECISION THREADS MODEL CACHE INPUT...

It is run as a file and imports nothing but the engine and NumPy, so that nothing else is measured.
BEGIN is the `time.perf_counter()` of the process that starts this one; Linux has one such clock for
all. MODEL is the file that the engine loads, CACHE a folder that it may keep things in, and every
INPUT an `.npy`. Prints one line of JSON: seconds since BEGIN at the end of each stage, and bytes of
memory.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # importing it would be measured
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Answer = Callable[[Sequence[Any]], object]

_ENTERED = time.perf_counter()
_STAGES: dict[str, float] = {}


def main(begin: float, engine: str, precision: str, threads: int, files: list[str]) -> None:
    """Answer once and print what it took."""
    import numpy as np

    inputs = [np.load(path) for path in files[2:]]
    _mark("numpy")
    prepare = {"ranvier": _ranvier, "openvino": _open_vino, "torch-eager": _torch}
    answer = prepare.get(engine, _onnx_runtime)(files[0], precision, threads, files[1])
    _mark("load")
    answer(inputs)
    _mark("answer")
    import json

    stages = {"python": _ENTERED, **_STAGES}
    since = {name: at - begin for name, at in stages.items()}
    print(json.dumps({"stages_s": since, **_memory()}))


def _mark(stage: str) -> None:
    _STAGES[stage] = time.perf_counter()


def _ranvier(path: str, precision: str, threads: int, cache: str) -> Answer:
    from ranvier import load

    _mark("import")
    model = load(path, cores=threads)
    return lambda inputs: model(*inputs)


def _onnx_runtime(path: str, precision: str, threads: int, cache: str) -> Answer:
    """`path` is the exported file, or the one that ONNX Runtime has optimised before."""
    import onnxruntime

    _mark("import")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if cache:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def _open_vino(path: str, precision: str, threads: int, cache: str) -> Answer:
    import openvino

    _mark("import")
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "CACHE_DIR": cache,
    }
    # By path, not by a model that was read: only then the cache is found without reading it.
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda inputs: request.infer(inputs, share_inputs=True, share_outputs=True)


def _torch(path: str, precision: str, threads: int, cache: str) -> Answer:
    import torch

    torch.set_num_threads(threads)
    _mark("import")
    model = torch.export.load(path).module()
    bf16 = precision == "bf16"

    def answer(inputs: Sequence[Any]) -> object:
        values = [torch.from_numpy(value) for value in inputs]
        values = [v.bfloat16() if bf16 and v.is_floating_point() else v for v in values]
        with torch.no_grad():
            return model(*values).float().numpy()

    return answer


def _memory() -> dict[str, int]:
    """Resident, proportional (shared pages divided by their users) and peak memory, in bytes."""
    fields = {}
    for file in ("status", "smaps_rollup"):
        with open(f"/proc/self/{file}") as lines:
            for line in lines:
                name, _, rest = line.partition(":")
                if rest.endswith("kB\n"):
                    fields[name] = 1024 * int(rest.split()[0])
    return {"rss": fields["VmRSS"], "pss": fields["Pss"], "peak_rss": fields["VmHWM"]}


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
