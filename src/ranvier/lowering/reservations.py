"""Memory for sizes that only the data tell: bounds where there are some, and few meetings else.

Where a symbol has a bound, a buffer is planned with it. Otherwise `Reserve` steps ask for memory
while the program runs. All threads meet after such a step, so steps that can stand together are
joined: each moves up to the last step that defines a symbol of its sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ranvier.ir import dim as dims
from ranvier.ir.dim import Compound, Dim, Symbol
from ranvier.lowering.control import control_step
from ranvier.lowering.kernels.control import MARKS, BindDim, Reserve
from ranvier.lowering.program import Step

MOST_PLANNED_BYTES = 1 << 26
"""A bound that is a plain number is planned up to this size; larger ones are rarely reached."""


def planned_size(size: Dim, computed: Mapping[str, Symbol]) -> Dim | None:
    """A bound of `size` that does not depend on `computed` symbols, or None if there is none."""
    bound = size
    for _ in range(len(computed) + 1):
        unknown = [s for name, s in dims.symbols(bound).items() if name in computed]
        if not unknown:
            break
        symbol = unknown[0]
        if symbol.maximum is None or not _grows_with(bound, symbol.name):
            return None
        bound = dims.substitute(bound, {symbol.name: symbol.maximum})
    if any(name in computed for name in dims.symbols(bound)):
        return None
    is_large = isinstance(bound, int) and bound > MOST_PLANNED_BYTES
    return None if is_large and bound != size else bound


def _grows_with(dim: Dim, name: str) -> bool:
    """Whether `dim` surely does not shrink when the symbol grows."""
    if isinstance(dim, int):
        return True
    for term, factor in dim.terms:
        if any(name in dims.symbols(dims.of_atom(atom)) for atom in term):
            if factor < 0 or any((atom.bounds()[0] or 0) < 0 for atom in term):
                return False
            inner = [a for a in term if isinstance(a, Compound)]
            if any(not _atom_grows_with(atom, name) for atom in inner):
                return False
    return True


def _atom_grows_with(atom: Compound, name: str) -> bool:
    if name not in dims.symbols(dims.of_atom(atom)):
        return True
    if atom.op == "%":
        return False
    if atom.op == "//" and name in dims.symbols(atom.right):
        return False
    return _grows_with(atom.left, name) and _grows_with(atom.right, name)


def join_reservations(steps: Sequence[Step]) -> list[Step]:
    """The same steps with reservations moved up and joined."""
    result: list[Step] = []
    for step in steps:
        if not isinstance(step.kernel, Reserve):
            result.append(step)
            continue
        needed = {n for r in step.kernel.requests for n in dims.symbols(r.size_bytes)}
        position = len(result)
        while position and not _stops(result[position - 1], needed):
            position -= 1
        before = result[position - 1].kernel if position else None
        if isinstance(before, Reserve):
            result[position - 1] = control_step(Reserve((*before.requests, *step.kernel.requests)))
        else:
            result.insert(position, step)
    return result


def _stops(step: Step, needed: set[str]) -> bool:
    """Whether a reservation has to stay behind `step`."""
    if isinstance(step.kernel, BindDim):
        return step.kernel.symbol.name in needed
    return isinstance(step.kernel, (Reserve, *MARKS))
