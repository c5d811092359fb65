"""Runs graphs through the whole compiler, and compares native code with the interpreter.

graph -> `compile_graph` -> artifact -> `ranvier.load` -> call, for every target of this machine, on
one core and on two.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.artifact.writer import write_artifact
from ranvier.target import TARGETS, Target
from ranvier.compiler import compile_graph
from ranvier.ir.dtype import DType, decode
from ranvier.ir.graph import Graph
from ranvier.ir.interpreter import interpret
from ranvier.ir.printer import format_graph
from ranvier.runtime.cpu import host_features, plain
from ranvier.runtime.model import load

Arrays = Mapping[str, npt.NDArray[Any]]

HOST = [t for t in TARGETS.values() if {plain(f) for f in t.features} <= host_features()]
NATIVE = max(HOST, key=lambda target: len(target.features))
CORES = tuple(range(1, min(2, len(os.sched_getaffinity(0))) + 1))
EPSILON = {"f16": 2.0**-10, "bf16": 2.0**-7, "f32": 2.0**-23, "f64": 2.0**-52}


def run_native(
    graph: Graph, runs: Sequence[Arrays], target: Target = NATIVE, cores: Sequence[int] = CORES
) -> list[list[dict[str, npt.NDArray[Any]]]]:
    """Outputs by name for every core count and every run of one compiled graph."""
    compiled = compile_graph(graph, [target])
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


def check(
    graph: Graph,
    runs: Sequence[Arrays],
    target: Target = NATIVE,
    cores: Sequence[int] = CORES,
    tolerance: Mapping[str, float] | float = 8.0,
) -> None:
    """Compare every output of every run with the interpreter; the message shows the graph.

    `tolerance` is in units of the last place at the magnitude of the largest finite element, per
    output name or for all; 0 asks for equal numbers.
    """
    wanted = [interpret(graph, inputs) for inputs in runs]
    types = dict(zip(graph.output_names, (value.dtype for value in graph.outputs), strict=True))
    problems = []
    for count, results in zip(cores, run_native(graph, runs, target, cores), strict=True):
        for number, (expected, found) in enumerate(zip(wanted, results, strict=True)):
            for name, array in expected.items():
                units = tolerance.get(name, 8.0) if isinstance(tolerance, Mapping) else tolerance
                problem = difference(found[name], array, types[name], units)
                if problem:
                    problems.append(f"{name}, run {number}, {count} cores: {problem}")
    if problems:
        raise AssertionError("\n".join([*problems[:20], "", format_graph(graph)]))


def difference(
    found: npt.NDArray[Any], wanted: npt.NDArray[Any], dtype: DType, tolerance: float
) -> str:
    """What is wrong with `found`, or an empty string.

    Numbers other than floats must be equal; NaN must stand at the same places, and zeros of an
    exact comparison (`tolerance` 0) have equal signs.
    """
    if found.shape != wanted.shape:
        return f"shape {found.shape} instead of {wanted.shape}"
    if found.dtype != dtype.storage:
        return f"dtype {found.dtype} instead of {dtype.storage}"
    if not dtype.is_float:
        wrong = found != wanted
        return _first_difference(found, wanted, wrong) if wrong.any() else ""
    f, w = decode(found, dtype).astype(np.float64), decode(wanted, dtype).astype(np.float64)
    if tolerance == 0:
        wrong = ~((f == w) & (np.signbit(f) == np.signbit(w)) | np.isnan(f) & np.isnan(w))
        return _first_difference(f, w, wrong) if wrong.any() else ""
    scale = np.max(np.abs(w), initial=1e-30, where=np.isfinite(w))
    with np.errstate(invalid="ignore"):
        near = np.abs(f - w) <= tolerance * EPSILON[dtype.name] * scale
    wrong = ~(near | (f == w) | np.isnan(f) & np.isnan(w))
    return _first_difference(f, w, wrong) if wrong.any() else ""


def _first_difference(
    found: npt.NDArray[Any], wanted: npt.NDArray[Any], wrong: npt.NDArray[np.bool_]
) -> str:
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    count = f"{np.count_nonzero(wrong)} of {wrong.size} elements differ"
    return f"{count}, first at {place}: {found[place]!r} instead of {wanted[place]!r}"
