from __future__ import annotations

import os
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranvier.artifact.format import Manifest, Program
from ranvier.artifact.reader import Artifact
from ranvier.artifact.writer import write_artifact
from ranvier.errors import ArtifactError, CompileError
from tests.artifact.conftest import ENTRIES


def test_zip_tools_list_it(small: Path) -> None:
    with zipfile.ZipFile(small) as archive:
        assert archive.namelist() == ["manifest.json", *ENTRIES]
        assert archive.testzip() is None
        assert archive.read("weights/0.bin") == ENTRIES["weights/0.bin"]


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, small: Path, manifest: Manifest, programs: list[Program]
) -> None:
    again = tmp_path / "again.rvr"
    write_artifact(again, manifest, programs, ENTRIES)
    assert again.read_bytes() == small.read_bytes()


def test_arrays_are_payloads(tmp_path: Path, manifest: Manifest, programs: list[Program]) -> None:
    weights = np.arange(60, dtype=np.float32).reshape(6, 10)[:, ::2]
    path = tmp_path / "a.rvr"
    write_artifact(path, manifest, programs, {**ENTRIES, "weights/0.bin": np.repeat(weights, 2, 1)})
    with Artifact(path) as artifact:
        stored = artifact.entry("weights/0.bin").view(np.float32)
        np.testing.assert_array_equal(stored, np.repeat(weights, 2, 1).reshape(-1))


def test_an_interrupt_leaves_the_old_file_and_nothing_else(
    small: Path, manifest: Manifest, programs: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small.read_bytes()

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(small, replace(manifest, name="other"), programs, ENTRIES)
    assert small.read_bytes() == before
    assert os.listdir(small.parent) == [small.name]


def test_the_file_has_the_usual_permissions(small: Path) -> None:
    plain = small.parent / "plain"
    plain.touch()
    assert stat.S_IMODE(small.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("name", ["manifest.json", "../a", "/a", "a//b", "", "a/../b", "ä", "a\n"])
def test_entry_names_are_restricted(
    tmp_path: Path, manifest: Manifest, programs: list[Program], name: str
) -> None:
    with pytest.raises(CompileError, match="not allowed"):
        write_artifact(tmp_path / "a.rvr", manifest, programs, {**ENTRIES, name: b""})


def test_a_faulty_manifest_is_found_when_it_is_made(
    tmp_path: Path, manifest: Manifest, programs: list[Program]
) -> None:
    faulty = programs[0]._replace(dims=("unknown",))
    with pytest.raises(ArtifactError, match="unknown symbol"):
        write_artifact(tmp_path / "a.rvr", manifest, [faulty], ENTRIES)
    assert os.listdir(tmp_path) == []
