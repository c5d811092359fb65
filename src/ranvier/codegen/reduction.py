"""Reductions inside kernels: computed once, at the outermost level where their variables are bound.

`prepare` is called whenever a loop variable has been bound. It computes the reductions that have
become computable (those over the same loops in one pass) and hoists sub-expressions that later
loops would repeat. A reduction whose body depends on the vectorised loop has vector accumulators;
another one is vectorised along its own unit-stride loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ranvier.codegen import accumulate
from ranvier.codegen.accumulate import State
from ranvier.codegen.builder import I32, I64, FunctionBuilder, Val, int_const, lanes_of
from ranvier.codegen.expression import ExpressionEmitter, Lanes
from ranvier.codegen.indices import lane_steps
from ranvier.codegen.math_context import Context, fma
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.expression import Access, Expression, Loop, Reduce, children

_UNROLL = 4  # a static innermost loop this short is written out
_ACCUMULATORS = 4


@dataclass(frozen=True)
class _Group:
    """Reductions over the same loops, computed in one pass."""

    loops: tuple[Loop, ...]
    members: tuple[Reduce, ...]

    @property
    def bodies(self) -> list[Expression]:
        return [reduce.body for reduce in self.members]


def prepare(emitters: Sequence[ExpressionEmitter], roots: Sequence[Expression]) -> None:
    """Compute what `roots` need, as far as the variables bound in `emitters` allow it.

    The emitters are copies of one loop body.
    """
    for group in _ready(emitters[0], roots):
        _compute(emitters, group)


def hoist(emitter: ExpressionEmitter, roots: Sequence[Expression]) -> None:
    """Emit the largest sub-expressions that do not depend on a variable still unbound."""
    for root in roots:
        _hoist(emitter, root)


def _hoist(emitter: ExpressionEmitter, node: Expression) -> None:
    if isinstance(node, Reduce):
        if emitter.known(node) is None and all(_at_least_one(x.extent) for x in node.loops):
            _hoist(emitter, node.body)
        return
    if not children(node) and not isinstance(node, Access):
        return
    if _is_bound(emitter, node) and not _waits(emitter, node):
        emitter.emit(node)
        return
    for child in children(node):
        _hoist(emitter, child)


def _waits(emitter: ExpressionEmitter, node: Expression) -> bool:
    """Whether `node` contains a reduction that is not computed yet."""
    return any(emitter.known(r) is None for r in emitter.table.reductions(node))


def _at_least_one(extent: Dim) -> bool:
    low, _ = dims.bounds(extent)
    return low is not None and low >= 1


def _is_bound(emitter: ExpressionEmitter, node: Expression) -> bool:
    return emitter.table.free_symbols(node) <= emitter.environment.keys()


def _ready(emitter: ExpressionEmitter, roots: Sequence[Expression]) -> list[_Group]:
    """The computable, not yet computed reductions, inner ones first, grouped by their loops."""
    depth_of: dict[int, int] = {}
    found: dict[tuple[int, tuple[Loop, ...]], list[Reduce]] = {}

    def visit(node: Expression) -> int:
        """The number of passes that must have run before `node` can be computed."""
        deepest = 0
        for reduce in emitter.table.reductions(node):
            key = emitter.table.key(reduce)
            if key not in depth_of:
                depth = 1 + visit(reduce.body)
                bound = _is_bound(emitter, reduce) and emitter.known(reduce) is None
                depth_of[key] = depth
                if bound:
                    found.setdefault((depth, reduce.loops), []).append(reduce)
            deepest = max(deepest, depth_of[key])
        return deepest

    for root in roots:
        visit(root)
    ordered = sorted(found.items(), key=lambda item: item[0][0])
    return [_Group(loops, tuple(members)) for (_, loops), members in ordered]


def _compute(emitters: Sequence[ExpressionEmitter], group: _Group) -> None:
    along = _vector_loop(emitters[0], group)
    if along is not None:
        for emitter in emitters:
            _Vectorised(emitter, group, along).run()
        return
    f = emitters[0].builder
    states = [accumulate.identity(f, r, e.count) for e in emitters for r in group.members]
    states = _serial(emitters, group, group.loops, states)
    context = Context(f, emitters[0].target)
    values = iter(states)
    for emitter in emitters:
        for reduce in group.members:
            emitter.bind(reduce, accumulate.result(context, reduce, next(values)))


def _serial(
    emitters: Sequence[ExpressionEmitter],
    group: _Group,
    loops: Sequence[Loop],
    states: list[State],
) -> list[State]:
    """Loops that carry the states of all emitters' reductions."""
    if not loops:
        return _accumulate(emitters, group, states)
    loop, rest = loops[0], loops[1:]
    if not rest and isinstance(loop.extent, int) and loop.extent <= _UNROLL:
        for k in range(loop.extent):
            inner = [e.nested({loop.name: int_const(k)}) for e in emitters]
            prepare(inner, group.bodies)
            states = _accumulate(inner, group, states)
        return states
    f = emitters[0].builder
    extent = emitters[0].emit_dim(loop.extent)
    flat = [v for state in states for v in state]
    with f.loop_carrying(int_const(0), extent, 1, flat, loop.name) as carried:
        inner = [e.nested({loop.name: carried.index}) for e in emitters]
        prepare(inner, group.bodies)
        for emitter in inner:
            hoist(emitter, group.bodies if rest else [])
        after = _serial(inner, group, rest, _unflatten(carried.values, states))
        carried.next = [v for state in after for v in state]
    return _unflatten(carried.results, states)


def _unflatten(flat: Sequence[Val], like: Sequence[State]) -> list[State]:
    values = iter(flat)
    return [tuple(next(values) for _ in state) for state in like]


def _accumulate(
    emitters: Sequence[ExpressionEmitter], group: _Group, states: list[State]
) -> list[State]:
    context = Context(emitters[0].builder, emitters[0].target)
    old = iter(states)
    result = []
    for emitter in emitters:
        position = emitter.environment[group.loops[-1].name] if group.loops else int_const(0)
        for reduce in group.members:
            state = next(old)
            lanes = lanes_of(state[0].type)
            factors = accumulate.factors(reduce)
            if factors is not None:
                result.append(_add_product(emitter, factors, state))
                continue
            value = emitter.emit(reduce.body)
            emitter.keep(reduce, value)
            if lanes_of(value.type) != lanes:
                value = context.builder.splat(value, lanes)
            at = position if len(state) == 1 else context.builder.splat(position, lanes)
            result.append(accumulate.step(context, reduce, state, value, at))
    return result


def _add_product(
    emitter: ExpressionEmitter, factors: tuple[Expression, Expression], state: State
) -> State:
    """The sum and one more product, rounded together."""
    f, lanes = emitter.builder, lanes_of(state[0].type)
    values = (emitter.emit(factor) for factor in factors)
    a, b = (f.splat(v, lanes) if lanes_of(v.type) != lanes else v for v in values)
    return (fma(f, a, b, state[0]),)


# Vectorised along a loop of the reduction --------------------------------------------------------
def _vector_loop(emitter: ExpressionEmitter, group: _Group) -> Loop | None:
    """The loop to vectorise if nothing is yet: all accesses have stride 0 or 1 in it."""
    if emitter.lanes is not None:
        return None
    for loop in reversed(group.loops):
        if isinstance(loop.extent, int) and loop.extent < 4:
            continue
        strides = {s for body in group.bodies for s in _strides(body, loop.name)}
        if 1 in strides and strides <= {0, 1} and not _ragged(group, loop.name):
            return loop
    return None


def _ragged(group: _Group, name: str) -> bool:
    """Whether the extent of any loop inside depends on the loop `name`."""
    inner = [r for body in group.bodies for r in _reductions_within(body)]
    loops = [*group.loops, *(loop for r in inner for loop in r.loops)]
    return any(dims.depends_on(loop.extent, [name]) for loop in loops)


def _reductions_within(node: Expression) -> list[Reduce]:
    below = [r for child in children(node) for r in _reductions_within(child)]
    return [node, *below] if isinstance(node, Reduce) else below


def _strides(node: Expression, name: str) -> set[int | None]:
    """Distances between neighbours along loop `name` in all accesses; None where not constant."""
    found = {s for child in children(node) for s in _strides(child, name)}
    if isinstance(node, Access):
        linear = dims.linear_in(node.offset, name)
        gathers = any(_strides(value, name) - {0} for _, value in node.indirect)
        step = linear[0] if linear is not None and isinstance(linear[0], int) else None
        found.add(None if gathers else step)
    return found


class _Vectorised:
    """One group of reductions, vectorised along one of its loops with several accumulators."""

    def __init__(self, emitter: ExpressionEmitter, group: _Group, along: Loop) -> None:
        self._emitter, self._group, self._along = emitter, group, along
        self._f: FunctionBuilder = emitter.builder
        self._context = Context(emitter.builder, emitter.target)
        extent = along.extent
        self._lanes = lanes_for(extent, emitter.target.lanes)
        full = extent // self._lanes if isinstance(extent, int) else _ACCUMULATORS
        most = max(1, min(_ACCUMULATORS, full, 8 // len(group.members)))
        even = [c for c in range(most, 1, -1) if full % c == 0]  # nothing is left over then
        self._copies = even[0] if even else most

    def run(self) -> None:
        """Compute the reductions and bind their (scalar) values."""
        group, context = self._group, self._context
        states = [
            accumulate.identity(self._f, reduce, self._lanes)
            for _ in range(self._copies)
            for reduce in group.members
        ]
        outer = [loop for loop in group.loops if loop is not self._along]
        states = self._outer_loops(self._emitter, outer, states)
        size = len(group.members)
        for k, reduce in enumerate(group.members):
            total = states[k]
            for copy in range(1, self._copies):
                total = accumulate.merge(context, reduce, total, states[copy * size + k])
            total = accumulate.across_lanes(context, reduce, total)
            self._emitter.bind(reduce, accumulate.result(context, reduce, total))

    def _outer_loops(
        self, emitter: ExpressionEmitter, loops: Sequence[Loop], states: list[State]
    ) -> list[State]:
        if not loops:
            return self._whole_range(emitter, states)
        f, loop = self._f, loops[0]
        flat = [v for state in states for v in state]
        extent = emitter.emit_dim(loop.extent)
        with f.loop_carrying(int_const(0), extent, 1, flat, loop.name) as carried:
            inner = emitter.nested({loop.name: carried.index})
            prepare([inner], self._group.bodies)
            after = self._outer_loops(inner, loops[1:], _unflatten(carried.values, states))
            carried.next = [v for state in after for v in state]
        return _unflatten(carried.results, states)

    def _whole_range(self, emitter: ExpressionEmitter, states: list[State]) -> list[State]:
        """Unrolled steps of `copies` vectors, then masked vectors for the rest."""
        f, size = self._f, len(self._group.members)
        extent = self._along.extent
        stop = emitter.emit_dim(extent)
        stride = self._copies * self._lanes
        start = int_const(0)
        if not isinstance(extent, int) or extent >= stride:
            last = f.binary("sub", stop, int_const(stride - 1))
            flat = [v for state in states for v in state]
            with f.loop_carrying(start, last, stride, flat, self._along.name) as carried:
                values = _unflatten(carried.values, states)
                after: list[State] = []
                for copy in range(self._copies):
                    first = f.binary("add", carried.index, int_const(copy * self._lanes))
                    part = values[copy * size : (copy + 1) * size]
                    after += self._vector_step(emitter, first, part, None)
                carried.next = [v for state in after for v in state]
            states, start = _unflatten(carried.results, states), carried.index
        if isinstance(extent, int) and extent % stride == 0:
            return states
        return self._masked_rest(emitter, start, stop, states)

    def _masked_rest(
        self, emitter: ExpressionEmitter, start: Val, stop: Val, states: list[State]
    ) -> list[State]:
        f, size = self._f, len(self._group.members)
        own = states[:size]
        flat = [v for state in own for v in state]
        with f.loop_carrying(start, stop, self._lanes, flat, self._along.name) as carried:
            mask = tail_mask(f, carried.index, stop, self._lanes)
            values = _unflatten(carried.values, own)
            after = self._vector_step(emitter, carried.index, values, mask)
            carried.next = [v for state in after for v in state]
        return [*_unflatten(carried.results, own), *states[size:]]

    def _vector_step(
        self, emitter: ExpressionEmitter, first: Val, states: list[State], mask: Val | None
    ) -> list[State]:
        lanes = Lanes(self._along.name, self._lanes, mask)
        inner = emitter.nested({self._along.name: first}, lanes)
        prepare([inner], self._group.bodies)
        position = inner.indices.vector(self._along.variable)
        after = []
        for reduce, state in zip(self._group.members, states, strict=True):
            factors = accumulate.factors(reduce)
            if factors is not None:
                new = _add_product(inner, factors, state)
            else:
                value = inner.emit_lanes(reduce.body)
                inner.keep(reduce, value)
                new = accumulate.step(self._context, reduce, state, value, position)
            if mask is not None:
                new = accumulate.mask_step(self._context, reduce, state, new, mask)
            after.append(new)
        return after


def lanes_for(extent: Dim, lanes: int) -> int:
    """Lanes for a loop: fewer (a power of two) when its static extent is small."""
    if isinstance(extent, int):
        while lanes > 2 and lanes // 2 >= extent:
            lanes //= 2
    return lanes


def tail_mask(f: FunctionBuilder, first: Val, stop: Val, lanes: int) -> Val:
    """The lanes k with first + k < stop."""
    left = f.call("llvm.smin.i64", I64, f.binary("sub", stop, first), int_const(lanes))
    narrow = f.splat(f.cast("trunc", left, I32), lanes)
    return f.compare("icmp ult", lane_steps(lanes, 1, I32), narrow)
