"""Texts that travel with a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranvier.artifact.format import Manifest, Program
from ranvier.artifact.metadata import METADATA, metadata_entry, read_metadata
from ranvier.artifact.reader import Artifact
from ranvier.artifact.writer import write_artifact
from ranvier.errors import ArtifactError
from tests.artifact.conftest import ENTRIES

_TEXTS = {"labels": "cat\ndog", "alphabet": "αβ 疗\u2028\x00", "": ""}


def _written(path: Path, manifest: Manifest, programs: list[Program], content: bytes) -> Path:
    write_artifact(path, manifest, programs, {**ENTRIES, METADATA: content})
    return path


def test_texts_come_back(tmp_path: Path, manifest: Manifest, programs: list[Program]) -> None:
    path = _written(tmp_path / "a.rvr", manifest, programs, metadata_entry(_TEXTS))
    with Artifact(path, "full") as artifact:
        assert read_metadata(artifact) == _TEXTS


def test_an_artifact_without_texts_has_none(
    tmp_path: Path, manifest: Manifest, programs: list[Program]
) -> None:
    write_artifact(tmp_path / "a.rvr", manifest, programs, ENTRIES)
    with Artifact(tmp_path / "a.rvr") as artifact:
        assert read_metadata(artifact) == {}


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"a": 1}', b"[" * 100_000])
def test_anything_but_an_object_of_strings_is_refused(
    tmp_path: Path, manifest: Manifest, programs: list[Program], content: bytes
) -> None:
    path = _written(tmp_path / "a.rvr", manifest, programs, content)
    with Artifact(path) as artifact, pytest.raises(ArtifactError, match=r"a\.rvr: metadata\.json"):
        read_metadata(artifact)
