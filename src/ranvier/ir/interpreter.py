"""Runs a graph with the NumPy definitions of its operators: the reference for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.errors import InputError
from ranvier.ir.dim import Dim, evaluate, linear_in, symbols
from ranvier.ir.dtype import Array
from ranvier.ir.graph import Graph, Shape, Value
from ranvier.ir.operators import evaluate as evaluate_operator


def interpret(
    graph: Graph,
    inputs: Mapping[str, Array],
    symbols: Mapping[str, int] | None = None,
    watch: Callable[[Value, Array], None] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Output arrays by output name, for storage arrays (bf16 as uint16) by input name.

    Symbolic dims are solved from the shapes of `inputs`; `symbols` gives those that no input shows.
    `watch(value, array)` sees every value as it is computed. Raises InputError when `inputs` do not
    fit the graph.
    """
    given = _given_arrays(graph, inputs)
    sizes = solve_symbols({v.name: v.shape for v in graph.inputs}, inputs, symbols or {})
    results = run(graph, given, sizes, watch)
    names = graph.output_names or tuple(value.name for value in graph.outputs)
    return dict(zip(names, results, strict=True))


def run(
    graph: Graph,
    inputs: Sequence[Array],
    symbols: dict[str, int],
    watch: Callable[[Value, Array], None] | None = None,
) -> list[Array]:
    """Output arrays for input arrays, both in order; the symbols that nodes define are added to
    `symbols`.
    """
    arrays = dict(zip(graph.inputs, inputs, strict=True))
    for node, dead in zip(graph.nodes, _releases(graph), strict=True):
        results = evaluate_operator(
            node.op,
            [arrays[operand] for operand in node.operands],
            [operand.type for operand in node.operands],
            node.attributes,
            [result.type for result in node.results],
            symbols,
            node.source,
        )
        for value, array in zip(node.results, results, strict=True):
            arrays[value] = array
            if watch is not None:
                watch(value, array)
        for value in dead:
            del arrays[value]
    return [arrays[value] for value in graph.outputs]


def _given_arrays(graph: Graph, inputs: Mapping[str, Array]) -> list[Array]:
    expected = {value.name for value in graph.inputs}
    if expected != inputs.keys():
        raise InputError(f"{graph.name} takes inputs {sorted(expected)}, got {sorted(inputs)}")
    arrays = []
    for value in graph.inputs:
        array = np.asarray(inputs[value.name])
        if array.dtype != value.dtype.storage:
            wanted = value.dtype.storage
            raise InputError(f"input {value.name!r} needs {wanted} elements, got {array.dtype}")
        arrays.append(array)
    return arrays


def _releases(graph: Graph) -> list[list[Value]]:
    """Per node: the values that nothing reads after it."""
    alive = set(graph.outputs)
    releases: list[list[Value]] = []
    for node in reversed(graph.nodes):
        dead = [v for v in dict.fromkeys((*node.operands, *node.results)) if v not in alive]
        alive.update(node.operands)
        releases.append(dead)
    return releases[::-1]


def solve_symbols(
    shapes: Mapping[str, Shape], inputs: Mapping[str, Array], known: Mapping[str, int]
) -> dict[str, int]:
    """Values of the symbols in `shapes` (by input name) for the shapes that `inputs` have.

    Raises InputError when a rank or a size does not fit, a symbol is outside its range, or the
    shapes leave a symbol open.
    """
    found = dict(known)
    pairs = [
        pair for name, shape in shapes.items() for pair in _dim_pairs(name, shape, inputs[name])
    ]
    open_pairs = pairs
    while open_pairs:
        left = [pair for pair in open_pairs if not _solve(pair[1], pair[2], found)]
        if len(left) == len(open_pairs):
            raise InputError(f"cannot solve {left[0][1]} = {left[0][2]} ({left[0][0]})")
        open_pairs = left
    for where, dim, size in pairs:
        if evaluate(dim, found) != size:
            raise InputError(f"{where} must be {dim} = {evaluate(dim, found)}, got {size}")
    _check_ranges((dim for _, dim, _ in pairs), found)
    return found


def _dim_pairs(name: str, shape: Shape, array: Array) -> list[tuple[str, Dim, int]]:
    if len(shape) != array.ndim:
        raise InputError(f"input {name!r} needs {len(shape)} dims, got {array.ndim}")
    sizes = zip(shape, array.shape, strict=True)
    return [(f"dim {i} of input {name!r}", dim, size) for i, (dim, size) in enumerate(sizes)]


def _solve(dim: Dim, size: int, found: dict[str, int]) -> bool:
    """Whether all symbols of `dim` are known now; solves a single unknown that occurs linearly."""
    unknown = [name for name in symbols(dim) if name not in found]
    if not unknown:
        return True
    linear = linear_in(dim, unknown[0]) if len(unknown) == 1 else None
    if linear is None or any(n not in found for part in linear for n in symbols(part)):
        return False
    factor, rest = (evaluate(part, found) for part in linear)
    if factor == 0:
        return False
    found[unknown[0]] = (size - rest) // factor
    return True


def _check_ranges(dims: Iterable[Dim], found: Mapping[str, int]) -> None:
    for dim in dims:
        for name, symbol in symbols(dim).items():
            _, most = symbol.bounds()
            if found[name] < symbol.minimum or (most is not None and found[name] > most):
                limit = "any size" if most is None else most
                allowed = f"{symbol.minimum} to {limit}"
                raise InputError(f"{name} = {found[name]} is outside its range, {allowed}")
