"""How the threads of a group share a product: by rows, by panels of columns, or by both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ranvier.codegen.builder import I1, I64, FunctionBuilder, Val, int_const

_GRAIN = 4096  # multiply-add instructions below which another thread does not pay
_STREAM_BYTES = 16  # bytes from L2 or beyond that cost about as much as one multiply-add
_UNBOUNDED = 1 << 62


@dataclass(frozen=True)
class Work:
    """What there is to do: `rows` of all batches times `panels`, as i64.

    A row costs `row_work` multiply-add instructions per panel and streams `row_bytes` of A; a panel
    has `panel_bytes` of B. Rows are cut at multiples of `tile_rows`, the height of register tiles.
    `batch_rows`: rows that share one B; None when all do.
    """

    rows: Val
    panels: Val
    row_work: Val
    row_bytes: Val
    panel_bytes: Val
    tile_rows: int
    batch_rows: Val | None = None


@dataclass(frozen=True)
class Share:
    """A thread's part: panels first_panel.. end_panel - 1, rows first_row.. of all batches."""

    first_panel: Val
    end_panel: Val
    first_row: Val
    end_row: Val


@contextmanager
def share(f: FunctionBuilder, work: Work) -> Iterator[Share]:
    """The part of thread `thread` of `threads` (arguments of `f`); the body runs where it has one.

    What follows the body must be the end of the function: threads without a share go there.
    """
    cells = f.binary("mul", work.rows, work.panels)
    useful = f.ceil_div(f.binary("mul", cells, work.row_work), int_const(_GRAIN))
    threads = _minimum(f, f.arg("threads"), _maximum(f, useful, int_const(1)))
    splits = _panel_splits(f, work, threads)
    thread = f.arg("thread")
    row_splits = f.binary("udiv", threads, splits)
    column_part = f.binary("urem", thread, splits)
    row_part = f.binary("udiv", thread, splits)
    active = f.compare("icmp ult", thread, threads)
    with f.when(f.binary("and", active, f.compare("icmp ne", work.rows, int_const(0))), "share"):
        first_panel, end_panel = cut(f, work.panels, column_part, splits)
        height = int_const(work.tile_rows)
        first_tile, end_tile = cut(f, f.ceil_div(work.rows, height), row_part, row_splits)
        first_row, end_row = (
            _minimum(f, f.binary("mul", tile, height), work.rows) for tile in (first_tile, end_tile)
        )
        yield Share(first_panel, end_panel, first_row, end_row)


def cut(f: FunctionBuilder, extent: Val, part: Val, parts: Val) -> tuple[Val, Val]:
    """Where part number `part` of `parts` nearly equal parts of `extent` begins and ends (i64)."""
    following = f.binary("add", part, int_const(1))
    first = f.binary("udiv", f.binary("mul", extent, part), parts)
    return first, f.binary("udiv", f.binary("mul", extent, following), parts)


def _panel_splits(f: FunctionBuilder, work: Work, threads: Val) -> Val:
    """Into how many parts the panels are cut; the rows are cut into `threads` over that.

    The divisor of `threads` with the smallest cost of the largest share. Divisors come in pairs,
    of which one is at most the square root.
    """
    best = [int_const(1), int_const(_UNBOUNDED)]
    with f.loop_carrying(int_const(1), _square_root_end(f, threads), 1, best, "splits") as loop:
        small, best = loop.index, loop.values
        large = f.binary("udiv", threads, small)
        exact = f.compare("icmp eq", f.binary("mul", large, small), threads)
        for splits, row_splits in ((small, large), (large, small)):
            cost = _cost(f, work, splits, row_splits)
            better = f.binary("and", exact, f.compare("icmp ult", cost, best[1]))
            best = [f.select(better, splits, best[0]), f.select(better, cost, best[1])]
        loop.next = best
    return loop.results[0]


def _square_root_end(f: FunctionBuilder, number: Val) -> Val:
    """A power of two above the square root of `number`, at most three times as large."""
    bits = f.binary("sub", int_const(64), f.call("llvm.ctlz.i64", I64, number, int_const(0, I1)))
    half = f.binary("lshr", f.binary("add", bits, int_const(1)), int_const(1))
    end = f.binary("shl", int_const(1), half)
    return _minimum(f, f.binary("add", end, int_const(1)), f.binary("add", number, int_const(1)))


def _cost(f: FunctionBuilder, work: Work, splits: Val, row_splits: Val) -> Val:
    """Of the largest share: multiply-adds, plus the bytes of A and B that it has to stream."""
    height = int_const(work.tile_rows)
    panels = f.ceil_div(work.panels, splits)
    tiles = f.ceil_div(f.ceil_div(work.rows, height), row_splits)
    rows = _minimum(f, f.binary("mul", tiles, height), work.rows)
    compute = f.binary("mul", f.binary("mul", panels, rows), work.row_work)
    batches = int_const(1)
    if work.batch_rows is not None:
        batches = f.ceil_div(rows, _maximum(f, work.batch_rows, int_const(1)))
    panel_bytes = f.binary("mul", f.binary("mul", panels, work.panel_bytes), batches)
    traffic = f.binary("add", panel_bytes, f.binary("mul", rows, work.row_bytes))
    return f.binary("add", compute, f.binary("udiv", traffic, int_const(_STREAM_BYTES)))


def _minimum(f: FunctionBuilder, a: Val, b: Val) -> Val:
    return f.call("llvm.umin.i64", I64, a, b)


def _maximum(f: FunctionBuilder, a: Val, b: Val) -> Val:
    return f.call("llvm.umax.i64", I64, a, b)
