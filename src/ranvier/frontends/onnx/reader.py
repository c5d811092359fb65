"""Reads a model so that it is safe to walk: whole, sorted, of known operator sets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from ranvier.errors import CompileError

STANDARD = ("", "ai.onnx")
MOST_BYTES = 2**40
_MOST_DEPTH = 64
_BITS = {
    TensorProto.DataType.Value(name): bits
    for bits, names in (
        (2, "UINT2 INT2"),
        (4, "UINT4 INT4 FLOAT4E2M1"),
        (8, "BOOL UINT8 INT8 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0"),
        (16, "UINT16 INT16 FLOAT16 BFLOAT16"),
        (32, "UINT32 INT32 FLOAT"),
        (64, "UINT64 INT64 DOUBLE COMPLEX64"),
    )
    for name in names.split()
    if name in TensorProto.DataType.keys()  # noqa: SIM118  (an enum wrapper, not a dict)
}
"""Bits of one element in the data of a tensor, by element type."""


Source = str | os.PathLike[str] | bytes | ModelProto


def read_model(source: Source) -> ModelProto:
    """The model of a file, of bytes, or itself, with external data read and nodes in order.

    Raises CompileError for what is no ONNX model, is cut off, refers to data that is not there, or
    has cycles, duplicate names, or an unknown operator set.
    """
    model = _loaded(source)
    if not model.HasField("graph"):
        raise CompileError(f"{_shown(source)} has no graph; it is no ONNX model")
    _require_opsets(model)
    _check_graph(model.graph, frozenset(), 0)
    if not model.graph.output:
        raise CompileError(f"{_shown(source)} has no outputs")
    return model


def _shown(source: object) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else "the model"


def _loaded(source: str | os.PathLike[str] | bytes | ModelProto) -> ModelProto:
    folder = ""
    if isinstance(source, ModelProto):
        model = ModelProto()
        model.CopyFrom(source)
    elif isinstance(source, bytes):
        model = _parsed(source, "the model")
    else:
        path = Path(source)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CompileError(f"cannot read {path}: {error.strerror or error}") from error
        model, folder = _parsed(data, str(path)), str(path.parent)
    _read_external(model, folder)
    return model


def _parsed(data: bytes, where: str) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise CompileError(f"{where} is no ONNX model, or is cut off: {error}") from error
    _require_text(model, where)
    return model


def _require_text(message: Message, where: str) -> None:
    """Names are Unicode; protobuf hands out the bytes of those that are not."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for item in [value] if isinstance(value, (str, bytes, Message)) else value:
            if isinstance(item, Message):
                _require_text(item, where)
            elif not isinstance(item, str):
                raise CompileError(f"{where} is damaged: {field.full_name} is not text: {item!r}")


def _read_external(model: ModelProto, folder: str) -> None:
    """Reads tensors that lie in files beside the model."""
    for tensor in _tensors(model.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if not folder:
            raise CompileError(
                f"the data of {tensor.name} lies in {location!r}; give the path of the model, or a "
                "model whose external data is loaded"
            )
        path = (Path(folder) / location).resolve()
        if not location or not path.is_relative_to(Path(folder).resolve()):
            raise CompileError(f"the data of {tensor.name} lies outside the model's folder")
        if not path.is_file():
            raise CompileError(f"the file {path} with the data of {tensor.name} is missing")
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, folder)
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise CompileError(f"cannot read the data of {tensor.name}: {error}") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for inner in _subgraphs(node):
            yield from _tensors(inner)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _require_opsets(model: ModelProto) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not model.opset_import and not model.functions:
        raise CompileError("the model names no operator set (opset_import)")
    for entry in model.opset_import:
        if entry.domain in STANDARD and not 1 <= entry.version <= newest:
            raise CompileError(
                f"the model uses operator set {entry.version}; known are 1 to {newest}. A newer "
                "onnx package may know it"
            )


def _check_graph(graph: GraphProto, outer: frozenset[str], depth: int) -> None:
    """Checks tensors and names, and sorts the nodes."""
    if depth > _MOST_DEPTH:
        raise CompileError(f"subgraphs nest deeper than {_MOST_DEPTH}")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    given = [value.name for value in graph.input]
    _require_unique(given, "input")
    known = outer | set(given) | {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    outputs = [name for node in graph.node for name in node.output if name]
    _require_unique(outputs, "value")
    clash = set(outputs) & set(given)
    if clash:
        raise CompileError(f"{min(clash)} is an input and the result of a node")
    _sort(graph, known)
    missing = [v.name for v in graph.output if v.name not in known and v.name not in outputs]
    if missing:
        raise CompileError(f"nothing computes the output {missing[0]} of {graph.name}")
    inner = known | set(outputs)
    for node in graph.node:
        for subgraph in _subgraphs(node):
            _check_graph(subgraph, inner, depth + 1)


def _require_unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CompileError(f"two {what}s are named {name!r}")
        seen.add(name)


def _check_tensor(tensor: TensorProto) -> None:
    total = 1
    for size in tensor.dims:
        if size < 0:
            raise CompileError(f"the tensor {tensor.name} has a dim of {size}")
        total *= size
    if total > MOST_BYTES:
        raise CompileError(f"the tensor {tensor.name} has {total} elements")
    bits = _BITS.get(tensor.data_type)
    wanted, given = -(-total * (bits or 0) // 8), len(tensor.raw_data)
    if bits is not None and tensor.HasField("raw_data") and given != wanted:
        raise CompileError(
            f"the tensor {tensor.name} has {given} bytes of data, its {total} elements need "
            f"{wanted}"
        )


def _sort(graph: GraphProto, known: frozenset[str]) -> None:
    """Orders nodes so that operands come first; keeps the order of a sorted graph."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [sorted({makers[n] for n in reads(node) if n in makers}) for node in graph.node]
    for node in graph.node:
        unknown = [n for n in node.input if n and n not in makers and n not in known]
        if unknown:
            raise CompileError(
                f"the node {node.name or node.op_type} reads {unknown[0]}, which nothing computes"
            )
    order = _topological(needs, graph)
    if order != list(range(len(order))):
        nodes = [NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)


def reads(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those of its subgraphs included."""
    yield from filter(None, node.input)
    for graph in _subgraphs(node):
        for inner in graph.node:
            yield from reads(inner)
        yield from (value.name for value in graph.output)


def _topological(needs: list[list[int]], graph: GraphProto) -> list[int]:
    order: list[int] = []
    state = [0] * len(needs)  # 0 unseen, 1 on the way, 2 done
    for first in range(len(needs)):
        stack = [(first, iter(needs[first]))] if state[first] == 0 else []
        state[first] = state[first] or 1
        while stack:
            node, rest = stack[-1]
            for need in rest:
                if state[need] == 1:
                    name = graph.node[need].name or graph.node[need].op_type
                    raise CompileError(f"the graph has a cycle through the node {name}")
                if state[need] == 0:
                    state[need] = 1
                    stack.append((need, iter(needs[need])))
                    break
            else:
                state[node] = 2
                order.append(node)
                stack.pop()
    return order
