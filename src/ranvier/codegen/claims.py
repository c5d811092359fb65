"""Code by which threads share a step in pieces: `lowering/claims.py` says why.

A share is a piece's number among those of all threads; the pieces of thread t are the shares
t * pieces to (t + 1) * pieces - 1. Before the first meeting of a run the counters hold anything, so
until then every thread takes its own share whole.
"""

from __future__ import annotations

from collections.abc import Callable

from ranvier.codegen.builder import I64, PTR, FunctionBuilder, Val, int_const
from ranvier.lowering.program import Counters

_MOST_PIECES = 8  # per thread


class Claims:
    """The counters of a program, at `address`, as `ranvier_run` (built by `f`) uses them."""

    def __init__(self, f: FunctionBuilder, counters: Counters, address: Val) -> None:
        f.module.declare("i64 @ranvier_claim(ptr, i64, i64, i64, i64)")
        self._f, self._counters, self._address = f, counters, address
        self._thread, self._threads = f.arg("thread"), f.arg("threads")
        self._meetings = f.emit(f"alloca {I64}, align 8", PTR, "meetings")
        f.store(int_const(0), self._meetings, 8)
        self._clear(int_const(1))

    def after_meeting(self) -> None:
        """Change to the other set of counters, and clear those that come after it."""
        f = self._f
        meetings = f.binary("add", f.load(I64, self._meetings, 8), int_const(1))
        f.store(meetings, self._meetings, 8)
        self._clear(f.binary("add", meetings, int_const(1)))

    def share(self, number: int, most: Val, call: Callable[[Val, Val], None]) -> None:
        """Emit `call(share, shares)` for all that this thread does of a step.

        `number` is the step's counter; all threads together have at most `most` pieces, but each
        has one.
        """
        f = self._f
        meetings = f.load(I64, self._meetings, 8)
        pieces = self._pieces(most, meetings)
        divided = f.compare("icmp ugt", pieces, int_const(1))
        shares = f.binary("mul", pieces, self._threads)
        counters = self._counter(meetings, number)
        claim, own, perform, after = map(f.label, ("claim", "own", "perform", "after"))
        f.branch(divided, claim, own)
        f.begin(own)
        f.jump(perform)
        f.begin(claim)
        row = int_const(self._counters.row_words)
        claimed = f.call("ranvier_claim", I64, counters, row, pieces, self._thread, self._threads)
        f.branch(f.compare("icmp sge", claimed, int_const(0)), perform, after)
        f.begin(perform)
        share = f.emit(f"phi {I64} [{self._thread.text}, %{own}], [{claimed.text}, %{claim}]", I64)
        call(share, shares)
        f.branch(divided, claim, after)
        f.begin(after)

    def _pieces(self, most: Val, meetings: Val) -> Val:
        """Pieces for each thread: a power of two, 1 for a thread alone and before a meeting."""
        f = self._f
        wanted = f.binary("udiv", most, self._threads)
        wanted = f.call("llvm.umin.i64", I64, wanted, int_const(_MOST_PIECES))
        wanted = f.call("llvm.umax.i64", I64, wanted, int_const(1))
        zeros = f.call("llvm.ctlz.i64", I64, wanted, Val("true", "i1"))
        pieces = f.binary("lshr", int_const(-(1 << 63)), zeros)
        several = f.compare("icmp ugt", self._threads, int_const(1))
        has_met = f.compare("icmp ne", meetings, int_const(0))
        return f.select(f.binary("and", several, has_met), pieces, int_const(1))

    def _counter(self, meetings: Val, number: int) -> Val:
        """The address of thread 0's counter; those of the others follow in steps of a row."""
        f = self._f
        before = f.binary("mul", f.binary("and", meetings, int_const(1)), self._threads)
        first = f.binary("mul", before, int_const(self._counters.row_words))
        return f.element_pointer(self._address, I64, f.binary("add", first, int_const(number)))

    def _clear(self, meetings: Val) -> None:
        """Set this thread's counters of a set to zero."""
        f = self._f
        own = f.binary("mul", self._thread, int_const(self._counters.row_words))
        row = f.element_pointer(self._counter(meetings, 0), I64, own)
        for number in range(self._counters.count):
            at = f.element_pointer(row, I64, int_const(number))
            f.raw(f"store atomic i64 0, {at} monotonic, align 8")
