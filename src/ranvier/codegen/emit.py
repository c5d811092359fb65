"""A lowered program becomes LLVM modules: each kernel once, and `ranvier_run`, which calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ranvier.codegen.attention import emit_attention
from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.compact import emit_compact
from ranvier.codegen.contraction import emit_contraction
from ranvier.codegen.depth_first import emit_depth_first
from ranvier.codegen.depthwise import emit_depthwise
from ranvier.codegen.nest import emit_nest
from ranvier.codegen.run import DimTable, emit_run
from ranvier.codegen.scatter import emit_scatter
from ranvier.codegen.sort import emit_sort
from ranvier.codegen.winograd import emit_winograd
from ranvier.ir.dim import Dim
from ranvier.lowering.kernels.attention import Attention
from ranvier.lowering.kernels.compact import Compact
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.control import CONTROL
from ranvier.lowering.kernels.depth_first import DepthFirst
from ranvier.lowering.kernels.depthwise import Depthwise
from ranvier.lowering.kernels.foreign import Foreign
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.kernels.scatter import Scatter
from ranvier.lowering.kernels.sort import Sort
from ranvier.lowering.kernels.winograd import Winograd
from ranvier.lowering.program import Kernel, Program
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
    Compact: emit_compact,  # type: ignore[dict-item]
}


def _kernels(program: Program) -> Iterator[Kernel]:
    """The kernels of all steps, those of a chain before it."""
    for step in program.steps:
        if isinstance(step.kernel, DepthFirst):
            yield from (link.kernel for link in step.kernel.links)
        yield step.kernel


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
    for kernel in _kernels(program):
        if kernel in names:
            continue
        if isinstance(kernel, (*CONTROL, Foreign)):
            names[kernel] = type(kernel).__name__.lower()
            continue
        name = names[kernel] = f"{type(kernel).__name__.lower()}_{len(names)}"
        if isinstance(kernel, DepthFirst):
            emit_depth_first(module, name, kernel, [names[link.kernel] for link in kernel.links])
        else:
            EMITTERS[type(kernel)](module, name, kernel, target)
        if progress is not None:
            progress(name)
    table = DimTable()
    emit_run(module, program, names, table)
    kernels = tuple(names[step.kernel] for step in program.steps)
    return EmittedProgram((str(module),), tuple(table.dims), kernels)
