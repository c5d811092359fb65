"""Functions: those that a model brings along, and operators that the standard defines as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto

from ranvier.frontends.onnx.dtypes import to_onnx
from ranvier.frontends.onnx.value_list import Result, ValueList

Opsets = Mapping[str, int]


class Body(NamedTuple):
    """Nodes that stand for one, with the attributes of the call put in."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodeProto, ...]
    opsets: Opsets


def model_function(
    functions: Sequence[FunctionProto], node: NodeProto, operands: Sequence[Result | None]
) -> Body | None:
    """The body of a function of the model that a node calls."""
    for function in functions:
        if (function.domain, function.name, function.overload) == (
            node.domain, node.op_type, node.overload,
        ):  # fmt: skip
            return _body(function, node)
    return None


def standard_function(
    node: NodeProto, version: int, operands: Sequence[Result | None]
) -> Body | None:
    """The body by which the standard defines an operator of a version of its operator set."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        fitting = [v for v in schema.function_opset_versions if v <= version]
        chosen = max(fitting, default=schema.function_opset_versions[0])
        return _parsed(schema.get_function_with_opset_version(chosen), node)
    if schema.has_context_dependent_function:
        versions = schema.context_dependent_function_opset_versions
        chosen = max([v for v in versions if v <= version], default=versions[0])
        types = [_type(value).SerializeToString() for value in operands]
        found = schema.get_context_dependent_function_with_opset_version(
            chosen, node.SerializeToString(), types
        )
        return _parsed(found, node) if found else None
    return None


def _type(value: Result | None) -> TypeProto:
    if value is None:
        return TypeProto()
    if isinstance(value, ValueList):
        element = onnx.helper.make_tensor_type_proto(to_onnx(value.dtype), None)
        return onnx.helper.make_sequence_type_proto(element)
    shape = [size if isinstance(size, int) else str(size) for size in value.shape]
    return onnx.helper.make_tensor_type_proto(to_onnx(value.dtype), shape)


def _parsed(serialized: bytes, node: NodeProto) -> Body:
    function = FunctionProto()
    function.ParseFromString(serialized)
    return _body(function, node)


def _body(function: FunctionProto, node: NodeProto) -> Body:
    given = {attribute.name: attribute for attribute in function.attribute_proto}
    given |= {attribute.name: attribute for attribute in node.attribute}
    nodes = tuple(_with_attributes(inner, given) for inner in function.node)
    opsets = {entry.domain: entry.version for entry in function.opset_import}
    return Body(tuple(function.input), tuple(function.output), nodes, opsets)


def _with_attributes(node: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    """A node with references to the function's attributes replaced, in its subgraphs, too."""
    result = NodeProto()
    result.CopyFrom(node)
    del result.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copied = result.attribute.add()
            copied.CopyFrom(attribute)
            if attribute.type == AttributeProto.GRAPH:
                copied.g.CopyFrom(_graph_with_attributes(attribute.g, given))
        elif attribute.ref_attr_name in given:
            copied = result.attribute.add()
            copied.CopyFrom(given[attribute.ref_attr_name])
            copied.name = attribute.name
    return result


def _graph_with_attributes(graph: GraphProto, given: Mapping[str, AttributeProto]) -> GraphProto:
    result = GraphProto()
    result.CopyFrom(graph)
    del result.node[:]
    result.node.extend(_with_attributes(node, given) for node in graph.node)
    return result
