"""Operators without a translation become segments that PyTorch runs (docs/fallback.md).

First all nodes are translated on trial, which shows who can run what; then `partition` says which
nodes share a segment, and the nodes are translated in the order of its schedule.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.fx import Node as FxNode
from torch.utils._sympy.symbol import SymT, symbol_is_type

from ranvier.errors import UnsupportedOperatorError
from ranvier.frontends.fallback import Fallback, FallbackSummary, summarize_fallback
from ranvier.frontends.findings import Finding, missing_message, operator_uses
from ranvier.frontends.partition import NodeKind, PartitionNode, partition
from ranvier.frontends.torch.body import Body
from ranvier.frontends.torch.call import Refusal
from ranvier.frontends.torch.custom import custom_operator
from ranvier.frontends.torch.functional import functional_name
from ranvier.frontends.torch.results import rename, stand_in
from ranvier.frontends.torch.source_lines import line_of_node
from ranvier.frontends.torch.symbols import Symbols
from ranvier.frontends.torch.translator import Translator
from ranvier.ir.dim import Dim, Polynomial
from ranvier.ir.graph import GraphBuilder, Value

_VIEWS = frozenset({
    "aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
    "aten.expand.default", "aten.flatten.using_ints", "aten.movedim.int", "aten.permute.default",
    "aten.reshape.default", "aten.select.int", "aten.slice.Tensor", "aten.squeeze.dim",
    "aten.squeeze.dims", "aten.squeeze.default", "aten.t.default", "aten.transpose.int",
    "aten.unflatten.int", "aten.unsqueeze.default", "aten.view.default",
    "aten._unsafe_view.default",
})  # fmt: skip
"""Operators that cost next to nothing, wherever they run."""
_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Segment:
    """Nodes that PyTorch runs, in order, and those of them that something else reads."""

    nodes: tuple[FxNode, ...]
    results: frozenset[FxNode]


@dataclass(frozen=True)
class Plan:
    """The nodes in the order in which they are run, one by one natively or as segments."""

    schedule: tuple[FxNode | Segment, ...]
    summary: FallbackSummary


def plan_segments(program: ExportedProgram, fallback: Fallback) -> Plan:
    """Who runs what in a program.

    Raises UnsupportedOperatorError for what PyTorch cannot run in a segment, and beyond the limits.
    """
    bodies: list[TrialBody] = []

    def make(*arguments: Any) -> Body:
        bodies.append(TrialBody(*arguments))
        return bodies[-1]

    Translator(program, "trial", make).run()
    return bodies[0].plan(fallback)


class TrialBody(Body):
    """Translates all nodes and remembers those that cannot be, with the reason."""

    def __init__(
        self, module: GraphModule, builder: GraphBuilder, symbols: Symbols, findings: list[Finding]
    ) -> None:
        super().__init__(module, builder, symbols, findings)
        self.refused: dict[FxNode, list[Finding]] = {}

    def _translate(self, node: FxNode) -> Any:
        custom, start = custom_operator(node.target), len(self.findings)
        if custom is not None and custom.decomposition is None:
            reason = "has a NumPy definition alone"
            self.findings.append(Finding(functional_name(node), line_of_node(node), reason))
            result = stand_in(node, self.symbols)
        else:
            result = super()._translate(node)
        findings = [finding for finding in self.findings[start:] if finding.reason]
        if findings:
            self.refused[node] = findings
        return result

    def plan(self, fallback: Fallback) -> Plan:
        """Who runs what."""
        _require_no_obstacles(self.refused, self.findings)
        nodes = [node for node in self._module.graph.nodes if node.op == "call_function"]
        places = {node: i for i, node in enumerate(nodes)}
        (output,) = (node for node in self._module.graph.nodes if node.op == "output")
        found = partition(
            [
                PartitionNode(
                    self._kind(node),
                    tuple(places[read] for read in node.all_input_nodes if read in places),
                )
                for node in nodes
            ],
            [places[node] for node in output.all_input_nodes if node in places],
        )
        results = iter(found.results)
        schedule = tuple(
            nodes[entry]
            if isinstance(entry, int)
            else Segment(tuple(nodes[i] for i in entry), frozenset(nodes[i] for i in next(results)))
            for entry in found.schedule
        )
        moved = [
            Finding(functional_name(nodes[i]), line_of_node(nodes[i]), self._reason(nodes[i]))
            for segment in found.segments
            for i in segment
            if nodes[i].target is not operator.getitem
        ]
        count = len(found.segments)
        return Plan(schedule, summarize_fallback(fallback, count, len(self.findings), moved))

    def _reason(self, node: FxNode) -> str:
        if node in self.refused:
            return self.refused[node][-1].reason
        return "stands between two that have no translation"

    def _kind(self, node: FxNode) -> NodeKind:
        if node in self.refused:
            return "foreign"
        size = node.meta.get("val")
        if isinstance(size, torch.SymInt) and not _has_data_symbols(size):
            return "free"
        if node.target is operator.getitem or str(node.target) in _VIEWS:
            return "either"
        return "native"


class SegmentedBody(Body):
    """Translates the nodes of a plan in its order."""

    def __init__(
        self,
        plan: Plan,
        module: GraphModule,
        builder: GraphBuilder,
        symbols: Symbols,
        findings: list[Finding],
    ) -> None:
        super().__init__(module, builder, symbols, findings)
        self.plan = plan

    def run(self) -> None:
        """Translates all nodes; segments become `foreign` nodes."""
        for node in self._module.graph.nodes:
            if node.op == "get_attr":
                self._attribute(node)
        native = {entry for entry in self.plan.schedule if isinstance(entry, FxNode)}
        for entry in self.plan.schedule:
            if isinstance(entry, Segment):
                self._segment(entry, native)
            else:
                self.values[entry] = self._translate(entry)

    def _segment(self, segment: Segment, native: set[FxNode]) -> None:
        try:
            self._emit(segment, native)
        except Refusal as refusal:
            names = ", ".join(functional_name(node) for node in segment.nodes)
            source = line_of_node(segment.nodes[0])
            self.findings.append(Finding(names, source, f"in a segment: {refusal}"))

    def _emit(self, segment: Segment, native: set[FxNode]) -> None:
        document = _Document(self.resolve)
        calls = [node for node in segment.nodes if node.target is not operator.getitem]
        for node in calls:
            document.add(node)
        given = list(_given(segment, native))
        if not given:
            return  # nothing reads what it computes
        types = []
        for each in given:
            types.append(self.type(each.found))
            document.give(each.node, each.item)
        start = len(self.builder.nodes)
        values = self.builder.add_node(
            "foreign",
            document.operands,
            {
                "framework": "torch",
                "segment": document.text(),
                "operators": tuple(functional_name(node) for node in calls),
                "sources": tuple(line_of_node(node) for node in calls),
                "sizes": tuple(document.sizes),
                "dtypes": tuple(type.dtype for type in types),
                "shapes": tuple(type.shape for type in types),
            },
            [each.name for each in given],
            line_of_node(calls[0]),
        )
        names = {value: each.name for value, each in zip(values, given, strict=True)}
        fresh = {value: name for value, name in names.items() if name not in self._named}
        self._named |= set(fresh.values())
        self._store(given, rename(self.builder.nodes, start, fresh, values))

    def _store(self, given: Sequence[_Given], values: Sequence[Value]) -> None:
        """What became of the nodes: a value, or a tuple of those that something reads."""
        for each, value in zip(given, values, strict=True):
            if each.item is None:
                self.values[each.node] = value
                continue
            items = self.values.get(each.node, (None,) * len(each.node.meta["val"]))
            self.values[each.node] = (*items[: each.item], value, *items[each.item + 1 :])


@dataclass(frozen=True)
class _Given:
    """A result of a segment: a node's tensor, or one of several, under its name."""

    node: FxNode
    item: int | None
    name: str
    found: torch.Tensor


def _given(segment: Segment, native: set[FxNode]) -> Iterator[_Given]:
    """The results of a segment that native nodes or other segments read, each once."""
    for node in (node for node in segment.nodes if node in segment.results):
        found = node.meta["val"]
        if isinstance(found, torch.Tensor):
            yield _Given(node, None, node.name, found)
            continue
        items: set[int] = set()
        for user in (user for user in node.users if user in native):
            item = user.args[1]
            assert isinstance(item, int)  # lists that are read as a whole have been refused
            if item not in items:
                items.add(item)
                yield _Given(node, item, user.name, found[item])


@dataclass
class _Document:
    """A segment's document under construction; `resolve` gives what the IR has for an argument."""

    resolve: Callable[[Any], Any]
    operands: list[Value] = field(default_factory=list)
    sizes: list[Dim] = field(default_factory=list)
    _calls: list[dict[str, Any]] = field(default_factory=list)
    _results: list[dict[str, int]] = field(default_factory=list)
    _places: dict[FxNode, int] = field(default_factory=dict)

    def add(self, node: FxNode) -> None:
        """Append a call."""
        call: dict[str, Any] = {"operator": functional_name(node)}
        if node.args:
            call["arguments"] = [self._argument(argument) for argument in node.args]
        if node.kwargs:
            call["named"] = {key: self._argument(value) for key, value in node.kwargs.items()}
        self._places[node] = len(self._calls)
        self._calls.append(call)

    def give(self, node: FxNode, item: int | None = None) -> None:
        """Make a call's result, or one of several, a result of the segment."""
        self._results.append(self._reference(node, item))

    def text(self) -> str:
        """The document as `ranvier.segments.pytorch` reads it."""
        return json.dumps({"calls": self._calls, "results": self._results}, separators=(",", ":"))

    def _reference(self, node: FxNode, item: int | None = None) -> dict[str, int]:
        found = {"call": self._places[node]}
        return found if item is None else {**found, "item": item}

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, FxNode):
            return self._node(argument)
        if isinstance(argument, (list, tuple)):
            return [self._argument(each) for each in argument]
        if isinstance(argument, float) and not math.isfinite(argument):
            return {"float": "nan" if math.isnan(argument) else "inf" if argument > 0 else "-inf"}
        if isinstance(argument, torch.device):
            return {"device": "cpu"}
        for kind in ("dtype", "layout", "memory_format"):
            if isinstance(argument, getattr(torch, kind)):
                return {kind: str(argument).removeprefix("torch.")}
        if argument is None or isinstance(argument, _PLAIN):
            return argument
        raise Refusal(f"takes {argument!r}, which a segment cannot hold")

    def _node(self, node: FxNode) -> Any:
        if node in self._places:
            return self._reference(node)
        if node.target is operator.getitem and node.args[0] in self._places:
            return self._reference(node.args[0], int(node.args[1]))  # type: ignore[arg-type]
        found = self.resolve(node)
        if isinstance(found, int):
            return found
        if isinstance(found, Polynomial):
            return {"size": _place(self.sizes, found)}
        if isinstance(found, Value) and isinstance(node.meta.get("val"), torch.Tensor):
            return {"operand": _place(self.operands, found)}
        raise Refusal(f"reads {node.name}, which is neither a tensor nor a size")


def _place(known: list[Any], entry: Any) -> int:
    """The place of an entry in a list; appends it when it is new."""
    for i, each in enumerate(known):
        if each is entry or (not isinstance(entry, Value) and each == entry):
            return i
    known.append(entry)
    return len(known) - 1


def _require_no_obstacles(
    refused: Mapping[FxNode, Sequence[Finding]], findings: Sequence[Finding]
) -> None:
    """Raises UnsupportedOperatorError for what no segment can hold; all of it at once."""
    obstacles = [
        Finding(_name(node), line_of_node(node), f"{why.reason}; a segment cannot hold it: {each}")
        for node, (*_, why) in refused.items()
        for each in _obstacles(node)
    ]
    obstacles += [
        inner._replace(reason=f"{inner.reason}; a segment cannot hold control flow")
        for node, found in refused.items()
        if _is_control_flow(node)
        for inner in found
    ]
    obstacles += [finding for finding in findings if finding.operator == "output"]
    if obstacles:
        raise UnsupportedOperatorError(missing_message(operator_uses(obstacles)))


def _name(node: FxNode) -> str:
    """The operator, also behind the node that PyTorch wraps around one that writes arguments."""
    if _is_operator(node):
        return functional_name(node)
    return str(node.args[0] if _is_mutating(node) else node.target)


def _is_control_flow(node: FxNode) -> bool:
    is_higher = isinstance(node.target, torch._ops.HigherOrderOperator)
    return is_higher and not _is_mutating(node)


def _is_mutating(node: FxNode) -> bool:
    return str(node.target).startswith("auto_functionalized")


def _obstacles(node: FxNode) -> Iterator[str]:
    if _is_mutating(node):
        yield "it writes one of its arguments"
        return
    if _is_control_flow(node):
        return  # what is inside says it
    if not isinstance(node.target, torch._ops.OpOverload):
        yield "it is none of the operators in torch.ops"
        return
    if node.target._schema.is_mutable:
        yield "it writes one of its arguments"
    if node.meta.get("unbacked_bindings"):
        yield "its result has a size that depends on data"
    found = node.meta.get("val")
    tensors = found if isinstance(found, (tuple, list)) else (found,)
    if not all(each is None or isinstance(each, torch.Tensor) for each in tensors):
        yield "its result is no tensor"
    read = {user for user in node.users if user.target is not operator.getitem}
    if isinstance(found, (tuple, list)) and read:
        yield "its list of results is read as a whole"


def _is_operator(node: FxNode) -> bool:
    return isinstance(node.target, torch._ops.OpOverload)


def _has_data_symbols(size: torch.SymInt) -> bool:
    """Whether a size depends on data."""
    return any(symbol_is_type(s, SymT.UNBACKED_INT) for s in size.node.expr.free_symbols)
