from __future__ import annotations

import io
import zipfile
import zlib

import pytest

from ranvier.artifact.container import PAGE, Layout, Member, read_members

CONTENTS = {"manifest.json": b"{}", "weights/0.bin": bytes(range(256)) * 40, "empty": b""}


def layout_of(zip64_from: int) -> Layout:
    members = [Member(name, len(data), zlib.crc32(data)) for name, data in CONTENTS.items()]
    return Layout(members, b"a comment", zip64_from)


def build(layout: Layout) -> bytes:
    return b"".join(p.header + CONTENTS[p.member.name] for p in layout.placed) + layout.tail


@pytest.mark.parametrize("zip64_from", [0xFFFFFFFF, 5000, 1])
def test_any_zip_tool_reads_it(zip64_from: int) -> None:
    layout = layout_of(zip64_from)
    data = build(layout)
    assert len(data) == layout.size
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENTS
        assert archive.comment == b"a comment"
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


@pytest.mark.parametrize("zip64_from", [0xFFFFFFFF, 5000, 1])
def test_payloads_begin_on_pages_and_the_directory_reads_back(zip64_from: int) -> None:
    layout = layout_of(zip64_from)
    assert all(place.data_offset % PAGE == 0 for place in layout.placed)
    members = read_members(layout.tail, len(CONTENTS), "the test")
    assert members == [place.member for place in layout.placed]


def test_sizes_beyond_four_gigabytes() -> None:
    members = [Member("weights/0.bin", 5 << 30, 1), Member("weights/1.bin", 6 << 30, 2)]
    layout = Layout(members, b"")
    assert layout.tail_offset > 11 << 30
    assert read_members(layout.tail, 2, "the test") == members


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_a_damaged_directory(cut: int) -> None:
    with pytest.raises(ValueError, match="central directory is damaged"):
        read_members(layout_of(0xFFFFFFFF).tail[:cut], 3, "the test")
