"""An exported program becomes a Graph: one pass over its FX nodes, through the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    InputSpec,
    OutputKind,
    TensorArgument,
)
from torch.fx import GraphModule
from torch.fx import Node as FxNode

from ranvier.errors import CompileError
from ranvier.frontends.findings import Finding
from ranvier.frontends.torch import trees
from ranvier.frontends.torch.body import Body, Origin
from ranvier.frontends.torch.call import Refusal
from ranvier.frontends.torch.complex_numbers import Pair
from ranvier.frontends.torch.source_lines import line_of_node
from ranvier.frontends.torch.symbols import Symbols, symbols_of
from ranvier.ir.dim import Polynomial
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Graph, GraphBuilder, Value
from ranvier.ir.liveness import without_dead_nodes


class Translator:
    """Translates one program; `findings` has an entry per operator use afterwards.

    `make_body` chooses how the nodes are translated.
    """

    def __init__(
        self,
        program: ExportedProgram,
        name: str,
        make_body: Callable[[GraphModule, GraphBuilder, Symbols, list[Finding]], Body] = Body,
    ) -> None:
        self.findings: list[Finding] = []
        self._program = program
        self._symbols: Symbols = symbols_of(program)
        self._builder = GraphBuilder(name)
        self._body = make_body(program.graph_module, self._builder, self._symbols, self.findings)

    def run(self) -> Graph:
        """The graph; operators with a finding that has a reason are left out of it."""
        input_tree = self._inputs()
        nodes = self._program.graph.nodes
        self._builder._names |= {node.name for node in nodes if node.op == "call_function"}
        self._body.run()
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
                self._body.values[node] = None
            else:
                self._body.origins[node] = self._origin(spec)
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
            self._body.values[node] = spec.arg.value
            return _constant_tree(spec.arg.value)
        if not isinstance(spec.arg, TensorArgument):
            raise CompileError(
                f"the input {path} is a symbolic number; pass a tensor, or a constant without a "
                "dynamic shape"
            )
        try:
            type = self._body.type(node.meta["val"])
        except Refusal as refusal:
            raise CompileError(f"the input {path}: {refusal}") from None
        self._body.values[node] = self._builder.input(path, type)
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
            value = self._body.resolve(argument)
            if isinstance(value, Pair):
                raise Refusal("is complex: return torch.view_as_real of it")
        except Refusal as refusal:
            self.findings.append(Finding("output", _source(argument), f"{path} {refusal}"))
            return None
        if isinstance(value, Polynomial):
            return self._builder.add("dim", name=path, value=value, dtype=I64)
        return value


def _constant_tree(value: Any) -> trees.Tree:
    if value is None:
        return {"none": True}
    if isinstance(value, (bool, int, float, str)):
        return {"constant": value}
    raise CompileError(f"{value!r} is neither a tensor nor a plain constant")


def _source(argument: Any) -> str:
    return line_of_node(argument) if isinstance(argument, FxNode) else ""
