"""Code for sorts: a stable bottom-up merge sort of (key, position) pairs for every row.

Elements become 64-bit signed keys in the same order (see `_key`), so one merge serves every element
type. Rows are split over threads; each thread sorts in its own scratch.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen.builder import I1, I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.scatter import thread_share
from ranvier.ir.dtype import DType
from ranvier.lowering.kernels.sort import (
    POSITION,
    ROW,
    Place,
    Sort,
    array_words,
)
from ranvier.target import Target

_MANTISSA_BITS = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}
_LARGEST = 2**63 - 1


def emit_sort(module: ModuleWriter, name: str, sort: Sort, target: Target) -> None:
    """Add `void @name(ptr b0.., i64 scalars.., i64 thread, i64 threads)` to the module."""
    _SortWriter(module, name, sort, target).write()


@dataclass(frozen=True)
class _Pairs:
    """Two arrays of equal length: keys and positions."""

    keys: Val
    positions: Val


class _SortWriter:
    def __init__(self, module: ModuleWriter, name: str, sort: Sort, target: Target) -> None:
        self._sort = sort
        operands = [f"b{k}" for k in range(sort.operand_count)]
        parameters = [(n, PTR) for n in operands]
        parameters += [(f"s.{n}", I64) for n in sort.scalars]
        parameters += [("thread", I64), ("threads", I64)]
        self._f = FunctionBuilder(module, name, parameters)
        scalars = {n: self._f.arg(f"s.{n}") for n in sort.scalars}
        pointers = [self._f.arg(n) for n in operands]
        self._root = ExpressionEmitter(self._f, target, pointers, scalars)

    def write(self) -> None:
        f, sort = self._f, self._sort
        low, high = thread_share(f, self._root.emit_dim(sort.rows))
        extent = self._root.emit_dim(sort.extent)
        count = self._root.emit_dim(sort.count)
        first, second = self._scratch()
        with f.loop(low, high, hint="row") as row:
            self._read_keys(row, extent, first)
            ordered = self._merge_all(extent, first, second)
            self._write_row(row, count, ordered)
        f.ret()
        f.finish()

    def _scratch(self) -> tuple[_Pairs, _Pairs]:
        """This thread's four arrays."""
        f, sort = self._f, self._sort
        words = self._root.emit_dim(array_words(sort.extent))
        arrays = [f.arg(f"b{sort.scratch_operand}")]
        for _ in range(3):
            arrays.append(f.element_pointer(arrays[-1], I64, words))
        return _Pairs(arrays[0], arrays[1]), _Pairs(arrays[2], arrays[3])

    # Elements ------------------------------------------------------------------------------------
    def _pointer(self, place: Place, row: Val, position: Val, element: str) -> Val:
        inner = self._root.nested({ROW: row, POSITION: position})
        base = self._f.arg(f"b{place.operand}")
        return self._f.element_pointer(base, element, inner.emit_dim(place.offset))

    def _read_keys(self, row: Val, extent: Val, pairs: _Pairs) -> None:
        f, dtype = self._f, self._sort.dtype
        bits = f"i{dtype.bits}"
        with f.loop(int_const(0), extent, hint="read") as i:
            element = f.load(bits, self._pointer(self._sort.source, row, i, bits), dtype.size)
            key = _key(f, element, dtype)
            if self._sort.descending:
                key = f.binary("xor", key, int_const(-1))
            f.store(key, f.element_pointer(pairs.keys, I64, i), 8)
            f.store(i, f.element_pointer(pairs.positions, I64, i), 8)

    def _write_row(self, row: Val, count: Val, ordered: _Pairs) -> None:
        f, sort = self._f, self._sort
        bits, size = f"i{sort.dtype.bits}", sort.dtype.size
        with f.loop(int_const(0), count, hint="write") as i:
            position = f.load(I64, f.element_pointer(ordered.positions, I64, i), 8)
            element = f.load(bits, self._pointer(sort.source, row, position, bits), size)
            f.store(element, self._pointer(sort.values, row, i, bits), size)
            f.store(position, self._pointer(sort.positions, row, i, I64), 8)

    # Merging -------------------------------------------------------------------------------------
    def _merge_all(self, extent: Val, first: _Pairs, second: _Pairs) -> _Pairs:
        """Runs of 1, 2, 4, ... are merged until one is left; where it lies."""
        f = self._f
        above = f.call("llvm.smax.i64", I64, f.binary("sub", extent, int_const(1)), int_const(0))
        zeros = f.call("llvm.ctlz.i64", I64, above, int_const(0, I1))
        passes = f.binary("sub", int_const(64), zeros)
        carried = (int_const(1), first.keys, first.positions, second.keys, second.positions)
        with f.loop_carrying(int_const(0), passes, 1, carried, "pass") as state:
            width, keys, positions, other_keys, other_positions = state.values
            twice = f.binary("shl", width, int_const(1))
            source, target = _Pairs(keys, positions), _Pairs(other_keys, other_positions)
            with f.loop(int_const(0), extent, twice, "run") as start:
                self._merge(start, width, extent, source, target)
            state.next = [twice, other_keys, other_positions, keys, positions]
        return _Pairs(state.results[1], state.results[2])

    def _merge(self, start: Val, width: Val, extent: Val, source: _Pairs, target: _Pairs) -> None:
        """Merge the runs at `start` and `start + width`; the left one wins ties."""
        f = self._f
        middle = f.call("llvm.smin.i64", I64, f.binary("add", start, width), extent)
        end = f.call("llvm.smin.i64", I64, f.binary("add", middle, width), extent)
        with f.loop_carrying(start, end, 1, (start, middle), "merge") as state:
            left, right = state.values
            left_key = f.load(I64, f.element_pointer(source.keys, I64, left), 8)
            right_key = f.load(I64, f.element_pointer(source.keys, I64, right), 8)
            smaller = f.compare("icmp sle", left_key, right_key)
            no_right = f.compare("icmp sge", right, end)
            has_left = f.compare("icmp slt", left, middle)
            takes_left = f.binary("and", has_left, f.binary("or", no_right, smaller))
            chosen = f.select(takes_left, left, right)
            position = f.load(I64, f.element_pointer(source.positions, I64, chosen), 8)
            key = f.select(takes_left, left_key, right_key)
            f.store(key, f.element_pointer(target.keys, I64, state.index), 8)
            f.store(position, f.element_pointer(target.positions, I64, state.index), 8)
            step = f.cast("zext", takes_left, I64)
            other = f.binary("sub", int_const(1), step)
            state.next = [f.binary("add", left, step), f.binary("add", right, other)]


def _key(f: FunctionBuilder, bits: Val, dtype: DType) -> Val:
    """A signed 64-bit number in the order of the elements; zeros are equal, NaN is the largest."""
    if dtype.is_float:
        return _float_key(f, bits, dtype)
    if dtype.kind == "int":
        return f.cast("sext", bits, I64)
    wide = f.cast("zext", bits, I64)
    return f.binary("xor", wide, int_const(-(2**63))) if dtype.size == 8 else wide


def _float_key(f: FunctionBuilder, bits: Val, dtype: DType) -> Val:
    """Magnitude bits, all inverted below zero: one order for both signs."""
    magnitude_mask = 2 ** (dtype.bits - 1) - 1
    infinity = magnitude_mask ^ (2 ** _MANTISSA_BITS[dtype.name] - 1)
    magnitude = f.binary("and", bits, int_const(magnitude_mask, bits.type))
    sign = f.binary("ashr", bits, int_const(dtype.bits - 1, bits.type))
    flipped = f.binary("xor", bits, f.binary("and", sign, int_const(magnitude_mask, bits.type)))
    zero = int_const(0, bits.type)
    ordered = f.select(f.compare("icmp eq", magnitude, zero), zero, flipped)
    is_nan = f.compare("icmp ugt", magnitude, int_const(infinity, bits.type))
    return f.select(is_nan, int_const(_LARGEST), f.cast("sext", ordered, I64))
