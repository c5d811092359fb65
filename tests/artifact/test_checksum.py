from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranvier.artifact.checksum import sum64


@given(st.binary(max_size=70))
def test_sum_of_padded_words(data: bytes) -> None:
    padded = data + bytes(-len(data) % 8)
    words = struct.unpack(f"<{len(padded) // 8}Q", padded)
    assert sum64(data) == sum(words) % 2**64
    assert sum64(np.frombuffer(data, np.uint8)) == sum64(memoryview(data))


@given(st.binary(min_size=1, max_size=70), st.data())
def test_every_changed_byte_changes_the_sum(data: bytes, choice: st.DataObject) -> None:
    at = choice.draw(st.integers(0, len(data) - 1))
    flip = choice.draw(st.integers(1, 255))
    other = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
    assert sum64(other) != sum64(data)
