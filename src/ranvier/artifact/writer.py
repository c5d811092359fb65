"""Writes a `.rvr` file aside and renames it, so that there is never a half-written artifact."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.checksum import sha256, sum64
from ranvier.artifact.container import Layout, Member
from ranvier.artifact.document import needed_format, to_document
from ranvier.artifact.format import FORMAT_VERSION, Entry, Manifest, Program, is_entry_name
from ranvier.artifact.parser import load_document, parse_manifest, parse_program
from ranvier.errors import CompileError

MANIFEST = "manifest.json"
Payload: TypeAlias = bytes | bytearray | memoryview | NDArray[Any]


def write_artifact(
    path: str | os.PathLike[str],
    manifest: Manifest,
    programs: Sequence[Program],
    entries: Mapping[str, Payload],
) -> None:
    """Write an artifact; replaces the file at `path` in one step.

    Args:
        path: where to write; the directory must exist.
        manifest: its `entries` and `targets` are computed here.
        programs: at least one.
        entries: contents by entry name, in file order: "code/...", "weights/...", "graph.txt",
            "report.json".

    Raises:
        CompileError: an entry name that is not allowed.
        ArtifactError: the manifest would be refused by the reader.
        OSError: the file cannot be written.
    """
    payloads = {name: _as_bytes(payload) for name, payload in entries.items()}
    for name in payloads:
        if not is_entry_name(name) or name == MANIFEST:
            raise CompileError(f"{name!r} is not allowed as the name of an entry of an artifact")
    described = replace(
        manifest, entries={name: _describe(payload) for name, payload in payloads.items()}
    )
    document = to_document(described, programs)
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    _check(text)
    contents = {MANIFEST: memoryview(text), **payloads}
    layout = Layout(
        [Member(name, len(payload), zlib.crc32(payload)) for name, payload in contents.items()],
        artifact_comment(sha256(text), needed_format(described, programs)),
    )
    with _replacing(os.fspath(path)) as file:
        for place in layout.placed:
            file.write(place.header)
            file.write(contents[place.member.name])
        file.write(layout.tail)


def artifact_comment(manifest_sha256: str, version: int = FORMAT_VERSION) -> bytes:
    """Return the zip comment: what the file is, its format version, its manifest's SHA-256."""
    return f"ranvier-artifact format={version} sha256={manifest_sha256}".encode()


def _as_bytes(payload: Payload) -> memoryview:
    if isinstance(payload, np.ndarray):
        return np.ascontiguousarray(payload).reshape(-1).view(np.uint8).data
    return memoryview(payload).cast("B")


def _describe(payload: memoryview) -> Entry:
    return Entry(len(payload), sha256(payload), sum64(payload))


def _check(text: bytes) -> None:
    """Read the manifest as the loader will, so that a faulty one is found when it is made."""
    document = load_document(text)
    manifest = parse_manifest(document)
    for index in range(len(manifest.targets)):
        parse_program(document, manifest, index)


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes that name when the block ends well, else is removed."""
    directory, name = os.path.split(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=directory)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def _umask() -> int:
    """The process's umask, read without changing it where Linux tells it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
