"""What the parts of the attention kernel share: function, sizes and scratch areas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ranvier.codegen.builder import FLOAT, I32, I64, FunctionBuilder, Val, int_const, vector
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.math_context import Context
from ranvier.ir.dim import Dim
from ranvier.lowering.kernels.attention import (
    Attention,
    ScratchLayout,
    scratch_layout,
    uses_pairs,
    words,
)
from ranvier.target import Target


@dataclass
class Frame:
    """One attention kernel under construction; `start` is called at the function's entry."""

    f: FunctionBuilder
    target: Target
    kernel: Attention
    environment: Mapping[str, Val] = field(init=False)
    queries: Val = field(init=False)
    keys: Val = field(init=False)
    key_area: Val = field(init=False)
    value_area: Val = field(init=False)
    query_area: Val = field(init=False)
    score_area: Val = field(init=False)
    sum_area: Val = field(init=False)

    def __post_init__(self) -> None:
        k, lanes = self.kernel, self.target.lanes
        self.context = Context(self.f, self.target)
        self.lanes = lanes
        self.vector = vector(lanes, FLOAT)
        self.word_vector = vector(lanes, I32)
        self.vector_bytes = 4 * lanes
        self.pairs = uses_pairs(k.dtype, self.target.has_bf16_dot)
        self.unit = 2 if self.pairs else 1
        self.head_words = words(k.head_dim, self.pairs)
        self.value_vectors = -(-k.value_dim // lanes)
        self.operands = [self.f.arg(f"b{i}") for i in range(k.operand_count)]

    def start(self) -> None:
        """Evaluate the sizes and divide the scratch."""
        f, k = self.f, self.kernel
        self.environment = {name: f.arg(name) for name in k.scalars}
        layout: ScratchLayout = scratch_layout(k, self.pairs)
        self.queries, self.keys = self.dim(k.queries), self.dim(k.keys)
        scratch = self.operands[k.scratch_operand]
        self.key_area = self.at(scratch, self.dim(layout.keys))
        self.value_area = self.at(scratch, self.dim(layout.values))
        self.query_area = self.at(scratch, self.dim(layout.queries))
        self.score_area = self.at(scratch, self.dim(layout.scores))
        self.sum_area = self.at(scratch, self.dim(layout.sums))

    # Addresses and integers ----------------------------------------------------------------------
    def dim(self, value: Dim, **variables: Val) -> Val:
        """The value of a dim over the scalars and the given variables."""
        return IndexEmitter(self.f, {**self.environment, **variables}, None).scalar(value)

    def at(self, base: Val, offset: Val | int) -> Val:
        """`base` plus bytes."""
        if isinstance(offset, int):
            offset = int_const(offset)
        return base if offset.text == "0" else self.f.element_pointer(base, "i8", offset)

    def row(self, base: Val, index: Val, size: int) -> Val:
        """`base` plus `index` rows of `size` bytes."""
        return self.at(base, self.f.binary("mul", index, int_const(size)))

    def add(self, a: Val, b: Val | int) -> Val:
        """a + b."""
        return self.f.binary("add", a, int_const(b) if isinstance(b, int) else b)

    def minimum(self, a: Val, b: Val) -> Val:
        """The smaller of two i64, signed."""
        return self.f.call("llvm.smin.i64", I64, a, b)

    def maximum(self, a: Val, b: Val) -> Val:
        """The larger of two i64, signed."""
        return self.f.call("llvm.smax.i64", I64, a, b)

    def round_up_div(self, a: Val, b: int) -> Val:
        """The ceiling of a / b for a >= 0."""
        return self.f.binary("udiv", self.add(a, b - 1), int_const(b))

    # Vectors -------------------------------------------------------------------------------------
    def load_padded(self, pointer: Val, element: str, count: int, width: int) -> Val:
        """Exactly `count` elements, then zeros up to `width`."""
        size = 2 if element == "i16" else 4
        loaded = self.f.load(vector(count, element), pointer, size)
        if count == width:
            return loaded
        type = vector(count, element)
        if count == 1:
            zeros = Val("zeroinitializer", vector(width, element))
            return self.f.emit(f"insertelement {zeros}, {loaded}, i64 0", zeros.type)
        picks = [*range(count), *[count] * (width - count)]
        return self.f.shuffle(loaded, Val("zeroinitializer", type), picks)
