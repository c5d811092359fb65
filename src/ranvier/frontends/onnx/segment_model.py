"""ONNX models of parts of a model: to ask ONNX Runtime for types, and to have it run them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    shape_inference,
)
from onnx.helper import (
    find_min_ir_version_for,
    make_graph,
    make_model,
    make_opsetid,
    make_tensor_value_info,
)

from ranvier.frontends.onnx.dtypes import to_onnx
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BY_NAME, DType
from ranvier.ir.graph import TensorType
from ranvier.segments.segment import framework_module

MOST_EMBEDDED_BYTES = 4096
"""Larger constants are operands: the artifact's weights, which processes share."""
_ERRORS_ONLY = 3
_DTYPES = {
    "float": "f32", "double": "f64", "float16": "f16", "bfloat16": "bf16", "bool": "bool",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8",
    "uint16": "u16", "uint32": "u32", "uint64": "u64", "float8e4m3fn": "f8e4m3fn",
    "float8e4m3fnuz": "f8e4m3fnuz", "float8e5m2": "f8e5m2", "float8e5m2fnuz": "f8e5m2fnuz",
}  # fmt: skip


@dataclass(frozen=True)
class ResultType:
    """What ONNX Runtime says of a result: sizes, or a shape, that it does not know are None."""

    dtype: DType
    shape: tuple[Dim | None, ...] | None


@dataclass
class SegmentModels:
    """Makes models of some nodes of a model."""

    model: ModelProto
    _constants: dict[str, TensorProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tensor in self.model.graph.initializer:
            self._constants[tensor.name] = tensor
        for node in self.model.graph.node:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self._constants[node.output[0]] = attribute.t

    def constant(self, name: str) -> TensorProto | None:
        """A constant that is small enough to be a part of such a model."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.ByteSize() > MOST_EMBEDDED_BYTES:
            return None
        return tensor

    def make(
        self,
        nodes: Sequence[NodeProto],
        inputs: Mapping[str, TensorType],
        outputs: Sequence[ValueInfoProto],
        constants: Iterable[str],
        names: _Names,
    ) -> ModelProto:
        """A model of `nodes`; `names` gives symbolic sizes their names in it."""
        given = [
            make_tensor_value_info(name, to_onnx(type.dtype), names.shape(type.shape))
            for name, type in inputs.items()
        ]
        embedded = []
        for name in constants:
            tensor = TensorProto()
            tensor.CopyFrom(self._constants[name])
            tensor.name = name
            embedded.append(tensor)
        used = {_plain(node.domain) for each in nodes for node in _nested(each)} | {""}
        opsets = [
            make_opsetid(_plain(entry.domain), entry.version)
            for entry in self.model.opset_import
            if _plain(entry.domain) in used
        ]
        known = {entry.domain for entry in opsets}
        opsets += [make_opsetid(domain, 1) for domain in sorted(used - known) if domain]
        version = find_min_ir_version_for(opsets, ignore_unknown=True)
        graph = make_graph(nodes, "segment", given, list(outputs), embedded)
        return make_model(graph, opset_imports=opsets, ir_version=version)

    def infer(
        self,
        nodes: Sequence[NodeProto],
        inputs: Mapping[str, TensorType],
        results: Sequence[str],
        constants: Iterable[str],
    ) -> dict[str, ResultType | None]:
        """What ONNX Runtime says of the results of nodes; None for one that is no tensor.

        Raises Refusal when it cannot run them, FrameworkError when it is not installed.
        """
        names = _Names()
        outputs = [ValueInfoProto(name=name) for name in results]
        model = self.make(nodes, inputs, outputs, constants, names)
        runtime = framework_module("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no base class of their own
            raise Refusal(f"ONNX Runtime cannot run it: {_first_line(error)}") from error
        answers = session.get_outputs()
        is_open = any(not found.shape for found in answers)
        scalars = _scalars(model) if is_open else set()
        return {found.name: _result(found, names, scalars) for found in answers}


class _Names:
    """Names of symbolic sizes in a model that is made for ONNX Runtime."""

    def __init__(self) -> None:
        self._dims: dict[Dim, str] = {}

    def shape(self, shape: Sequence[Dim]) -> list[int | str]:
        """Numbers, and a name for every other dim."""
        return [
            dim if isinstance(dim, int) else self._dims.setdefault(dim, f"d{len(self._dims)}")
            for dim in shape
        ]

    def dim(self, size: Any) -> Dim | None:
        """What a size in the answer stands for."""
        if isinstance(size, int):
            return size
        return next((dim for dim, name in self._dims.items() if name == size), None)


def typed_output(name: str, type: TensorType) -> ValueInfoProto:
    """An output of a segment; its symbolic sizes are left open."""
    shape = [dim if isinstance(dim, int) else None for dim in type.shape]
    return make_tensor_value_info(name, to_onnx(type.dtype), shape)


def serialized(
    models: SegmentModels,
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, TensorType],
    outputs: Mapping[str, TensorType],
    constants: Iterable[str],
) -> bytes:
    """The document of a segment."""
    typed = [typed_output(name, type) for name, type in outputs.items()]
    return bytes(models.make(nodes, inputs, typed, constants, _Names()).SerializeToString())


def names_read(node: NodeProto) -> list[str]:
    """Names of the graph around that a node and the graphs inside it read."""
    found = [name for name in node.input if name]
    for graph in _graphs(node):
        found += _captured(graph)
    return list(dict.fromkeys(found))


def _captured(graph: GraphProto) -> list[str]:
    known = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    found: list[str] = []
    for node in graph.node:
        found += [name for name in names_read(node) if name not in known]
        known.update(node.output)
    return found + [value.name for value in graph.output if value.name not in known]


def _graphs(node: NodeProto) -> Iterable[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _nested(node: NodeProto) -> Iterable[NodeProto]:
    yield node
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _nested(inner)


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _scalars(model: ModelProto) -> set[str]:
    """Outputs that the standard knows to be of rank 0.

    ONNX Runtime says the same of them and of tensors of which it does not know the rank.
    """
    outputs = shape_inference.infer_shapes(model).graph.output
    types = {output.name: output.type.tensor_type for output in outputs}
    return {n for n, type in types.items() if type.HasField("shape") and not type.shape.dim}


def _result(found: Any, names: _Names, scalars: Collection[str]) -> ResultType | None:
    kind = found.type.removeprefix("tensor(").removesuffix(")")
    if not found.type.startswith("tensor(") or kind not in _DTYPES:
        return None
    dtype = BY_NAME[_DTYPES[kind]]
    if not found.shape and found.name not in scalars:
        return ResultType(dtype, None)
    return ResultType(dtype, tuple(names.dim(size) for size in found.shape))


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
