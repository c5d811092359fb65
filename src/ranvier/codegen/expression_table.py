"""Numbers for expressions: equal ones have equal numbers, shared sub-trees are visited once."""

from __future__ import annotations

from collections.abc import Hashable

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.expression import (
    Access,
    Accumulator,
    Apply,
    Expression,
    Index,
    Literal,
    Reduce,
    children,
)


class ExpressionTable:
    """Hash-consing of expressions, with the facts about each that kernels ask for."""

    def __init__(self) -> None:
        self._of_object: dict[int, tuple[Expression, int]] = {}
        self._of_structure: dict[Hashable, int] = {}
        self._free: dict[int, frozenset[str]] = {}
        self._reductions: dict[int, tuple[Reduce, ...]] = {}

    def key(self, expression: Expression) -> int:
        """The number of `expression`; structurally equal expressions share it."""
        found = self._of_object.get(id(expression))
        if found is not None:
            return found[1]
        below = tuple(self.key(child) for child in children(expression))
        structure: Hashable = (type(expression), below, _own(expression))
        number = self._of_structure.setdefault(structure, len(self._of_structure))
        self._of_object[id(expression)] = (expression, number)
        return number

    def free_symbols(self, expression: Expression) -> frozenset[str]:
        """Names of the loop variables and scalar arguments that the value depends on."""
        number = self.key(expression)
        if number not in self._free:
            below = frozenset[str]().union(*(self.free_symbols(c) for c in children(expression)))
            own = frozenset(name for dim in _dims(expression) for name in dims.symbols(dim))
            bound: frozenset[str] = frozenset()
            if isinstance(expression, Access):
                bound = frozenset(name for name, _ in expression.indirect)
            if isinstance(expression, Reduce):
                below -= {loop.name for loop in expression.loops}
            self._free[number] = (own - bound) | below
        return self._free[number]

    def reductions(self, expression: Expression) -> tuple[Reduce, ...]:
        """The distinct reductions in `expression` that are not inside another reduction."""
        if isinstance(expression, Reduce):
            return (expression,)
        number = self.key(expression)
        if number not in self._reductions:
            found: dict[int, Reduce] = {}
            for child in children(expression):
                for reduce in self.reductions(child):
                    found.setdefault(self.key(reduce), reduce)
            self._reductions[number] = tuple(found.values())
        return self._reductions[number]


def _own(expression: Expression) -> Hashable:
    """What a node says beside its sub-expressions; floats by representation, so that -0.0 differs
    from 0.0.
    """
    if isinstance(expression, Literal):
        return repr(expression.value), expression.dtype
    if isinstance(expression, Index):
        return expression.value, expression.dtype
    if isinstance(expression, Apply):
        return expression.op, expression.dtype, repr(expression.attributes)
    if isinstance(expression, Reduce):
        return expression.op, expression.loops, expression.dtype
    if isinstance(expression, Accumulator):
        return expression.dtype
    names = tuple(name for name, _ in expression.indirect)
    return (
        expression.operand, expression.offset, expression.storage, expression.guards,
        repr(expression.fill), names,
    )  # fmt: skip


def _dims(expression: Expression) -> tuple[Dim, ...]:
    if isinstance(expression, Index):
        return (expression.value,)
    if isinstance(expression, Access):
        guards = [d for g in expression.guards for d in (g.index, g.limit)]
        return (expression.offset, *guards)
    if isinstance(expression, Reduce):
        return tuple(loop.extent for loop in expression.loops)
    return ()
