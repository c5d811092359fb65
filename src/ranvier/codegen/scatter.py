"""Code for scatters: scalar, in order within a part, parts split over threads."""

from __future__ import annotations

from ranvier.codegen.builder import I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.lowering.kernels.scatter import Scatter
from ranvier.target import Target


def emit_scatter(module: ModuleWriter, name: str, scatter: Scatter, target: Target) -> None:
    """Add `void @name(ptr b0.., i64 scalars.., i64 thread, i64 threads)` to the module."""
    operands = [f"b{k}" for k in range(scatter.operand_count)]
    parameters = [(n, PTR) for n in operands]
    parameters += [(f"s.{n}", I64) for n in scatter.scalars]
    f = FunctionBuilder(module, name, [*parameters, ("thread", I64), ("threads", I64)])
    scalars = {n: f.arg(f"s.{n}") for n in scatter.scalars}
    root = ExpressionEmitter(f, target, [f.arg(n) for n in operands], scalars)
    low, high = thread_share(f, root.emit_dim(scatter.parts.extent))
    updates = root.emit_dim(scatter.updates.extent)
    with f.loop(low, high) as part, f.loop(int_const(0), updates) as update:
        body = root.nested({scatter.parts.name: part, scatter.updates.name: update})
        _update(f, body, scatter)
    f.ret()
    f.finish()


def thread_share(f: FunctionBuilder, total: Val) -> tuple[Val, Val]:
    """This thread's contiguous range of 0 .. total - 1."""
    thread, threads = f.arg("thread"), f.arg("threads")
    after = f.binary("add", thread, int_const(1))
    low = f.binary("udiv", f.binary("mul", total, thread), threads)
    return low, f.binary("udiv", f.binary("mul", total, after), threads)


def _update(f: FunctionBuilder, body: ExpressionEmitter, scatter: Scatter) -> None:
    """One element, unless one of its positions is outside."""
    is_inside = int_const(1, "i1")
    places: dict[str, Val] = {}
    for position in scatter.positions:
        places[position.name] = body.emit(position.value)
        limit = body.emit_dim(position.limit)
        below = f.compare("icmp ult", places[position.name], limit)  # negative numbers are large
        is_inside = f.binary("and", is_inside, below)
    with f.when(is_inside, "inside"):
        body.nested(places).store(scatter.store)
