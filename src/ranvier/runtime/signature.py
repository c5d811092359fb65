"""What a model takes and gives: arguments, checks, sizes of the symbols, nested results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.expression import Expr, evaluate, expr_to_text, symbols_of
from ranvier.artifact.format import DTYPES, Manifest, TensorSpec, Tree
from ranvier.errors import ArtifactError, InputError
from ranvier.runtime.arrays import Array, to_array


class _Solution(NamedTuple):
    """How a symbol gets its value: from this dim of this input, which is linear in the symbol."""

    symbol: str
    input: int
    axis: int
    expr: Expr


class Signature:
    """The inputs and outputs of a model.

    Attributes:
        inputs, outputs: the tensors, with names, dtypes and symbolic shapes.
        flat: whether the arguments are exactly the inputs in order, with no nesting.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Raises ArtifactError when a symbol cannot be known from the inputs."""
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self._symbols = {symbol.name: symbol for symbol in manifest.symbols}
        self._solutions = _solutions(manifest)
        self._parameters = _parameters(manifest)
        self._output_tree = manifest.output_tree
        trees = [tree for _, tree in self._parameters]
        self.flat = trees == [Tree("leaf", i) for i in range(len(self.inputs))]

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
        """Return the values of the inputs, in order, from the arguments of a call.

        Raises:
            InputError: an argument too many, missing, unknown or given twice, or a nesting other
                than the model's.
        """
        names = [name for name, _ in self._parameters]
        if len(args) > len(names):
            raise InputError(
                f"{len(args)} positional arguments, the model takes {len(names)}: {self._usage()}"
            )
        given: dict[str, object] = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise InputError(f"there is no argument {name!r}; the model takes {self._usage()}")
            if name in given:
                raise InputError(f"the argument {name!r} is given twice, by position and by name")
            given[name] = value
        leaves: list[object] = [None] * len(self.inputs)
        for name, tree in self._parameters:
            if name not in given and _has_leaves(tree):
                raise InputError(
                    f"the argument {name!r} is missing; the model takes {self._usage()}"
                )
            if name in given:
                _flatten(tree, given[name], name, leaves)
        return leaves

    def bind_names(self, values: Mapping[str, object]) -> list[object]:
        """Return the values of the inputs, in order, from a mapping by input name.

        Raises:
            InputError: a name that is missing or unknown.
        """
        names = [spec.name for spec in self.inputs]
        unknown, missing = (
            [n for n in values if n not in names],
            [n for n in names if n not in values],
        )
        if unknown or missing:
            parts = [f"missing: {', '.join(missing)}"] if missing else []
            parts += [f"unknown: {', '.join(map(str, unknown))}"] if unknown else []
            raise InputError(f"the inputs are {', '.join(names)}; {'; '.join(parts)}")
        return [values[name] for name in names]

    def convert(self, index: int, value: object) -> Array:
        """Return input `index` as a contiguous, aligned array of its dtype in native byte order.

        Raises:
            InputError: not an array, or a dtype that does not convert without loss.
        """
        return to_array(value, self.inputs[index])

    def solve(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Return the value of every symbol from the shapes of the inputs.

        Raises:
            InputError: a rank or size that does not fit, a size outside its range, or sizes that
                contradict.
        """
        for spec, shape in zip(self.inputs, shapes, strict=True):
            if len(shape) != len(spec.shape):
                raise InputError(
                    f"input {spec.name!r} has shape {shape}; expected {describe(spec)}"
                )
        values: dict[str, int] = {}
        for solution in self._solutions:
            values[solution.symbol] = self._solve_one(solution, shapes, values)
        for spec, shape in zip(self.inputs, shapes, strict=True):
            for axis, (dim, size) in enumerate(zip(spec.shape, shape, strict=True)):
                expected = evaluate(dim, values)
                if expected != size:
                    known = ", ".join(f"{name}={values[name]}" for name in sorted(symbols_of(dim)))
                    because = f" ({expr_to_text(dim)} with {known})" if known else ""
                    raise InputError(
                        f"input {spec.name!r} has shape {shape}: axis {axis} must be {expected}"
                        f"{because}; expected {describe(spec)}"
                    )
        return values

    def nest(self, outputs: Sequence[Array]) -> object:
        """Return the outputs in the nesting of the model's result."""
        return _nest(self._output_tree, outputs)

    def _solve_one(
        self, solution: _Solution, shapes: Sequence[tuple[int, ...]], values: Mapping[str, int]
    ) -> int:
        """Solve `expr(symbol) = size`; two evaluations give the slope and intercept of expr."""
        size, spec = shapes[solution.input][solution.axis], self.inputs[solution.input]
        at_zero = evaluate(solution.expr, {**values, solution.symbol: 0})
        slope = evaluate(solution.expr, {**values, solution.symbol: 1}) - at_zero
        where = f"input {spec.name!r} has shape {shapes[solution.input]}: axis {solution.axis}"
        if slope == 0 or (size - at_zero) % slope:
            expected = expr_to_text(solution.expr)
            raise InputError(f"{where} must be {expected} for a whole number {solution.symbol}")
        value = (size - at_zero) // slope
        symbol = self._symbols[solution.symbol]
        if not symbol.minimum <= value <= symbol.maximum:
            raise InputError(
                f"{where} makes {symbol.name} = {value}; the model was compiled for "
                f"{symbol.minimum} to {symbol.maximum}. Compile with a wider range of {symbol.name}"
            )
        return value

    def _usage(self) -> str:
        parts = []
        for name, tree in self._parameters:
            plain = tree.kind == "leaf" and isinstance(tree.value, int)
            parts.append(describe(self.inputs[tree.value]) if plain else name)
        return ", ".join(parts) or "no arguments"


def describe(spec: TensorSpec) -> str:
    """Return a tensor as "name: dtype[dims]", for instance "image: f32[batch, 3, 224, 224]"."""
    return f"{spec.name}: {spec.dtype}[{', '.join(expr_to_text(dim) for dim in spec.shape)}]"


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """Return the NumPy dtype of a dtype name; bf16 is uint16, its bits."""
    return np.dtype(DTYPES[name])


def _solutions(manifest: Manifest) -> tuple[_Solution, ...]:
    """Order the symbols: each comes from a dim that is linear in it and else has known ones."""
    dims = [
        (index, axis, dim)
        for index, spec in enumerate(manifest.inputs)
        for axis, dim in enumerate(spec.shape)
        if not isinstance(dim, int)
    ]
    dims.sort(key=lambda entry: not isinstance(entry[2], str))  # plain symbols first
    solutions: list[_Solution] = []
    known: set[str] = set()
    progress = True
    while progress:
        progress = False
        for index, axis, dim in dims:
            unknown = symbols_of(dim) - known
            if len(unknown) == 1 and _is_linear(dim, symbol := next(iter(unknown))):
                solutions.append(_Solution(symbol, index, axis, dim))
                known.add(symbol)
                progress = True
    used = set().union(*(symbols_of(dim) for _, _, dim in dims)) if dims else set()
    lost = [s.name for s in manifest.symbols if s.name not in known]
    lost += sorted(used - known - set(lost))
    if lost:
        raise ArtifactError(f"no input's shape determines {', '.join(lost)}")
    return tuple(solutions)


def _is_linear(expr: Expr, symbol: str) -> bool:
    """Whether `expr` is a * symbol + b, with a and b free of the symbol."""
    if not isinstance(expr, tuple) or symbol not in symbols_of(expr):
        return True
    op, a, b = expr
    if op in ("+", "-"):
        return _is_linear(a, symbol) and _is_linear(b, symbol)
    if op != "*":
        return False
    free = symbol not in symbols_of(a) or symbol not in symbols_of(b)
    return free and _is_linear(a, symbol) and _is_linear(b, symbol)


def _parameters(manifest: Manifest) -> tuple[tuple[str, Tree], ...]:
    """Return the arguments of a call by name: the items of a dict, tuple or list."""
    tree = manifest.input_tree
    if tree.kind == "dict":
        items: tuple[tuple[str, Tree], ...] = tree.value
        return items
    if tree.kind not in ("tuple", "list"):
        raise ArtifactError(
            f"manifest.input_tree: expected a dict or tuple of arguments, got {tree.kind}"
        )
    children: tuple[Tree, ...] = tree.value
    names = [
        manifest.inputs[child.value].name if child.kind == "leaf" else f"argument_{i}"
        for i, child in enumerate(children)
    ]
    return tuple(zip(names, children, strict=True))


def _has_leaves(tree: Tree) -> bool:
    if tree.kind in ("tuple", "list"):
        return any(_has_leaves(child) for child in tree.value)
    if tree.kind == "dict":
        return any(_has_leaves(child) for _, child in tree.value)
    return tree.kind == "leaf"


def _flatten(tree: Tree, value: object, where: str, leaves: list[object]) -> None:
    """Put the leaves of `value` into `leaves`, checking its nesting against the tree."""
    if tree.kind == "leaf":
        leaves[tree.value] = value
    elif tree.kind in ("tuple", "list"):
        children: tuple[Tree, ...] = tree.value
        if not isinstance(value, (tuple, list)) or len(value) != len(children):
            raise InputError(
                f"{where}: expected a {tree.kind} of {len(children)}, got {_short(value)}"
            )
        for i, (child, element) in enumerate(zip(children, value, strict=True)):
            _flatten(child, element, f"{where}[{i}]", leaves)
    elif tree.kind == "dict":
        items: tuple[tuple[str, Tree], ...] = tree.value
        keys = [key for key, _ in items]
        if not isinstance(value, Mapping) or sorted(map(str, value)) != sorted(keys):
            raise InputError(
                f"{where}: expected a dict with the keys {', '.join(keys)}, got {_short(value)}"
            )
        for key, child in items:
            _flatten(child, value[key], f"{where}[{key!r}]", leaves)
    elif tree.kind == "none" and value is not None:
        raise InputError(f"{where}: the model was compiled with None here, got {_short(value)}")
    elif tree.kind == "constant" and (type(value), value) != (type(tree.value), tree.value):
        raise InputError(
            f"{where}: the model was compiled with {tree.value!r} here, got {_short(value)}"
        )


def _nest(tree: Tree, outputs: Sequence[NDArray[np.generic]]) -> object:
    if tree.kind == "leaf":
        return outputs[tree.value]
    if tree.kind == "tuple":
        return tuple(_nest(child, outputs) for child in tree.value)
    if tree.kind == "list":
        return [_nest(child, outputs) for child in tree.value]
    if tree.kind == "dict":
        return {key: _nest(child, outputs) for key, child in tree.value}
    return tree.value


def _short(value: object) -> str:
    """Return a value's type and size; its contents may be megabytes of numbers."""
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(str, value))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (int, float, str, bool)) or value is None:
        return f"{value!r:.80}"
    return f"a {type(value).__name__}"
