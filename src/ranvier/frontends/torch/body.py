"""The nodes of one FX graph become nodes of the IR: of a program, or of a branch or a loop."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node as FxNode
from torch.utils import _pytree as pytree
from torch.utils._sympy.symbol import SymT, symbol_is_type

from ranvier.errors import CompileError
from ranvier.frontends.findings import Finding
from ranvier.frontends.torch.arguments import bind, plain
from ranvier.frontends.torch.aten_data_sizes import MISJUDGED, MOST
from ranvier.frontends.torch.call import Call, Expected, Refusal
from ranvier.frontends.torch.complex_numbers import (
    BY_PARTS,
    COMPLEX,
    Pair,
    holds_pairs,
    is_complex,
    joined,
    part_of,
    real_dtype,
)
from ranvier.frontends.torch.custom import custom_operator, expand
from ranvier.frontends.torch.dtypes import from_torch, to_array
from ranvier.frontends.torch.functional import functional_name
from ranvier.frontends.torch.higher_order import HIGHER_ORDER
from ranvier.frontends.torch.results import (
    reads_dense,
    rename,
    result_names,
    same_sizes,
    stand_in,
    used_results,
)
from ranvier.frontends.torch.scalars import Scalars
from ranvier.frontends.torch.source_lines import line_of_node
from ranvier.frontends.torch.symbols import Symbols
from ranvier.frontends.torch.translations import ASSERTIONS, TABLE
from ranvier.frontends.torch.untranslated import REASONS
from ranvier.ir.dim import Dim, symbol
from ranvier.ir.dtype import BF16, I64, DType
from ranvier.ir.graph import GraphBuilder, TensorType, Value

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_ITEMS = frozenset({"aten._local_scalar_dense.default", "aten.item.default"})


@dataclass(frozen=True)
class Origin:
    """Where a constant comes from."""

    name: str
    tensor: torch.Tensor


class Body:
    """Translates the nodes of one module's graph; `values` has what became of each node.

    `findings` and `symbols` are those of the whole program. `numbers` has the values of symbols
    that data give and that are no sizes.
    """

    def __init__(
        self, module: GraphModule, builder: GraphBuilder, symbols: Symbols, findings: list[Finding]
    ) -> None:
        self.builder = builder
        self.symbols = symbols
        self.findings = findings
        self.values: dict[FxNode, Any] = {}
        self.origins: dict[FxNode, Origin] = {}
        self.numbers: dict[Any, Value] = {}
        self._module = module
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._named: set[str] = set()

    def run(self) -> None:
        """Translates all nodes; the placeholders have their values or origins already."""
        for node in self._module.graph.nodes:
            if node.op == "call_function":
                self.values[node] = self._translate(node)
            elif node.op == "get_attr":
                self._attribute(node)

    def outputs(self) -> list[Any]:
        """What the graph's output node returns, resolved."""
        (output,) = (n for n in self._module.graph.nodes if n.op == "output")
        found = output.args[0]
        return [self.resolve(v) for v in (found if isinstance(found, (list, tuple)) else [found])]

    def assign(self, place: FxNode, given: Any) -> None:
        """Gives a placeholder its value; a new symbol that stands for it gets the number."""
        self.values[place] = given
        found = place.meta.get("val")
        if not isinstance(found, (torch.SymInt, torch.SymFloat)):
            return
        e = found.node.expr
        if symbol_is_type(e, SymT.UNBACKED_INT):
            self.numbers[e] = self.plain_call(place.name).tensor(given, I64)
        elif symbol_is_type(e, SymT.UNBACKED_FLOAT) and isinstance(given, Value):
            self.numbers[e] = given

    def placeholders(self) -> list[FxNode]:
        """The inputs of the module's graph."""
        return [node for node in self._module.graph.nodes if node.op == "placeholder"]

    def within(self, module: GraphModule, builder: GraphBuilder) -> Body:
        """A body for a module inside this one: in a graph of its own, or in this one's."""
        inner = Body(module, builder, self.symbols, self.findings)
        builder._names |= {node.name for node in module.graph.nodes if node.op == "call_function"}
        if builder is self.builder:
            inner._constants, inner._named = self._constants, self._named
            inner.numbers = dict(self.numbers)
        return inner

    def _attribute(self, node: FxNode) -> None:
        found: Any = self._module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        if isinstance(found, torch.Tensor):
            self.origins[node] = Origin(str(node.target), found)
        else:
            self.values[node] = found

    def _translate(self, node: FxNode) -> Any:
        if node.target is operator.getitem:
            return self._item(node)
        name, source, start = _shown(node), line_of_node(node), len(self.findings)
        try:
            if name in ASSERTIONS:
                return self._check(node, source)
            result = self._result(node, name, source)
        except Refusal as refusal:
            self.findings.append(Finding(name, source, str(refusal)))
            return stand_in(node, self.symbols)
        if any(finding.reason for finding in self.findings[start:]):
            return stand_in(node, self.symbols)  # something inside it is not supported
        if not isinstance(node.meta.get("val"), _SYMBOLIC) or name in _ITEMS:
            self.findings.append(Finding(name, source))
        return result

    def _result(self, node: FxNode, name: str, source: str) -> Any:
        found = node.meta.get("val")
        if name in _ITEMS:
            return self._number(node, source)
        if isinstance(found, torch.SymInt):
            return self._size(node, found, source)
        if isinstance(found, (torch.SymFloat, torch.SymBool)):
            return None  # computed where it is read
        for read in node.all_input_nodes:
            if read in self.origins:
                self.resolve(read)  # a constant is made before `start`: it keeps its name
        start = len(self.builder.nodes)
        call, returned = self._called(node, name, source)
        self._agree(call, returned)
        if holds_pairs(returned):
            return returned
        names = {v: n for v, n in result_names(node, returned).items() if n not in self._named}
        self._named |= set(names.values())
        return rename(self.builder.nodes, start, names, returned)

    def _called(self, node: FxNode, name: str, source: str) -> tuple[Call, Any]:
        translate, custom = TABLE.get(name), custom_operator(node.target)
        inside = HIGHER_ORDER.get(name)
        if is_complex(node):
            return self._complex(node, name, source)
        if inside is not None:
            sizes = self.new_sizes(node)
            call = self.call(node, source, sizes)
            return call, inside(self, call, node)
        if custom is not None:
            call = self.call(node, source)
            return call, expand(call, custom, node, self.resolve)
        if translate is None:
            raise Refusal(_why_unknown(name))
        arguments = bind(node, translate, self.resolve)
        most = MOST[name](**arguments) if name in MOST else None
        call = self.call(node, source, self.new_sizes(node, most))
        if name in MISJUDGED:
            self.symbols.misjudged |= (node.meta.get("unbacked_bindings") or {}).keys()
        try:
            return call, translate(call, **arguments)
        except CompileError as error:  # a rule of the IR that this use does not keep to
            raise Refusal(error.args[0].split("\n")[0]) from error

    def _complex(self, node: FxNode, name: str, source: str) -> tuple[Call, Any]:
        """An operator of complex numbers: one of its own, or the same for both parts."""
        call = self.call(node, source)
        own, translate = COMPLEX.get(name), TABLE.get(name)
        if own is not None:
            return call, own(call, **bind(node, own, self._complex_argument))
        if name not in BY_PARTS or translate is None:
            raise Refusal("is not supported on complex numbers")
        parts = []
        for part in ("real", "imag"):
            resolve = partial(self._part, part)
            parts.append(translate(call, **bind(node, translate, resolve)))
        return call, joined(*parts)

    def _complex_argument(self, argument: Any) -> Any:
        """A complex element type says no more than that the result is complex."""
        is_type = isinstance(argument, torch.dtype) and real_dtype(argument) is not None
        return None if is_type else self.resolve(argument)

    def _part(self, part: str, argument: Any) -> Any:
        return part_of(self._complex_argument(argument), part)

    def call(self, node: FxNode, source: str = "", sizes: Sequence[Dim] = ()) -> Call:
        """What a translation sees of a node."""
        expected, used = self._expected(node.meta.get("val")), used_results(node)
        labels = self.symbols.labels
        return Call(
            self.builder, node.name, source, expected, used, reads_dense(node), tuple(sizes), labels
        )

    def plain_call(self, name: str, source: str = "") -> Call:
        """A call for steps that are no result of their own."""
        return Call(self.builder, name, source, (None,), frozenset(), labels=self.symbols.labels)

    def call_within(self, call: Call) -> Call:
        """A node's call that puts its operators here."""
        return replace(call, builder=self.builder)

    def new_sizes(self, node: FxNode, most: Dim | None = None) -> list[Dim]:
        """The sizes that depend on data and that a node's tensors are the first to have."""
        found = node.meta.get("unbacked_bindings") or {}
        leaves = pytree.tree_leaves(node.meta.get("val"))
        integers = {leaf.node.expr for leaf in leaves if isinstance(leaf, torch.SymInt)}
        return [self.symbols.define(each, most) for each in found if each not in integers]

    def _number(self, node: FxNode, source: str) -> Any:
        """An element of a tensor as a number: a size, or a value of rank 0."""
        (operand,) = (self.resolve(argument) for argument in node.args)
        bindings = node.meta.get("unbacked_bindings") or {}
        call = self.plain_call(node.name, source)
        element = call.reshape(operand, ())
        for each in bindings:
            self._bind(call, each, element, isinstance(node.meta["val"], torch.SymInt))
        return self._size(node, node.meta["val"], source)

    def _bind(self, call: Call, e: Any, element: Value, is_size: bool) -> None:
        """Gives a symbol its value: as a size, or as a number where it cannot be one."""
        if is_size and not self.symbols.may_be_negative(e):
            call.bind(element, self.symbols.define(e))
            return
        is_float = symbol_is_type(e, SymT.UNBACKED_FLOAT)
        self.numbers[e] = element if is_float else call.cast(element, I64)

    def _check(self, node: FxNode, source: str) -> None:
        """What the model, or PyTorch for it, requires of numbers that data give.

        Requirements on sizes of inputs are in the ranges of their symbols.
        """
        condition = node.args[0] if node.args else None
        found = condition.meta.get("val") if isinstance(condition, FxNode) else None
        if not isinstance(found, torch.SymBool) or self.symbols.holds(found.node.expr):
            return
        call = self.plain_call(node.name, source)
        value = Scalars(call, self.symbols, self.numbers).value(found.node.expr)
        call.bind(value, symbol(call.unique("check"), 1, 1))

    def integer(self, call: Call, found: Any, value: Value) -> Any:
        """What an integer of the traced program is when a rank-0 tensor holds it."""
        if isinstance(found, int):
            return found
        if found.node.expr not in self.numbers and self.symbols.undefined(found) is not None:
            self._bind(call, found.node.expr, value, True)
        if self.numbers.keys() & found.node.expr.free_symbols:
            return value
        return self.symbols.dim(found)

    def _size(self, node: FxNode, found: Any, source: str) -> Any:
        """The dim of a symbolic integer; the value of another number."""
        if not isinstance(found, torch.SymInt):
            return None
        if self.numbers.keys() & found.node.expr.free_symbols:
            return self._scalar(node, source)
        return self.symbols.dim(found)

    def _scalar(self, node: FxNode, source: str = "") -> Value:
        call = self.plain_call(node.name, source)
        expression = node.meta["val"].node.expr
        return Scalars(call, self.symbols, self.numbers).value(expression)

    def _agree(self, call: Call, returned: Any) -> None:
        """Results have PyTorch's element types and sizes.

        A size that is written differently is the same number: from here on it is written as the
        shape rules of the IR write it.
        """
        results = returned if isinstance(returned, tuple) else (returned,)
        for found, expected in zip(results, call.expected, strict=True):
            value = found.real if isinstance(found, Pair) else found
            if value is None or expected is None or value.type == expected:
                continue
            if value.dtype != expected.dtype or not same_sizes(value.shape, expected.shape):
                raise CompileError(
                    f"{call.name} became {value.type}, where PyTorch has {expected} @ {call.source}"
                )
            for ours, theirs in zip(value.shape, expected.shape, strict=True):
                self.symbols.rewrite(theirs, ours)

    def _item(self, node: FxNode) -> Any:
        container = self.values[node.args[0]]  # type: ignore[index]
        return None if container is None else container[node.args[1]]

    def _expected(self, found: Any) -> tuple[Expected, ...]:
        leaves = found if isinstance(found, (tuple, list)) else (found,)
        return tuple(
            self._part_type(leaf) if isinstance(leaf, torch.Tensor) else None for leaf in leaves
        )

    def _part_type(self, tensor: torch.Tensor) -> TensorType:
        """The type of a tensor, or of the parts of a complex one."""
        return self._type(tensor, from_torch(real_dtype(tensor.dtype) or tensor.dtype))

    def type(self, tensor: torch.Tensor) -> TensorType:
        """The IR's type of a tensor; raises Refusal when it has none."""
        return self._type(tensor, from_torch(tensor.dtype))

    def _type(self, tensor: torch.Tensor, dtype: DType | None) -> TensorType:
        if dtype is None:
            raise Refusal(f"the element type {tensor.dtype} is not supported")
        if tensor.layout != torch.strided:
            raise Refusal(f"the layout {tensor.layout} is not supported; use dense tensors")
        return TensorType(dtype, tuple(self.symbols.dim(size) for size in tensor.shape))

    def resolve(self, argument: Any) -> Any:
        """What the IR has for an FX argument: values, dims, tuples of them, Python objects."""
        if isinstance(argument, FxNode):
            return self._operand(argument)
        if isinstance(argument, (list, tuple)):
            return [self.resolve(item) for item in argument]
        if isinstance(argument, slice):
            raise Refusal("takes a slice object")
        return plain(argument)

    def _operand(self, node: FxNode) -> Any:
        if node in self.origins:
            self.values[node] = self._constant(self.origins.pop(node))
        value = self.values[node]
        if value is None and isinstance(node.meta.get("val"), (torch.SymFloat, torch.SymBool)):
            return self._scalar(node)
        if value is None and isinstance(node.meta.get("val"), torch.Tensor):
            kind = node.meta["val"].dtype
            raise Refusal(f"reads a tensor of {kind}, which has no native form")
        return value

    def _constant(self, origin: Origin) -> Any:
        """A constant for a parameter, buffer or literal; one for all tensors that share memory."""
        tensor = origin.tensor.detach()
        if tensor.is_complex():
            parts = {"real": tensor.real, "imag": tensor.imag}
            return Pair(
                *(self._constant(Origin(f"{origin.name}.{k}", v)) for k, v in parts.items())
            )
        key = (
            tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype
        )  # fmt: skip
        if tensor.numel() and key in self._constants:
            return self._constants[key]
        type = self.type(tensor)
        bits = BF16 if type.dtype == BF16 else None
        value = self.builder.constant(to_array(tensor), bits, origin.name)
        self._constants[key] = value
        return value


def _shown(node: FxNode) -> str:
    """The overload, also of an operator that PyTorch wraps because it may raise."""
    if isinstance(node.target, torch._ops.OpOverload):
        return functional_name(node)
    if str(node.target) == "with_effects":
        return str(node.args[1])
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return f"higher_order.{node.target}"
    return str(getattr(node.target, "__name__", node.target))


def _why_unknown(name: str) -> str:
    if name.startswith("aten."):
        return REASONS.get(name, "has no translation")
    if "." not in name or name.startswith("higher_order."):
        return "has no translation"
    return "is a custom operator without a decomposition: see ranvier.register_operator"
