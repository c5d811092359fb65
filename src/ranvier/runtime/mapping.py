"""Maps code for execution: straight from the artifact, so that processes share one copy of it."""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArtifactError


def address_of(memory: NDArray[np.generic]) -> int:
    """Return the address of an array's first byte."""
    address: int = memory.__array_interface__["data"][0]
    return address


class Code:
    """An image mapped read and execute, for as long as this object lives.

    Attributes:
        symbols: address of each of the image's functions by name.
    """

    def __init__(self, descriptor: int, offset: int, size: int, symbols: Mapping[str, int]) -> None:
        """Map `size` bytes at `offset` of an open file; `symbols` are offsets within them.

        Raises:
            ArtifactError: the system does not allow executable mappings.
        """
        self._map = _map_file(descriptor, offset, size) or _map_copy(descriptor, offset, size)
        base = address_of(np.frombuffer(self._map, np.uint8))
        self.symbols = {name: base + at for name, at in symbols.items()}


def _map_file(descriptor: int, offset: int, size: int) -> mmap.mmap | None:
    """Map the file itself; None where its file system is mounted "noexec"."""
    try:
        protection = mmap.PROT_READ | mmap.PROT_EXEC
        return mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=protection, offset=offset)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return None
        raise ArtifactError(f"the code cannot be mapped: {error.strerror}") from error


def _map_copy(descriptor: int, offset: int, size: int) -> mmap.mmap:
    """Copy the code to anonymous memory, never writable and executable at once."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with mmap.mmap(
        descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=offset
    ) as source:
        memory.write(source[:])
    address = ctypes.c_void_p(address_of(np.frombuffer(memory, np.uint8)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(address, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_EXEC):
        raise ArtifactError(
            "the code cannot be mapped: this system allows no executable memory (noexec, SELinux)"
        )
    return memory
