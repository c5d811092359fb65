"""Graph -> Program: decides what lies in memory and which kernel computes it.

Nodes are visited in order. A contraction takes the element-wise operators that follow it as its
epilogue (`epilogue.py`); what several kernels read, what a contraction reads and what the model
returns is written to memory; everything else is inlined into its consumers (`inline.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ranvier.errors import UnsupportedOperatorError
from ranvier.ir import dim as dims
from ranvier.ir.definitions import all_graphs, computed_symbols
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F32, Array, DType, decode
from ranvier.ir.graph import Graph, Node, TensorType, Value
from ranvier.lowering import attend, compact, concat, contract, control, convolve, scatter, sort
from ranvier.lowering.barriers import place_barriers
from ranvier.lowering.claims import THREADS, share_steps
from ranvier.lowering.depth_first import fuse_chains
from ranvier.lowering.epilogue import Epilogue, is_contraction, plan_epilogues
from ranvier.lowering.foreign import lower_foreign, require_outermost
from ranvier.lowering.inline import HAS_REDUCTION, RULES, VIEWS, Inliner, row_major
from ranvier.lowering.kernels.control import Request, Reserve
from ranvier.lowering.layout import ELEMENTWISE, channels_last, physical_order
from ranvier.lowering.nests import add_nest
from ranvier.lowering.options import LoweringOptions
from ranvier.lowering.program import Buffer, Program, Step, Tensor
from ranvier.lowering.prologue import fuse_prologues
from ranvier.lowering.reservations import join_reservations, planned_size
from ranvier.lowering.scope import KernelScope, linear_offset
from ranvier.target import Target

STEPS = {  # operators with kernels of their own, which write every result
    "bind_dim": control.lower_bind_dim,
    "concat": concat.lower_concat,
    "foreign": lower_foreign,
    "if": control.lower_if,
    "loop": control.lower_loop,
    "nonzero": compact.lower_nonzero,
    "scatter_elements": scatter.lower_scatter,
    "scatter_nd": scatter.lower_scatter,
    "sort": sort.lower_sort,
    "top_k": sort.lower_sort,
}
DIRECT = frozenset({"constant", *STEPS})  # lowered without a rule for single elements
MAXIMUM_INLINED = 64  # cost of one expression before a value is written to memory
CHEAP = (
    3  # cost up to which a value is computed again for every pass of a reader with several passes
)
EXPENSIVE = {  # cost of an operator in multiples of an addition; 1 for those not named
    **dict.fromkeys(("gather", "gather_elements", "gather_nd"), 4),
    **dict.fromkeys(
        (
            "exp",
            "log",
            "tanh",
            "erf",
            "sigmoid",
            "gelu",
            "silu",
            "pow",
            "sin",
            "cos",
            "softplus",
            "mish",
        ),
        8,
    ),
}
READS_REPEATEDLY = frozenset({
    "softmax", "log_softmax", "layer_norm", "rms_norm", "reduce_variance", "max_pool", "avg_pool",
    "cumsum",
})  # fmt: skip


def lower(graph: Graph, target: Target, options: LoweringOptions | None = None) -> Program:
    """Lower a whole graph for `target`.

    Raises UnsupportedOperatorError with all operators that have no lowering.
    """
    missing = unsupported(graph)
    if missing:
        raise UnsupportedOperatorError(_describe_missing(missing))
    require_outermost(graph)
    program = Program(computed=computed_symbols(graph))
    options = options or LoweringOptions()
    Lowering(graph, target, options, program).run()
    program.steps = fuse_chains(program, target, options)
    program.steps = fuse_prologues(program, target, options)
    program.steps = place_barriers(join_reservations(program.steps))
    share_steps(program)
    return program


def unsupported(graph: Graph) -> list[Node]:
    """The nodes of `graph` for which there is no native lowering."""
    return [
        n
        for each in all_graphs(graph)
        for n in each.nodes
        if n.op not in RULES and n.op not in DIRECT and not is_contraction(n, each)
    ]


class Lowering:
    """The state of lowering one graph: where values lie, and the program so far.

    A graph inside a node is lowered by a `Lowering` of its own (`inner`) into the same program; its
    inputs lie where `given` says, and its outputs go where `places` says.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target,
        options: LoweringOptions,
        program: Program,
        given: Sequence[Tensor] | None = None,
        places: Sequence[Tensor] | None = None,
    ) -> None:
        self.graph = graph
        self.target = target
        self.options = options
        self.program = program
        self.growing: set[int] = set()  # buffers that a loop fills row by row
        self._given = given
        self._places = dict(enumerate(places or ()))
        self._ready: set[int] = set()  # outputs whose memory has been reserved
        self.tensors: dict[Value, Tensor] = {}
        self.consumers = graph.consumers()
        self.channels_last = set(channels_last(graph))
        self._producers = graph.producers()
        self.padded: dict[object, Value] = {}  # (image, padding) -> its padded copy
        self.reserved: dict[Value, Tensor] = {}  # memory of concatenations that already hold parts
        self._weights: dict[object, int] = {}
        self._weight_arrays: list[object] = []  # keeps `id` keys of `_weights` alive
        self._inlined: dict[Value, int] = {}
        self._output_index: dict[Value, int] = {}
        for index, value in enumerate(graph.outputs):
            self._output_index.setdefault(value, index)
        self.epilogues: dict[Node, Epilogue] = plan_epilogues(graph, self)
        self._claimed = {v for epilogue in self.epilogues.values() for v in epilogue.values}
        self._ends = {epilogue.end: node for node, epilogue in self.epilogues.items()}
        self.placements = concat.plan_placements(graph, self)

    # The walk -------------------------------------------------------------------------------------
    def run(self) -> None:
        """Lower every node, then the outputs that no kernel has written yet."""
        for index, value in enumerate(self.graph.inputs):
            given = self._given[index] if self._given is not None else None
            self.tensors[value] = given or self._external("input", value, index)
        for node in self.graph.nodes:
            self._visit(node)
        for index, value in enumerate(self.graph.outputs):
            self._write_output(index, value)

    def inner(self, graph: Graph, given: Sequence[Tensor], places: Sequence[Tensor]) -> Lowering:
        """The lowering of a graph inside a node; it shares weights with this one."""
        inside = Lowering(graph, self.target, self.options, self.program, given, places)
        inside._weights, inside._weight_arrays = self._weights, self._weight_arrays
        inside.growing = set(self.growing)
        return inside

    def _visit(self, node: Node) -> None:
        value = node.results[0]
        if node.op == "constant" or value in self.tensors:
            return
        root = self._ends.get(value)
        if root is not None:
            self._lower_contraction(root, self.epilogues[root])
        elif node in self.epilogues:
            return  # lowered where its epilogue ends
        elif node.op in STEPS:
            STEPS[node.op](self, node)
        elif self._is_needed_in_memory(node):
            self.materialize(self._before_widening(node))
            self._inlined[value] = 0

    def _before_widening(self, node: Node) -> Value:
        """The result of `node`, or its operand where a cast only makes that wider."""
        value = node.results[0]
        if node.op != "cast" or value in self.placements or value in self._output_index:
            return value
        operand = node.operands[0]
        return operand if operand.dtype.size < value.dtype.size else value

    def _lower_contraction(self, root: Node, epilogue: Epilogue) -> None:
        rules = {
            "conv": convolve.lower_conv,
            "matmul": contract.lower_matmul,
            "attention": attend.lower_attention,
        }
        rules[root.op](self, root, epilogue)

    def _is_needed_in_memory(self, node: Node) -> bool:
        value = node.results[0]
        if value in self._claimed:
            return False
        readers = self.consumers.get(value, [])
        if value in self.placements or value in self._output_index:
            return bool(readers) or value in self._output_index
        if not readers:
            return False
        is_view, below = node.op in VIEWS, sum(self._inlined.get(x, 0) for x in node.operands)
        self._inlined[value] = below + (0 if is_view else EXPENSIVE.get(node.op, 1))
        if is_view and (below == 0 or node.op not in ("cast", "bit_cast")):
            return False
        is_reread = any(reader.op in READS_REPEATEDLY for reader in readers)
        if self._inlined[value] > (CHEAP if is_reread else MAXIMUM_INLINED):
            return True
        if len(readers) > 1:
            return not self._is_small(value)
        if node.op in HAS_REDUCTION:
            reader = readers[0]
            return reader.op not in ELEMENTWISE or reader.results[0].shape != value.shape
        return False

    def _is_small(self, value: Value) -> bool:
        """A scalar or the like, cheap enough to compute where it is read."""
        size = dims.product(value.shape)
        return isinstance(size, int) and size <= 1 and self.producer(value).op not in HAS_REDUCTION

    # Values ---------------------------------------------------------------------------------------
    def producer(self, value: Value) -> Node:
        """The node whose result a value is."""
        return self._producers[value]

    def producer_or_none(self, value: Value) -> Node | None:
        """The node that computes `value`; None for an input of the graph."""
        return self._producers.get(value)

    def add_node(self, node: Node) -> Value:
        """Register a node that lowering itself introduces; returns its result."""
        for result in node.results:
            self._producers[result] = node
        return node.results[0]

    def constant(self, value: Value) -> Array | None:
        """The storage array of a constant, or None."""
        node = self._producers.get(value)
        if node is None or node.op != "constant":
            return None
        return np.asarray(node.attribute("value"))

    def is_splat(self, value: Value) -> bool:
        """Whether a constant has one element."""
        array = self.constant(value)
        return array is not None and array.size == 1

    def scalar_of(self, value: Value) -> float | int | bool:
        """The number that a one-element constant holds; of a narrow type, its bits."""
        array = self.constant(value)
        assert array is not None
        numbers = array if value.dtype.is_narrow else decode(array, value.dtype)
        number = numbers.reshape(-1)[0].item()
        assert isinstance(number, (int, float))
        return number

    def may_inline(self, value: Value) -> bool:
        """Whether `value` can be recomputed inside a kernel that reads it."""
        node = self.producer(value)
        if node.op in DIRECT or node in self.epilogues:
            return False
        return value not in self._claimed

    def stays_in_registers(self, value: Value) -> bool:
        """Whether `value` exists only between a contraction and the end of its epilogue."""
        return value in self._claimed and value not in self._ends

    def materialize(self, value: Value) -> Tensor:
        """Write `value` to memory unless it is there already."""
        found = self.tensors.get(value)
        if found is not None:
            return found
        array = self.constant(value)
        if array is not None:
            self.tensors[value] = self.weight(array, value.dtype)
            return self.tensors[value]
        tensor = self.allocate(value)
        self.write_nest(value, tensor)
        self.tensors[value] = tensor
        return tensor

    def write_nest(self, value: Value, tensor: Tensor) -> None:
        """Emit the nest that computes every element of `value` into `tensor`."""
        scope = KernelScope()
        inliner = Inliner(self, scope)
        order = physical_order(value, value in self.channels_last)
        loops = {axis: scope.loop(value.shape[axis]) for axis in order if value.shape[axis] != 1}
        indices = tuple(loops[axis].variable if axis in loops else 0 for axis in range(value.rank))
        if value in self.tensors:
            expression = inliner.element(value, indices)
            source, operators = "", ["copy"]
        else:
            node = self.producer(value)
            expression = RULES[node.op](inliner, node, indices, ())
            source, operators = node.source, [*inliner.operators, node.op]
        offset = linear_offset(indices, tensor.strides)
        add_nest(
            self,
            scope,
            tuple(loops.values()),
            tensor,
            offset,
            expression,
            (value, source, operators),
        )

    def allocate(self, value: Value) -> Tensor:
        """Memory for `value`: its slot in a concatenation, a model output, or a temporary."""
        placement = self.placements.get(value)
        if placement is not None:
            return placement.slot(self)
        is_last = value in self.channels_last
        order = physical_order(value, is_last)
        index = self._output_index.get(value)
        if index is not None and order == tuple(range(value.rank)):
            return self._destination(index)
        return self.temporary(value.type, order if is_last else self._order_of_reader(value))

    def _order_of_reader(self, value: Value) -> tuple[int, ...] | None:
        """The order in which the only reader of `value`, a transposition of rows, wants it."""
        readers = self.consumers.get(value, [])
        if len(readers) != 1 or readers[0].op != "transpose":
            return None
        order: tuple[int, ...] = tuple(readers[0].attribute("permutation"))
        return order if order[-1] == value.rank - 1 else None

    def temporary(self, type: TensorType, order: tuple[int, ...] | None = None) -> Tensor:
        """A temporary buffer with dims stored in `order` (outermost first)."""
        order = order or tuple(range(type.rank))
        packed = row_major(tuple(type.shape[axis] for axis in order))
        strides = tuple(packed[order.index(axis)] for axis in range(type.rank))
        size = dims.product(type.shape) * type.dtype.size
        tensor = Tensor(self.add_buffer(Buffer("temporary", size)), type.dtype, type.shape, strides)
        self.reserve(tensor)
        return tensor

    def scratch(self, dtype: DType, elements: Dim) -> Tensor:
        """Memory that a kernel uses for itself, as one row of elements."""
        return self.temporary(TensorType(dtype, (elements,)))

    def scratch_of_threads(self, size_bytes: Dim) -> Tensor:
        """Scratch memory of which every thread has `size_bytes`, a multiple of 4, of its own."""
        whole = self.scratch(F32, dims.floordiv(size_bytes, F32.size) * THREADS)
        return replace(whole, thread_bytes=size_bytes)

    def dense(self, value: Value) -> Tensor:
        """`value` in memory, in the order of its dims and without gaps; a copy if need be."""
        tensor = self.materialize(value)
        if tensor.strides == row_major(value.shape):
            return tensor
        copy = self.temporary(value.type)
        self.write_nest(value, copy)
        return copy

    def dense_result(self, value: Value) -> Tensor:
        """Where a node with graphs inside puts a result; they reserve memory when they know its
        size.
        """
        index = self._output_index.get(value)
        if index is not None:
            return self._place(index)
        size = dims.product(value.shape) * value.dtype.size
        buffer = self.add_buffer(Buffer("temporary", size))
        return Tensor(buffer, value.dtype, value.shape, row_major(value.shape))

    def add_buffer(self, buffer: Buffer) -> int:
        """Append a buffer to the program; one whose size has no bound will be reserved."""
        size = planned_size(buffer.size_bytes, self.program.computed)
        number = self.program.add_buffer(
            buffer if size is None else replace(buffer, size_bytes=size)
        )
        if size is None:
            self.program.reserved.append(number)
        return number

    def reserve(self, tensor: Tensor) -> None:
        """Ask for the memory of a dense tensor, unless it is in the plan."""
        if tensor.buffer not in self.program.reserved:
            return
        size = (tensor.offset + dims.product(tensor.shape)) * tensor.dtype.size
        request = Request(tensor.buffer, size, tensor.buffer in self.growing)
        self.add_step(control.control_step(Reserve((request,))))

    def weight(self, array: Array, dtype: DType, key: object = None) -> Tensor:
        """A constant in the artifact; the same `key` (or array) is stored once."""
        identity = key if key is not None else (id(array), dtype)
        if identity not in self._weights:
            data = np.ascontiguousarray(array)
            self._weight_arrays.append(array)
            self._weights[identity] = self.program.add_buffer(
                Buffer("weight", data.nbytes, data=data)
            )
        return Tensor(self._weights[identity], dtype, array.shape, row_major(array.shape))

    def weight_from(self, make: Callable[[], Array], dtype: DType, key: object) -> Tensor:
        """Like `weight`, for an array that is computed only when `key` is new; a flat tensor."""
        if key not in self._weights:
            data = np.ascontiguousarray(make())
            self._weights[key] = self.program.add_buffer(Buffer("weight", data.nbytes, data=data))
        number = self._weights[key]
        data_size = self.program.buffers[number].size_bytes // dtype.size
        return Tensor(number, dtype, (data_size,), (1,))

    def keep_alive(self, array: object) -> None:
        """Hold on to an object whose identity is part of a key."""
        self._weight_arrays.append(array)

    def add_step(self, step: Step) -> None:
        """Append a kernel call to the program."""
        self.program.steps.append(step)

    # Inputs and outputs ---------------------------------------------------------------------------
    def _external(self, kind: Literal["input", "output"], value: Value, index: int) -> Tensor:
        size = dims.product(value.shape) * value.dtype.size
        buffer = self.add_buffer(Buffer(kind, size, index))
        return Tensor(buffer, value.dtype, value.shape, row_major(value.shape))

    def _place(self, index: int) -> Tensor:
        """Where output `index` goes."""
        if index not in self._places:
            self._places[index] = self._external("output", self.graph.outputs[index], index)
        return self._places[index]

    def _destination(self, index: int) -> Tensor:
        """Where output `index` goes, with memory for it."""
        place = self._place(index)
        if index not in self._ready:
            self._ready.add(index)
            self.reserve(place)
        return place

    def _write_output(self, index: int, value: Value) -> None:
        if value not in self.tensors:
            self.materialize(value)
        if self.tensors[value] != self._places.get(index):
            self.write_nest(value, self._destination(index))


def _describe_missing(nodes: list[Node]) -> str:
    lines = [f"{len(nodes)} nodes use operators without a native lowering:"]
    for op in sorted({node.op for node in nodes}):
        places = [node.source or "unknown source" for node in nodes if node.op == op]
        shown = ", ".join(dict.fromkeys(places))
        lines.append(f"  {op}: {len(places)} ({shown})")
    return "\n".join(lines)
