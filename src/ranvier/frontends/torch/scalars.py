"""Numbers of a traced program that are no sizes, as rank-0 values.

`x.sum().item()` and what Python computes from it are sympy expressions over symbols that have their
value from a tensor; conditions of branches are relations between them, or between sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import sympy  # type: ignore[import-untyped]

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.symbols import Symbols
from ranvier.ir.dtype import BOOL, F32, F64, I64
from ranvier.ir.graph import Value

_RELATIONS = {
    "Equality": "equal", "Unequality": "not_equal", "StrictLessThan": "less",
    "LessThan": "less_equal", "StrictGreaterThan": "greater", "GreaterThan": "greater_equal",
}  # fmt: skip
_FUNCTIONS = {
    "Add": "add", "FloatAdd": "add", "Mul": "mul", "FloatMul": "mul", "Max": "maximum",
    "Min": "minimum", "FloorDiv": "floor_div", "PythonMod": "remainder", "Mod": "remainder",
    "FloatPow": "pow", "PowByNatural": "pow", "Pow": "pow", "IntTrueDiv": "div",
    "FloatTrueDiv": "div",
}  # fmt: skip
_TO_FLOAT = frozenset({"IntTrueDiv", "FloatTrueDiv", "FloatPow"})
_ROUNDINGS = {"FloorToInt": "floor", "CeilToInt": "ceil", "TruncToInt": "trunc",
              "RoundToInt": "round"}  # fmt: skip
_LOGIC = {"And": "logical_and", "Or": "logical_or"}


class Scalars:
    """Emits the value of an expression; `numbers` has the values of symbols that data give."""

    def __init__(self, call: Call, symbols: Symbols, numbers: Mapping[Any, Value]) -> None:
        self._call = call
        self._symbols = symbols
        self._numbers = numbers

    def value(self, e: Any) -> Value:
        """A rank-0 value: bool for conditions, i64 for integers, a float otherwise.

        Raises Refusal for a function that has no operator.
        """
        kind = type(e).__name__
        if e in self._numbers:
            return self._numbers[e]
        if isinstance(e, (sympy.Number, sympy.NumberSymbol)):
            return self._number(e)
        if e in (sympy.true, sympy.false):
            return self._call.scalar(bool(e), BOOL)
        if not any(symbol in self._numbers for symbol in e.free_symbols) and e.is_integer:
            return self._call.scalar(self._symbols.convert(e), I64)
        rule = self._rule(kind)
        if rule is None:
            raise Refusal(f"computes {e}, and {kind} of numbers is not supported")
        return rule([self.value(argument) for argument in e.args])

    def _number(self, e: Any) -> Value:
        if e.is_integer:
            return self._call.scalar(int(e), I64)
        return self._call.scalar(float(e), F32)

    def _rule(self, kind: str) -> Callable[[list[Value]], Value] | None:
        if kind in _RELATIONS:
            return lambda a: self._call.emit(_RELATIONS[kind], *self._common(a))
        if kind in _LOGIC:
            return lambda a: reduce(lambda x, y: self._call.emit(_LOGIC[kind], x, y), a)
        if kind == "Not":
            return lambda a: self._call.emit("logical_not", a[0])
        if kind == "ToFloat":
            return lambda a: self._call.floating(a[0])
        if kind in _ROUNDINGS:
            return lambda a: self._call.cast(self._call.emit(_ROUNDINGS[kind], a[0]), I64)
        if kind in _FUNCTIONS:
            return lambda a: self._folded(kind, a)
        return None

    def _folded(self, kind: str, arguments: list[Value]) -> Value:
        if kind in _TO_FLOAT:
            arguments = [self._call.floating(x) for x in arguments]
        op = _FUNCTIONS[kind]
        return reduce(lambda x, y: self._call.emit(op, x, y), self._common(arguments))

    def _common(self, arguments: list[Value]) -> list[Value]:
        """In one element type: the widest float among them, or i64, or bool."""
        found = [x.dtype for x in arguments]
        floats = [dtype for dtype in found if dtype.is_float]
        if floats:
            dtype = F64 if F64 in floats else F32
        else:
            dtype = I64 if any(d.is_integer for d in found) else BOOL
        return [self._call.cast(x, dtype) for x in arguments]
