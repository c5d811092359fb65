"""Whether a traced program can be translated as it is, without PyTorch's decompositions.

torch.export gives a program in which in-place operators may still stand. `run_decompositions`
rewrites them, and composites without a translation, by tracing once more, which takes many times
as long as the export when sizes are symbolic. Most models need none of it.
"""

from __future__ import annotations

import operator

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from ranvier.frontends.torch.complex_numbers import COMPLEX, is_complex
from ranvier.frontends.torch.custom import custom_operator
from ranvier.frontends.torch.translations import ASSERTIONS, TABLE
from ranvier.frontends.torch.whole_recurrences import NAMES

_FRESH_COMPOSITES = frozenset(
    {
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "batch_norm",
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "group_norm", "layer_norm", "linear", "log_softmax", "matmul", "max_pool1d", "max_pool2d",
        "max_pool3d", "relu6", "rms_norm", "scaled_dot_product_attention", "softmax",
    }
)  # fmt: skip
"""Composites whose result is a new tensor; others may return their argument or a view of it."""


def is_translatable(program: ExportedProgram) -> bool:
    """Whether every node has a translation, in-place operators through their functional twins."""
    nodes = [n for n in program.graph.nodes if n.op not in ("placeholder", "output")]
    order = {node: i for i, node in enumerate(program.graph.nodes)}
    return all(_is_translatable(node, order) for node in nodes)


def functional_name(node: Node) -> str:
    """The overload in the table: `aten.relu.default` also for `aten.relu_.default`."""
    name = NAMES.get(str(node.target), str(node.target))
    if not _is_in_place(node):
        return name
    _, packet, overload = name.split(".")
    return f"aten.{packet.removesuffix('_')}.{overload}"


def _is_translatable(node: Node, order: dict[Node, int]) -> bool:
    if node.op != "call_function":
        return False
    if node.target is operator.getitem or str(node.target) in ASSERTIONS:
        return True
    if isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return True
    if custom_operator(node.target) is not None:
        return True
    name = functional_name(node)
    if name not in TABLE and not (name in COMPLEX and is_complex(node)):
        return False
    return not _is_in_place(node) or _overwrites_nothing_else(node, order)


def _is_in_place(node: Node) -> bool:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    written = [a.alias_info is not None and a.alias_info.is_write for a in target._schema.arguments]
    return written[:1] == [True] and not any(written[1:])


def _overwrites_nothing_else(node: Node, order: dict[Node, int]) -> bool:
    """Whether the written tensor is new, has no views, and is read by nothing afterwards."""
    if _does_nothing(node):
        return True
    written = node.args[0]
    if not isinstance(written, Node) or not _is_fresh(written):
        return False
    readers = [user for user in written.users if user is not node]
    if any(order[user] > order[node] or _may_alias(user, written) for user in readers):
        return False
    dtypes = {a.meta["val"].dtype for a in node.all_input_nodes if _is_tensor(a)}
    return len(dtypes) == 1


def _does_nothing(node: Node) -> bool:
    """Whether a node is dropout outside training."""
    return "dropout" in str(node.target) and len(node.args) == 3 and node.args[2] is False


def _may_alias(reader: Node, written: Node) -> bool:
    if _is_in_place(reader):
        return reader.args[0] is written
    return not _is_fresh(reader)


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _is_fresh(node: Node) -> bool:
    """Whether a node's result shares no memory with anything that was there before."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if _is_in_place(node):
        return isinstance(node.args[0], Node) and _is_fresh(node.args[0])
    if any(argument.alias_info for argument in target._schema.arguments):
        return False
    name = str(target._schema.name)
    qualified = f"{name}.{target._overloadname}".removesuffix(".default")
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        qualified, torch._C.DispatchKey.CompositeImplicitAutograd
    )
    return not composite or name.removeprefix("aten::") in _FRESH_COMPOSITES
