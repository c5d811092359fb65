"""Ranvier as a backend of ONNX: `onnx.backend.base.Backend`, on native code.

>>> import ranvier.onnx_backend as backend
>>> prepared = backend.prepare(model)
>>> outputs = prepared.run([image])

`prepare` compiles for the CPU of this machine; nothing falls back to another engine. Arrays are
those that `onnx.numpy_helper` uses, `ml_dtypes` included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto
from onnx.backend.base import Backend, BackendRep, namedtupledict

from ranvier.api import native_target
from ranvier.artifact.writer import write_artifact
from ranvier.compiler import compile_graph
from ranvier.errors import InputError
from ranvier.frontends.onnx import import_onnx
from ranvier.frontends.onnx.dtypes import from_onnx, from_storage, storage_of, to_onnx
from ranvier.runtime.model import load


class RanvierRep(BackendRep):
    """A compiled model, ready to run."""

    def __init__(
        self,
        model: ModelProto,
        dims: Mapping[str, Any] | None = None,
        cores: int | None = None,
    ) -> None:
        graph = import_onnx(model, dims)
        compiled = compile_graph(graph, [native_target()])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.rvr"
            write_artifact(path, compiled.manifest, compiled.programs, compiled.entries)
            self._model = load(path, cores=cores, verify="none")
        initialized = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in initialized]
        self._inputs = [(value.name, value.type.tensor_type.elem_type) for value in inputs]
        self._names = [value.name for value in model.graph.output]
        self._codes = [to_onnx(value.dtype) for value in graph.outputs]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs for inputs in order, or by name.

        Raises InputError when the inputs do not fit the model.
        """
        if isinstance(inputs, Mapping):
            inputs = [inputs[name] for name, _ in self._inputs]
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if len(inputs) != len(self._inputs):
            raise InputError(f"the model takes {len(self._inputs)} inputs, got {len(inputs)}")
        given = {
            name: storage_of(np.asarray(array), from_onnx(code))
            for (name, code), array in zip(self._inputs, inputs, strict=True)
        }
        nested = self._model(**given)
        found = (nested,) if len(self._names) == 1 else nested
        codes = iter(self._codes)
        values = [
            [from_storage(array, next(codes)) for array in result]
            if isinstance(result, list)
            else from_storage(result, next(codes))
            for result in found
        ]
        outputs: tuple[Any, ...] = namedtupledict("Outputs", self._names)(*values)
        return outputs


class RanvierBackend(Backend):
    """Compiles models natively and runs them."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> RanvierRep:
        """Compile a model; takes `dims` as `import_onnx` does, and `cores` as `ranvier.load`.

        Raises UnsupportedOperatorError or CompileError.
        """
        return RanvierRep(model, kwargs.get("dims"), kwargs.get("cores"))

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Compile a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Compile one node and run it once.

        `outputs_info` has (NumPy dtype, shape) of every result; without it ONNX infers them.
        """
        arrays = [np.asarray(array) for array in inputs]
        names = [name for name in node.input if name]
        given = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in zip(names, arrays, strict=True)
        ]
        results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        if outputs_info is not None:
            results = [
                onnx.helper.make_tensor_value_info(
                    value.name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
                )
                for value, (dtype, shape) in zip(results, outputs_info, strict=True)
            ]
        graph = onnx.helper.make_graph([node], node.op_type, given, results)
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)]
        )
        if outputs_info is None:
            model = onnx.shape_inference.infer_shapes(model)
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only CPUs."""
        return device.split(":")[0] == "CPU"


is_compatible = RanvierBackend.is_compatible
prepare = RanvierBackend.prepare
run_model = RanvierBackend.run_model
run_node = RanvierBackend.run_node
supports_device = RanvierBackend.supports_device
