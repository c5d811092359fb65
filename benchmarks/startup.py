"""Start-up and memory: a fresh process imports an engine, loads a model and answers once.

Every engine loads what starts it fastest by its own documentation: OpenVINO its IR with a filled
model cache (https://docs.openvino.ai/2026/openvino-workflow/running-inference/
optimize-inference/optimizing-latency/model-caching-overview.html), ONNX Runtime the exported file
and, as `onnxruntime-offline`, the one it optimised before (https://onnxruntime.ai/docs/performance/
model-optimizations/graph-optimizations.html), PyTorch an exported program, Ranvier its artifact.
The page cache and Python's bytecode are warm.

usage: python -m benchmarks.startup --models resnet50,vit_b_16 --json startup.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.comparison import prepare_model
from benchmarks.installed import installed_bytes
from benchmarks.job import Material
from benchmarks.rows import ROWS, Row, select
from benchmarks.table import figure, markdown

STAGES = ("python", "numpy", "import", "load", "answer")
PRECISIONS = {
    "torch-eager": ("f32", "bf16"),
    "onnxruntime": ("f32",),
    "onnxruntime-offline": ("f32",),
    "openvino": ("f32", "bf16"),
    "ranvier": ("f32", "bf16"),
}
_PACKAGES = {
    "torch-eager": "torch",
    "onnxruntime": "onnxruntime",
    "onnxruntime-offline": "onnxruntime",
    "openvino": "openvino",
    "ranvier": "ranvier",
}
_CHILD = Path(__file__).with_name("first_answer.py")


@dataclass(frozen=True)
class Startup:
    """Medians over fresh processes of one engine.

    `stages_ms` are the durations of `STAGES`: the interpreter, NumPy and the inputs, the engine's
    import, loading, the first answer. `total_ms` is their sum, from the start of the process, and
    `own_ms` what the engine alone adds: import and loading. Memory is after the answer, in bytes:
    `pss` counts shared pages by share, `peak_rss` is the highest. `model_bytes` and
    `installed_bytes` are on disk.
    """

    engine: str
    model: str
    precision: str
    threads: int
    stages_ms: Mapping[str, float]
    total_ms: float
    rss: int
    pss: int
    peak_rss: int
    model_bytes: int
    installed_bytes: int
    repeats: int
    failure: str = ""

    @property
    def own_ms(self) -> float:
        """Import and loading."""
        return self.stages_ms["import"] + self.stages_ms["load"]


def write(found: Sequence[Startup], path: Path) -> None:
    """Write JSON, which has no NaN: an engine that failed has no stages and no total."""
    documents = []
    for one in found:
        fields = dict(vars(one))
        if one.failure:
            fields |= {"stages_ms": None, "total_ms": None}
        documents.append(fields)
    path.write_text(json.dumps({"startup": documents}, indent=1) + "\n")


def read(path: Path) -> list[Startup]:
    """The inverse of `write`."""
    found = []
    for fields in json.loads(path.read_text())["startup"]:
        if fields["failure"]:
            nothing = float("nan")
            fields |= {"stages_ms": dict.fromkeys(STAGES, nothing), "total_ms": nothing}
        found.append(Startup(**fields))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one table per model and precision."""
    options = _parser().parse_args(arguments)
    rows = [row for row in select(ROWS, options.models, [1]) if row.sizes.get("tokens") != 16]
    found: list[Startup] = []
    with TemporaryDirectory(prefix="ranvier-startup-") as temporary:
        for row in rows:
            folder = (options.folder or Path(temporary)) / row.model
            _prepare(row, folder)
            for precision in ("f32", "bf16"):
                results = _measure(row, precision, folder, options)
                print(table(results), flush=True)
                found += results
                if options.json:
                    write(found, options.json)


def _prepare(row: Row, folder: Path) -> None:
    """Write what the engines load, in processes of their own."""
    if not (folder / "startup.json").exists():
        engines = ("torch-eager", "onnxruntime", "ranvier")
        reason = prepare_model(row.model, [row.sizes], ("f32", "bf16"), engines, folder)
        if reason:
            raise RuntimeError(f"{row.model}: {reason}")
        order = json.dumps({"sizes": row.sizes, "folder": str(folder)})
        command = [sys.executable, "-m", "benchmarks.prepare_startup", order]
        subprocess.run(command, check=True, capture_output=True)


def _measure(row: Row, precision: str, folder: Path, options: argparse.Namespace) -> list[Startup]:
    """All engines in turn, several times; the first time fills caches and does not count."""
    engines = [name for name, known in PRECISIONS.items() if precision in known]
    answers: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
    failures: dict[str, str] = {}
    for _ in range(options.repeats + 1):
        for engine in engines:
            if engine in failures:
                continue
            try:
                answers[engine].append(
                    _first_answer(engine, row, precision, folder, options.threads)
                )
            except RuntimeError as error:
                failures[engine] = str(error)
    return [
        _summary(engine, row, precision, folder, options, answers[engine][1:], failures)
        for engine in engines
    ]


def _first_answer(
    engine: str, row: Row, precision: str, folder: Path, threads: int
) -> dict[str, Any]:
    files = model_files(engine, row, precision, folder)
    caches = {"openvino": "openvino-cache", "onnxruntime-offline": "optimised"}
    cache = str(folder / caches[engine]) if engine in caches else ""
    inputs = sorted(str(path) for path in (folder / "inputs").iterdir())
    begin = time.perf_counter()
    what = (str(begin), engine, precision, str(threads), str(files[0]), cache)
    done = subprocess.run(
        [sys.executable, str(_CHILD), *what, *inputs],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
    )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise RuntimeError(f"{engine} failed:\n{tail}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def model_files(engine: str, row: Row, precision: str, folder: Path) -> list[Path]:
    """The files of a model as an engine loads it, the main one first."""
    material = Material(folder)
    weights = material.folder / "symbolic.onnx.data"
    if engine == "torch-eager":
        return [folder / f"{precision}.pt2"]
    if engine == "onnxruntime":
        return [material.onnx(row.sizes), *([weights] if weights.exists() else [])]
    if engine == "onnxruntime-offline":
        return [folder / "optimised.onnx", folder / "optimised.bin"]
    if engine == "openvino":
        return [folder / "model.xml", folder / "model.bin"]
    return [material.artifact(precision)]


def _summary(
    engine: str,
    row: Row,
    precision: str,
    folder: Path,
    options: argparse.Namespace,
    answers: Sequence[dict[str, Any]],
    failures: Mapping[str, str],
) -> Startup:
    nothing = float("nan")
    stages = dict.fromkeys(STAGES, nothing)
    memory = {"rss": 0, "pss": 0, "peak_rss": 0}
    if answers and engine not in failures:
        stages = _durations([answer["stages_s"] for answer in answers])
        memory = {name: int(statistics.median(a[name] for a in answers)) for name in memory}
    files = model_files(engine, row, precision, folder)
    return Startup(
        engine=engine,
        model=row.model,
        precision=precision,
        threads=options.threads,
        stages_ms=stages,
        total_ms=sum(stages.values()),
        model_bytes=sum(path.stat().st_size for path in files if path.exists()),
        installed_bytes=installed_bytes([_PACKAGES[engine]]),
        repeats=len(answers),
        failure=failures.get(engine, ""),
        **memory,
    )


def _durations(ends: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median duration of every stage in milliseconds, from the ends of all."""
    durations, before = {}, [0.0] * len(ends)
    for stage in STAGES:
        after = [each[stage] for each in ends]
        durations[stage] = statistics.median(
            1000 * (b - a) for a, b in zip(before, after, strict=True)
        )
        before = after
    return durations


def table(results: Sequence[Startup]) -> str:
    """The engines of one model and precision."""
    head = ["engine", *(f"{stage} ms" for stage in STAGES), "total ms", "load + import"]
    head += ["Pss MB", "peak MB", "model MB", "installed MB"]
    rows = []
    for one in results:
        stages = [figure(one.stages_ms[stage], 0) for stage in STAGES]
        sizes = (one.pss, one.peak_rss, one.model_bytes, one.installed_bytes)
        megabytes = [figure(size / 1e6, 0) for size in sizes]
        rows.append(
            [one.engine, *stages, figure(one.total_ms, 0), figure(one.own_ms, 0), *megabytes]
        )
    first = results[0]
    title = f"\n## start-up of {first.model}, {first.precision}; {first.threads} threads\n"
    reasons = [f"\n{one.engine}: {one.failure}" for one in results if one.failure]
    return "\n".join([title, markdown(head, rows), *reasons])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    names = "resnet50,vit_b_16"
    parser.add_argument("--models", type=lambda text: text.split(","), default=names.split(","))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--folder", type=Path, help="keep prepared models here")
    return parser


if __name__ == "__main__":
    main()
