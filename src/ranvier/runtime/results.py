"""Memory for large results, used again once the caller has let go of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from ranvier.runtime.arrays import Array
from ranvier.runtime.mapping import address_of

KEPT_FROM = 1 << 20
"""Bytes of a result from which on its memory is kept; libc does so with less."""

_ALIGNMENT = 64  # a cache line: no vector that is stored spans two
_SLACK = 2  # a block is used for results of at least one part in so many of its size


class ResultMemory:
    """Blocks of memory that results lie in.

    What is freed in large blocks goes back to the system, which zeroes every page before it hands
    it out again, and on virtual machines perhaps to the host: the product of GPT-2 that writes 206
    MB of logits takes twice as long where the host has to provide the pages.

    A result is a view of its block, and so is every array that is derived from it: a block to which
    nothing else refers is free. Not thread-safe: the caller holds a lock.
    """

    def __init__(self, outputs: int) -> None:
        """For a model with so many outputs; while results are read the next ones are computed."""
        self._most = 2 * outputs
        self._blocks: list[Array] = []  # the least recently used first

    @property
    def kept_bytes(self) -> int:
        """Memory of all blocks, whether results lie in them or not."""
        return sum(block.nbytes for block in self._blocks)

    def empty(self, shape: Sequence[int], dtype: np.dtype[np.generic]) -> Array:
        """Return an array to be written, of C order."""
        size = math.prod(shape) * dtype.itemsize
        if size < KEPT_FROM:
            return np.empty(shape, dtype)
        block = self._free_block(size)
        start = -address_of(block) % _ALIGNMENT
        return block[start : start + size].view(dtype).reshape(shape)

    def release(self) -> None:
        """Forget all blocks; results keep theirs."""
        self._blocks.clear()

    def _free_block(self, size: int) -> Array:
        for index in range(len(self._blocks)):
            if self._is_free(index) and self._fits(index, size):
                self._blocks.append(self._blocks.pop(index))
                return self._blocks[-1]
        self._blocks.append(np.empty(size + _ALIGNMENT, np.uint8))
        del self._blocks[: -self._most]
        return self._blocks[-1]

    def _is_free(self, index: int) -> bool:
        return _references(self._blocks, index) == _ALONE

    def _fits(self, index: int, size: int) -> bool:
        return size <= self._blocks[index].nbytes - _ALIGNMENT <= _SLACK * size


def _references(blocks: list[Array], index: int) -> int:
    return sys.getrefcount(blocks[index])


# References to an array that only a list holds: what counting adds differs between interpreters.
_ALONE = _references([np.empty(0, np.uint8)], 0)
