"""Symbolic sizes of a traced program as Dims: names, ranges and the sympy expressions over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.symbol import SymT, symbol_is_type

from ranvier.frontends.torch.call import Refusal
from ranvier.ir.dim import Dim, bounds, floordiv, maximum, minimum, modulo, product, symbol

Range = tuple[int, int | None]

_LARGEST_DENOMINATOR = 1 << 16  # a scale with a larger one is rounded in floating point


@dataclass
class Symbols:
    """Converts the sizes of one program; `names` and `ranges` are by sympy symbol.

    `signed` are the symbols that may be negative. `labels` are names that the whole model shares.
    `limits` are what the model states of a size that depends on data: what it does not exceed;
    what is said of `misjudged` ones is not believed.
    """

    names: Mapping[str, str]
    ranges: Mapping[Any, Range]
    signed: frozenset[Any] = frozenset()
    labels: set[str] = field(default_factory=set)
    limits: Mapping[Any, Any] = field(default_factory=dict)
    misjudged: set[Any] = field(default_factory=set)
    _defined: dict[Any, Dim] = field(default_factory=dict)
    _rewritten: dict[Dim, Dim] = field(default_factory=dict)
    _known: dict[Any, Dim] = field(default_factory=dict)

    def dim(self, size: int | torch.SymInt) -> Dim:
        """The Dim of a size; raises Refusal for an expression that Dims cannot hold."""
        if isinstance(size, int):
            return size
        return self.convert(size.node.expr)

    def convert(self, expression: Any) -> Dim:
        """The Dim of an integer sympy expression."""
        found = self._known.get(expression)
        if found is None:
            dim = self._convert(expression)
            found = self._known[expression] = self._rewritten.get(dim, dim)
        return found

    def rewrite(self, old: Dim, new: Dim) -> None:
        """From here on, `old` is written as `new`, which is the same number."""
        if old == new or isinstance(old, int) or old in self._rewritten:
            return
        self._rewritten[old] = new
        self._known.clear()

    def _convert(self, e: Any) -> Dim:
        if isinstance(e, sympy.Symbol):
            return self._symbol(e)
        if isinstance(e, sympy.Integer) or (isinstance(e, sympy.Number) and e.is_integer):
            return int(e)
        rule = _RULES.get(type(e).__name__)
        if rule is not None:
            return rule([self.convert(argument) for argument in e.args])
        rounding = _ROUNDINGS.get(type(e).__name__)
        if rounding is not None:
            return rounding(*self._fraction(e.args[0]))
        raise Refusal(f"the size {e} has {type(e).__name__}, which a symbolic size cannot hold")

    def define(self, e: Any, most: Dim | None = None) -> Dim:
        """A new symbol for a size that depends on data, at most `most`.

        What is traced twice, such as the condition of a loop, has a symbol of its own each time.
        """
        low, high = self.ranges.get(e, (0, None))
        name, count = str(e), 1
        while name in self.labels or name in self.names.values():
            name, count = f"{e}_{count}", count + 1
        self.labels.add(name)
        self._defined[e] = symbol(name, low, self._most(e, high if most is None else most))
        self._known.clear()
        return self._defined[e]

    def _most(self, e: Any, known: Dim | None) -> Dim | None:
        """The least of what is known not to be exceeded."""
        if e not in self.limits:
            return known
        stated = self.convert(self.limits[e])
        return stated if known is None else minimum(known, stated)

    def undefined(self, size: int | torch.SymInt) -> Any:
        """The symbol that a size is when data give it and nothing has defined it yet, or None."""
        if isinstance(size, int) or not isinstance(size.node.expr, sympy.Symbol):
            return None
        e = size.node.expr
        return e if symbol_is_type(e, SymT.UNBACKED_INT) and e not in self._defined else None

    def holds(self, condition: Any) -> bool:
        """Whether a condition is about sizes of inputs alone, or the range of a size says it."""
        given = [e for e in condition.free_symbols if _is_of_data(e)]
        if not given:
            return True
        if isinstance(condition, sympy.Ge):
            condition = sympy.Le(condition.rhs, condition.lhs, evaluate=False)
        if not isinstance(condition, sympy.Le):
            return False
        e, least = condition.rhs, condition.lhs
        if e in self._defined:
            low = bounds(self._defined[e])[0]
            return bool(least.is_Integer and low is not None and low >= least)
        e, most = condition.lhs, condition.rhs
        if e not in self._defined:
            return False
        high = bounds(self._defined[e])[1]
        return (
            e in self.misjudged
            or most == self.limits.get(e)
            or bool(most.is_Integer and high is not None and high <= most)
        )

    def may_be_negative(self, e: Any) -> bool:
        """Whether nothing says that a number that data give is a size."""
        return e in self.signed

    def _symbol(self, e: Any) -> Dim:
        if e in self._defined:
            return self._defined[e]
        if symbol_is_type(e, SymT.UNBACKED_INT):
            raise Refusal(
                f"the size {e} depends on data and may be negative: torch._check({e} >= 0)"
                if e in self.signed
                else f"the size {e} depends on data"
            )
        low, high = self.ranges.get(e, (0, None))
        return symbol(self.names.get(str(e), str(e)), low, high)

    def _fraction(self, e: Any) -> tuple[Dim, Dim]:
        """(numerator, denominator) of a real expression of exact rationals."""
        kind = type(e).__name__
        if kind in ("IntTrueDiv", "FloatTrueDiv"):
            (a, b), (c, d) = map(self._fraction, e.args)
            return a * d, b * c
        if kind in ("Mul", "FloatMul"):
            tops, bottoms = zip(*map(self._fraction, e.args), strict=True)
            return product(tops), product(bottoms)
        if kind == "ToFloat":
            return self.convert(e.args[0]), 1
        if isinstance(e, sympy.Number):
            return _ratio(e)
        return self.convert(e), 1


def _ratio(number: Any) -> tuple[int, int]:
    top, bottom = float(number).as_integer_ratio()
    if bottom > _LARGEST_DENOMINATOR:
        raise Refusal(f"a symbolic size is scaled by {number}, which floating point rounds")
    return top, bottom


def _power(arguments: list[Dim]) -> Dim:
    base, exponent = arguments
    if not isinstance(exponent, int) or exponent < 0:
        raise Refusal(f"a symbolic size is raised to the power {exponent}")
    return product([base] * exponent)


def _ceiling(top: Dim, bottom: Dim) -> Dim:
    return floordiv(top + bottom - 1, bottom)


_RULES: dict[str, Callable[[list[Dim]], Dim]] = {
    "Add": lambda a: reduce(lambda x, y: x + y, a),
    "Mul": product,
    "Pow": _power,
    "PowByNatural": _power,
    "FloorDiv": lambda a: floordiv(a[0], a[1]),
    "CleanDiv": lambda a: floordiv(a[0], a[1]),
    "CeilDiv": lambda a: _ceiling(a[0], a[1]),
    "Mod": lambda a: modulo(a[0], a[1]),
    "PythonMod": lambda a: modulo(a[0], a[1]),
    "ModularIndexing": lambda a: modulo(floordiv(a[0], a[1]), a[2]),
    "Max": lambda a: reduce(maximum, a),
    "Min": lambda a: reduce(minimum, a),
    "Identity": lambda a: a[0],
}
_ROUNDINGS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "FloorToInt": floordiv,
    "TruncToInt": floordiv,  # of sizes, which are not negative
    "CeilToInt": _ceiling,
}


def symbols_of(program: Any) -> Symbols:
    """The symbols of an ExportedProgram, named as the user named its `torch.export.Dim`s."""
    environment = _shape_environment(program)
    names = {} if environment is None else _given_names(environment)
    constraints = program.range_constraints
    signed = frozenset(e for e, found in constraints.items() if found.lower < 0)
    return Symbols(names, _ranges(constraints), signed, limits=_limits(program.graph))


def _limits(graph: Any) -> dict[Any, Any]:
    """Symbol -> expression over sizes of inputs that it does not exceed, by the model's checks."""
    found: dict[Any, Any] = {}
    for node in graph.nodes:
        condition = getattr(node.meta.get("val"), "node", None)
        expression = getattr(condition, "expr", None)
        if isinstance(expression, sympy.Ge):
            expression = sympy.Le(expression.rhs, expression.lhs, evaluate=False)
        if not isinstance(expression, (sympy.Le, sympy.Lt)) or not _is_checked(node):
            continue
        e, most = expression.lhs, expression.rhs
        if isinstance(e, sympy.Symbol) and symbol_is_type(e, SymT.UNBACKED_INT):
            strict = isinstance(expression, sympy.Lt)
            is_of_inputs = not any(symbol_is_type(s, SymT.UNBACKED_INT) for s in most.free_symbols)
            if most.free_symbols and is_of_inputs:
                found[e] = most - 1 if strict else most
    return found


def _is_of_data(e: Any) -> bool:
    return symbol_is_type(e, (SymT.UNBACKED_INT, SymT.UNBACKED_FLOAT))


def _is_checked(node: Any) -> bool:
    return any("_assert_scalar" in str(user.target) for user in node.users)


def _shape_environment(program: Any) -> Any:
    for node in program.graph.nodes:
        found = node.meta.get("val")
        for size in getattr(found, "shape", ()):
            if isinstance(size, torch.SymInt):
                return size.node.shape_env
    return None


def _given_names(environment: Any) -> dict[str, str]:
    """Symbol -> name of its Dim; for a derived Dim such as `32*unit` that of the root, `unit`."""
    names: dict[str, str] = {}
    for source, variable in environment.source_to_var.items():
        name = environment.source_name_to_debug_name.get(source, source)
        expression = environment.replace(variable)
        if isinstance(expression, sympy.Symbol) and str(name).isidentifier():
            names[str(expression)] = str(name)
    given = list(names.values())
    return {key: name for key, name in names.items() if given.count(name) == 1}


def _ranges(constraints: Mapping[Any, Any]) -> dict[Any, Range]:
    """Inclusive range by symbol.

    The range of `k * s` decides over that of `s`, for which PyTorch assumes at least 2.
    """
    ranges: dict[Any, Range] = {}
    for expression, found in constraints.items():
        if isinstance(expression, sympy.Symbol):
            ranges.setdefault(expression, _bounds(found))
            continue
        factor, rest = expression.as_coeff_Mul()
        if isinstance(rest, sympy.Symbol) and factor.is_Integer and factor > 0:
            low, high = _bounds(found)
            ranges[rest] = -(-low // int(factor)), None if high is None else high // int(factor)
    return ranges


def _bounds(found: Any) -> Range:
    low = max(int(found.lower), 0) if found.lower not in (-int_oo, -sympy.oo) else 0
    return low, int(found.upper) if found.upper not in (int_oo, sympy.oo) else None
