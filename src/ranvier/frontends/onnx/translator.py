"""An ONNX graph becomes a Graph: one pass over its nodes, through the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from ranvier.errors import CompileError
from ranvier.frontends.findings import Finding
from ranvier.frontends.onnx.arguments import attributes_of, bind
from ranvier.frontends.onnx.call import Call, Declared
from ranvier.frontends.onnx.dtypes import from_onnx, to_array
from ranvier.frontends.onnx.elementwise import SAME_SHAPE
from ranvier.frontends.onnx.frame import Frame
from ranvier.frontends.onnx.functions import Body, Opsets, model_function, standard_function
from ranvier.frontends.onnx.naming import renamed
from ranvier.frontends.onnx.provenance import source_of
from ranvier.frontends.onnx.reader import reads
from ranvier.frontends.onnx.refusal import Expand, Refusal
from ranvier.frontends.onnx.refused import REASONS
from ranvier.frontends.onnx.scope import MISSING, Entry, Missing, Scope
from ranvier.frontends.onnx.sequences import TAKING
from ranvier.frontends.onnx.symbols import Range, Symbols
from ranvier.frontends.onnx.translations import translation
from ranvier.frontends.onnx.value_list import Result, ValueList, flatten
from ranvier.ir.dim import Dim, Polynomial
from ranvier.ir.dtype import DType
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.liveness import without_dead_nodes
from ranvier.ir.operators.custom import CUSTOM, CustomOperator

_MALFORMED = (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError)
"""What a translation, which takes a node to be as the standard says, ends in when it is not."""
_MOST_NESTING = 32
"""Functions call functions; deeper than this they call themselves."""


@dataclass(frozen=True)
class _Statement:
    """What a model says of a value."""

    sizes: Declared | None
    dtype: DType | None


@dataclass(frozen=True)
class Place:
    """The body in which a node stands: its operator sets, its functions' names, its nesting."""

    scope: Scope
    opsets: Opsets
    outer: str = ""
    depth: int = 0
    renamed: Mapping[str, str] | None = None  # results of a function body -> those of its call
    read: frozenset[str] | None = None  # names that anything reads; None where nobody has looked


class Translator:
    """Translates one model; `findings` has an entry per operator use afterwards."""

    def __init__(self, model: ModelProto, name: str, dims: Mapping[str, Range] | None) -> None:
        self.findings: list[Finding] = []
        self._model = model
        self._symbols = Symbols(dims)
        self._frame = Frame(GraphBuilder(name))
        self._statements: dict[str, _Statement] = {}
        self._names: dict[Value, str] = {}

    def run(self) -> Graph:
        """The graph; operators with a finding that has a reason are left out of it."""
        graph, scope = self._model.graph, Scope(self._frame)
        scope.declare(graph.initializer)
        self._inputs(graph, scope)
        self._state(graph)
        opsets = {_domain(entry.domain): entry.version for entry in self._model.opset_import}
        read = _read(graph.node, [value.name for value in graph.output])
        self._nodes(graph.node, Place(scope, opsets, read=read))
        return self._finish(graph, scope)

    def _inputs(self, graph: GraphProto, scope: Scope) -> None:
        constants = {tensor.name for tensor in graph.initializer}
        for value in graph.input:
            if value.name in constants:
                continue
            kind = value.type.WhichOneof("value")
            if kind != "tensor_type":
                raise CompileError(
                    f"the input {value.name} is a {(kind or 'value of no type').split('_')[0]}; "
                    "only tensors are supported"
                )
            try:
                dtype = from_onnx(value.type.tensor_type.elem_type)
            except Refusal as refusal:
                raise CompileError(f"the input {value.name}: {refusal}") from None
            type = TensorType(dtype, self._symbols.shape(value))
            scope.set(value.name, self._frame.builder.input(value.name, type))
        unused = self._symbols.unused()
        if unused:
            raise CompileError(
                f"no input has the dims {', '.join(unused)}; known: "
                f"{', '.join(self._symbols.names()) or 'none'}"
            )

    def _state(self, graph: GraphProto) -> None:
        """Remember the sizes and types that the model states for values."""
        for value in (*graph.value_info, *graph.output):
            if not value.type.HasField("tensor_type"):
                continue
            try:
                dtype: DType | None = from_onnx(value.type.tensor_type.elem_type)
            except Refusal:
                dtype = None
            self._statements[value.name] = _Statement(self._symbols.declared(value), dtype)
        for node in reversed(graph.node):
            self._state_operand(node)

    def _state_operand(self, node: NodeProto) -> None:
        """What an element-wise operator of one operand reads has the sizes of its result."""
        if _domain(node.domain) or node.op_type not in SAME_SHAPE or not node.input:
            return
        stated, operand = self._statements.get(node.output[0]), node.input[0]
        if stated is not None and operand not in self._statements:
            self._statements[operand] = _Statement(stated.sizes, None)

    def _finish(self, graph: GraphProto, scope: Scope) -> Graph:
        names: list[str] = []
        outputs: list[Value] = []
        trees: list[object] = []
        for value in graph.output:
            entry = self._resolve(scope, value.name)
            if isinstance(entry, Missing):
                continue
            first = len(outputs)
            outputs += flatten([entry])
            leaves = [{"leaf": i} for i in range(first, len(outputs))]
            if isinstance(entry, ValueList):
                names += [f"{value.name}_{i}" for i in range(len(leaves))]
                trees.append({"list": leaves})
            else:
                names.append(value.name)
                trees += leaves
        tree = trees[0] if len(trees) == 1 else {"tuple": trees}
        has_lists = len(trees) != len(outputs) or any("list" in str(each) for each in trees)
        nested = tree if has_lists else None
        finished = self._frame.builder.finish(outputs, names, output_tree=nested)
        return renamed(without_dead_nodes(finished), self._names)

    # Names ----------------------------------------------------------------------------------------
    def _resolve(self, scope: Scope, name: str) -> Result | Missing:
        owner, entry = scope.find(name)
        if isinstance(entry, TensorProto):
            entry = self._constant(entry, owner.frame)
            owner.set(name, entry)
        if isinstance(entry, Missing):
            return entry
        if isinstance(entry, ValueList):
            items = (scope.frame.capture(item, owner.frame) for item in entry.items)
            return ValueList(tuple(items), entry.dtype)
        return scope.frame.capture(entry, owner.frame)

    def _constant(self, tensor: TensorProto, frame: Frame) -> Value:
        dtype = from_onnx(tensor.data_type)
        try:
            array = to_array(tensor)
        except (ValueError, TypeError) as error:
            raise CompileError(f"the tensor {tensor.name} is malformed: {error}") from error
        value = frame.builder.constant(array, dtype, tensor.name or "constant")
        frame.contents.learn(frame.builder.nodes[-1])
        return value

    # Nodes ----------------------------------------------------------------------------------------
    def _nodes(self, nodes: Sequence[NodeProto], place: Place) -> None:
        for node in nodes:
            results = self._node(node, place)
            for name, result in zip(node.output, results, strict=False):
                place.scope.set(name, result)
                if isinstance(result, Value) and place.depth == 0 and name:
                    self._names.setdefault(result, name)

    def _node(self, node: NodeProto, place: Place) -> Sequence[Entry]:
        """What a node's results become; a finding tells why they are missing."""
        domain, source = _domain(node.domain), source_of(node, place.outer)
        shown = f"{domain}::{node.op_type}" if domain else node.op_type
        missing = [MISSING] * len(node.output)
        version = place.opsets.get(domain, 1)
        start = len(self.findings)
        try:
            operands = [self._resolve(place.scope, name) if name else None for name in node.input]
            if any(isinstance(operand, Missing) for operand in operands):
                self._require_known(node, domain, version)
                return missing
            values = [operand for operand in operands if not isinstance(operand, Missing)]
            if node.op_type not in TAKING and any(isinstance(v, ValueList) for v in values):
                raise Refusal("takes a sequence where only tensors are supported")
            results = self._results(node, values, version, place, source)
        except Refusal as refusal:
            self.findings.append(Finding(shown, source, str(refusal)))
            return missing
        except CompileError as error:
            self.findings.append(Finding(shown, source, error.args[0].split("\n")[0]))
            return missing
        if len(self.findings) == start:
            self.findings.append(Finding(shown, source))
        return [MISSING if result is None else result for result in results]

    def _require_known(self, node: NodeProto, domain: str, version: int) -> None:
        """Refuses a node whose operands are missing if it has no translation either."""
        if custom_operator(node) is not None:
            return
        if translation(domain, node.op_type, version) is not None:
            return
        if any(f.name == node.op_type and f.domain == node.domain for f in self._model.functions):
            return
        raise Refusal(REASONS.get((domain, node.op_type), "has no translation"))

    def _results(
        self,
        node: NodeProto,
        operands: Sequence[Result | None],
        version: int,
        place: Place,
        source: str,
    ) -> Sequence[Result | None]:
        domain = _domain(node.domain)
        custom = custom_operator(node)
        if custom is not None:
            present = [operand for operand in operands if isinstance(operand, Value)]
            return custom.expand(
                place.scope.frame.builder, present, attributes_of(node), node.output[0], source
            )
        body = model_function(self._model.functions, node, operands)
        if body is not None:
            return self._expand(body, node, operands, place, source)
        translate = translation(domain, node.op_type, version)
        reason = REASONS.get((domain, node.op_type), "has no translation")
        if translate is not None:
            call = self._call(node, version, place, source)
            try:
                positional, attributes = bind(translate, operands, call.attributes)
                found = translate(call, *positional, **attributes)
                call.check()
                return tuple(found) if isinstance(found, tuple) else (found,)
            except Expand as expand:
                reason = str(expand)
            except _MALFORMED as error:
                types = ", ".join(
                    str(x.type) for x in flatten(x for x in operands if x is not None)
                )
                raise Refusal(f"does not fit its operands ({types}): {error}") from error
        body = standard_function(node, version, operands)
        if body is not None:
            return self._expand(body, node, operands, place, source)
        raise Refusal(reason)

    def _call(self, node: NodeProto, version: int, place: Place, source: str) -> Call:
        outer = place.renamed or {}
        inside = place.outer != ""
        stated = [
            self._statements.get(outer.get(name, "") if inside else name) for name in node.output
        ]
        return Call(
            place.scope.frame.builder,
            place.scope.frame.contents,
            next(filter(None, node.output), node.op_type),
            source,
            version,
            attributes_of(node),
            tuple(s.sizes if s else None for s in stated),
            frozenset(
                i
                for i, name in enumerate(node.output)
                if name and (place.read is None or name in place.read)
            ),
            _Surroundings(self, place, source),
        )

    def _inline(
        self,
        graph: GraphProto,
        given: Sequence[Result],
        place: Place,
        source: str,
        frame: Frame | None = None,
    ) -> tuple[Result, ...]:
        """The outputs of a subgraph whose inputs are given; it sees the names around it."""
        scope = Scope(frame or place.scope.frame, place.scope)
        scope.declare(graph.initializer)
        for value, operand in zip(graph.input, given, strict=True):
            scope.set(value.name, operand)
        read = _read(graph.node, [value.name for value in graph.output])
        inner = Place(scope, place.opsets, source, place.depth + 1, {}, read)
        self._nodes(graph.node, inner)
        results = [self._resolve(scope, value.name) for value in graph.output]
        found = tuple(value for value in results if not isinstance(value, Missing))
        if len(found) != len(results):
            raise Refusal("has a body with operators that cannot be compiled")
        return found

    def _expand(
        self,
        body: Body,
        node: NodeProto,
        operands: Sequence[Result | None],
        place: Place,
        source: str,
    ) -> Sequence[Result | None]:
        """The results of a function's body."""
        if place.depth >= _MOST_NESTING:
            raise Refusal("calls itself, or functions nest too deeply")
        scope = Scope(place.scope.frame)
        given = [*operands, *[None] * (len(body.inputs) - len(operands))]
        for name, operand in zip(body.inputs, given, strict=True):
            if operand is not None:
                scope.set(name, operand)
        own = {_domain(domain): version for domain, version in body.opsets.items()}
        opsets = {**place.opsets, **own}
        renamed = {
            inner: (place.renamed or {}).get(name, "") if place.outer else name
            for inner, name in zip(body.outputs, node.output, strict=False)
        }
        nodes = [_without(inner, body.inputs, given) for inner in body.nodes]
        read = _read(nodes, body.outputs)
        self._nodes(nodes, Place(scope, opsets, source, place.depth + 1, renamed, read))
        results: list[Result | None] = []
        for inner, name in zip(body.outputs, node.output, strict=False):
            found = self._resolve(scope, inner) if name else None
            results.append(None if isinstance(found, Missing) else found)
        return results


class _Surroundings:
    """What a node's translation may ask of the translator, for subgraphs and sizes."""

    def __init__(self, translator: Translator, place: Place, source: str) -> None:
        self._translator, self._place, self._source = translator, place, source
        self.frame = place.scope.frame

    def symbol(self, hint: str, low: int, high: Dim | None) -> Polynomial:
        """A symbol that nothing else in the model has."""
        return self._translator._symbols.fresh(hint, low, high)

    def inline(
        self, graph: GraphProto, operands: Sequence[Result], frame: Frame | None = None
    ) -> tuple[Result, ...]:
        """The outputs of a subgraph, whose nodes go into a frame, by default that of the node."""
        return self._translator._inline(graph, operands, self._place, self._source, frame)

    def open(self, name: str) -> Frame:
        """A frame for a graph inside the node."""
        label = self._translator._frame.builder.unique(f"{name}_body")
        return Frame(GraphBuilder(label), outer=self.frame)


def _without(node: NodeProto, inputs: Sequence[str], given: Sequence[Result | None]) -> NodeProto:
    """A node of a function's body, without operands that the call leaves out."""
    absent = {name for name, value in zip(inputs, given, strict=True) if value is None}
    if absent.isdisjoint(node.input):
        return node
    result = NodeProto()
    result.CopyFrom(node)
    for i, name in enumerate(node.input):
        if name in absent:
            result.input[i] = ""
    return result


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def custom_operator(node: NodeProto) -> CustomOperator | None:
    """What a user has registered for an operator, also for one of ONNX itself."""
    return CUSTOM.get(f"{node.domain or 'ai.onnx'}::{node.op_type}")


def _read(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> frozenset[str]:
    """The names that nodes read, those inside of them included, and the outputs."""
    return frozenset(outputs).union(*(reads(node) for node in nodes))
