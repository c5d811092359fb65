"""What happens to the sums of a depthwise convolution: the stores of a group of vectors.

Two vectors of sums may come with their 32 channels in the order of `interleaved_channels`. What is
stored in bf16 keeps that order until it has been rounded, which one instruction does for both
vectors; then a single permutation of 64-bit words, which on Zen 4 costs multiply-adds nothing,
restores the order of the channels. Operands of the epilogue are loaded in memory order and permuted
to fit; mostly that is the bias, once per group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ranvier.codegen import memory
from ranvier.codegen.builder import (
    I32,
    FunctionBuilder,
    Val,
    int_const,
    lanes_of,
)
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.indices import Lanes, lane_steps
from ranvier.codegen.math_context import Context
from ranvier.codegen.rounded_stores import round_two
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32
from ranvier.lowering.expression import Access, Index, walk
from ranvier.lowering.kernels.depthwise import (
    CHANNEL,
    COLUMN,
    Depthwise,
    interleaved_channels,
    uses_pairs,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.target import Target


@dataclass(frozen=True)
class Channels:
    """The group `first` ... `first + live - 1` of `count` channels."""

    first: Val
    live: int
    count: Val

    def mask(self, f: FunctionBuilder, start: int, lanes: int) -> Val | None:
        """Which of `lanes` lanes from channel `start` of the group on are channels; None for all.

        Found at run time: of a masked store of one 16-bit lane under a constant mask LLVM 22 makes
        a store of four bytes.
        """
        if self.live >= start + lanes:
            return None
        begin = f.binary("add", self.first, int_const(start))
        left = f.cast("trunc", f.binary("sub", self.count, begin), I32)
        return f.compare("icmp slt", lane_steps(lanes, 1, I32), f.splat(left, lanes))


class Epilogue:
    """The stores of a group of channels in one output row; `variables` binds all but the column.

    What does not depend on the column is computed when the epilogue is made.
    """

    def __init__(
        self, f: FunctionBuilder, kernel: Depthwise, target: Target, variables: Mapping[str, Val],
        channels: Channels,
    ) -> None:  # fmt: skip
        self._f, self._kernel, self._target = f, kernel, target
        self._channels, self._variables = channels, variables
        self._operands = [f.arg(f"b{i}") for i in range(kernel.operand_count)]
        self._leaves = list(dict.fromkeys(_leaves(kernel)))
        starts = range(0, channels.live, target.lanes)
        self._emitters = [self._emitter(start, target.lanes) for start in starts]
        two = uses_pairs(kernel.input_dtype, target.has_bf16_dot) and len(starts) == 2
        self._interleaved = two and not any(_is_indirect(leaf) for leaf in self._leaves)
        self._needs_order = two and not self._interleaved
        for leaf in self._leaves:
            if not _moves(leaf):
                self._load(self._emitters, leaf)

    def store(self, x: Val, sums: Sequence[Val]) -> None:
        """Emit the stores of output column `x`; two vectors of pairs are interleaved."""
        if self._needs_order:
            sums = self._in_order(sums)
        emitters = [
            emitter.nested({COLUMN: x}).with_accumulator(total)
            for emitter, total in zip(self._emitters, sums, strict=True)
        ]
        if not self._interleaved:
            for emitter in emitters:
                for store in self._kernel.stores:
                    emitter.store(store)
            return
        for leaf in self._leaves:
            if _moves(leaf):
                self._load(emitters, leaf)
        for store in self._kernel.stores:
            values = [emitter.emit_lanes(store.value) for emitter in emitters]
            if store.storage is BF16 and store.value.dtype is F32:
                self._store_rounded(store, x, values)
            else:
                for emitter, value in zip(emitters, self._in_order(values), strict=True):
                    emitter.store_value(store, value)

    def _store_rounded(self, store: Store, x: Val, values: list[Val]) -> None:
        """Round both vectors at once, then put the channels in their order."""
        f, lanes = self._f, 2 * self._target.lanes
        low, high = values
        bits = round_two(f, low, high)
        bits = f.shuffle(bits, bits, _positions())
        emitter = self._emitter(0, lanes).nested({COLUMN: x})
        assert emitter.lanes is not None
        place = memory.Place(
            self._operands[store.operand], store.offset, store.storage, emitter.lanes.mask
        )
        context = Context(f, self._target)
        memory.store_vector(context, emitter.indices, emitter.lanes, place, bits)

    def _emitter(self, start: int, lanes: int) -> ExpressionEmitter:
        f, channels = self._f, self._channels
        channel = f.binary("add", channels.first, int_const(start))
        at = Lanes(CHANNEL, lanes, channels.mask(f, start, lanes))
        variables = {**self._variables, CHANNEL: channel}
        return ExpressionEmitter(f, self._target, self._operands, variables, at)

    def _load(self, emitters: list[ExpressionEmitter], leaf: Access | Index) -> None:
        """Make a leaf known, in the order of the sums."""
        values = [emitter.emit(leaf) for emitter in emitters]
        if self._interleaved and lanes_of(values[0].type) > 1:
            order, lanes = interleaved_channels(), self._target.lanes
            a, b = values
            for emitter, picks in zip(emitters, (order[:lanes], order[lanes:]), strict=True):
                emitter.bind(leaf, self._f.shuffle(a, b, picks))

    def _in_order(self, vectors: Sequence[Val]) -> list[Val]:
        """Two interleaved vectors with the channels in their own order."""
        a, b = vectors
        lanes, positions = self._target.lanes, _positions()
        parts = (positions[:lanes], positions[lanes:])
        return [self._f.shuffle(a, b, part) for part in parts]


def _positions() -> list[int]:
    """Where each channel is in two interleaved vectors."""
    found = {channel: at for at, channel in enumerate(interleaved_channels())}
    return [found[channel] for channel in range(len(found))]


def _leaves(kernel: Depthwise) -> Iterator[Access | Index]:
    for store in kernel.stores:
        for node in walk(store.value):
            if isinstance(node, (Access, Index)):
                yield node


def _is_indirect(leaf: Access | Index) -> bool:
    return isinstance(leaf, Access) and bool(leaf.indirect)


def _moves(leaf: Access | Index) -> bool:
    """Whether a leaf differs between output columns, or depends on data that may."""
    if isinstance(leaf, Index):
        return dims.depends_on(leaf.value, (COLUMN,))
    parts = [leaf.offset, *(part for guard in leaf.guards for part in (guard.index, guard.limit))]
    return bool(leaf.indirect) or any(dims.depends_on(part, (COLUMN,)) for part in parts)
