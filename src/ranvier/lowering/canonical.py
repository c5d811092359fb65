"""Canonical kernels: equal work gives equal descriptions, so its code is generated once.

Symbols of the model that a kernel's dims mention become scalar arguments `d0`, `d1`, ... in order
of appearance; an atom such as `(h + 1) // 2` that has no loop variable inside becomes one argument
as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ranvier.ir import dim as dims
from ranvier.ir.dim import Atom, Compound, Dim, Polynomial, Symbol
from ranvier.lowering.expression import Expression, Guard, Loop, map_dims
from ranvier.lowering.kernels.nest import Store


@dataclass
class Renaming:
    """Maps model dims to scalar arguments; `bound` are the names that the kernel itself binds."""

    bound: frozenset[str]
    scalars: dict[Atom, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The scalar arguments, in order."""
        return tuple(self.scalars.values())

    @property
    def values(self) -> tuple[Dim, ...]:
        """The dim of the model that each scalar argument stands for."""
        return tuple(Polynomial((((atom,), 1),)) for atom in self.scalars)

    def dim(self, dim: Dim) -> Dim:
        """`dim` over scalar arguments and bound names."""
        if isinstance(dim, int):
            return dim
        total: Dim = 0
        for term, factor in dim.terms:
            product: Dim = factor
            for atom in term:
                product = product * self._atom(atom)
            total = total + product
        return total

    def _atom(self, atom: Atom) -> Dim:
        if isinstance(atom, Symbol) and atom.name in self.bound:
            return dims.symbol(atom.name)
        if isinstance(atom, Compound) and dims.depends_on(dims.of_atom(atom), self.bound):
            left, right = self.dim(atom.left), self.dim(atom.right)
            return dims.of_atom(Compound(atom.op, left, right))
        name = self.scalars.setdefault(atom, f"d{len(self.scalars)}")
        return dims.symbol(name)

    def guards(self, guards: Iterable[Guard]) -> tuple[Guard, ...]:
        """Guards over scalar arguments and bound names."""
        return tuple(Guard(self.dim(g.index), self.dim(g.limit)) for g in guards)

    def expression(self, expression: Expression) -> Expression:
        """`expression` with all its dims renamed."""
        return map_dims(expression, self.dim)

    def loop(self, loop: Loop) -> Loop:
        """`loop` with its extent renamed."""
        return Loop(loop.name, self.dim(loop.extent))

    def store(self, store: Store) -> Store:
        """`store` with its offset and value renamed."""
        value = self.expression(store.value)
        return Store(store.operand, self.dim(store.offset), store.storage, value)
