from __future__ import annotations

import os
import random
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranvier.artifact import reader
from ranvier.artifact.format import Manifest, Program
from ranvier.artifact.reader import Artifact
from ranvier.errors import ArtifactError
from tests.artifact.conftest import ENTRIES


def opens(path: Path, verify: reader.Verify = "fast") -> bool:
    """Whether the file is accepted; any error but ArtifactError fails the test."""
    try:
        Artifact(path, verify).close()
    except ArtifactError:
        return False
    return True


@pytest.mark.parametrize("verify", ["fast", "full", "none"])
def test_reads_what_was_written(
    small: Path, manifest: Manifest, programs: list[Program], verify: reader.Verify
) -> None:
    with Artifact(small, verify) as artifact:
        assert artifact.manifest.inputs == manifest.inputs
        assert artifact.program(0) == programs[0]
        assert artifact.entry_names == ("manifest.json", *ENTRIES)
        for name, data in ENTRIES.items():
            assert artifact.entry(name).tobytes() == data
            offset, size = artifact.extent(name)
            assert offset % 4096 == 0
            assert small.read_bytes()[offset : offset + size] == data


def test_entries_are_read_only_and_outlive_the_artifact(small: Path) -> None:
    with Artifact(small) as artifact:
        weights = artifact.entry("weights/0.bin")
    assert not weights.flags.writeable
    assert weights.tobytes() == ENTRIES["weights/0.bin"]


@pytest.mark.parametrize("verify", ["fast", "full"])
def test_every_flipped_byte_is_found(small: Path, verify: reader.Verify) -> None:
    data, generator = small.read_bytes(), random.Random(1)
    step = 1 if verify == "fast" else 7
    with open(small, "r+b", buffering=0) as file:
        for at in range(0, len(data), step):
            os.pwrite(file.fileno(), bytes([data[at] ^ generator.randint(1, 255)]), at)
            assert not opens(small, verify), f"the byte at {at} was flipped and not found"
            os.pwrite(file.fileno(), data[at : at + 1], at)
    assert opens(small, verify)


def test_without_verification_only_weights_go_unchecked(small: Path) -> None:
    with Artifact(small) as artifact:
        at, code_at = artifact.extent("weights/0.bin")[0], artifact.extent("code/a.img")[0]
    data = bytearray(small.read_bytes())
    data[at] ^= 1
    small.write_bytes(data)
    assert opens(small, "none")
    assert not opens(small, "fast")
    data[code_at] ^= 1
    small.write_bytes(data)
    assert not opens(small, "none")


def test_every_truncation_is_found(small: Path) -> None:
    for size in range(small.stat().st_size - 1, -1, -1):
        os.truncate(small, size)
        assert not opens(small), f"cut to {size} bytes and not found"


def test_appended_bytes_are_found(small: Path) -> None:
    data = small.read_bytes()
    for extra in (b"\0", b"x" * 100, data):
        small.write_bytes(data + extra)
        assert not opens(small)
        small.write_bytes(extra + data)
        assert not opens(small)


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_random_damage_is_never_a_crash(small: Path, data: st.DataObject) -> None:
    original = small.read_bytes()
    altered = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of the file is padding: aim at the directory half of the time.
        low = len(original) - 400 if data.draw(st.booleans()) else 0
        at = data.draw(st.integers(low, len(altered) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        altered[at : at + len(piece)] = piece
    other = small.with_name("altered.rvr")
    other.write_bytes(altered)
    assert opens(other) == (altered == original)


def directory_of(data: bytes | bytearray) -> int:
    return data.index(b"PK\1\2")


@pytest.mark.parametrize(
    ("field", "layout", "value"),
    [
        (20, "<I", 0x7FFFFFFF),  # compressed size
        (24, "<I", 0xFFFFFFFE),  # size
        (24, "<I", 0xFFFFFFFF),  # size, zip64 without the field
        (28, "<H", 0xFFFF),  # length of the name
        (30, "<H", 0xFFFF),  # length of the extra field
        (42, "<I", 0x7FFFFFFF),  # offset of the local header
    ],
)
def test_oversized_lengths(small: Path, field: int, layout: str, value: int) -> None:
    data = bytearray(small.read_bytes())
    struct.pack_into(layout, data, directory_of(data) + field, value)
    small.write_bytes(data)
    assert not opens(small)


def test_duplicate_entries(small: Path) -> None:
    data = small.read_bytes()
    small.write_bytes(data.replace(b"graph.txt", b"graphatxt"))
    assert not opens(small)
    renamed = data.replace(b"weights/0.bin", b"code/a.img\0\0\0")
    small.write_bytes(renamed)
    assert not opens(small)
    at = directory_of(data)
    record = data[at : data.index(b"PK\1\2", at + 1)]
    end = data.rindex(b"PK\5\6")
    doubled = bytearray(data[:end] + record + data[end:])
    end += len(record)
    count, size = struct.unpack_from("<H2xI", doubled, end + 8)
    struct.pack_into("<HHI", doubled, end + 8, count + 1, count + 1, size + len(record))
    small.write_bytes(doubled)
    with pytest.raises(ArtifactError, match=rf"{small}: the entry 'manifest.json' appears twice"):
        Artifact(small)


def test_a_newer_format_says_so(small: Path) -> None:
    data = small.read_bytes()
    small.write_bytes(data.replace(b"format=1 ", b"format=7 "))
    with pytest.raises(ArtifactError, match=r"format 7.*update ranvier"):
        Artifact(small)


def test_another_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(ArtifactError, match="not an artifact"):
        Artifact(path)


def test_not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.rvr"):
        with pytest.raises(ArtifactError, match="cannot be"):
            Artifact(path)


def test_an_unknown_way_to_verify(small: Path) -> None:
    with pytest.raises(ArtifactError, match="fast, full, none"):
        Artifact(small, "sometimes")  # type: ignore[arg-type]


def test_descriptors_are_closed(small: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.rvr"
    bad.write_bytes(small.read_bytes()[:-1])
    opens(small)
    opens(bad)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert opens(small)
        assert not opens(bad)
    assert len(os.listdir("/proc/self/fd")) == before
