"""Opens a `.rvr` file: maps it read-only and checks it before anything is used.

Nothing is trusted: the end record says how many entries there are, the central directory gives
their names and sizes, and from these alone every other byte of structure follows
(`container.Layout`) and is compared. What is left is payload, which the manifest's hashes cover;
the manifest's own hash stands in the end record.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.checksum import sha256, sum64
from ranvier.artifact.container import (
    END64_MAGIC,
    END64_SIZE,
    END_MAGIC,
    END_SIZE,
    LOCATOR_MAGIC,
    LOCATOR_SIZE,
    Layout,
    read_members,
)
from ranvier.artifact.format import FORMAT_VERSION, Program
from ranvier.artifact.parser import load_document, newer_format, parse_manifest, parse_program
from ranvier.errors import ArtifactError

Verify = Literal["fast", "full", "none"]

MANIFEST = "manifest.json"
WEIGHTS = "weights/"
MAXIMUM_ENTRIES = 4096
MAXIMUM_COMMENT = 128
MAXIMUM_MANIFEST = 256 << 20
_ADVICE = "the file was altered or cut off; copy it again or compile the model again"
_COMMENT = re.compile(rb"ranvier-artifact format=([0-9]{1,6}) sha256=([0-9a-f]{64})")


class Artifact:
    """An open artifact; its structure, manifest and hashes have been checked.

    Attributes:
        path: the file's path, for messages.
        manifest: everything but the programs, which `program` parses.
    """

    def __init__(self, path: str | os.PathLike[str], verify: Verify = "fast") -> None:
        """Open and check an artifact.

        Args:
            path: the file.
            verify: "fast" checks SHA-256 of the manifest, the code and the texts, and `sum64` of
                the weights, which finds every single flipped byte; "full" checks SHA-256 of
                everything and validates every program; "none" leaves the weights unchecked.

        Raises:
            ArtifactError: the file cannot be read or is not a valid artifact; says what is wrong,
                and where.
        """
        if verify not in get_args(Verify):
            raise ArtifactError(
                f"verify={verify!r} is not known; use one of {', '.join(get_args(Verify))}"
            )
        self.path = os.fspath(path)
        self._descriptor, self._map = _open(self.path)
        try:
            self._bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
            manifest_sha256, self._layout = _read_structure(self._map)
            self._places = {place.member.name: place for place in self._layout.placed}
            self._document = load_document(self._manifest_text(manifest_sha256))
            self.manifest = parse_manifest(self._document)
            self._check_entries()
            self._check_hashes(verify)
            if verify == "full":
                for index in range(len(self.manifest.targets)):
                    self.program(index)
        except ArtifactError as error:
            self.close()
            raise ArtifactError(f"{self.path}: {error.args[0]}") from error
        except BaseException:
            self.close()
            raise

    def program(self, index: int) -> Program:
        """Parse and validate the program of `manifest.targets[index]`.

        Raises:
            ArtifactError: what is wrong, and where.
        """
        return parse_program(self._document, self.manifest, index)

    @property
    def entry_names(self) -> tuple[str, ...]:
        """The names of all entries in file order, the manifest included."""
        return tuple(self._places)

    def entry(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of an entry, mapped, read-only, on a page boundary."""
        place = self._places[name]
        return self._bytes[place.data_offset : place.data_offset + place.member.size]

    def extent(self, name: str) -> tuple[int, int]:
        """Return the offset and the size of an entry in the file, in bytes."""
        place = self._places[name]
        return place.data_offset, place.member.size

    def fileno(self) -> int:
        """Return the descriptor of the open file; it is the artifact's, which closes it."""
        return self._descriptor

    @property
    def document(self) -> Mapping[str, object]:
        """The manifest as parsed JSON, for tools that show it."""
        return self._document

    def close(self) -> None:
        """Close the file. What still refers to mapped bytes keeps them mapped."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Artifact:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _manifest_text(self, expected_sha256: str) -> bytes:
        if self.entry_names[:1] != (MANIFEST,):
            raise ArtifactError(f"the first entry is not {MANIFEST}; {_ADVICE}")
        text = self.entry(MANIFEST)
        if len(text) > MAXIMUM_MANIFEST:
            raise ArtifactError(
                f"{MANIFEST} has {len(text)} bytes, at most {MAXIMUM_MANIFEST} are allowed"
            )
        if sha256(text) != expected_sha256:
            raise ArtifactError(
                f"{MANIFEST} does not have the SHA-256 in the end record; {_ADVICE}"
            )
        return text.tobytes()

    def _check_entries(self) -> None:
        stored = {
            name: place.member.size for name, place in self._places.items() if name != MANIFEST
        }
        declared = {name: entry.size for name, entry in self.manifest.entries.items()}
        for name in sorted(stored.keys() ^ declared.keys()):
            place = (
                "the file but not in the manifest"
                if name in stored
                else "the manifest but not in the file"
            )
            raise ArtifactError(f"the entry {name!r} is in {place}; {_ADVICE}")
        for name, size in declared.items():
            if stored[name] != size:
                raise ArtifactError(
                    f"the entry {name!r} has {stored[name]} bytes, "
                    f"the manifest says {size}; {_ADVICE}"
                )

    def _check_hashes(self, verify: Verify) -> None:
        for name, entry in self.manifest.entries.items():
            weights = name.startswith(WEIGHTS)
            if verify == "none" and weights:
                continue
            if verify == "fast" and weights:
                intact = sum64(self.entry(name)) == entry.sum64
            else:
                intact = sha256(self.entry(name)) == entry.sha256
            if not intact:
                raise ArtifactError(f"the entry {name!r} does not match its checksum; {_ADVICE}")


def _open(path: str) -> tuple[int, mmap.mmap]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        if os.fstat(descriptor).st_size < END_SIZE:
            raise ArtifactError(f"{path}: not an artifact: shorter than {END_SIZE} bytes")
        return descriptor, mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    except OSError as error:
        os.close(descriptor)
        raise ArtifactError(f"{path}: cannot be mapped: {error.strerror}") from error
    except ArtifactError:
        os.close(descriptor)
        raise


class _End(NamedTuple):
    """The end record: the manifest's SHA-256, the extent of the central directory, the comment."""

    manifest_sha256: str
    entry_count: int
    offset: int
    size: int
    comment: bytes


def _read_structure(data: mmap.mmap) -> tuple[str, Layout]:
    """Check everything that is not payload; return the manifest's SHA-256 and the layout."""
    end = _read_end(data)
    directory = data[end.offset : end.offset + end.size]
    try:
        members = read_members(directory, end.entry_count, f"byte {end.offset}")
    except ValueError as error:
        raise ArtifactError(f"{error}; {_ADVICE}") from error
    names: set[str] = set()
    for member in members:
        if member.name in names:
            raise ArtifactError(f"the entry {member.name!r} appears twice; {_ADVICE}")
        names.add(member.name)
    total = sum(member.size for member in members)
    if total > len(data):
        raise ArtifactError(f"the entries have {total} bytes, the file only {len(data)}; {_ADVICE}")
    layout = Layout(members, end.comment)
    if layout.tail_offset != end.offset or layout.size != len(data):
        raise ArtifactError(
            f"the file has {len(data)} bytes and its directory at byte {end.offset}, its entries "
            f"make {layout.size} bytes with the directory at byte {layout.tail_offset}; {_ADVICE}"
        )
    if data[end.offset :] != layout.tail:
        raise ArtifactError(f"the central directory at byte {end.offset} is damaged; {_ADVICE}")
    for place in layout.placed:
        if data[place.header_offset : place.data_offset] != place.header:
            raise ArtifactError(
                f"the header of {place.member.name!r} at byte {place.header_offset} is damaged; "
                f"{_ADVICE}"
            )
    return end.manifest_sha256, layout


def _read_end(data: mmap.mmap) -> _End:
    tail_offset = max(0, len(data) - END_SIZE - MAXIMUM_COMMENT)
    tail = data[tail_offset:]
    at = tail.rfind(END_MAGIC)
    if at < 0 or len(tail) - at < END_SIZE:
        raise ArtifactError("not an artifact, or cut off: there is no end record")
    comment = tail[at + END_SIZE :]
    match = _COMMENT.fullmatch(comment)
    if match is None:
        raise ArtifactError(
            "a zip file, but not an artifact of ranvier: its comment does not say so"
        )
    version, manifest_sha256 = int(match[1]), match[2].decode()
    if version > FORMAT_VERSION:
        raise ArtifactError(newer_format(version))
    count, size, offset = struct.unpack_from("<HII", tail, at + 10)
    if offset == 0xFFFFFFFF:
        offset = _zip64_offset(data, tail_offset + at)
    if not 0 < count <= MAXIMUM_ENTRIES:
        raise ArtifactError(
            f"the end record counts {count} entries, expected 1 to {MAXIMUM_ENTRIES}; {_ADVICE}"
        )
    if offset + size > tail_offset + at:
        raise ArtifactError(
            f"the central directory (byte {offset}, {size} bytes) leaves the file; {_ADVICE}"
        )
    return _End(manifest_sha256, count, offset, size, comment)


def _zip64_offset(data: mmap.mmap, end: int) -> int:
    """Return the offset of the central directory, from the zip64 record before byte `end`."""
    locator = end - LOCATOR_SIZE
    record = locator - END64_SIZE
    if (
        record < 0
        or data[locator : locator + 4] != LOCATOR_MAGIC
        or data[record : record + 4] != END64_MAGIC
    ):
        raise ArtifactError(f"the zip64 end record before byte {end} is missing; {_ADVICE}")
    offset: int = struct.unpack_from("<Q", data, record + 48)[0]
    return offset
