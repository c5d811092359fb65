"""Writes one model of the zoo in every form that an engine loads, once for all sizes of its rows.

usage: python -m benchmarks.prepare_model '{"model": ..., "sizes": [...], "precisions": [...],
       "forms": ["onnx", "ranvier"], "folder": ...}'

The ONNX file is exported with symbolic sizes and then fixed to each of the row's sizes, as ONNX
Runtime and OpenVINO advise for speed: https://onnxruntime.ai/docs/tutorials/mobile/helpers/
make-dynamic-shape-fixed.html. Both fold the arithmetic on shapes away when they load it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.job import Material, sizes_key
from tests import zoo

Sizes = Mapping[str, int]


class Preparation:
    """One model on its way into a folder; what cannot be made is noted with its reason."""

    def __init__(self, model: str, folder: Path) -> None:
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._entry = zoo.model(model)
        self._material = Material(folder)
        self._module = self._entry.build().requires_grad_(False)
        self.failures: dict[str, str] = {}
        self.flops: dict[str, int] = {}

    def write_module(self) -> None:
        """Pickle the module."""
        import torch

        torch.save(self._module, self._material.module)

    def write_inputs(self, sizes: Sizes) -> None:
        """Write inputs and the reference, and count the operations of products in the model.

        The count is PyTorch's own, of the multiplications and additions of convolutions, matrix
        products and attention, whatever an engine does instead.
        """
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        inputs = self._entry.inputs(sizes)
        arrays = {f"input_{index}": value.numpy() for index, value in enumerate(inputs)}
        np.savez(self._material.inputs(sizes), **arrays)  # type: ignore[arg-type]
        counter = FlopCounterMode(display=False)
        # The counter sees the products inside attention only where it is spelled out.
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
            output = self._module(*inputs)
        np.save(self._material.reference(sizes), output.numpy())
        self.flops[sizes_key(sizes)] = counter.get_total_flops()

    def write_onnx(self, every: Sequence[Sizes]) -> None:
        """Export with symbolic sizes, then fix the sizes, one small file each."""
        import onnx
        import torch
        from onnxruntime.tools.onnx_model_utils import make_input_shape_fixed

        symbolic = self._material.folder / "symbolic.onnx"
        names = [f"input_{index}" for index in range(len(self._entry.axes))]
        torch.onnx.export(
            self._module,
            self._entry.example_inputs(),
            str(symbolic),
            input_names=names,
            output_names=["output"],
            dynamic_shapes=self._entry.dynamic_shapes(),
            dynamo=True,
            external_data=True,
            verbose=False,
        )
        for sizes in every:
            model = onnx.load(symbolic, load_external_data=False)
            for name, value in zip(names, self._entry.inputs(sizes), strict=True):
                make_input_shape_fixed(model.graph, name, tuple(value.shape))
            onnx.save(model, self._material.onnx(sizes))

    def write_artifact(self, precision: str) -> None:
        """Compile with Ranvier, sizes symbolic."""
        import ranvier

        entry = self._entry
        ranvier.trace(
            self._module,
            entry.example_inputs(),
            dynamic_shapes=entry.dynamic_shapes(),
            precision=precision,
        ).save(self._material.artifact(precision))

    def attempt(self, form: str, write: Callable[[], None]) -> None:
        """Write a form; note why where that fails."""
        try:
            write()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason in the table
            self.failures[form] = f"{type(error).__name__}: {error}"[:2000]

    def finish(self, order: Mapping[str, Any]) -> None:
        """Write the facts."""
        document = {
            "forms": order["forms"],
            "precisions": order["precisions"],
            "flops": self.flops,
            "failures": self.failures,
        }
        self._material.facts.write_text(json.dumps(document))


def main(order: Mapping[str, Any]) -> None:
    """Make what the order asks for."""
    work = Preparation(order["model"], Path(order["folder"]))
    work.write_module()
    for sizes in order["sizes"]:
        work.write_inputs(sizes)
    if "onnx" in order["forms"]:
        work.attempt("onnx", lambda: work.write_onnx(order["sizes"]))
    if "ranvier" in order["forms"]:
        for precision in order["precisions"]:

            def write(precision: str = precision) -> None:
                work.write_artifact(precision)

            work.attempt(f"ranvier-{precision}", write)
    work.finish(order)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
