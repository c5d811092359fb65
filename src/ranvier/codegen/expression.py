"""Expressions become LLVM values: vectors where they depend on the vector loop, else scalars.

    lanes = Lanes("j", 16, mask)
    emitter = ExpressionEmitter(builder, target, operands, {"i": i, "n": n, "j": j}, lanes)
    emitter.store(store)                      # or: value = emitter.emit(expression)

Inner loops use `emitter.nested(...)`: it finds what the outer emitter computed already, and what
it computes itself is forgotten with it. Memory outside the guarded region or the active lanes is
never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ranvier.codegen import conversions, memory, scalar_ops
from ranvier.codegen.builder import FunctionBuilder, Val, lanes_of
from ranvier.codegen.expression_table import ExpressionTable
from ranvier.codegen.indices import IndexEmitter, Lanes
from ranvier.codegen.kept_terms import KeptTerms
from ranvier.codegen.math_context import Context
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import I64 as I64_DTYPE
from ranvier.lowering.expression import (
    Access,
    Accumulator,
    Apply,
    Expression,
    Guard,
    Index,
    Literal,
    Reduce,
    compute_dtype,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.target import Target

__all__ = ["ExpressionEmitter", "Lanes"]


class ExpressionEmitter:
    """Emits expressions into the current block of `builder`, each distinct one once per scope.

    `operands` are the kernel's pointers; `environment` gives an i64 for every scalar argument and
    loop variable (for the vectorised loop: its first lane). `accumulator` is the value of
    `Accumulator` nodes. `kept` are the terms of a reduction that are written as they are computed,
    see `kept_terms.py`.
    """

    def __init__(
        self,
        builder: FunctionBuilder,
        target: Target,
        operands: Sequence[Val],
        environment: Mapping[str, Val],
        lanes: Lanes | None = None,
        accumulator: Val | None = None,
        *,
        outer: ExpressionEmitter | None = None,
    ) -> None:
        self.builder = builder
        self.target = target
        self.operands = operands
        self.environment = dict(environment)
        self.lanes = lanes
        self._accumulator = accumulator
        self.table: ExpressionTable = outer.table if outer else ExpressionTable()
        self.kept: KeptTerms | None = outer.kept if outer else None
        self.indices: IndexEmitter = IndexEmitter(
            builder, self.environment, lanes, outer.indices if outer else None
        )
        self._context = Context(builder, target)
        inherited: Sequence[dict[int, Val]] = ()
        if outer is not None and (outer.lanes is None or outer.lanes == lanes):
            inherited = outer._known
        self._known: list[dict[int, Val]] = [*inherited, {}]

    @property
    def count(self) -> int:
        """Lanes of a vector value; 1 when nothing is vectorised."""
        return self.lanes.count if self.lanes else 1

    def nested(
        self, environment: Mapping[str, Val], lanes: Lanes | None = None
    ) -> ExpressionEmitter:
        """An emitter for an inner loop: adds `environment`; without `lanes` it keeps this one's."""
        return ExpressionEmitter(
            self.builder, self.target, self.operands, {**self.environment, **environment},
            lanes or self.lanes, self._accumulator, outer=self,
        )  # fmt: skip

    def with_accumulator(self, value: Val) -> ExpressionEmitter:
        """An emitter that shares what is known so far, with another `Accumulator` value.

        Values that depend on the accumulator must not have been emitted on `self`.
        """
        inner = self.nested({})
        inner._accumulator = value
        return inner

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is emitted inside is forgotten afterwards: use it around a conditional block."""
        self._known.append({})
        self.indices.push()
        yield
        self.indices.pop()
        self._known.pop()

    # Values --------------------------------------------------------------------------------------
    def emit_dim(self, dim: Dim) -> Val:
        """The i64 value of a dim that is the same in all lanes."""
        return self.indices.scalar(dim)

    def bind(self, expression: Expression, value: Val) -> None:
        """Make `value` the value of `expression` from here on."""
        self._known[-1][self.table.key(expression)] = value

    def known(self, expression: Expression) -> Val | None:
        """The value of an expression that has been emitted or bound already."""
        key = self.table.key(expression)
        return next((k[key] for k in reversed(self._known) if key in k), None)

    def emit(self, expression: Expression) -> Val:
        """The value of `expression`: a vector if it differs between lanes, else a scalar."""
        value = self.known(expression)
        if value is None:
            value = _EMIT[type(expression)](self, expression)
            self.bind(expression, value)
        return value

    def emit_lanes(self, expression: Expression) -> Val:
        """The value of `expression`, splatted over the lanes if it is the same in all."""
        value = self.emit(expression)
        return value if lanes_of(value.type) > 1 else self.builder.splat(value, self.count)

    def store(self, store: Store) -> None:
        """Compute, convert and write one store of a kernel."""
        self.store_value(store, self.emit(store.value))

    def store_value(self, store: Store, value: Val) -> None:
        """Convert `value` (the value of `store.value`) to the storage type and write it."""
        stored = memory.encode(self._context, value, store.value.dtype, store.storage)
        pointer = self.operands[store.operand]
        if self.lanes is None:
            where = self.builder.element_pointer(
                pointer, memory.storage_type(store.storage), self.emit_dim(store.offset)
            )
            self.builder.store(stored, where, store.storage.size)
            return
        if not self.indices.is_varying(store.offset):
            raise CompileError(f"store offset {store.offset} does not move with the vector loop")
        if lanes_of(stored.type) == 1:
            stored = self.builder.splat(stored, self.count)
        place = memory.Place(pointer, store.offset, store.storage, self.lanes.mask)
        memory.store_vector(self._context, self.indices, self.lanes, place, stored)

    def keep(self, reduce: Reduce, term: Val) -> None:
        """Write a term of a reduction to where its result will need it, if it is a kept one."""
        kept = self.kept
        if kept is not None and self.table.key(reduce) == self.table.key(kept.reduce):
            self.store_value(kept.term, term)

    # Nodes ---------------------------------------------------------------------------------------
    def _literal(self, node: Literal) -> Val:
        return conversions.constant(node.value, node.dtype)

    def _index(self, node: Index) -> Val:
        if self.indices.is_varying(node.value):
            value = self.indices.vector(node.value)
        else:
            value = self.indices.scalar(node.value)
        return conversions.convert(self._context, value, I64_DTYPE, node.dtype)

    def _apply(self, node: Apply) -> Val:
        values = [self.emit(x) for x in node.operands]
        lanes = max((lanes_of(v.type) for v in values), default=1)
        values = [v if lanes_of(v.type) == lanes else self.builder.splat(v, lanes) for v in values]
        types = [compute_dtype(x.dtype) for x in node.operands]
        return scalar_ops.apply(self._context, node, values, types)

    def _reduce(self, node: Reduce) -> Val:
        raise CompileError(f"a reduction ({node.op}) stands where the kernel cannot compute it")

    def _accumulator_value(self, node: Accumulator) -> Val:
        if self._accumulator is None:
            raise CompileError("an accumulator stands outside the epilogue of a contraction")
        return self._accumulator

    def _access(self, node: Access) -> Val:
        offset, guards = self._resolve(node)
        uniform: Val | None = None
        masks = self.lanes.mask if self.lanes else None
        filled: Val | None = None
        for guard in guards:
            holds = self.indices.inside(guard.index, guard.limit)
            if lanes_of(holds.type) == 1:
                uniform = memory.both(self.builder, uniform, holds)
            else:
                masks = memory.both(self.builder, masks, holds)
                filled = memory.both(self.builder, filled, holds)
        place = memory.Place(self.operands[node.operand], offset, node.storage, masks, uniform)
        if self.lanes is not None and self.indices.is_varying(offset):
            value = memory.load_vector(self._context, self.indices, self.lanes, place)
        else:
            value = memory.load_scalar(self._context, self.indices, place)
        return self._fill(node, value, uniform, filled)

    def _fill(self, node: Access, value: Val, uniform: Val | None, filled: Val | None) -> Val:
        """Put `node.fill` where a guard failed; failed loads already gave zero bits."""
        f = self.builder
        if lanes_of(value.type) == 1 and filled is not None:
            value = f.splat(value, self.count)
        elif memory.is_zero(node.fill):
            return value
        lanes = lanes_of(value.type)
        fill = f.splat(conversions.constant(node.fill, node.storage), lanes)
        if filled is not None:
            value = f.select(filled, value, fill)
        if uniform is not None and not memory.is_zero(node.fill):
            value = f.select(uniform, value, fill)
        return value

    def _resolve(self, node: Access) -> tuple[Dim, tuple[Guard, ...]]:
        """Offset and guards; data symbols are renamed after their expressions, bound to values."""
        if not node.indirect:
            return node.offset, node.guards
        names = {}
        for name, expression in node.indirect:
            fresh = f"{name}.{self.table.key(expression)}"
            names[name] = fresh
            if fresh not in self.environment or self.known(expression) is None:
                value = self.emit(expression)
                wide = conversions.convert(self._context, value, expression.dtype, I64_DTYPE)
                self.environment[fresh] = wide
        everything = [node.offset, *(d for g in node.guards for d in (g.index, g.limit))]
        found = {k: v for dim in everything for k, v in dims.symbols(dim).items() if k in names}
        renamed = {
            k: dims.symbol(names[k], s.minimum, s.maximum) for k, s in found.items()
        }  # fmt: skip
        guards = tuple(
            Guard(dims.substitute(g.index, renamed), dims.substitute(g.limit, renamed))
            for g in node.guards
        )
        return dims.substitute(node.offset, renamed), guards


_EMIT: dict[type, Callable[[ExpressionEmitter, Any], Val]] = {
    Literal: ExpressionEmitter._literal,
    Index: ExpressionEmitter._index,
    Access: ExpressionEmitter._access,
    Apply: ExpressionEmitter._apply,
    Reduce: ExpressionEmitter._reduce,
    Accumulator: ExpressionEmitter._accumulator_value,
}
