"""Operators without a translation become segments that ONNX Runtime runs (docs/fallback.md).

First all nodes of the model are translated on trial, which shows who can run what; then `partition`
says which nodes share a segment, and the nodes are translated in the order of its schedule. A node
goes as a whole, with the graphs inside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, inliner

from ranvier.errors import UnsupportedOperatorError
from ranvier.frontends.fallback import (
    Fallback,
    FallbackSummary,
    require_loadable,
    summarize_fallback,
)
from ranvier.frontends.findings import Finding, missing_message, operator_uses
from ranvier.frontends.onnx.elements import Elements
from ranvier.frontends.onnx.known_elements import emit_elements, follows_from_sizes
from ranvier.frontends.onnx.provenance import source_of
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.scope import MISSING, Entry
from ranvier.frontends.onnx.segment_model import SegmentModels, names_read, serialized
from ranvier.frontends.onnx.symbols import Range
from ranvier.frontends.onnx.translator import Place, Translator, custom_operator
from ranvier.frontends.partition import NodeKind, PartitionNode, partition
from ranvier.ir.definitions import symbols_of
from ranvier.ir.dim import Dim, Symbol
from ranvier.ir.dtype import DType
from ranvier.ir.graph import Graph, TensorType, Value
from ranvier.ir.operators.foreign import encode_document

_VIEWS = frozenset({
    "Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
"""Operators that cost next to nothing, wherever they run."""


@dataclass(frozen=True)
class Segment:
    """Nodes that ONNX Runtime runs, in order, and the types of what something else reads."""

    nodes: tuple[NodeProto, ...]
    results: Mapping[str, TensorType]


@dataclass(frozen=True)
class Plan:
    """The nodes of a model in the order in which they are run, one by one natively or as segments.

    `known` has the elements of results that follow from sizes alone.
    """

    schedule: tuple[NodeProto | Segment, ...]
    known: Mapping[str, tuple[Elements, DType]]
    summary: FallbackSummary


def with_segments(
    model: ModelProto, name: str, dims: Mapping[str, Range] | None, fallback: Fallback
) -> tuple[Graph, FallbackSummary]:
    """The graph of a model in which ONNX Runtime runs what has no translation.

    Raises UnsupportedOperatorError beyond the limits of `fallback` and for what ONNX Runtime cannot
    run as a part of an artifact, FrameworkError where it is not installed.
    """
    flat = inliner.inline_local_functions(model) if model.functions else model
    trial = TrialTranslator(flat, "trial", dims)
    trial.run()
    plan = trial.plan(fallback)
    translator = SegmentedTranslator(flat, name, dims, plan)
    graph = translator.run()
    _require_none(finding for finding in translator.findings if finding.reason)
    return require_loadable(graph), plan.summary


class TrialTranslator(Translator):
    """Translates all nodes and remembers those that cannot be, with the reason."""

    def __init__(self, model: ModelProto, name: str, dims: Mapping[str, Range] | None) -> None:
        super().__init__(model, name, dims)
        self._models = SegmentModels(model)
        self._refused: dict[int, str] = {}
        self._obstacles: list[Finding] = []
        self._given: dict[str, Symbol] = {}  # symbols of the inputs
        self._free: set[int] = set()
        self._known: dict[str, tuple[Elements, DType]] = {}
        self._types: dict[str, TensorType] = {}
        self._untyped: dict[str, NodeProto] = {}  # results that are no tensors -> their nodes

    # The trial ------------------------------------------------------------------------------------
    def _nodes(self, nodes: Sequence[NodeProto], place: Place) -> None:
        if place.depth:
            super()._nodes(nodes, place)
            return
        self._given = symbols_of([tuple(value.shape) for value in self._frame.builder.inputs])
        for index, node in enumerate(nodes):
            start, custom = len(self.findings), custom_operator(node)
            results: Sequence[Entry] = [MISSING] * len(node.output)
            reason = "has a NumPy definition alone"
            if custom is None or custom.decomposition is not None:
                results = self._node(node, place)
                reason = self._reason(node, self.findings[start:], results)
            if reason:
                self._refused[index] = reason
                results = self._stand_ins(node, reason, place)
            elif self._learn(node, results):
                self._free.add(index)
            for name, result in zip(node.output, results, strict=False):
                place.scope.set(name, result)

    def _reason(
        self, node: NodeProto, findings: Sequence[Finding], results: Sequence[Entry]
    ) -> str:
        """Why a node is not native; empty when it is."""
        reasons = [finding.reason for finding in findings if finding.reason]
        if reasons:
            return reasons[-1]
        unknown = [name for name in names_read(node) if name in self._untyped]
        if unknown and all(result is MISSING for result in results):
            return f"reads {', '.join(unknown)}, of a type or shape that is not known"
        return ""

    def _learn(self, node: NodeProto, results: Sequence[Entry]) -> bool:
        """Whether all results follow from sizes alone; remembers their elements."""
        found: dict[str, tuple[Elements, DType]] = {}
        for name, result in zip(node.output, results, strict=False):
            if not name:
                continue
            elements = self._frame.contents.get(result) if isinstance(result, Value) else None
            if elements is None or not follows_from_sizes(elements, self._given):
                return False
            assert isinstance(result, Value)
            found[name] = elements, result.dtype
        self._known |= found
        return True

    def _stand_ins(self, node: NodeProto, reason: str, place: Place) -> Sequence[Entry]:
        """Values of the types that the results have in ONNX Runtime; none for what is no tensor."""
        try:
            self._infer(node, place)
        except Refusal as refusal:
            self._obstacles.append(Finding(_shown(node), source_of(node), f"{reason}; {refusal}"))
        return [
            Value(name, self._types[name]) if name in self._types else MISSING
            for name in node.output
        ]

    def _infer(self, node: NodeProto, place: Place) -> None:
        """Learns the types of a node's results, in a model with the nodes before it whose results
        have none.
        """
        nodes: list[NodeProto] = []
        self._gather(node, nodes)
        made = {name for each in nodes for name in each.output if name}
        read = dict.fromkeys(n for each in nodes for n in names_read(each) if n not in made)
        constants = [name for name in read if self._models.constant(name) is not None]
        inputs = {n: self._type(place, n) for n in read if n not in constants}
        results = [name for name in node.output if name]
        self._untyped |= dict.fromkeys(results, node)
        for name, found in self._models.infer(nodes, inputs, results, constants).items():
            shape = None if found is None else self._complete(name, found.shape)
            if found is not None and shape is not None:
                if not symbols_of([shape]).keys() <= self._given.keys():
                    raise Refusal(f"the size of {name} depends on data")
                self._types[name] = TensorType(found.dtype, shape)
                del self._untyped[name]

    def _gather(self, node: NodeProto, nodes: list[NodeProto]) -> None:
        for name in names_read(node):
            if name in self._untyped and self._untyped[name] not in nodes:
                self._gather(self._untyped[name], nodes)
        nodes.append(node)

    def _type(self, place: Place, name: str) -> TensorType:
        entry = self._resolve(place.scope, name)
        if not isinstance(entry, Value):
            raise Refusal(f"it reads {name}, which is no tensor")
        return entry.type

    def _complete(self, name: str, shape: Sequence[Dim | None] | None) -> tuple[Dim, ...] | None:
        """A shape with the sizes that only the model states; None where neither says it."""
        statement = self._statements.get(name)
        stated = statement.sizes if statement is not None else None
        found = stated if shape is None else shape
        if found is None:
            return None
        if stated is not None and len(stated) == len(found):
            found = [a if a is not None else b for a, b in zip(found, stated, strict=True)]
        known = tuple(size for size in found if size is not None)
        return known if len(known) == len(found) else None

    # The plan -------------------------------------------------------------------------------------
    def plan(self, fallback: Fallback) -> Plan:
        """Who runs what."""
        _require_none(self._obstacles)
        graph = self._model.graph
        makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
        reads = [
            tuple(sorted({makers[name] for name in names_read(node) if name in makers}))
            for node in graph.node
        ]
        nodes = [PartitionNode(self._kind(i), read) for i, read in enumerate(reads)]
        outputs = [value.name for value in graph.output]
        found = partition(nodes, [makers[name] for name in outputs if name in makers])
        readers = {i for i in found.schedule if isinstance(i, int)} - self._free
        schedule: list[NodeProto | Segment] = []
        for entry in found.schedule:
            if isinstance(entry, int):
                schedule.append(graph.node[entry])
                continue
            others = {i for each in found.segments if each is not entry for i in each}
            read = [name for i in readers | others for name in names_read(graph.node[i])]
            schedule.append(self._segment(entry, {*outputs, *read}))
        moved = [
            Finding(
                _shown(graph.node[i]),
                source_of(graph.node[i]),
                self._refused.get(i, "stands between two that have no translation"),
            )
            for segment in found.segments
            for i in segment
        ]
        total = sum(node.op_type != "Constant" for node in graph.node)
        count = len(found.segments)
        summary = summarize_fallback(fallback, count, total, moved)
        return Plan(tuple(schedule), self._known, summary)

    def _kind(self, index: int) -> NodeKind:
        if index in self._refused:
            return "foreign"
        if index in self._free:
            return "free"
        node = self._model.graph.node[index]
        return "either" if not _plain(node.domain) and node.op_type in _VIEWS else "native"

    def _segment(self, members: Sequence[int], outside: Collection[str]) -> Segment:
        nodes = self._model.graph.node
        read = [n for i in members if i in self._refused for n in nodes[i].output if n in outside]
        _require_none(
            Finding(
                _shown(nodes[i]),
                source_of(nodes[i]),
                f"{self._refused[i]}; the type or shape of {name}, which is read outside of the "
                "segment, is not known: state it in the model's value_info, or fix the sizes of "
                "the inputs (--dim NAME=SIZE)",
            )
            for i in members
            for name in nodes[i].output
            if name in read and name not in self._types
        )
        return Segment(tuple(nodes[i] for i in members), {n: self._types[n] for n in read})


class SegmentedTranslator(Translator):
    """Translates the nodes of a plan in its order; segments become `foreign` nodes."""

    def __init__(
        self, model: ModelProto, name: str, dims: Mapping[str, Range] | None, plan: Plan
    ) -> None:
        super().__init__(model, name, dims)
        self._plan = plan
        self._models = SegmentModels(model)

    def _nodes(self, nodes: Sequence[NodeProto], place: Place) -> None:
        if place.depth:
            super()._nodes(nodes, place)
            return
        for entry in self._plan.schedule:
            if isinstance(entry, Segment):
                self._emit(entry, place)
            elif all(name in self._plan.known for name in entry.output if name):
                for name in filter(None, entry.output):
                    elements, dtype = self._plan.known[name]
                    place.scope.set(name, emit_elements(self._frame, elements, dtype, name))
            else:
                results = self._node(entry, place)
                for name, result in zip(entry.output, results, strict=False):
                    place.scope.set(name, result)

    def _emit(self, segment: Segment, place: Place) -> None:
        if not segment.results:
            return  # nothing reads what it computes
        try:
            self._foreign(segment, place)
        except Refusal as refusal:
            shown = ", ".join(map(_shown, segment.nodes))
            source = source_of(segment.nodes[0])
            self.findings.append(Finding(shown, source, f"in a segment: {refusal}"))
            for name in segment.results:
                place.scope.set(name, MISSING)

    def _foreign(self, segment: Segment, place: Place) -> None:
        made = {name for node in segment.nodes for name in node.output if name}
        read = dict.fromkeys(n for node in segment.nodes for n in names_read(node) if n not in made)
        constants = [name for name in read if self._models.constant(name) is not None]
        operands: dict[str, Value] = {}
        for name in (name for name in read if name not in constants):
            entry = self._resolve(place.scope, name)
            if not isinstance(entry, Value):
                raise Refusal(f"reads {name}, which is no tensor")
            operands[name] = entry
        inputs = {name: value.type for name, value in operands.items()}
        document = serialized(self._models, segment.nodes, inputs, segment.results, constants)
        types = segment.results.values()
        values = self._frame.builder.add_node(
            "foreign",
            list(operands.values()),
            {
                "framework": "onnxruntime",
                "segment": encode_document("onnxruntime", document),
                "operators": tuple(map(_shown, segment.nodes)),
                "sources": tuple(map(source_of, segment.nodes)),
                "sizes": (),
                "dtypes": tuple(type.dtype for type in types),
                "shapes": tuple(type.shape for type in types),
            },
            tuple(segment.results),
            source_of(segment.nodes[0]),
        )
        for name, value in zip(segment.results, values, strict=True):
            place.scope.set(name, value)


def _require_none(findings: Iterable[Finding]) -> None:
    """Raises UnsupportedOperatorError when there are any findings."""
    uses = operator_uses(findings)
    if uses:
        raise UnsupportedOperatorError(missing_message(uses))


def _shown(node: NodeProto) -> str:
    domain = _plain(node.domain)
    return f"{domain}::{node.op_type}" if domain else node.op_type


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
