"""What an operator is: arity, kinds of its attributes, shape rule and NumPy definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ranvier.errors import CompileError
from ranvier.ir.dim import Dim, Polynomial, evaluate
from ranvier.ir.dtype import DType
from ranvier.ir.graph import Attribute, Graph, Shape, TensorType

Numbers = npt.NDArray[Any]
Types = tuple[TensorType, ...]


@dataclass(frozen=True)
class Kind:
    """What an attribute may hold: a `description` for messages and the test itself."""

    description: str
    accepts: Callable[[object], bool]


def is_dim(value: object) -> bool:
    """Whether `value` is an int or a polynomial."""
    return isinstance(value, (int, Polynomial)) and not isinstance(value, bool)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tuple_of(item: Callable[[object], bool]) -> Callable[[object], bool]:
    """Whether a value is a tuple whose entries all pass a test."""
    return lambda value: isinstance(value, tuple) and all(item(entry) for entry in value)


def _is_pair_of_dims(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_dim, value))


def _is_symbol(value: object) -> bool:
    """Whether a dim is one symbol and nothing else."""
    return isinstance(value, Polynomial) and value.symbol is not None


def choice(*names: str) -> Kind:
    """A string that is one of `names`."""
    return Kind(" or ".join(f'"{name}"' for name in names), lambda value: value in names)


INT = Kind("an int", _is_int)
NUMBER = Kind("an int or a float", _is_number)
SCALAR = Kind("an int, a float or a bool", lambda value: isinstance(value, (int, float)))
OPTIONAL_NUMBER = Kind("a number or None", lambda value: value is None or _is_number(value))
BOOLEAN = Kind("a bool", lambda value: isinstance(value, bool))
DTYPE = Kind("an element type", lambda value: isinstance(value, DType))
TENSOR = Kind("a NumPy array", lambda value: isinstance(value, np.ndarray))
DIM = Kind("a dim", is_dim)
INTS = Kind("a tuple of ints", tuple_of(_is_int))
DIMS = Kind("a tuple of dims", tuple_of(is_dim))
OPTIONAL_DIM = Kind("a dim or None", lambda value: value is None or is_dim(value))
SYMBOL = Kind("a dim that is one symbol", _is_symbol)
SYMBOLS = Kind("a tuple of dims that are symbols", tuple_of(_is_symbol))
SHAPES = Kind("a tuple of tuples of dims", tuple_of(tuple_of(is_dim)))
GRAPH = Kind("a graph", lambda value: isinstance(value, Graph))
DIM_PAIRS = Kind("a tuple of (low, high) pairs of dims", tuple_of(_is_pair_of_dims))


@dataclass(frozen=True)
class Call:
    """One application of an operator, as shape rules and NumPy definitions see it.

    `symbols` (values of the symbolic dims) and `results` are known to NumPy definitions only; an
    operator that defines a symbol adds its value to `symbols`.
    """

    op: str
    operands: Types
    attributes: Mapping[str, Attribute]
    source: str = ""
    symbols: dict[str, int] = field(default_factory=dict)
    results: Types = ()

    def error(self, reason: str) -> CompileError:
        """An error that says what was given, why it does not fit and where it comes from."""
        operands = ", ".join(map(str, self.operands))
        shown = {name: _brief(value) for name, value in self.attributes.items()}
        attributes = " {" + ", ".join(f"{k}={v}" for k, v in shown.items()) + "}" if shown else ""
        place = f" @ {self.source}" if self.source else ""
        return CompileError(f"{self.op}: {reason}\n  in {self.op}({operands}){attributes}{place}")

    @property
    def first(self) -> TensorType:
        """Type of the first operand."""
        return self.operands[0]

    def same(self, shape: Shape | None = None, dtype: DType | None = None) -> Types:
        """One result like the first operand, except for what is given."""
        first = self.operands[0]
        return (TensorType(dtype or first.dtype, first.shape if shape is None else shape),)

    def optional(self, index: int) -> TensorType | None:
        """Type of an operand that may be left out."""
        return self.operands[index] if index < len(self.operands) else None

    def integer(self, name: str) -> int:
        """An int attribute."""
        return cast(int, self.attributes[name])

    def number(self, name: str) -> float:
        """An int or float attribute."""
        return cast(float, self.attributes[name])

    def flag(self, name: str) -> bool:
        """A bool attribute."""
        return cast(bool, self.attributes[name])

    def text(self, name: str) -> str:
        """A string attribute."""
        return cast(str, self.attributes[name])

    def dtype(self, name: str = "dtype") -> DType:
        """An element type attribute."""
        return cast(DType, self.attributes[name])

    def ints(self, name: str) -> tuple[int, ...]:
        """An attribute that is a tuple of ints."""
        return cast("tuple[int, ...]", self.attributes[name])

    def dim(self, name: str) -> Dim:
        """A dim attribute."""
        return cast(Dim, self.attributes[name])

    def dims(self, name: str) -> Shape:
        """An attribute that is a tuple of dims."""
        return cast(Shape, self.attributes[name])

    def pairs(self, name: str) -> tuple[tuple[Dim, Dim], ...]:
        """An attribute that is a tuple of (low, high) dims."""
        return cast("tuple[tuple[Dim, Dim], ...]", self.attributes[name])

    def graph(self, name: str) -> Graph:
        """A graph attribute."""
        return cast(Graph, self.attributes[name])

    def shapes(self, name: str = "shapes") -> tuple[Shape, ...]:
        """An attribute that is a tuple of shapes."""
        return cast("tuple[Shape, ...]", self.attributes[name])

    def size(self, dim: Dim) -> int:
        """The number that a dim has in this evaluation."""
        return evaluate(dim, self.symbols)

    def sizes(self, name: str) -> tuple[int, ...]:
        """The numbers of a tuple of dims."""
        return tuple(map(self.size, self.dims(name)))

    def size_pairs(self, name: str) -> tuple[tuple[int, int], ...]:
        """The numbers of a tuple of (low, high) dims."""
        return tuple((self.size(low), self.size(high)) for low, high in self.pairs(name))


def _brief(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return f"graph {value.name}" if isinstance(value, Graph) else str(value)


Infer = Callable[[Call], Types]
Reference = Callable[..., Any]


@dataclass(frozen=True)
class Operator:
    """An entry of the operator table.

    `minimum` and `maximum` count operands (`maximum` None: any number). `infer(call)` gives the
    result types or raises CompileError. `reference(call, *arrays)` is the NumPy definition and
    returns one array, or a tuple of them. `width` says what floats the definition gets: "raw"
    (storage arrays as they are), "native" (f16 and bf16 widened to f32) or "wide" (every float
    widened to f64). Results are rounded to their element types afterwards.
    """

    name: str
    minimum: int
    maximum: int | None
    infer: Infer
    reference: Reference
    attributes: Mapping[str, Kind] = field(default_factory=dict)
    width: str = "native"

    def check(self, call: Call) -> None:
        """Raises CompileError when the number of operands or an attribute is not as declared."""
        count = len(call.operands)
        if count < self.minimum or (self.maximum is not None and count > self.maximum):
            most = "any number" if self.maximum is None else self.maximum
            raise call.error(f"takes {self.minimum} to {most} operands, got {count}")
        missing = self.attributes.keys() - call.attributes.keys()
        unknown = call.attributes.keys() - self.attributes.keys()
        if missing or unknown:
            raise call.error(f"missing attributes {sorted(missing)}, unknown {sorted(unknown)}")
        for name, kind in self.attributes.items():
            if not kind.accepts(call.attributes[name]):
                given = _brief(call.attributes[name])
                raise call.error(f"attribute {name} must be {kind.description}, got {given}")
        self._check_element_types(call)

    def _check_element_types(self, call: Call) -> None:
        """Definitions that get storage arrays move elements; all others compute with them."""
        if self.width == "raw":
            return
        attributes = (value for value in call.attributes.values() if isinstance(value, DType))
        for dtype in (*(operand.dtype for operand in call.operands), *attributes):
            if dtype.is_narrow:
                raise call.error(f"{dtype} is for storage alone: cast it to compute with it")


def unary(
    name: str,
    infer: Infer,
    reference: Reference,
    attributes: Mapping[str, Kind] | None = None,
    width: str = "native",
) -> Operator:
    """An operator of one operand."""
    return Operator(name, 1, 1, infer, reference, attributes or {}, width)
