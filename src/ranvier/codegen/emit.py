"""A lowered program becomes LLVM modules: each kernel once, and `ranvier_run`, which calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ranvier.codegen.attention import emit_attention
from ranvier.codegen.builder import I1, I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.contraction import emit_contraction
from ranvier.codegen.depthwise import emit_depthwise
from ranvier.codegen.nest import emit_nest
from ranvier.codegen.scatter import emit_scatter
from ranvier.codegen.sort import emit_sort
from ranvier.codegen.winograd import emit_winograd
from ranvier.ir.dim import Dim
from ranvier.lowering.kernels.attention import Attention
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.depthwise import Depthwise
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.kernels.scatter import Scatter
from ranvier.lowering.kernels.sort import Sort
from ranvier.lowering.kernels.winograd import Winograd
from ranvier.lowering.program import Kernel, Program, Step
from ranvier.target import Target

Emitter = Callable[[ModuleWriter, str, Kernel, Target], None]
EMITTERS: dict[type, Emitter] = {  # kernel description -> code generator
    Nest: emit_nest,  # type: ignore[dict-item]
    Contraction: emit_contraction,  # type: ignore[dict-item]
    Winograd: emit_winograd,  # type: ignore[dict-item]
    Depthwise: emit_depthwise,  # type: ignore[dict-item]
    Attention: emit_attention,  # type: ignore[dict-item]
    Scatter: emit_scatter,  # type: ignore[dict-item]
    Sort: emit_sort,  # type: ignore[dict-item]
}
# Words of the context, docs/architecture.md section 4.
_BUFFERS, _DIMS, _BEGINS, _FIRST, _END = range(5)
_FINISHES = 6


@dataclass(frozen=True)
class EmittedProgram:
    """LLVM IR of a program, the dims that its context holds, and the name of each step's kernel."""

    modules: tuple[str, ...]
    dims: tuple[Dim, ...]
    kernels: tuple[str, ...]


def emit_program(
    program: Program, target: Target, progress: Callable[[str], None] | None = None
) -> EmittedProgram:
    """Generate the code of all steps; `progress` hears the name of every new kernel."""
    module = ModuleWriter(target.triple)
    names: dict[Kernel, str] = {}
    for step in program.steps:
        if step.kernel in names:
            continue
        name = f"{type(step.kernel).__name__.lower()}_{len(names)}"
        names[step.kernel] = name
        EMITTERS[type(step.kernel)](module, name, step.kernel, target)
        if progress is not None:
            progress(name)
    table = DimTable()
    _emit_run(module, program, names, table)
    kernels = tuple(names[step.kernel] for step in program.steps)
    return EmittedProgram((str(module),), tuple(table.dims), kernels)


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


def _emit_run(
    module: ModuleWriter, program: Program, names: Mapping[Kernel, str], table: DimTable
) -> None:
    """`ranvier_run(context, thread, threads)`: the steps, with barriers where they need them."""
    module.declare("void @ranvier_barrier(ptr, i64)")
    module.declare("i64 @llvm.readcyclecounter()")
    f = FunctionBuilder(
        module, "ranvier_run", [("context", PTR), ("thread", I64), ("threads", I64)]
    )
    context, thread, threads = f.arg("context"), f.arg("thread"), f.arg("threads")
    buffers, dims, begins, finishes = (
        _word(f, context, word, PTR) for word in (_BUFFERS, _DIMS, _BEGINS, _FINISHES)
    )
    first, end = _word(f, context, _FIRST, I64), _word(f, context, _END, I64)
    steps = len(program.steps)
    row = f.binary("mul", thread, int_const(steps + 1))
    begun, finished = (_ticks(f, table, row) for table in (begins, finishes))
    for index, step in enumerate(program.steps):
        enabled = _in_range(f, index, first, end)
        with f.when(enabled, "step"):
            if step.barrier:
                with f.when(f.compare("icmp ne", first, int_const(index)), "meet"):
                    f.call_void("ranvier_barrier", context, threads)
            _tick(f, begun, index)
            _call(f, step, names[step.kernel], buffers, dims, table, thread, threads)
            _tick(f, finished, index)
    _tick(f, begun, steps)
    f.ret()
    f.finish()


def _in_range(f: FunctionBuilder, index: int, first: Val, end: Val) -> Val:
    after = f.compare("icmp sle", first, int_const(index))
    before = f.compare("icmp sgt", end, int_const(index))
    return f.emit(f"and {I1} {after.text}, {before.text}", I1)


@dataclass(frozen=True)
class _Ticks:
    """One thread's row of a table of clock readings; `wanted` (i1) says whether there is one."""

    row: Val
    wanted: Val


def _ticks(f: FunctionBuilder, table: Val, row: Val) -> _Ticks:
    wanted = f.compare("icmp ne", table, Val("null", PTR))
    return _Ticks(f.element_pointer(table, I64, row), wanted)


def _tick(f: FunctionBuilder, ticks: _Ticks, index: int) -> None:
    with f.when(ticks.wanted, "tick"):
        now = f.emit("call i64 @llvm.readcyclecounter()", I64)
        f.store(now, f.element_pointer(ticks.row, I64, int_const(index)), 8)


def _call(
    f: FunctionBuilder,
    step: Step,
    name: str,
    buffers: Val,
    dims: Val,
    table: DimTable,
    thread: Val,
    threads: Val,
) -> None:
    def number(dim: Dim) -> Val:
        if isinstance(dim, int):
            return int_const(dim)
        return f.load(I64, f.element_pointer(dims, I64, int_const(table.number(dim))), 8)

    arguments: list[Val] = []
    for argument in step.arguments:
        base = f.load(PTR, f.element_pointer(buffers, PTR, int_const(argument.buffer)), 8)
        if argument.offset_bytes != 0:
            base = f.element_pointer(base, "i8", number(argument.offset_bytes))
        arguments.append(base)
    arguments += [number(scalar) for scalar in step.scalars]
    f.call_void(name, *arguments, thread, threads)


def _word(f: FunctionBuilder, context: Val, word: int, type: str) -> Val:
    return f.load(type, f.element_pointer(context, I64, int_const(word)), 8)
