"""`ranvier_run(context, thread, threads)`: all steps of a program, as every thread runs them.

Threads meet where steps say so. The values of *computed* symbols live in slots of each thread's
stack, which LLVM turns into registers: all threads read the same numbers and take the same way.
Thread 0 also writes them to the dims of the context, where the runtime finds the sizes of outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ranvier.codegen.builder import (
    I1,
    I8,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    int_const,
)
from ranvier.codegen.claims import Claims
from ranvier.codegen.indices import IndexEmitter
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim, Symbol
from ranvier.lowering.kernels.control import (
    MARKS,
    Assignments,
    BindDim,
    BranchBegin,
    BranchElse,
    BranchEnd,
    LoopBegin,
    LoopEnd,
    Reserve,
)
from ranvier.lowering.kernels.foreign import Foreign
from ranvier.lowering.program import Kernel, Program, Step

# Words of the context, docs/architecture.md section 4.
_BUFFERS, _DIMS, _BEGINS, _FIRST, _END = range(5)
_FINISHES, _POOL, _FAULT, _TURNS = 6, 7, 24, 30
_FAULT_SIZE = 1  # the other kind of fault, no memory, is told by ranvier_reserve


class DimTable:
    """Numbers the dims that native code reads at run time."""

    def __init__(self) -> None:
        self.dims: list[Dim] = []
        self._numbers: dict[Dim, int] = {}

    def number(self, dim: Dim) -> int:
        """The index of `dim` in the table of the context."""
        if dim not in self._numbers:
            self._numbers[dim] = len(self.dims)
            self.dims.append(dim)
        return self._numbers[dim]


def emit_run(
    module: ModuleWriter, program: Program, names: Mapping[Kernel, str], table: DimTable
) -> None:
    """Add `ranvier_run` to the module; kernels have the given names."""
    _RunWriter(module, program, names, table).write()


@dataclass(frozen=True)
class _Ticks:
    """One thread's row of a table of clock readings; `wanted` (i1) says whether there is one."""

    row: Val
    wanted: Val


@dataclass(frozen=True)
class _Branch:
    """A branch that is being written: where its second part and what follows it begin."""

    otherwise: str
    after: str


@dataclass(frozen=True)
class _Loop:
    """A loop that is being written: its labels, its mark, and the slot that says which buffers of
    the pairs are the current ones.
    """

    head: str
    after: str
    mark: LoopBegin
    swapped: Val


class _RunWriter:
    def __init__(
        self, module: ModuleWriter, program: Program, names: Mapping[Kernel, str], table: DimTable
    ) -> None:
        module.declare("void @ranvier_barrier(ptr, i64)")
        module.declare("i64 @ranvier_clock()")
        self._program, self._names, self._table = program, names, table
        self._partners: dict[int, tuple[int, Val]] = {}  # buffer -> the other one, swapped slot
        parameters = [("context", PTR), ("thread", I64), ("threads", I64)]
        f = self._f = FunctionBuilder(module, "ranvier_run", parameters)
        self._context, self._thread, self._threads = map(f.arg, ("context", "thread", "threads"))
        self._buffers, self._dims, begins, finishes = (
            self._word(word, PTR) for word in (_BUFFERS, _DIMS, _BEGINS, _FINISHES)
        )
        self._first, self._end = self._word(_FIRST, I64), self._word(_END, I64)
        row = f.binary("mul", self._thread, int_const(len(program.steps) + 1))
        self._begun, self._finished = (self._ticks(each, row) for each in (begins, finishes))
        row = f.binary("mul", self._thread, int_const(2 * len(program.steps)))
        self._turns = self._ticks(self._word(_TURNS, PTR), row)
        self._slots = {name: self._slot(symbol) for name, symbol in program.computed.items()}
        self._pool = self._word(_POOL, PTR) if program.reserved else None
        self._claims = self._shared_steps()
        loops = [step for step in program.steps if isinstance(step.kernel, LoopBegin)]
        self._swapped = [f.emit(f"alloca {I1}, align 1", PTR, "swapped") for _ in loops][::-1]
        self._is_first = f.compare("icmp eq", self._thread, int_const(0))
        self._open: list[_Branch | _Loop] = []
        self._leave = ""

    def write(self) -> None:
        f = self._f
        self._leave = f.label("leave")
        after = ""
        for index, step in enumerate(self._program.steps):
            outermost = not self._open
            if outermost:
                after = self._enter(index, step)
            elif step.barrier and not isinstance(step.kernel, LoopBegin):
                self._meet()
            self._tick(self._begun, index)
            self._step(step)
            self._tick(self._finished, index)
            if self._open and not isinstance(step.kernel, MARKS):
                self._count_turn(index)
            if not self._open:
                f.jump(after)
                f.begin(after)
        self._tick(self._begun, len(self._program.steps))
        f.jump(self._leave)
        f.begin(self._leave)
        f.ret()
        f.finish()

    def _enter(self, index: int, step: Step) -> str:
        """Go on where the step is among those to run; returns the label behind it."""
        f = self._f
        inside, after = f.label("step"), f.label("after")
        not_before = f.compare("icmp sle", self._first, int_const(index))
        before_end = f.compare("icmp sgt", self._end, int_const(index))
        f.branch(f.emit(f"and {I1} {not_before.text}, {before_end.text}", I1), inside, after)
        f.begin(inside)
        if step.barrier and not isinstance(step.kernel, LoopBegin):
            with f.when(f.compare("icmp ne", self._first, int_const(index)), "meet"):
                self._meet()
        return after

    def _meet(self) -> None:
        self._f.call_void("ranvier_barrier", self._context, self._threads)
        if self._claims is not None:
            self._claims.after_meeting()

    def _step(self, step: Step) -> None:
        mark = step.kernel
        if isinstance(mark, BindDim):
            self._bind(step, mark.symbol)
        elif isinstance(mark, Reserve):
            self._reserve(mark)
        elif isinstance(mark, BranchBegin):
            self._branch(step)
        elif isinstance(mark, BranchElse):
            self._otherwise(mark)
        elif isinstance(mark, BranchEnd):
            self._end_branch(mark)
        elif isinstance(mark, LoopBegin):
            self._loop(step, mark)
        elif isinstance(mark, LoopEnd):
            self._end_loop(mark)
        elif not isinstance(mark, Foreign):  # the runtime has that run between two calls
            self._call(step)

    # Kernels -------------------------------------------------------------------------------------
    def _call(self, step: Step) -> None:
        sizes = self._sizes()
        arguments = self._pointers(step, sizes)
        arguments += [self._number(scalar, sizes) for scalar in step.scalars]

        def call(share: Val, shares: Val) -> None:
            self._f.call_void(self._names[step.kernel], *arguments, share, shares)

        if step.pieces is None:
            call(self._thread, self._threads)
        else:
            assert self._claims is not None
            most = self._number(step.pieces.most, sizes)
            self._claims.share(step.pieces.counter, most, call)

    def _shared_steps(self) -> Claims | None:
        counters = self._program.counters
        if counters is None:
            return None
        return Claims(self._f, counters, self._f.load(PTR, self._place(counters.buffer), 8))

    def _pointers(self, step: Step, sizes: IndexEmitter) -> list[Val]:
        f, pointers = self._f, []
        for argument in step.arguments:
            base = f.load(PTR, self._place(argument.buffer), 8)
            if argument.offset_bytes != 0:
                offset = self._number(argument.offset_bytes, sizes)
                base = f.element_pointer(base, I8, offset)
            if argument.thread_bytes != 0:
                own = f.binary("mul", self._thread, self._number(argument.thread_bytes, sizes))
                base = f.element_pointer(base, I8, own)
            pointers.append(base)
        return pointers

    def _place(self, buffer: int) -> Val:
        """The address of the pointer to a buffer: in every second turn the other one of a pair."""
        reserved = buffer in self._program.reserved
        table = self._pool if reserved else self._buffers
        assert table is not None
        return self._f.element_pointer(table, PTR, self._entry(buffer, reserved))

    def _entry(self, buffer: int, reserved: bool) -> Val:
        """The number of a buffer's entry in the table of pointers or in the pool."""

        def entry(number: int) -> Val:
            return int_const(2 * self._program.reserved.index(number) if reserved else number)

        if buffer not in self._partners:
            return entry(buffer)
        other, slot = self._partners[buffer]
        return self._f.select(self._f.load(I1, slot, 1), entry(other), entry(buffer))

    # Sizes ---------------------------------------------------------------------------------------
    def _slot(self, symbol: Symbol) -> Val:
        """A symbol's place on the stack; it keeps its value between runs of parts of a program."""
        slot = self._f.emit(f"alloca {I64}, align 8", PTR, "size")
        self._f.store(self._f.load(I64, self._in_table(symbol), 8), slot, 8)
        return slot

    def _in_table(self, symbol: Symbol) -> Val:
        return self._entry_of(dims.of_atom(symbol))

    def _entry_of(self, dim: Dim) -> Val:
        """The address of a dim in the table of the context."""
        return self._f.element_pointer(self._dims, I64, int_const(self._table.number(dim)))

    def _sizes(self) -> IndexEmitter:
        """Computes dims of which some symbol is known only now."""
        return IndexEmitter(self._f, _Environment(self), None)

    def _number(self, dim: Dim, sizes: IndexEmitter) -> Val:
        if isinstance(dim, int):
            return int_const(dim)
        if not self._slots.keys().isdisjoint(dims.symbols(dim)):
            return sizes.scalar(dim)
        return self._f.load(I64, self._entry_of(dim), 8)

    def symbol(self, name: str) -> Val:
        """The value that a symbol has now."""
        if name in self._slots:
            return self._f.load(I64, self._slots[name], 8)
        return self._f.load(I64, self._entry_of(self._known_symbols[name]), 8)

    @cached_property
    def _known_symbols(self) -> Mapping[str, Dim]:
        return _symbols_of_steps(self._program.steps)

    def _assign(self, assignments: Assignments) -> None:
        """All values are computed before any symbol changes."""
        sizes = self._sizes()
        values = [(symbol, self._number(dim, sizes)) for symbol, dim in assignments]
        for symbol, value in values:
            self._set(symbol, value)

    def _set(self, symbol: Symbol, value: Val) -> None:
        self._f.store(value, self._slots[symbol.name], 8)
        with self._f.when(self._is_first, "show"):
            self._f.store(value, self._in_table(symbol), 8)

    def _bind(self, step: Step, symbol: Symbol) -> None:
        f, sizes = self._f, self._sizes()
        (pointer,) = self._pointers(step, sizes)
        value = f.load(I64, pointer, 8)
        fits = f.compare("icmp sge", value, int_const(symbol.minimum))
        if symbol.maximum is not None:
            below = f.compare("icmp sle", value, self._number(symbol.maximum, sizes))
            fits = f.emit(f"and {I1} {fits.text}, {below.text}", I1)
        fine, fault = f.label("fits"), f.label("fault")
        f.branch(fits, fine, fault)
        f.begin(fault)
        with f.when(self._is_first, "tell"):
            number = self._table.number(dims.of_atom(symbol))
            for word, content in enumerate((int_const(_FAULT_SIZE), int_const(number), value)):
                self._store_word(_FAULT + word, content)
        f.jump(self._leave)
        f.begin(fine)
        self._set(symbol, value)

    def _reserve(self, mark: Reserve) -> None:
        f, sizes = self._f, self._sizes()
        f.module.declare("void @ranvier_reserve(ptr, i64, i64, i64)")
        with f.when(self._is_first, "reserve"):
            for request in mark.requests:
                entry = self._entry(request.buffer, reserved=True)
                wanted = self._number(request.size_bytes, sizes)
                keep = int_const(request.keep)
                f.call_void("ranvier_reserve", self._context, entry, wanted, keep)
        self._meet()
        fault = self._word(_FAULT, I64)
        fine = f.label("reserved")
        f.branch(f.compare("icmp eq", fault, int_const(0)), fine, self._leave)
        f.begin(fine)

    # Branches and loops --------------------------------------------------------------------------
    def _condition(self, step: Step) -> Val:
        (pointer,) = self._pointers(step, self._sizes())
        byte = self._f.load(I8, pointer, 1)
        return self._f.compare("icmp ne", byte, int_const(0, I8))

    def _branch(self, step: Step) -> None:
        f = self._f
        branch = _Branch(f.label("otherwise"), f.label("joined"))
        then = f.label("then")
        f.branch(self._condition(step), then, branch.otherwise)
        f.begin(then)
        self._open.append(branch)

    def _otherwise(self, mark: BranchElse) -> None:
        branch = self._open[-1]
        assert isinstance(branch, _Branch)
        self._assign(mark.sizes)
        self._f.jump(branch.after)
        self._f.begin(branch.otherwise)
        self._meet()  # the plan gives these steps memory that the condition and others had before

    def _end_branch(self, mark: BranchEnd) -> None:
        branch = self._open.pop()
        assert isinstance(branch, _Branch)
        self._assign(mark.sizes)
        self._f.jump(branch.after)
        self._f.begin(branch.after)

    def _loop(self, step: Step, mark: LoopBegin) -> None:
        f = self._f
        loop = _Loop(f.label("head"), f.label("done"), mark, self._swapped.pop())
        self._assign((*mark.initial, (mark.iteration, 0)))
        f.store(int_const(0, I1), loop.swapped, 1)
        for current, following in mark.pairs:
            self._partners[current] = following, loop.swapped
            self._partners[following] = current, loop.swapped
        f.jump(loop.head)
        f.begin(loop.head)
        self._meet()
        if mark.limit is not None:
            turn = f.load(I64, self._slots[mark.iteration.name], 8)
            limit = self._number(mark.limit, self._sizes())
            self._go_on(f.compare("icmp slt", turn, limit), loop.after)
        if mark.conditional:
            self._go_on(self._condition(step), loop.after)
        self._open.append(loop)

    def _go_on(self, condition: Val, after: str) -> None:
        more = self._f.label("more")
        self._f.branch(condition, more, after)
        self._f.begin(more)

    def _end_loop(self, mark: LoopEnd) -> None:
        f = self._f
        loop = self._open.pop()
        assert isinstance(loop, _Loop)
        iteration = loop.mark.iteration
        self._assign((*mark.next, (iteration, dims.of_atom(iteration) + 1)))
        other = f.binary("xor", f.load(I1, loop.swapped, 1), int_const(1, I1))
        f.store(other, loop.swapped, 1)
        f.jump(loop.head)
        f.begin(loop.after)
        self._assign(mark.final)

    # Context -------------------------------------------------------------------------------------
    def _word(self, word: int, type: str) -> Val:
        f = self._f
        return f.load(type, f.element_pointer(f.arg("context"), I64, int_const(word)), 8)

    def _store_word(self, word: int, value: Val) -> None:
        f = self._f
        f.store(value, f.element_pointer(self._context, I64, int_const(word)), 8)

    def _ticks(self, table: Val, row: Val) -> _Ticks:
        wanted = self._f.compare("icmp ne", table, Val("null", PTR))
        return _Ticks(self._f.element_pointer(table, I64, row), wanted)

    def _tick(self, ticks: _Ticks, index: int) -> None:
        f = self._f
        with f.when(ticks.wanted, "tick"):
            now = f.emit("call i64 @ranvier_clock()", I64)
            f.store(now, f.element_pointer(ticks.row, I64, int_const(index)), 8)

    def _count_turn(self, index: int) -> None:
        """Add this turn of a step in a loop to the time and the number of its turns."""
        f, steps = self._f, len(self._program.steps)
        with f.when(self._turns.wanted, "turn"):
            begin, end = (
                f.load(I64, f.element_pointer(ticks.row, I64, int_const(index)), 8)
                for ticks in (self._begun, self._finished)
            )
            for place, more in (
                (index, f.binary("sub", end, begin)),
                (steps + index, int_const(1)),
            ):
                at = f.element_pointer(self._turns.row, I64, int_const(place))
                f.store(f.binary("add", f.load(I64, at, 8), more), at, 8)


class _Environment(dict[str, Val]):
    """The symbols of dims as values that are loaded when they are first asked for."""

    def __init__(self, writer: _RunWriter) -> None:
        super().__init__()
        self._writer = writer

    def __missing__(self, name: str) -> Val:
        value = self[name] = self._writer.symbol(name)
        return value


def _symbols_of_steps(steps: Sequence[Step]) -> dict[str, Dim]:
    """The symbols in everything that steps evaluate, as dims."""
    found: dict[str, Dim] = {}
    for step in steps:
        for dim in _dims_of(step):
            for name, symbol in dims.symbols(dim).items():
                found[name] = dims.of_atom(symbol)
                if isinstance(symbol.maximum, dims.Polynomial):
                    for inner, each in dims.symbols(symbol.maximum).items():
                        found[inner] = dims.of_atom(each)
    return found


def _dims_of(step: Step) -> list[Dim]:
    found = [*step.scalars]
    for argument in step.arguments:
        found += [argument.offset_bytes, argument.thread_bytes]
    if step.pieces is not None:
        found.append(step.pieces.most)
    mark = step.kernel
    if isinstance(mark, BindDim):
        found.append(dims.of_atom(mark.symbol))
    elif isinstance(mark, Reserve):
        found += [request.size_bytes for request in mark.requests]
    elif isinstance(mark, (BranchElse, BranchEnd)):
        found += [dim for _, dim in mark.sizes]
    elif isinstance(mark, LoopBegin):
        found += [dim for _, dim in mark.initial] + ([] if mark.limit is None else [mark.limit])
    elif isinstance(mark, LoopEnd):
        found += [dim for _, dim in (*mark.next, *mark.final)]
    return found
