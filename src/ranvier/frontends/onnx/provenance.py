"""Where a node of an ONNX model comes from, as its exporter wrote it."""

from __future__ import annotations

import ast
import re

from onnx import NodeProto

_STACK = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_SCOPES, _TRACE = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"


def source_of(node: NodeProto, outer: str = "") -> str:
    """The node's name, the module that produced it and its line, as far as they are known."""
    name = node.name or next(filter(None, node.output), node.op_type)
    parts = [f"{outer}/{name}" if outer else name]
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    module = _module(metadata.get(_SCOPES, ""))
    if module:
        parts.append(f"in {module}")
    lines = _STACK.findall(metadata.get(_TRACE, "") or node.doc_string)
    if lines:
        file, line = lines[-1]
        parts.append(f"{file.rsplit('/', 1)[-1]}:{line}")
    return " ".join(parts)


def _module(scopes: str) -> str:
    """The innermost module of PyTorch's list of scopes; its last entry is the node itself."""
    if not scopes:
        return ""
    try:
        path = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return scopes
    named = [str(part) for part in path[:-1] if part]
    return named[-1] if named else ""
