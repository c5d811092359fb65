"""An exported program becomes a Graph: one pass over its FX nodes, through the table."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    InputSpec,
    OutputKind,
    TensorArgument,
)
from torch.fx import Node as FxNode

from ranvier.errors import CompileError
from ranvier.frontends.findings import Finding
from ranvier.frontends.torch import trees
from ranvier.frontends.torch.arguments import bind, plain
from ranvier.frontends.torch.call import Call, Expected, Refusal
from ranvier.frontends.torch.custom import custom_operator, expand
from ranvier.frontends.torch.dtypes import from_torch, to_array
from ranvier.frontends.torch.functional import functional_name
from ranvier.frontends.torch.source_lines import line_of_node
from ranvier.frontends.torch.symbols import Symbols, symbols_of
from ranvier.frontends.torch.translations import ASSERTIONS, TABLE
from ranvier.frontends.torch.untranslated import REASONS
from ranvier.ir.dim import Dim, Polynomial, Symbol, evaluate, symbols
from ranvier.ir.dtype import BF16, I64
from ranvier.ir.graph import Graph, GraphBuilder, Node, TensorType, Value
from ranvier.ir.liveness import without_dead_nodes

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True)
class Origin:
    """Where a placeholder that is no input comes from."""

    name: str
    tensor: torch.Tensor


class Translator:
    """Translates one program; `findings` has an entry per operator use afterwards."""

    def __init__(self, program: ExportedProgram, name: str) -> None:
        self.findings: list[Finding] = []
        self._program = program
        self._symbols: Symbols = symbols_of(program)
        operators = (n.name for n in program.graph.nodes if n.op == "call_function")
        self._builder = GraphBuilder(name)
        self._reserved = set(operators)
        self._values: dict[FxNode, Any] = {}
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._origins: dict[FxNode, Origin] = {}

    def run(self) -> Graph:
        """The graph; operators with a finding that has a reason are left out of it."""
        input_tree = self._inputs()
        self._builder._names |= self._reserved
        for node in self._program.graph.nodes:
            if node.op == "call_function":
                self._values[node] = self._translate(node)
            elif node.op == "get_attr":
                self._origins[node] = Origin(str(node.target), self._attribute(node))
        names, outputs, output_tree = self._outputs()
        graph = self._builder.finish(outputs, names, input_tree=input_tree, output_tree=output_tree)
        return without_dead_nodes(graph)

    # inputs and outputs

    def _inputs(self) -> trees.Tree:
        placeholders = {n.name: n for n in self._program.graph.nodes if n.op == "placeholder"}
        given: list[tuple[InputSpec, FxNode]] = []
        for spec in self._program.graph_signature.input_specs:
            node = placeholders[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                given.append((spec, node))
            elif spec.kind is InputKind.TOKEN:
                self._values[node] = None
            else:
                self._origins[node] = self._origin(spec)
        leaves = iter(given)

        def leaf(path: str) -> trees.Tree:
            return self._input(*next(leaves), path)

        in_spec = self._program.call_spec.in_spec
        names = trees.parameter_names(in_spec, self._argument_names())
        return trees.build_parameters(in_spec, names, leaf)

    def _argument_names(self) -> list[str] | None:
        for entry in self._program.module_call_graph:
            if entry.fqn == "" and entry.signature is not None:
                names: list[str] | None = entry.signature.forward_arg_names
                return names
        return None

    def _input(self, spec: InputSpec, node: FxNode, path: str) -> trees.Tree:
        if isinstance(spec.arg, ConstantArgument):
            self._values[node] = spec.arg.value
            return _constant_tree(spec.arg.value)
        if not isinstance(spec.arg, TensorArgument):
            raise CompileError(
                f"the input {path} is a symbolic number; pass a tensor, or a constant without a "
                "dynamic shape"
            )
        try:
            type = self._type(node.meta["val"])
        except Refusal as refusal:
            raise CompileError(f"the input {path}: {refusal}") from None
        self._values[node] = self._builder.input(path, type)
        return {"leaf": len(self._builder.inputs) - 1}

    def _origin(self, spec: InputSpec) -> Origin:
        program, target = self._program, str(spec.target)
        if spec.kind is InputKind.PARAMETER:
            return Origin(target, program.state_dict[target])
        if spec.kind is InputKind.BUFFER and spec.persistent:
            return Origin(target, program.state_dict[target])
        if spec.kind in (InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            return Origin(target, program.constants[target])
        raise CompileError(f"the model needs {spec.kind.name.lower()} {target} as an input")

    def _attribute(self, node: FxNode) -> Any:
        found: Any = self._program.graph_module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return found

    def _outputs(self) -> tuple[list[str], list[Value], trees.Tree]:
        (output,) = (n for n in self._program.graph.nodes if n.op == "output")
        specs = self._program.graph_signature.output_specs
        pairs = zip(specs, cast("Sequence[Any]", output.args[0]), strict=True)
        leaves = iter([value for spec, value in pairs if spec.kind is OutputKind.USER_OUTPUT])
        names: list[str] = []
        values: list[Value] = []

        def leaf(path: str) -> trees.Tree:
            value = self._output(next(leaves), path)
            if not isinstance(value, Value):
                return _constant_tree(value)
            name, count = path, 1
            while name in names:
                name, count = f"{path}_{count}", count + 1
            names.append(name)
            values.append(value)
            return {"leaf": len(values) - 1}

        spec = self._program.call_spec.out_spec
        tree = trees.build_outputs(spec, leaf)
        if not values and not any(finding.reason for finding in self.findings):
            raise CompileError("the model has no tensor among its outputs")
        return names, values, tree

    def _output(self, argument: Any, path: str) -> Any:
        try:
            value = self._resolve(argument)
        except Refusal as refusal:
            self.findings.append(Finding("output", _source(argument), f"{path} {refusal}"))
            return None
        if isinstance(value, Polynomial):
            return self._builder.add("dim", name=path, value=value, dtype=I64)
        return value

    # nodes

    def _translate(self, node: FxNode) -> Any:
        found = node.meta.get("val")
        if node.target is operator.getitem:
            return self._item(node)
        name = _shown(node)
        if name in ASSERTIONS or isinstance(found, torch.SymBool):
            return None
        source = line_of_node(node)
        try:
            result = self._result(node, name, source)
        except Refusal as refusal:
            self.findings.append(Finding(name, source, str(refusal)))
            return _stand_in(node, self._symbols)
        if not isinstance(found, _SYMBOLIC):
            self.findings.append(Finding(name, source))
        return result

    def _result(self, node: FxNode, name: str, source: str) -> Any:
        found = node.meta.get("val")
        if isinstance(found, torch.SymInt):
            return self._symbols.dim(found)
        translate, custom = TABLE.get(name), custom_operator(node.target)
        if translate is None and custom is None:
            raise Refusal(_why_unknown(name))
        expected, used = self._expected(found), _used(node)
        call = Call(self._builder, node.name, source, expected, used, _is_dense(node))
        for read in node.all_input_nodes:
            if read in self._origins:
                self._operand(read)  # a constant is made before `start`: it keeps its name
        start = len(self._builder.nodes)
        if custom is not None:
            returned = expand(call, custom, node, self._resolve)
        else:
            assert translate is not None
            returned = translate(call, **bind(node, translate, self._resolve))
        self._agree(call, returned)
        return _rename(self._builder.nodes, start, _names(node, returned), returned)

    def _agree(self, call: Call, returned: Any) -> None:
        """Results have PyTorch's element types and sizes.

        A size that is written differently is the same number: from here on it is written as the
        shape rules of the IR write it.
        """
        results = (returned,) if isinstance(returned, Value) else returned
        for value, expected in zip(results, call.expected, strict=True):
            if value is None or expected is None or value.type == expected:
                continue
            if value.dtype != expected.dtype or not _same_sizes(value.shape, expected.shape):
                raise CompileError(
                    f"{call.name} became {value.type}, where PyTorch has {expected} @ {call.source}"
                )
            for ours, theirs in zip(value.shape, expected.shape, strict=True):
                self._symbols.rewrite(theirs, ours)

    def _item(self, node: FxNode) -> Any:
        container = self._values[node.args[0]]  # type: ignore[index]
        return None if container is None else container[node.args[1]]

    def _expected(self, found: Any) -> tuple[Expected, ...]:
        if isinstance(found, torch.Tensor):
            return (self._type(found),)
        if isinstance(found, (tuple, list)):
            return tuple(self._type(v) if isinstance(v, torch.Tensor) else None for v in found)
        return (None,)

    def _type(self, tensor: torch.Tensor) -> TensorType:
        dtype = from_torch(tensor.dtype)
        if dtype is None:
            raise Refusal(f"the element type {tensor.dtype} is not supported")
        if tensor.layout != torch.strided:
            raise Refusal(f"the layout {tensor.layout} is not supported; use dense tensors")
        return TensorType(dtype, tuple(self._symbols.dim(size) for size in tensor.shape))

    def _resolve(self, argument: Any) -> Any:
        """What the IR has for an FX argument: values, dims, tuples of them, Python objects."""
        if isinstance(argument, FxNode):
            return self._operand(argument)
        if isinstance(argument, (list, tuple)):
            return [self._resolve(item) for item in argument]
        if isinstance(argument, slice):
            raise Refusal("takes a slice object")
        return plain(argument)

    def _operand(self, node: FxNode) -> Any:
        if node in self._origins:
            self._values[node] = self._constant(self._origins.pop(node))
        value = self._values[node]
        if value is None and isinstance(node.meta.get("val"), (torch.SymFloat, torch.SymBool)):
            raise Refusal(f"reads {node.name}, a symbolic number that is no size")
        return value

    def _constant(self, origin: Origin) -> Value:
        """A constant for a parameter, buffer or literal; one for all tensors that share memory."""
        tensor = origin.tensor.detach()
        key = (
            tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype
        )  # fmt: skip
        if tensor.numel() and key in self._constants:
            return self._constants[key]
        type = self._type(tensor)
        bits = BF16 if type.dtype == BF16 else None
        value = self._builder.constant(to_array(tensor), bits, origin.name)
        self._constants[key] = value
        return value


def _shown(node: FxNode) -> str:
    """The overload, also of an operator that PyTorch wraps because it may raise."""
    if isinstance(node.target, torch._ops.OpOverload):
        return functional_name(node)
    if str(node.target) == "with_effects":
        return str(node.args[1])
    return str(getattr(node.target, "__name__", node.target))


def _constant_tree(value: Any) -> trees.Tree:
    if value is None:
        return {"none": True}
    if isinstance(value, (bool, int, float, str)):
        return {"constant": value}
    raise CompileError(f"{value!r} is neither a tensor nor a plain constant")


def _why_unknown(name: str) -> str:
    if name.startswith("aten."):
        return REASONS.get(name, "has no translation")
    return "is a custom operator without a decomposition: see ranvier.register_operator"


def _is_dense(node: FxNode) -> bool:
    """Whether the first tensor that a node reads is the whole of its memory, in order."""
    tensors = (n.meta.get("val") for n in node.all_input_nodes)
    first = next((t for t in tensors if isinstance(t, torch.Tensor)), None)
    if first is None or first.layout != torch.strided or not isinstance(first.numel(), int):
        return False
    whole = first.untyped_storage().nbytes() == first.numel() * first.element_size()
    return first.is_contiguous() and first.storage_offset() == 0 and whole


def _used(node: FxNode) -> frozenset[int]:
    """Positions of a tuple's results that are read."""
    if all(user.target is operator.getitem for user in node.users):
        return frozenset(int(user.args[1]) for user in node.users if user.users)  # type: ignore[arg-type]
    return frozenset({0})


def _names(node: FxNode, returned: Any) -> dict[Value, str]:
    """The FX names of results: the node's, or those of the `getitem` nodes that read a tuple."""
    if isinstance(returned, Value):
        return {returned: node.name}
    names: dict[Value, str] = {}
    for user in node.users:
        if user.target is operator.getitem:
            value = returned[user.args[1]]
            if isinstance(value, Value):
                names.setdefault(value, user.name)
    return names


def _rename(nodes: list[Node], start: int, names: Mapping[Value, str], returned: Any) -> Any:
    """Gives results of the nodes from `start` on their FX names; other values keep theirs."""
    renamed: dict[Value, Value] = {}
    for i in range(start, len(nodes)):
        node = nodes[i]
        results = tuple(
            replace(value, name=names[value]) if value in names else value for value in node.results
        )
        renamed |= dict(zip(node.results, results, strict=True))
        operands = tuple(renamed.get(value, value) for value in node.operands)
        nodes[i] = replace(node, operands=operands, results=results)
    if isinstance(returned, Value):
        return renamed.get(returned, returned)
    return tuple(renamed.get(value, value) for value in returned)


def _same_sizes(found: tuple[Dim, ...], expected: tuple[Dim, ...]) -> bool:
    if found == expected:
        return True
    if len(found) != len(expected):
        return False
    known: dict[str, Symbol] = {}
    for size in (*found, *expected):
        known |= symbols(size)
    return all(
        evaluate(a, sample) == evaluate(b, sample)
        for sample in _samples(known.values())
        for a, b in zip(found, expected, strict=True)
    )


def _samples(known: Iterable[Symbol]) -> Iterator[dict[str, int]]:
    """A few assignments within the symbols' ranges, the smallest first."""
    entries = list(known)
    for offset in (0, 1, 6, 97):
        yield {s.name: _within(s, offset * (i + 1)) for i, s in enumerate(entries)}


def _within(known: Symbol, offset: int) -> int:
    value = known.minimum + offset
    return min(value, known.maximum) if isinstance(known.maximum, int) else value


def _source(argument: Any) -> str:
    return line_of_node(argument) if isinstance(argument, FxNode) else ""


def _stand_in(node: FxNode, known: Symbols) -> Any:
    """Values for an unsupported node, so that all others are still looked at."""

    def value(found: Any) -> Any:
        if isinstance(found, (tuple, list)):
            return tuple(map(value, found))
        dtype = from_torch(found.dtype) if isinstance(found, torch.Tensor) else None
        if dtype is None:
            return None
        try:
            shape = tuple(known.dim(size) for size in found.shape)
        except Refusal:
            return None
        return Value(node.name, TensorType(dtype, shape))

    return value(node.meta.get("val"))
