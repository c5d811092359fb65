"""Outputs whose sizes are known only after the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranvier.artifact.expression import ExpressionTable, symbols_of
from ranvier.artifact.format import DTYPES, Manifest, Program
from ranvier.runtime.arrays import Array
from ranvier.runtime.plan import Plan
from ranvier.runtime.pool import Pool

_KEPT_SHARE = 2
"""An output is copied to memory of its own size when it fills less than one part in so many."""


class OpenOutputs:
    """What to do with outputs before and after a call of a program with computed sizes.

    An output with a bound gets memory for that bound; one without lies in the pool.
    """

    def __init__(self, manifest: Manifest, program: Program) -> None:
        computed = set(manifest.computed)
        self._computed = program.computed
        self._dtypes = [np.dtype(DTYPES[spec.dtype]) for spec in manifest.outputs]
        self._is_open = [
            any(symbols_of(dim) & computed for dim in spec.shape) for spec in manifest.outputs
        ]
        self._places: list[int | None] = [None] * len(manifest.outputs)
        self._buffers: list[list[int]] = [[] for _ in manifest.outputs]
        for number, buffer in enumerate(program.buffers):
            if buffer.kind == "output":
                self._buffers[buffer.index].append(number)
                if number in program.reserved:
                    self._places[buffer.index] = program.reserved.index(number)
        self._table = ExpressionTable()
        self._shapes = [[self._table.add(dim) for dim in spec.shape] for spec in manifest.outputs]

    def memory(
        self, plan: Plan, outputs: Sequence[tuple[tuple[int, ...], Any, Any]]
    ) -> list[Array]:
        """Return an array for every output; raw bytes for those whose size is open."""
        arrays: list[Array] = []
        for index, (shape, dtype, _) in enumerate(outputs):
            if self._is_open[index]:
                size = max((plan.sizes[number] for number in self._buffers[index]), default=0)
                arrays.append(np.empty(max(size, 1), np.uint8))
            else:
                arrays.append(np.empty(shape, dtype))
        return arrays

    def sizes(self, dims: Array) -> dict[str, int]:
        """Return the values of the computed symbols, from the dims of the context."""
        values = dims.view(np.int64)
        return {each.name: int(values[each.dim]) for each in self._computed}

    def arrays(
        self, memory: Sequence[Array], symbols: Mapping[str, int], pool: Pool
    ) -> list[Array]:
        """Return the outputs as arrays of their true sizes."""
        rows = self._table.evaluate(symbols)
        results = []
        for index, raw in enumerate(memory):
            shape = tuple(rows[row] for row in self._shapes[index])
            place, dtype = self._places[index], self._dtypes[index]
            if not self._is_open[index]:
                results.append(raw)
            elif place is not None:
                results.append(pool.copy(place, shape, dtype))
            else:
                size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
                found = raw[:size].view(dtype).reshape(shape)
                results.append(found.copy() if size * _KEPT_SHARE < raw.nbytes else found)
        return results
