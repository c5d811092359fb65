"""The block of words through which native code gets all it needs for a call.

`docs/architecture.md`, section 4, lists its words.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranvier.artifact.format import Program
from ranvier.errors import InputError, ResourceError
from ranvier.runtime.arrays import Array
from ranvier.runtime.group import aligned_words
from ranvier.runtime.mapping import address_of
from ranvier.runtime.plan import Plan
from ranvier.runtime.pool import function_address, physical_bytes
from ranvier.runtime.results import KEPT_FROM

_CONTEXT_WORDS = 32
_POOL_WORD = 7
_FAULT_WORDS = slice(24, 27)  # kind, which, value
_MEMORY_WORDS = slice(27, 30)  # limit in bytes, aligned_alloc, free
_FAULT_SIZE = 1
_STEP_WORDS = slice(3, 5)
_PROFILE_WORDS = slice(2, 7, 4)  # when steps begin, and when they are finished
_TURNS_WORD = 30  # what steps in loops take in all


class CallContext:
    """The context block of native code for calls of one concrete input shape, with its tables.

    Attributes:
        plan: sizes and places.
        address: of the block.
        dims: its table of dims, where a call leaves the sizes that it found out.
        table: its table of buffers.
        inputs: (buffer, input) numbers.
        outputs: shape, dtype and buffer numbers of every output.
        has_large_outputs: whether `ResultMemory` keeps the memory of any.
        arena: address that the temporaries point into.
    """

    __slots__ = (
        "_temporaries", "address", "arena", "dims", "has_large_outputs", "inputs", "outputs",
        "plan", "table", "words",
    )  # fmt: skip

    def __init__(
        self,
        program: Program,
        plan: Plan,
        weights: Mapping[str, int],
        dtypes: Sequence[Any],
        pool: int,
    ) -> None:
        buffers, dims = program.buffers, plan.dims
        self.plan = plan
        words, self.address = aligned_words(_CONTEXT_WORDS + len(buffers) + len(dims))
        table_at, dims_at = (
            self.address + 8 * _CONTEXT_WORDS,
            self.address + 8 * (_CONTEXT_WORDS + len(buffers)),
        )
        words[0], words[1] = table_at, dims_at
        words[_STEP_WORDS] = 0, len(program.steps)
        if program.reserved:
            memory = physical_bytes(), function_address("aligned_alloc"), function_address("free")
            words[_POOL_WORD], words[_MEMORY_WORDS] = pool, memory
        self.dims = words[_CONTEXT_WORDS + len(buffers) :]
        self.dims[:] = np.array(dims, np.int64).view(np.uint64)
        self.words = words
        self.table = (ctypes.c_uint64 * len(buffers)).from_address(table_at)
        self.inputs = [(i, b.index) for i, b in enumerate(buffers) if b.kind == "input"]
        self.outputs = [
            (
                shape,
                dtype,
                tuple(i for i, b in enumerate(buffers) if b.kind == "output" and b.index == number),
            )
            for number, (shape, dtype) in enumerate(zip(plan.output_shapes, dtypes, strict=True))
        ]
        self.has_large_outputs = any(
            math.prod(shape) * dtype.itemsize >= KEPT_FROM for shape, dtype, _ in self.outputs
        )
        self._temporaries = tuple(plan.offsets.items())
        for number, buffer in enumerate(buffers):
            if buffer.kind == "weight":
                self.table[number] = weights[buffer.entry] + buffer.offset
        self.arena = 0

    def bind_arena(self, address: int) -> None:
        """Point the temporaries into the arena at `address`."""
        for number, offset in self._temporaries:
            self.table[number] = address + offset
        self.arena = address

    @property
    def temporaries(self) -> tuple[tuple[int, int], ...]:
        """Number of every planned buffer, and its offset in the arena."""
        return self._temporaries

    @property
    def part(self) -> Array:
        """The first step to run and the one behind the last; may be written."""
        return self.words[_STEP_WORDS]

    def watch(self, ticks: Array | None, turns: Array | None) -> None:
        """Have the next calls write clock readings there; None for no longer."""
        tables = (0, 0) if ticks is None else (address_of(ticks[0]), address_of(ticks[1]))
        self.words[_PROFILE_WORDS] = tables
        self.words[_TURNS_WORD] = 0 if turns is None else address_of(turns)

    def check_faults(self, program: Program) -> None:
        """Raise what native code could not do, and forget it.

        Raises:
            InputError: a computed size is outside its range.
            ResourceError: there is not as much memory as a computed size needs.
        """
        kind, which, value = (int(word) for word in self.words[_FAULT_WORDS].view(np.int64))
        if not kind:
            return
        self.words[_FAULT_WORDS] = 0
        if kind == _FAULT_SIZE:
            raise InputError(
                f"a size that the model computes, {program.dims[which]}, is {value}; that is "
                "outside the range that it was compiled for. Check the input that it comes from"
            )
        raise ResourceError(
            f"buffer {program.reserved[which]} needs {value} bytes, which this machine does not "
            "have. Check the inputs that sizes are computed from"
        )
