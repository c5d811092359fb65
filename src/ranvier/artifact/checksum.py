"""The checksums of entries: SHA-256, and a sum of words that runs at memory speed for weights."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Octets: TypeAlias = bytes | memoryview | NDArray[np.uint8]


def sha256(data: Octets) -> str:
    """Return the SHA-256 of the bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data.data if isinstance(data, np.ndarray) else data).hexdigest()


def sum64(data: Octets) -> int:
    """Return the sum of the little-endian 64-bit words modulo 2**64, the last padded with zeros.

    A change of any one byte changes the sum, since it adds a multiple of a power of 256 that is not
    0 modulo 2**64.
    """
    octets = np.frombuffer(data, np.uint8)
    whole = len(octets) // 8 * 8
    total = int(np.add.reduce(octets[:whole].view("<u8"), dtype=np.uint64))
    return (total + int.from_bytes(octets[whole:].tobytes(), "little")) % (1 << 64)
