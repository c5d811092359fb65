"""Evaluates nests with NumPy, one array axis per loop, for comparison with generated code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ranvier.ir import dim as dims
from ranvier.ir.dim import Atom, Dim, Symbol
from ranvier.ir.dtype import decode, encode
from ranvier.lowering.expression import (
    Access,
    Apply,
    Expression,
    Index,
    Literal,
    Reduce,
    compute_dtype,
)
from ranvier.lowering.kernels.nest import Nest

Array = np.ndarray
OPERATORS: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum,
    "minimum": np.minimum, "neg": np.negative, "abs": np.absolute, "less": np.less,
    "equal": np.equal, "where": np.where, "exp": np.exp, "div": np.divide,
    "logical_and": np.logical_and, "logical_not": np.logical_not, "bitwise_xor": np.bitwise_xor,
    "relu": lambda x: np.where(x < 0, x.dtype.type(0), x), "sqrt": np.sqrt, "sign": np.sign,
}  # fmt: skip
ATOMS: dict[str, Callable[..., Array]] = {
    "//": np.floor_divide, "%": np.remainder, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
REDUCTIONS: dict[str, Callable[..., Array]] = {
    "sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all,
}  # fmt: skip
INITIAL = {"max": -np.inf, "min": np.inf}


def run(nest: Nest, arrays: Sequence[Array], scalars: dict[str, int]) -> None:
    """Execute `nest`, writing into `arrays` (storage representation)."""
    names = [loop.name for loop in nest.loops]
    environment = dict(scalars)
    shape = tuple(_static(loop.extent, scalars) for loop in nest.loops)
    grids: dict[str, Array] = {}
    for axis, (name, size) in enumerate(zip(names, shape, strict=True)):
        grids[name] = np.arange(size).reshape([-1 if a == axis else 1 for a in range(len(names))])
    scope = {**environment, **grids}
    results = []
    for store in nest.stores:
        value = np.broadcast_to(_value(store.value, arrays, scope), shape)
        offset = np.broadcast_to(_dim(store.offset, scope), shape)
        results.append((store, offset, encode(value, store.storage)))
    for store, offset, value in results:
        arrays[store.operand].reshape(-1)[offset] = value


def _static(dim: Dim, scope: dict[str, int]) -> int:
    return dims.evaluate(dim, scope)


def _dim(dim: Dim, scope: dict[str, object]) -> Array:
    """The value of a dim on arrays, element by element."""
    if isinstance(dim, int):
        return np.asarray(dim)
    total = np.asarray(0)
    for term, factor in dim.terms:
        product = np.asarray(factor)
        for atom in term:
            product = product * _atom(atom, scope)
        total = total + product
    return total


def _atom(atom: Atom, scope: dict[str, object]) -> Array:
    if isinstance(atom, Symbol):
        return np.asarray(scope[atom.name])
    return ATOMS[atom.op](_dim(atom.left, scope), _dim(atom.right, scope))


def _value(node: Expression, arrays: Sequence[Array], scope: dict[str, object]) -> Array:
    if isinstance(node, Literal):
        return np.asarray(node.value, compute_dtype(node.dtype).storage)
    if isinstance(node, Index):
        return _dim(node.value, scope).astype(node.dtype.storage)
    if isinstance(node, Access):
        return _access(node, arrays, scope)
    if isinstance(node, Apply):
        operands = [_value(x, arrays, scope) for x in node.operands]
        if node.op == "cast":
            return operands[0].astype(compute_dtype(node.dtype).storage)
        with np.errstate(all="ignore"):
            return OPERATORS[node.op](*operands).astype(compute_dtype(node.dtype).storage)
    assert isinstance(node, Reduce)
    return _reduce(node, arrays, scope)


def _access(node: Access, arrays: Sequence[Array], scope: dict[str, object]) -> Array:
    scope = {**scope, **{n: _value(x, arrays, scope).astype(np.int64) for n, x in node.indirect}}
    offset = _dim(node.offset, scope)
    holds = np.asarray(True)
    for guard in node.guards:
        index = _dim(guard.index, scope)
        holds = holds & (index >= 0) & (index < _dim(guard.limit, scope))
    flat = arrays[node.operand].reshape(-1)
    read = decode(flat[np.where(holds, offset, 0)], node.storage)
    if read.dtype == np.float16:
        read = read.astype(np.float32)
    return np.where(holds, read, np.asarray(node.fill, read.dtype))


def _reduce(node: Reduce, arrays: Sequence[Array], scope: dict[str, object]) -> Array:
    count = len(node.loops)
    inner = {
        k: v.reshape(v.shape + (1,) * count) if isinstance(v, np.ndarray) else v
        for k, v in scope.items()
    }
    sizes = [_static(loop.extent, scope) for loop in node.loops]  # type: ignore[arg-type]
    for axis, (loop, size) in enumerate(zip(node.loops, sizes, strict=True)):
        inner[loop.name] = np.arange(size).reshape([-1] + [1] * (count - 1 - axis))
    body = _value(node.body, arrays, inner)
    rank = max([np.asarray(v).ndim for v in inner.values()] + [count])
    body = body.reshape((1,) * (rank - body.ndim) + body.shape)
    body = np.broadcast_to(body, body.shape[: rank - count] + tuple(sizes))
    axes = tuple(range(rank - count, rank))
    if node.op in ("arg_max", "arg_min"):
        best = np.argmax if node.op == "arg_max" else np.argmin
        return np.asarray(best(body, axis=axes[0]), np.int64)
    if body.size == 0 and node.op in INITIAL:
        return np.full(body.shape[: rank - count], INITIAL[node.op], body.dtype)
    extra = {} if node.op in ("max", "min", "any", "all") else {"dtype": node.dtype.storage}
    total: Array = REDUCTIONS[node.op](body, axis=axes, **extra)
    return total.astype(node.dtype.storage)
