"""Chooses the element types that activations are stored in and contractions read.

With bf16, every f32 value of the model has a *stored* form. Results of contractions, pooling,
normalisation and softmax are stored in bf16, and so is all element-wise arithmetic and data
movement on them. Stored in f32, as in the model: graph inputs and constants and what is computed
from them alone before the first contraction, reductions, sorting, and everything that only
positions and indices flow into. Integers, bools, f16 and f64 are untouched.

Element-wise arithmetic is done in f32, between explicit casts that lowering fuses away. A value
that is computed in f32 and has one reader is not rounded in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ranvier.errors import CompileError
from ranvier.ir.dtype import BF16, F32, DType, encode
from ranvier.ir.graph import Graph, Node, Value
from ranvier.ir.liveness import without_dead_nodes
from ranvier.ir.operators import GROUPS, infer
from ranvier.passes.rewrite import use_counts

_CONTRACTIONS = frozenset({"conv", "conv_transpose", "matmul", "attention"})
_STORED_OPERANDS = {"conv": 2, "conv_transpose": 2, "matmul": 2, "attention": 3}
_NARROW_RESULTS = frozenset({
    "softmax", "log_softmax", "layer_norm", "rms_norm", "group_norm", "batch_norm",
    "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "resize",
})  # fmt: skip
_MOVEMENT = frozenset(
    {op.name for group in ("views", "gathers") for op in GROUPS[group]} - {"scatter_elements"}
)
_ELEMENTWISE = frozenset(op.name for op in GROUPS["elementwise"])


@dataclass(frozen=True)
class Precision:
    """Stores activations and operands of contractions in `precision`: "f32" or "bf16".

    Graph inputs and outputs keep their element types. Raises CompileError for another precision.
    """

    precision: str = "f32"
    name: str = "precision"

    def __call__(self, graph: Graph) -> Graph:
        """The graph with casts where the stored element type changes."""
        if self.precision == "f32":
            return graph
        if self.precision != "bf16":
            raise CompileError(f'precision must be "f32" or "bf16", got {self.precision!r}')
        return _Narrowing(graph).run()


@dataclass
class _Forms:
    """A value of the model in the forms that it has so far."""

    stored: Value
    wide: Value | None = None
    narrow: Value | None = None
    positional: bool = False


@dataclass
class _Narrowing:
    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    forms: dict[Value, _Forms] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    renames: dict[Value, str] = field(default_factory=dict)
    constants: dict[Value, Node] = field(default_factory=dict)
    uses: dict[Value, int] = field(default_factory=dict)

    def run(self) -> Graph:
        graph = self.graph
        self.uses = use_counts(graph)
        self.names = {v.name for n in graph.nodes for v in n.results} | {
            v.name for v in graph.inputs
        }
        for value in graph.inputs:
            self.forms[value] = _Forms(value, wide=value)
        for node in graph.nodes:
            self.convert(node)
        outputs = tuple(self.output(value) for value in graph.outputs)
        names = graph.output_names or tuple(value.name for value in graph.outputs)
        narrowed = replace(graph, nodes=tuple(self.nodes), outputs=outputs, output_names=names)
        return _renamed(without_dead_nodes(narrowed), self.renames)

    def convert(self, node: Node) -> None:
        if node.op == "constant":
            self.constants[node.results[0]] = node
        if node.op in _STORED_OPERANDS and self.narrows(node):
            self.contraction(node)
        elif node.op in _NARROW_RESULTS and node.results[0].dtype == F32:
            self.narrow_result(node)
        elif node.op in _MOVEMENT and node.results[0].dtype == F32:
            self.movement(node)
        elif node.op in _ELEMENTWISE and node.results[0].dtype == F32:
            self.elementwise(node)
        else:
            self.kept(node)

    def narrows(self, node: Node) -> bool:
        """Whether a contraction is one of activations: not an outer product of positions."""
        if node.results[0].dtype != F32:
            return False
        count = _STORED_OPERANDS[node.op]
        exact = all(self.is_exact(value) for value in node.operands[:count])
        return not (exact and node.op == "matmul" and node.operands[0].shape[-1] == 1)

    def is_exact(self, value: Value) -> bool:
        """Whether only constants, positions and indices flow into `value`."""
        return value in self.constants or self.forms[value].positional

    def contraction(self, node: Node) -> None:
        count = _STORED_OPERANDS[node.op]
        stored = [self.narrow(value) for value in node.operands[:count]]
        others = [self.read(value) for value in node.operands[count:]]
        self.emit_narrow(node, [*stored, *others])

    def narrow_result(self, node: Node) -> None:
        """Reads what is stored; computes in f32 what comes in f32 or leaves as an output."""
        x, *parameters = node.operands
        parameters = [self.wide(value) for value in parameters]
        if self.is_narrow(x) and not self.only_output(node.results[0]):
            self.emit_narrow(node, [self.narrow(x), *parameters])
        else:
            self.emit_wide(node, [self.unrounded(x), *parameters], narrow=True)

    def movement(self, node: Node) -> None:
        floats = [value for value in node.operands if value.dtype == F32]
        if any(self.is_narrow(value) for value in floats):
            operands = [self.narrow(v) if v in floats else self.read(v) for v in node.operands]
            self.emit_narrow(node, operands)
            self.move_unrounded(node)
        else:
            self.kept(node)

    def move_unrounded(self, node: Node) -> None:
        """What moves, in the form that is not rounded, for a single reader that computes with it.

        Without it, coordinates of boxes that were told apart by adding large numbers would be
        rounded to multiples of those when they are put in order.
        """
        floats = [value for value in node.operands if value.dtype == F32]
        if len(floats) != 1 or self.uses[floats[0]] != 1:
            return
        wide = self.forms[floats[0]].wide
        if wide is None:
            return
        operands = tuple(wide if v is floats[0] else self.read(v) for v in node.operands)
        moved = Value(self.unique(f"{node.result.name}.f32"), node.result.type)
        self.renames[moved] = node.result.name
        self.nodes.append(replace(node, operands=operands, results=(moved,)))
        self.forms[node.result].wide = moved

    def elementwise(self, node: Node) -> None:
        operands = [self.unrounded(value) for value in node.operands]
        narrow = any(self.is_narrow(value) for value in node.operands)
        self.emit_wide(node, operands, narrow)

    def kept(self, node: Node) -> None:
        """f32 in, and the model's own type out."""
        operands = [self.unrounded(value) for value in node.operands]
        positional = self.is_positional(node)
        moved = _with_operands(node, operands)
        self.nodes.append(moved)
        for value in node.results:
            self.forms[value] = _Forms(value, wide=value, positional=positional)

    def is_positional(self, node: Node) -> bool:
        """Integers are positions, and so is what is computed from positions and constants.

        A float picked from a constant table by an index (an embedding) is an activation.
        """
        if node.op.startswith("gather") and node.results[0].dtype.is_float:
            return self.forms[node.operands[0]].positional
        if not node.results[0].dtype.is_float:
            return True
        return node.op != "constant" and all(map(self.is_exact, node.operands))

    def is_narrow(self, value: Value) -> bool:
        return self.forms[value].stored.dtype == BF16 and value.dtype == F32

    def only_output(self, value: Value) -> bool:
        return value in self.graph.outputs and self.uses[value] == self.graph.outputs.count(value)

    def read(self, value: Value) -> Value:
        return self.forms[value].stored

    def narrow(self, value: Value) -> Value:
        """The bf16 form."""
        forms = self.forms[value]
        if forms.narrow is None:
            constant = self.constants.get(value)
            if constant is not None:
                forms.narrow = self.narrow_constant(constant)
            else:
                forms.narrow = self.cast(forms.stored, BF16, f"{value.name}.bf16")
        return forms.narrow

    def wide(self, value: Value) -> Value:
        """The form in the model's own type, rounded to what is stored."""
        forms = self.forms[value]
        if not self.is_narrow(value):
            return forms.stored
        rounded = self.forms.get(forms.stored)
        if rounded is None:
            widened = self.cast(forms.stored, F32, f"{value.name}.f32")
            rounded = self.forms[forms.stored] = _Forms(widened)
        return rounded.stored

    def unrounded(self, value: Value) -> Value:
        """The form to compute with: not rounded when this is the only reader."""
        forms = self.forms[value]
        if forms.wide is not None and self.uses[value] == 1:
            return forms.wide
        return self.wide(value)

    def output(self, value: Value) -> Value:
        return self.unrounded(value) if value.dtype == F32 else self.read(value)

    def emit_narrow(self, node: Node, operands: list[Value]) -> None:
        """The node on bf16 operands, with a bf16 result under the same name."""
        (type,) = infer(node.op, operands, node.attributes, node.source)
        result = Value(node.result.name, type)
        self.nodes.append(replace(node, operands=tuple(operands), results=(result,)))
        self.forms[node.result] = _Forms(result, narrow=result)

    def emit_wide(self, node: Node, operands: list[Value], narrow: bool) -> None:
        """The node on f32 operands; the stored form is its result, rounded if `narrow`."""
        if not narrow:
            positional = self.is_positional(node)
            self.nodes.append(_with_operands(node, operands))
            self.forms[node.result] = _Forms(node.result, wide=node.result, positional=positional)
            return
        wide = Value(self.unique(f"{node.result.name}.f32"), node.result.type)
        self.renames[wide] = node.result.name
        self.nodes.append(replace(node, operands=tuple(operands), results=(wide,)))
        stored = self.cast(wide, BF16, node.result.name, fresh=False)
        self.forms[node.result] = _Forms(stored, wide=wide, narrow=stored)

    def narrow_constant(self, node: Node) -> Value:
        array = node.attributes["value"]
        assert isinstance(array, np.ndarray)
        name = self.unique(f"{node.result.name}.bf16")
        result = Value(name, replace(node.result.type, dtype=BF16))
        attributes = {"value": encode(array, BF16)}
        self.nodes.append(Node("constant", (), (result,), attributes, node.source))
        return result

    def cast(self, value: Value, dtype: DType, hint: str, fresh: bool = True) -> Value:
        name = self.unique(hint) if fresh else hint
        result = Value(name, replace(value.type, dtype=dtype))
        self.nodes.append(Node("cast", (value,), (result,), {"dtype": dtype}))
        return result

    def unique(self, hint: str) -> str:
        name, count = hint, 1
        while name in self.names:
            name, count = f"{hint}_{count}", count + 1
        self.names.add(name)
        return name


def _with_operands(node: Node, operands: list[Value]) -> Node:
    return replace(node, operands=tuple(operands))


def _renamed(graph: Graph, names: dict[Value, str]) -> Graph:
    """Give f32 forms the model's names where the rounded form is gone."""
    taken = {value.name for node in graph.nodes for value in node.results}
    fresh = {v: Value(name, v.type) for v, name in names.items() if name not in taken}
    nodes = tuple(
        replace(
            node,
            operands=tuple(fresh.get(value, value) for value in node.operands),
            results=tuple(fresh.get(value, value) for value in node.results),
        )
        for node in graph.nodes
    )
    outputs = tuple(fresh.get(value, value) for value in graph.outputs)
    return replace(graph, nodes=nodes, outputs=outputs)
