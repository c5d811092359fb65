"""Memory that native code asks for while it runs, for sizes that only the data tell."""

from __future__ import annotations

import ctypes
import os

import numpy as np

from ranvier.runtime.arrays import Array
from ranvier.runtime.mapping import address_of

_libc = ctypes.CDLL(None)
_libc.free.argtypes = [ctypes.c_void_p]


def function_address(name: str) -> int:
    """Return the address of a function of libc."""
    address = ctypes.cast(getattr(_libc, name), ctypes.c_void_p).value
    assert address is not None  # getattr has found the function
    return address


def physical_bytes() -> int:
    """Return the memory of the machine: no buffer may be larger."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Pool:
    """A pointer and a capacity for every reserved buffer of a model; kept from call to call.

    Attributes:
        address: of the table, two 64-bit words for each buffer.
    """

    def __init__(self, count: int) -> None:
        self._words = np.zeros(2 * count, np.uint64)
        self.address = address_of(self._words) if count else 0

    @property
    def capacity_bytes(self) -> int:
        """Memory that the buffers have now."""
        return int(self._words[1::2].sum())

    def copy(self, number: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """Return the beginning of a buffer as a new array."""
        result = np.empty(shape, dtype)
        if result.nbytes:
            assert result.nbytes <= self._words[2 * number + 1]
            ctypes.memmove(address_of(result), int(self._words[2 * number]), result.nbytes)
        return result

    def release(self) -> None:
        """Give all memory back."""
        pointers, self._words[::2] = self._words[::2].copy(), 0
        self._words[1::2] = 0
        for pointer in pointers:
            _libc.free(int(pointer) or None)
