"""Runs graphs through the whole compiler, and compares native code with the interpreter.

graph -> `compile_graph` -> artifact -> `ranvier.load` -> call, on one core and on two. Code for
targets that this machine lacks is emulated.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.artifact.writer import write_artifact
from ranvier.compiler import compile_graph
from ranvier.ir.dtype import DType, decode
from ranvier.ir.graph import Graph
from ranvier.lowering.options import LoweringOptions
from ranvier.runtime.model import load
from ranvier.target import Target
from tests.emulation import emulation, is_emulated
from tests.targets import NATIVE

Arrays = Mapping[str, npt.NDArray[Any]]

CORES = tuple(range(1, min(2, len(os.sched_getaffinity(0))) + 1))
EPSILON = {"f16": 2.0**-10, "bf16": 2.0**-7, "f32": 2.0**-23, "f64": 2.0**-52}
TINY = {"f16": 2.0**-24, "bf16": 2.0**-133, "f32": 2.0**-149, "f64": 2.0**-1074}  # denormals


def run_native(
    graph: Graph,
    runs: Sequence[Arrays],
    target: Target = NATIVE,
    cores: Sequence[int] = CORES,
    options: LoweringOptions | None = None,
) -> list[list[dict[str, npt.NDArray[Any]]]]:
    """Outputs by name for every core count and every run of one compiled graph."""
    with emulation() if is_emulated(target) else nullcontext():
        return _run(graph, runs, target, cores, options)


def _run(
    graph: Graph,
    runs: Sequence[Arrays],
    target: Target,
    cores: Sequence[int],
    options: LoweringOptions | None,
) -> list[list[dict[str, npt.NDArray[Any]]]]:
    compiled = compile_graph(graph, [target], options=options)
    names = [spec.name for spec in compiled.manifest.outputs]
    found: list[list[dict[str, npt.NDArray[Any]]]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.rvr"
        write_artifact(path, compiled.manifest, compiled.programs, compiled.entries)
        for count in cores:
            with load(path, cores=count, verify="none") as model:
                results = [model(**inputs) for inputs in runs]
            found.append([_by_name(names, result) for result in results])
    return found


def _by_name(names: Sequence[str], result: Any) -> dict[str, npt.NDArray[Any]]:
    arrays = (result,) if len(names) == 1 else result
    return dict(zip(names, arrays, strict=True))


def difference(
    found: npt.NDArray[Any],
    wanted: npt.NDArray[Any],
    dtype: DType,
    units: float,
    is_sum: bool = False,
    signs: bool = True,
    smallest: float = 0.0,
) -> str:
    """What is wrong with `found`, or an empty string.

    `units` is the tolerance in units of the last place of every element, or with `is_sum` of the
    largest one; at 0 numbers are equal, and zeros have equal signs if `signs`. What is not a float
    must be equal, and NaN stands at the same places. Differences up to `smallest` do not count.
    """
    if found.shape != wanted.shape:
        return f"shape {found.shape} instead of {wanted.shape}"
    if found.dtype != dtype.storage:
        return f"dtype {found.dtype} instead of {dtype.storage}"
    if not dtype.is_float:
        wrong = np.asarray(found != wanted)
        return _first_difference(found, wanted, wrong) if wrong.any() else ""
    f, w = decode(found, dtype).astype(np.float64), decode(wanted, dtype).astype(np.float64)
    both_nan = np.isnan(f) & np.isnan(w)
    with np.errstate(invalid="ignore"):
        gap = np.abs(f - w)
    small = (gap <= smallest) & (smallest > 0)
    if units == 0:
        same_sign = (np.signbit(f) == np.signbit(w)) | (not signs)
        wrong = np.asarray(~((f == w) & same_sign | both_nan | small))
        return _first_difference(f, w, wrong) if wrong.any() else ""
    scale = np.where(np.isfinite(w), np.abs(w), 0.0)
    if is_sum:
        scale = np.max(scale, initial=0.0)
    near = gap <= units * np.maximum(EPSILON[dtype.name] * scale, TINY[dtype.name])
    wrong = np.asarray(~(near | small | (f == w) | both_nan))
    return _first_difference(f, w, wrong) if wrong.any() else ""


def _first_difference(
    found: npt.NDArray[Any], wanted: npt.NDArray[Any], wrong: npt.NDArray[np.bool_]
) -> str:
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    count = f"{np.count_nonzero(wrong)} of {wrong.size} elements differ"
    return f"{count}, first at {place}: {found[place]!r} instead of {wanted[place]!r}"
