"""Symbolic dimensions: integers or polynomials over named symbols, in a canonical form.

dim     := int | Polynomial
Polynomial := sum of coefficient * product of atoms
atom    := Symbol | dim // dim | dim % dim | min(dim, dim) | max(dim, dim)

Equal polynomials have equal representations, so `==` and `hash` are structural. The same algebra
describes index expressions in kernels: a loop variable is a symbol with the range [0, extent - 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Union

Dim = Union[int, "Polynomial"]
Term = tuple["Atom", ...]  # sorted; a repeated atom is a power


@dataclass(frozen=True)
class Symbol:
    """A named non-negative integer with an inclusive range.

    `maximum` is None when unbounded; a loop variable over a symbolic extent has a symbolic maximum.
    """

    name: str
    minimum: int = 0
    maximum: Dim | None = None

    @cached_property
    def key(self) -> str:
        """Sorts atoms."""
        return self.name

    def bounds(self) -> tuple[int | None, int | None]:
        """(least, greatest) value; None where there is no bound."""
        return self.minimum, None if self.maximum is None else bounds(self.maximum)[1]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Compound:
    """A non-polynomial operation on two dims: `//` and `%` (floor), `min`, `max`."""

    op: str
    left: Dim
    right: Dim

    @cached_property
    def key(self) -> str:
        """Sorts atoms."""
        return str(self)

    def __str__(self) -> str:
        if self.op in ("min", "max"):
            return f"{self.op}({self.left}, {self.right})"
        return f"{_wrapped(self.left)} {self.op} {_wrapped(self.right)}"

    def bounds(self) -> tuple[int | None, int | None]:
        """(least, greatest) value; None where none is known."""
        (a, b), (c, d) = bounds(self.left), bounds(self.right)
        if self.op == "//":
            low = 0 if a is not None and a >= 0 else None
            if c is not None and c > 0:
                return (a // (d if d else c) if a is not None and a >= 0 and d else low), (
                    b // c if b is not None and b >= 0 else None
                )
            return low, None
        if self.op == "%":
            return 0, (d - 1 if d is not None else None)
        known = [x for x in (a, c) if x is not None], [x for x in (b, d) if x is not None]
        if self.op == "min":
            return (min(known[0]) if len(known[0]) == 2 else None), (
                min(known[1]) if known[1] else None
            )
        return (max(known[0]) if known[0] else None), (
            max(known[1]) if len(known[1]) == 2 else None
        )


Atom = Symbol | Compound


@dataclass(frozen=True)
class Polynomial:
    """A canonical sum of `coefficient * term`; use the operators, `symbol()` and `from_terms`."""

    terms: tuple[tuple[Term, int], ...]

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    @cached_property
    def symbol(self) -> Symbol | None:
        """The symbol that this dim is, when it is nothing else."""
        ((term, factor), *others) = self.terms
        if others or factor != 1 or len(term) != 1 or not isinstance(term[0], Symbol):
            return None
        return term[0]

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        return from_terms([*self.terms, *_terms(other)])

    def __mul__(self, other: Dim) -> Dim:
        return from_terms((_product(s, t), a * b) for s, a in self.terms for t, b in _terms(other))

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __neg__(self) -> Dim:
        return self * -1

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return modulo(self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return modulo(other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        return " + ".join(_format_term(term, factor) for term, factor in self.terms).replace(
            "+ -", "- "
        )

    __repr__ = __str__


def symbol(name: str, minimum: int = 0, maximum: Dim | None = None) -> Polynomial:
    """A dim that is one named symbol with an inclusive range."""
    return Polynomial((((Symbol(name, minimum, maximum),), 1),))


def from_terms(terms: Iterable[tuple[Term, int]]) -> Dim:
    """Collect like terms; an `int` comes back when nothing symbolic is left."""
    total: dict[Term, int] = {}
    for term, factor in terms:
        total[term] = total.get(term, 0) + factor
    kept = {term: factor for term, factor in total.items() if factor}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Polynomial(tuple(sorted(kept.items(), key=_term_order)))


def floordiv(left: Dim, right: Dim) -> Dim:
    """`left // right`; splits off what is divisible, drops what is surely smaller than `right`."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    if right == 1:
        return left
    if left == right:
        return 1
    divisible, rest = _split(left, right)
    if rest == 0 or _within(rest, right):
        return divisible
    if divisible != 0:
        return divisible + floordiv(rest, right)
    nested = _nested_quotient(rest) if isinstance(right, int) and right > 0 else None
    if nested is not None:  # (x // a + r) // b == (x + a * r) // (a * b)
        inner, by, others = nested
        return floordiv(inner + others * by, by * right)
    return Polynomial((((Compound("//", rest, right),), 1),))


def _nested_quotient(dim: Dim) -> tuple[Dim, int, Dim] | None:
    """(x, a, r) with dim == x // a + r for a positive integer a, if `dim` has such a term."""
    if isinstance(dim, int):
        return None
    for term, factor in dim.terms:
        atom = term[0] if len(term) == 1 and factor == 1 else None
        if not isinstance(atom, Compound) or atom.op != "//":
            continue
        if isinstance(atom.right, int) and atom.right > 0:
            return atom.left, atom.right, dim - of_atom(atom)
    return None


def modulo(left: Dim, right: Dim) -> Dim:
    """`left % right` with the sign of `right`; drops multiples of `right`."""
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    if right == 1 or left == right:
        return 0
    _, rest = _split(left, right)
    if rest == 0 or _within(rest, right):
        return rest
    return Polynomial((((Compound("%", rest, right),), 1),))


def minimum(left: Dim, right: Dim) -> Dim:
    """The smaller of two dims, decided by their ranges when possible."""
    return _extremum("min", left, right)


def maximum(left: Dim, right: Dim) -> Dim:
    """The larger of two dims, decided by their ranges when possible."""
    return _extremum("max", left, right)


def bounds(dim: Dim) -> tuple[int | None, int | None]:
    """Inclusive (lowest, highest) value by interval arithmetic; None where unknown."""
    if isinstance(dim, int):
        return dim, dim
    low: int | None = 0
    high: int | None = 0
    for term, factor in dim.terms:
        first, last = _term_bounds(term)
        if factor < 0:
            first, last = last, first
        low = low + factor * first if low is not None and first is not None else None
        high = high + factor * last if high is not None and last is not None else None
    return low, high


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The value of `dim` for concrete symbol values; KeyError names a missing symbol."""
    if isinstance(dim, int):
        return dim
    total = 0
    for term, factor in dim.terms:
        for atom in term:
            factor *= _evaluate_atom(atom, values)
        total += factor
    return total


def substitute(dim: Dim, replacements: Mapping[str, Dim]) -> Dim:
    """Replace symbols by dims, simplifying again."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for term, factor in dim.terms:
        product: Dim = factor
        for atom in term:
            product = product * _substitute_atom(atom, replacements)
        total = total + product
    return total


def static(dim: Dim) -> int:
    """A dim that must be a plain number; raises ValueError for a symbolic one."""
    if not isinstance(dim, int):
        raise ValueError(f"{dim} is not a number")
    return dim


def symbols(dim: Dim) -> dict[str, Symbol]:
    """All symbols in `dim`, by name."""
    found: dict[str, Symbol] = {}
    _visit(
        dim, lambda atom: found.setdefault(atom.name, atom) if isinstance(atom, Symbol) else None
    )
    return found


def compounds(dim: Dim) -> set[Compound]:
    """All quotients, remainders and extrema in `dim`."""
    found: set[Compound] = set()
    _visit(dim, lambda atom: found.add(atom) if isinstance(atom, Compound) else None)
    return found


def rejoin(dim: Dim) -> Dim:
    """`dim` with `c * (x // c) + x % c` written as `x`, for numbers c and any common factor."""
    for atom in compounds(dim):
        if atom.op != "%" or not isinstance(atom.right, int) or isinstance(dim, int):
            continue
        quotient = floordiv(atom.left, atom.right)
        for term, factor in dim.terms:
            others = _remove(term, (atom,))
            if others is None:
                continue
            common = from_terms([(others, factor)])
            joined = dim - common * (of_atom(atom) + atom.right * quotient) + common * atom.left
            if _compound_terms(joined) < _compound_terms(dim) - 1:
                return rejoin(joined)
    return dim


def _compound_terms(dim: Dim) -> int:
    """The number of terms that have quotients, remainders or extrema."""
    return sum(any(isinstance(atom, Compound) for atom in term) for term, _ in _terms(dim))


def depends_on(dim: Dim, names: Iterable[str]) -> bool:
    """Whether any of the named symbols occurs in `dim`."""
    return not set(names).isdisjoint(symbols(dim))


def linear_in(dim: Dim, name: str) -> tuple[Dim, Dim] | None:
    """(coefficient, rest): `dim == coefficient * name + rest`, both free of `name`, or None."""
    if isinstance(dim, int):
        return 0, dim
    coefficient: list[tuple[Term, int]] = []
    rest: list[tuple[Term, int]] = []
    for term, factor in dim.terms:
        direct = [atom for atom in term if isinstance(atom, Symbol) and atom.name == name]
        if len(direct) > 1 or any(
            isinstance(a, Compound) and name in symbols(of_atom(a)) for a in term
        ):
            return None
        if direct:
            without = list(term)
            without.remove(direct[0])
            coefficient.append((tuple(without), factor))
        else:
            rest.append((term, factor))
    return from_terms(coefficient), from_terms(rest)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dims (1 for none)."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def divides(divisor: Dim, dim: Dim) -> bool:
    """Whether `dim` is provably a multiple of `divisor`."""
    return _split(dim, divisor)[1] == 0


def of_atom(atom: Atom) -> Polynomial:
    """The dim that is one atom."""
    return Polynomial((((atom,), 1),))


def _terms(dim: Dim) -> tuple[tuple[Term, int], ...]:
    return (((), dim),) if isinstance(dim, int) else dim.terms


def _product(left: Term, right: Term) -> Term:
    return tuple(sorted((*left, *right), key=lambda atom: atom.key))


def _term_order(item: tuple[Term, int]) -> tuple[int, tuple[str, ...]]:
    return -len(item[0]), tuple(atom.key for atom in item[0])


def _split(left: Dim, right: Dim) -> tuple[Dim, Dim]:
    """(quotient, rest): left == quotient * right + rest; exact divisions term by term."""
    divisor = _terms(right)
    if len(divisor) != 1:
        return _split_by_sum(left, right)
    by_term, by_factor = divisor[0]
    quotient: list[tuple[Term, int]] = []
    rest: list[tuple[Term, int]] = []
    for term, factor in _terms(left):
        reduced = _remove(term, by_term)
        if reduced is not None and factor % by_factor == 0:
            quotient.append((reduced, factor // by_factor))
        elif reduced is not None and not isinstance(left, int) and factor // by_factor:
            quotient.append((reduced, factor // by_factor))
            rest.append((term, factor % by_factor))
        else:
            rest.append((term, factor))
    return from_terms(quotient), from_terms(rest)


def _split_by_sum(left: Dim, right: Dim) -> tuple[Dim, Dim]:
    """Long division by a polynomial's leading term; exact quotients only."""
    lead_term, lead_factor = _terms(right)[0]
    quotient: Dim = 0
    rest = left
    for _ in range(8):
        found = None
        for term, factor in _terms(rest):
            reduced = _remove(term, lead_term)
            if reduced is not None and factor % lead_factor == 0:
                found = from_terms([(reduced, factor // lead_factor)])
                break
        if found is None:
            break
        quotient, rest = quotient + found, rest - found * right
        if rest == 0:
            return quotient, 0
    if _within(rest, right):
        return quotient, rest
    return 0, left


def _remove(term: Term, part: Term) -> Term | None:
    remaining = list(term)
    for atom in part:
        if atom not in remaining:
            return None
        remaining.remove(atom)
    return tuple(remaining)


def _within(dim: Dim, limit: Dim) -> bool:
    """Whether 0 <= dim < limit for all symbol values."""
    low, _ = bounds(dim)
    if low is None or low < 0:
        return False
    gap, _ = bounds(limit - dim)
    return (gap is not None and gap > 0) or _below(dim, limit)


def _below(dim: Dim, limit: Dim) -> bool:
    """dim < limit after replacing loop variables of symbolic extent by their largest value."""
    largest = dim
    for name, found in symbols(dim).items():
        linear = linear_in(largest, name)
        if isinstance(found.maximum, Polynomial) and linear and (bounds(linear[0])[0] or -1) >= 0:
            largest = linear[0] * found.maximum + linear[1]
    if largest is dim:
        return False
    gap, _ = bounds(limit - largest)
    return gap is not None and gap > 0


def _extremum(op: str, left: Dim, right: Dim) -> Dim:
    if left == right:
        return left
    low, high = bounds(left - right)
    if low is not None and low >= 0:
        return left if op == "max" else right
    if high is not None and high <= 0:
        return right if op == "max" else left
    first, second = sorted((left, right), key=str)
    return Polynomial((((Compound(op, first, second),), 1),))


def _term_bounds(term: Term) -> tuple[int | None, int | None]:
    low: int | None = 1
    high: int | None = 1
    for atom in term:
        a, b = atom.bounds()
        if low is None or a is None or a < 0:
            return None if len(term) > 1 or a is None else a, b if len(term) == 1 else None
        low *= a
        high = high * b if high is not None and b is not None else None
    return low, high


_APPLY: dict[str, Callable[[int, int], int]] = {
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "min": min, "max": max,
}  # fmt: skip
_BUILD: dict[str, Callable[[Dim, Dim], Dim]] = {
    "//": floordiv, "%": modulo, "min": minimum, "max": maximum,
}  # fmt: skip


def _evaluate_atom(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        return values[atom.name]
    return _APPLY[atom.op](evaluate(atom.left, values), evaluate(atom.right, values))


def _substitute_atom(atom: Atom, replacements: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Symbol):
        return replacements.get(atom.name, of_atom(atom))
    return _BUILD[atom.op](
        substitute(atom.left, replacements), substitute(atom.right, replacements)
    )


def _visit(dim: Dim, action: Callable[[Atom], object]) -> None:
    if isinstance(dim, int):
        return
    for term, _ in dim.terms:
        for atom in term:
            action(atom)
            if isinstance(atom, Compound):
                _visit(atom.left, action)
                _visit(atom.right, action)


def _wrapped(dim: Dim) -> str:
    if isinstance(dim, int):
        return str(dim)
    (term, factor), *others = dim.terms
    plain = not others and len(term) == 1 and factor == 1
    return str(dim) if plain else f"({dim})"


def _format_term(term: Term, factor: int) -> str:
    if not term:
        return str(factor)
    body = "*".join(f"({a})" if isinstance(a, Compound) and a.op in "//%" else str(a) for a in term)
    return body if factor == 1 else f"-{body}" if factor == -1 else f"{factor}*{body}"
