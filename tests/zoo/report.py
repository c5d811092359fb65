"""`python -m tests.zoo.report [--onnx] NAME...`: rows of the table in docs/models.md.

Each model is compiled in every precision in which it is compared, and run at its check sizes. The
error of an output is the norm of its difference from PyTorch's over the norm of PyTorch's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

import ranvier
from ranvier.api import import_model, resolve_targets
from ranvier.compiler import compile_graph
from tests import zoo
from tests.zoo.export import exported_to_onnx

Cases = Sequence[tuple[Mapping[str, Any], Sequence[Any]]]


def main() -> None:
    """Print the rows of the models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=zoo.names())
    parser.add_argument("--onnx", action="store_true", help="go through torch.onnx.export")
    options = parser.parse_args()
    print("| model | from | symbolic | sizes compared | f32 | bf16 | compiled in s |")
    print("|---|---|---|---|---:|---:|---:|")
    for name in options.names:
        print(row(name, options.onnx), flush=True)


def row(name: str, through_onnx: bool) -> str:
    """One model's row: errors and the seconds that compiling the imported graph took."""
    entry = zoo.model(name)
    module = entry.build().requires_grad_(False)
    if through_onnx:
        from ranvier.frontends.onnx import import_onnx

        ranges = {symbol.name: (symbol.low, symbol.high) for symbol in entry.symbols}
        graph = import_onnx(exported_to_onnx(entry, module), ranges)
    else:
        graph = import_model(module, entry.example_inputs(), None, entry.dynamic_shapes(), name)
    cases = pytorchs_cases(entry, module, [value.name for value in graph.inputs])
    errors, seconds = {"f32": "", "bf16": ""}, []
    for precision in entry.precisions:
        begin = time.perf_counter()
        compiled = compile_graph(graph, resolve_targets("native"), precision)
        seconds.append(f"{time.perf_counter() - begin:.1f}")
        assert compiled.report.native_percent == 100.0
        errors[precision] = _shown(greatest_error(ranvier.CompiledModel(compiled), cases))
    symbols = ", ".join(symbol.name for symbol in entry.symbols)
    sizes = " ".join("x".join(map(str, each.values())) for each in entry.check_sizes)
    source = "ONNX" if through_onnx else "PyTorch"
    cells = (name, source, symbols, sizes, errors["f32"], errors["bf16"], ", ".join(seconds))
    return f"| {' | '.join(cells)} |"


def pytorchs_cases(entry: zoo.ZooModel, module: Any, names: Sequence[str]) -> Cases:
    """Per check size the inputs by name, and the tensors that PyTorch computes from them."""
    cases = []
    for sizes in entry.check_sizes:
        inputs = entry.inputs(sizes)
        with torch.inference_mode():
            expected = tuple(tensor.numpy() for tensor in tree_leaves(module(*inputs)))
        arrays = (tensor.numpy() for tensor in inputs)
        cases.append((dict(zip(names, arrays, strict=True)), expected))
    return tuple(cases)


def greatest_error(model: ranvier.CompiledModel, cases: Cases) -> float:
    """The greatest error over all cases and outputs; 0.0 only where all numbers are equal."""
    greatest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.rvr")
        with ranvier.load(Path(folder) / "model.rvr") as loaded:
            for inputs, expected in cases:
                outputs = loaded.run(inputs).values()
                for output, wanted in zip(outputs, expected, strict=True):
                    if output.shape != wanted.shape:
                        return np.inf
                    gap = np.linalg.norm((output.astype(np.float64) - wanted).ravel())
                    size = np.linalg.norm(wanted.astype(np.float64).ravel())
                    greatest = max(greatest, float(gap / size) if gap else 0.0)
    return greatest


def _shown(error: float) -> str:
    return "equal" if error == 0 else f"{error:.1e}"


if __name__ == "__main__":
    main()
