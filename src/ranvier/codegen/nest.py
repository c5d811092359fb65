"""Code for loop nests: split over threads, vectorised along one loop, reductions computed once.

The iteration space of all loops but the vectorised one is numbered; each thread takes a contiguous
range of numbers. When there are few of them, the vectorised loop is cut in chunks that count as
one more loop. The numbering is walked in *segments*, cut where a reduction becomes computable, so
that a thread computes it once and not once per element:

    for s0 in this thread's part of segment 0:      reductions over (s0) ...
        for s1 in this thread's part of segment 1:  ...
            for j in the vectorised loop, in steps of several vectors, then masked or scalar
                                                        reductions over (s0, s1, j) ...
                for i in this nest's loops on which none of those depends
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ranvier.codegen.builder import I1, I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.expression import ExpressionEmitter, Lanes
from ranvier.codegen.expression_table import ExpressionTable
from ranvier.codegen.interleaved_stores import alternating_loop, store_alternating
from ranvier.codegen.kept_terms import kept_terms
from ranvier.codegen.reduction import hoist, lanes_for, prepare, tail_mask
from ranvier.codegen.scalar_ops import LONG
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.expression import (
    Access,
    Apply,
    Expression,
    Literal,
    Loop,
    Reduce,
    children,
    walk,
)
from ranvier.lowering.kernels.nest import Nest
from ranvier.target import Target

_TINY = 16384  # below this many element operations one thread does all
_PARTS_PER_THREAD = 4  # ranges per thread that make a balanced split
_ENOUGH_PARTS = 64  # static iterations with which the vectorised loop is never cut
_CHUNK = "chunk."


def emit_nest(module: ModuleWriter, name: str, nest: Nest, target: Target) -> None:
    """Add `void @name(ptr b0.., i64 scalars.., i64 thread, i64 threads)` to the module.

    Raises UnsupportedOperatorError for an operator without native code and CompileError for a
    malformed nest.
    """
    _NestWriter(module, name, nest, target).write()


@dataclass(frozen=True)
class _Axis:
    """A loop whose extent is a value known at run time."""

    name: str
    extent: Val


class _NestWriter:
    def __init__(self, module: ModuleWriter, name: str, nest: Nest, target: Target) -> None:
        self._nest = _vectorisable(nest)
        self._target = target
        operands = [f"b{k}" for k in range(nest.operand_count)]
        parameters = [(n, PTR) for n in operands]
        parameters += [(f"s.{n}", I64) for n in nest.scalars]
        parameters += [("thread", I64), ("threads", I64)]
        self._f = FunctionBuilder(module, name, parameters)
        pointers = [self._f.arg(n) for n in operands]
        environment = {n: self._f.arg(f"s.{n}") for n in nest.scalars}
        self._root = ExpressionEmitter(self._f, target, pointers, environment)
        vector = self._nest.vector
        self._vector: Loop | None = None if vector is None else self._nest.loops[vector]
        self._alternating = alternating_loop(self._nest)
        self._inner = _inner_loops(self._nest, self._root.table)
        inside = (self._vector, self._alternating, *self._inner)
        self._outer = [loop for loop in self._nest.loops if loop not in inside]
        self._keep_terms()
        self._values = [store.value for store in self._nest.stores]
        self._lanes = lanes_for(self._vector.extent, target.lanes) if self._vector else 1
        self._copies = self._unroll()

    def _keep_terms(self) -> None:
        """Let a reduction keep its terms for results that are computed after it."""
        if len(self._nest.stores) != 1 or self._vector is None:
            return
        inside = [loop.name for loop in self._inner or (self._vector,)]
        (store,) = self._nest.stores
        kept = kept_terms(store, self._nest.loops, inside, self._root.table)
        if kept is not None:
            self._root.kept = kept
            self._nest = replace(self._nest, stores=(kept.store,))

    # Structure -----------------------------------------------------------------------------------
    def write(self) -> None:
        f = self._f
        segments = self._segments()
        sizes = [_product(f, [axis.extent for axis in axes]) for axes in segments]
        total = _product(f, sizes)
        low, high = self._share(total)
        inner = self._root.emit_dim(self._vector.extent) if self._vector else int_const(1)
        useful = f.binary(
            "and", f.compare("icmp slt", low, high), f.compare("icmp sgt", inner, int_const(0))
        )
        with f.when(useful):
            body = self._root.nested({})
            prepare([body], self._values)
            hoist(body, self._values)
            self._segment(body, segments, sizes, low, high)
        f.ret()
        f.finish()

    def _segments(self) -> list[list[_Axis]]:
        """The outer loops, cut where reductions become computable, and last the vector loop."""
        cuts = self._cuts()
        segments: list[list[_Axis]] = [[]]
        for position, loop in enumerate(self._outer):
            if position in cuts and segments[-1]:
                segments.append([])
            segments[-1].append(_Axis(loop.name, self._root.emit_dim(loop.extent)))
        if self._vector is not None and self._is_cut():
            chunks = self._chunks([axis for axes in segments for axis in axes])
            segments.append([_Axis(_CHUNK, chunks)])
        return [axes for axes in segments if axes]

    def _cuts(self) -> set[int]:
        """Numbers of outer loops after which some reduction can be computed."""
        table, found = self._root.table, set()
        names = [loop.name for loop in self._outer]
        for node in _reductions(self._values):
            free = table.free_symbols(node)
            if self._vector is not None and self._vector.name in free:
                continue
            found.add(max((k + 1 for k, n in enumerate(names) if n in free), default=0))
        return found

    def _share(self, total: Val) -> tuple[Val, Val]:
        """This thread's range of the numbered iterations; thread 0 takes all of a tiny nest."""
        f = self._f
        thread, threads = f.arg("thread"), f.arg("threads")
        work = self._work()
        if isinstance(work, int):
            tiny = int_const(int(work < _TINY), I1)
        else:
            tiny = f.compare("icmp slt", self._root.emit_dim(work), int_const(_TINY))
        count = f.select(tiny, int_const(1), threads)
        low = f.binary("udiv", f.binary("mul", total, thread), count)
        after = f.binary("add", thread, int_const(1))
        high = f.binary("udiv", f.binary("mul", total, after), count)
        return low, f.call("llvm.smin.i64", I64, high, total)

    def _work(self) -> Dim:
        """Element operations of the nest, roughly."""
        extents: dict[str, Dim] = {x.name: x.extent for x in self._nest.loops}
        for node in _reductions(self._values):
            extents.update({x.name: x.extent for x in node.loops})
        table = self._root.table
        seen: set[int] = set()
        total: Dim = 1
        for reduce in _reductions(self._values):
            if table.key(reduce) in seen:
                continue
            seen.add(table.key(reduce))
            names = set(table.free_symbols(reduce.body)) | {x.name for x in reduce.loops}
            part: Dim = 1 + _weight([reduce.body])
            for name in sorted(names & extents.keys()):
                part = part * _closed(extents[name], extents)
            total = total + part
        nest: Dim = 1 + _weight(self._values)
        for loop in self._nest.loops:
            nest = nest * _closed(loop.extent, extents)
        return total + nest

    def _segment(
        self,
        emitter: ExpressionEmitter,
        segments: Sequence[list[_Axis]],
        sizes: Sequence[Val],
        low: Val,
        high: Val,
    ) -> None:
        """Walk [low, high) of the iterations numbered by `segments`."""
        if not segments:
            self._vector_range(emitter)
            return
        f = self._f
        inner = _product(f, sizes[1:])
        first, last = low, high
        if len(segments) > 1:
            first = f.binary("udiv", low, inner)
            rounded = f.binary("add", high, f.binary("sub", inner, int_const(1)))
            last = f.binary("udiv", rounded, inner)
        axes = segments[0]
        start = _digits(f, first, axes)
        with f.loop_carrying(first, last, 1, start, "s") as carried:
            digits = carried.values if len(axes) > 1 else [carried.index]
            names = {axis.name: v for axis, v in zip(axes, digits, strict=True)}
            body = emitter.nested(names)
            if axes[0].name != _CHUNK:
                prepare([body], self._values)
                if self._vector is not None or len(segments) > 1:
                    hoist(body, self._values)
            zero = int_const(0)
            begin, end = zero, zero
            if len(segments) > 1:
                base = f.binary("mul", carried.index, inner)
                begin = f.call("llvm.smax.i64", I64, f.binary("sub", low, base), zero)
                end = f.call("llvm.smin.i64", I64, f.binary("sub", high, base), inner)
            self._segment(body, segments[1:], sizes[1:], begin, end)
            carried.next = _advance(f, axes, carried.values)

    # The vectorised loop -------------------------------------------------------------------------
    def _unroll(self) -> int:
        """Vectors per step: several when the body is small and the loop long enough."""
        if self._vector is None:
            return 1
        size = _size(self._values, self._vector.name, self._root.table)
        if self._alternating is not None:
            size *= dims.static(self._alternating.extent)
        copies = 4 if size <= 8 else 2 if size <= 24 else 1
        if any(s.storage.size == 8 for s in self._nest.stores):
            copies = max(1, copies // 2)
        extent = self._vector.extent
        while copies > 1 and isinstance(extent, int) and extent < copies * self._lanes:
            copies //= 2
        return copies

    def _is_cut(self) -> bool:
        """Whether the vectorised loop may have to be cut in chunks to occupy all threads."""
        assert self._vector is not None
        kept = self._root.kept
        if kept is not None and kept.loop is self._vector:
            return False  # each chunk would compute the reduction, and write its terms
        _, high = dims.bounds(self._vector.extent)
        if high is not None and high < 2 * self._granule:
            return False
        outer = 1
        for loop in self._outer:
            least, _ = dims.bounds(loop.extent)
            outer *= max(1, least or 1)
        return outer < _ENOUGH_PARTS

    @property
    def _granule(self) -> int:
        return self._lanes * self._copies

    def _chunk_size(self, parts: Val) -> Val:
        """Elements per chunk, a multiple of the granule; parts * chunks occupies all threads."""
        assert self._vector is not None
        f, extent = self._f, self._root.emit_dim(self._vector.extent)
        threads = f.arg("threads")
        wanted = f.binary("mul", threads, int_const(_PARTS_PER_THREAD))
        alone = f.compare("icmp eq", threads, int_const(1))
        wanted = f.select(alone, int_const(1), wanted)
        safe = f.call("llvm.smax.i64", I64, parts, int_const(1))
        chunks = f.ceil_div(wanted, safe)
        size = f.ceil_div(extent, chunks)
        granules = f.ceil_div(size, int_const(self._granule))
        size = f.binary("mul", granules, int_const(self._granule))
        return f.call("llvm.smax.i64", I64, size, int_const(self._granule))

    def _chunks(self, axes: Sequence[_Axis]) -> Val:
        assert self._vector is not None
        f = self._f
        self._size_of_chunk = self._chunk_size(_product(f, [axis.extent for axis in axes]))
        return f.ceil_div(self._root.emit_dim(self._vector.extent), self._size_of_chunk)

    def _vector_range(self, emitter: ExpressionEmitter) -> None:
        if self._vector is None:
            self._stores([emitter])
            return
        f = self._f
        start, stop = int_const(0), emitter.emit_dim(self._vector.extent)
        chunk = emitter.environment.get(_CHUNK)
        if chunk is not None:
            start = f.binary("mul", chunk, self._size_of_chunk)
            end = f.binary("add", start, self._size_of_chunk)
            stop = f.call("llvm.smin.i64", I64, stop, end)
        extent = self._vector.extent
        if not isinstance(extent, int) or extent >= self._granule:
            start = self._whole_vectors(emitter, start, stop, self._copies)
        if isinstance(extent, int) and extent % self._granule == 0:
            return
        if self._masks_are_cheap():
            self._masked_vectors(emitter, start, stop)
            return
        if self._copies > 1:
            start = self._whole_vectors(emitter, start, stop, 1)
        name = self._vector.name
        with f.loop(start, stop, 1, name) as index:
            self._stores([emitter.nested({name: index})])

    def _masks_are_cheap(self) -> bool:
        """AVX-512 masks everything; AVX2 only elements of 4 and 8 bytes."""
        if self._target.lanes >= 16:
            return True
        accesses = [n for v in self._values for n in walk(v) if isinstance(n, Access)]
        sizes = [x.storage.size for x in accesses]
        sizes += [store.storage.size for store in self._nest.stores]
        return min(sizes) >= 4

    def _whole_vectors(self, emitter: ExpressionEmitter, start: Val, stop: Val, copies: int) -> Val:
        """Steps of `copies` full vectors; the index at which they end."""
        assert self._vector is not None
        f, name = self._f, self._vector.name
        stride = copies * self._lanes
        last = f.binary("sub", stop, int_const(stride - 1))
        with f.loop_carrying(start, last, stride, (), name) as carried:
            lanes = Lanes(name, self._lanes)
            firsts = [carried.index]
            firsts += [
                f.binary("add nsw", carried.index, int_const(k * self._lanes))
                for k in range(1, copies)
            ]
            self._stores([emitter.nested({name: x}, lanes) for x in firsts])
        return carried.index

    def _masked_vectors(self, emitter: ExpressionEmitter, start: Val, stop: Val) -> None:
        assert self._vector is not None
        f, name = self._f, self._vector.name
        with f.loop(start, stop, self._lanes, name) as index:
            mask = tail_mask(f, index, stop, self._lanes)
            self._stores([emitter.nested({name: index}, Lanes(name, self._lanes, mask))])

    def _stores(self, emitters: Sequence[ExpressionEmitter]) -> None:
        """All values of all copies, then the stores: operands may share memory with results."""
        if self._alternating is not None:
            self._alternating_stores(emitters, self._alternating)
            return
        if self._vector is not None:
            prepare(emitters, self._values)
        if self._inner:
            for emitter in emitters:
                hoist(emitter, self._values)
        self._inner_stores(emitters, self._inner)

    def _inner_stores(self, emitters: Sequence[ExpressionEmitter], loops: Sequence[Loop]) -> None:
        """The stores of all iterations of loops inside the vectorised one."""
        if loops:
            f, (loop, *rest) = self._f, loops
            extent = emitters[0].emit_dim(loop.extent)
            with f.loop(int_const(0), extent, 1, loop.name) as index:
                inner = [emitter.nested({loop.name: index}) for emitter in emitters]
                prepare(inner, self._values)
                self._inner_stores(inner, rest)
            return
        pairs = [(e, s) for s in self._nest.stores for e in emitters]
        values = [e.emit(s.value) for e, s in pairs]
        for (emitter, store), value in zip(pairs, values, strict=True):
            emitter.store_value(store, value)

    def _alternating_stores(self, emitters: Sequence[ExpressionEmitter], loop: Loop) -> None:
        """As `_stores`, for all iterations of a loop whose elements lie side by side."""
        places = range(dims.static(loop.extent))
        groups = [[e.nested({loop.name: int_const(k)}) for k in places] for e in emitters]
        prepare([emitter for group in groups for emitter in group], self._values)
        work = [(group, store) for store in self._nest.stores for group in groups]
        values = [[emitter.emit(store.value) for emitter in group] for group, store in work]
        for (group, store), found in zip(work, values, strict=True):
            lanes = group[0].lanes
            if lanes is not None and lanes.mask is None:
                store_alternating(self._target, group, store, found)
                continue
            for emitter, value in zip(group, found, strict=True):
                emitter.store_value(store, value)


# What a nest is like -----------------------------------------------------------------------------
def _vectorisable(nest: Nest) -> Nest:
    """Drop `vector` where reductions are ragged in it, or run along memory that it strides over."""
    if nest.vector is None:
        return nest
    name = nest.loops[nest.vector].name
    for reduce in _reductions([store.value for store in nest.stores]):
        if any(dims.depends_on(loop.extent, [name]) for loop in reduce.loops):
            return replace(nest, vector=None)
        accesses = [x for x in walk(reduce.body) if isinstance(x, Access)]
        strided = [x for x in accesses if _stride(x, name) not in (0, 1)]
        along = [x for x in strided if any(_stride(x, r.name) == 1 for r in reduce.loops)]
        if along and 2 * len(along) >= len(accesses):
            return replace(nest, vector=None)
    if any(not dims.depends_on(store.offset, [name]) for store in nest.stores):
        return replace(nest, vector=None)
    return nest


def _inner_loops(nest: Nest, table: ExpressionTable) -> list[Loop]:
    """The loops on which no reduction along the vectorised loop depends: outside of that loop, they
    would have each computed once for every iteration.
    """
    if nest.vector is None:
        return []
    along = nest.loops[nest.vector]
    found = list(_reductions([store.value for store in nest.stores]))
    within = [free for free in map(table.free_symbols, found) if along.name in free]
    if not within:
        return []
    bound = frozenset[str]().union(*within)
    others = [loop for loop in nest.loops if loop is not along]
    free = [loop for loop in others if loop.name not in bound]
    names = [loop.name for loop in (*free, along)]
    fixed = all(not dims.depends_on(loop.extent, names) for loop in nest.loops)
    return free if fixed else []


def _stride(access: Access, name: str) -> Dim | None:
    linear = dims.linear_in(access.offset, name)
    return None if linear is None else linear[0]


def _reductions(values: Sequence[Expression]) -> Iterator[Reduce]:
    for value in values:
        yield from (node for node in walk(value) if isinstance(node, Reduce))


def _closed(extent: Dim, extents: dict[str, Dim]) -> Dim:
    """An extent with loop variables replaced by their extents: an upper bound for ragged loops."""
    for _ in range(4):
        known = {name: extents[name] for name in dims.symbols(extent) if name in extents}
        if not known:
            break
        extent = dims.substitute(extent, known)
    return extent


def _weight(values: Sequence[Expression]) -> int:
    """Rough cost of one element, in cheap operations."""
    total = 0
    for value in values:
        own = isinstance(value, Apply) and value.op in LONG
        below = [] if isinstance(value, Reduce) else list(children(value))
        total += (8 if own else 0) + _weight(below)
    return total


def _size(values: Sequence[Expression], name: str, table: ExpressionTable) -> int:
    """Instructions of the innermost body, over the loop `name`, roughly."""
    total = 0
    for value in values:
        if not isinstance(value, Literal) and name not in table.free_symbols(value):
            continue
        cost = 16 if isinstance(value, Apply) and value.op in LONG else 1
        total += cost + _size(children(value), name, table)
    return total


# Scalar arithmetic -------------------------------------------------------------------------------
def _product(f: FunctionBuilder, values: Sequence[Val]) -> Val:
    fixed = 1
    product: Val | None = None
    for value in values:
        if not value.text.startswith("%"):
            fixed *= int(value.text)
        else:
            product = value if product is None else f.binary("mul", product, value)
    if product is None:
        return int_const(fixed)
    return product if fixed == 1 else f.binary("mul", product, int_const(fixed))


def _digits(f: FunctionBuilder, number: Val, axes: Sequence[_Axis]) -> list[Val]:
    """The loop variables of iteration `number`; none for one axis, whose variable is the number
    itself.
    """
    if len(axes) == 1:
        return []
    digits: list[Val] = []
    for axis in reversed(axes[1:]):
        digits.insert(0, f.binary("urem", number, axis.extent))
        number = f.binary("udiv", number, axis.extent)
    return [number, *digits]


def _advance(f: FunctionBuilder, axes: Sequence[_Axis], digits: Sequence[Val]) -> list[Val]:
    """The loop variables of the next iteration: count up and carry."""
    following: list[Val] = []
    carry: Val | None = None
    for axis, digit in reversed(list(zip(axes, digits, strict=False))):
        step = int_const(1) if carry is None else f.cast("zext", carry, I64)
        raised = f.binary("add", digit, step)
        carry = f.compare("icmp eq", raised, axis.extent)
        if len(following) == len(axes) - 1:
            following.insert(0, raised)
            break
        following.insert(0, f.select(carry, int_const(0), raised))
    return following
