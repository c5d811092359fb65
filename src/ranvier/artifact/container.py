"""The zip structure of a `.rvr` file, as one function of its entries.

An artifact is a zip file in exactly one form: stored entries in order, each payload on a 4096-byte
boundary (the extra field of its local header is the padding), fixed times and flags, then the
central directory and the end record, whose comment carries the format version and the SHA-256 of
the manifest. `Layout` computes every byte that is not payload; the writer writes these bytes and
the reader compares them, so there is no byte in the file that nothing checks. The structures are
those of PKWARE's APPNOTE 6.3, zip64 included where a size or an offset needs it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

PAGE = 4096
ZIP64_FROM = 0xFFFFFFFF

LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC = b"PK\3\4", b"PK\1\2", b"PK\5\6"
END64_MAGIC, LOCATOR_MAGIC = b"PK\6\6", b"PK\6\7"
CENTRAL_SIZE, END_SIZE, END64_SIZE, LOCATOR_SIZE = 46, 22, 56, 20

_ALIGNMENT_FIELD = 0xD935  # the extra field that Android's zipalign uses for the same purpose
_ZIP64_FIELD = 1
_DATE = 0x21  # 1980-01-01, the first day that zip knows
_MODE = 0o100644 << 16
_MADE_ON_UNIX = 3 << 8


class Member(NamedTuple):
    """An entry as the central directory has it: name, size in bytes, CRC-32."""

    name: str
    size: int
    crc32: int


class Placed(NamedTuple):
    """Where a member lies: offset and bytes of its padded local header, offset of its payload."""

    member: Member
    header_offset: int
    header: bytes
    data_offset: int


class Layout:
    """Every offset of an artifact, and every byte that is not payload.

    Args:
        members: the entries, in file order.
        comment: comment of the end record.
        zip64_from: the sizes and offsets from which zip64 fields are used; smaller values are for
            tests.

    Attributes:
        placed: the members with their headers and offsets.
        tail: central directory, end records and comment.
        tail_offset: where the tail begins; `size` is the size of the file.
    """

    def __init__(
        self, members: Sequence[Member], comment: bytes, zip64_from: int = ZIP64_FROM
    ) -> None:
        placed, offset = [], 0
        for member in members:
            header = _local_header(member, offset, zip64_from)
            placed.append(Placed(member, offset, header, offset + len(header)))
            offset += len(header) + member.size
        self.placed = tuple(placed)
        self.tail_offset = offset
        central = b"".join(_central_record(place, zip64_from) for place in placed)
        self.tail = central + _end_records(len(placed), offset, len(central), comment, zip64_from)
        self.size = offset + len(self.tail)


def _local_header(member: Member, offset: int, zip64_from: int) -> bytes:
    """Return the local header with the padding that puts the payload on a page boundary."""
    name = member.name.encode("ascii")
    large = member.size >= zip64_from
    extra = struct.pack("<HHQQ", _ZIP64_FIELD, 16, member.size, member.size) if large else b""
    padding = -(offset + 30 + len(name) + len(extra) + 6) % PAGE
    extra += struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + padding, PAGE) + bytes(padding)
    size = ZIP64_FROM if large else member.size
    version = 45 if large else 20
    fixed = struct.pack(
        "<4s5H3I2H",
        *(LOCAL_MAGIC, version, 0, 0, 0, _DATE, member.crc32, size, size, len(name), len(extra)),
    )
    return fixed + name + extra


def _central_record(place: Placed, zip64_from: int) -> bytes:
    member, name = place.member, place.member.name.encode("ascii")
    large, far = member.size >= zip64_from, place.header_offset >= zip64_from
    extra = struct.pack("<QQ", member.size, member.size) if large else b""
    extra += struct.pack("<Q", place.header_offset) if far else b""
    extra = struct.pack("<HH", _ZIP64_FIELD, len(extra)) + extra if extra else b""
    size = ZIP64_FROM if large else member.size
    offset = ZIP64_FROM if far else place.header_offset
    version = 45 if extra else 20
    fixed = struct.pack(
        "<4s6H3I5H2I",
        *(
            CENTRAL_MAGIC,
            _MADE_ON_UNIX | version,
            version,
            0,
            0,
            0,
            _DATE,
            member.crc32,
            size,
            size,
        ),
        *(len(name), len(extra), 0, 0, 0, _MODE, offset),
    )
    return fixed + name + extra


def _end_records(count: int, offset: int, size: int, comment: bytes, zip64_from: int) -> bytes:
    far = offset >= zip64_from
    end64 = b""
    if far:
        end64 = struct.pack(
            "<4sQ2H2I4Q", END64_MAGIC, 44, _MADE_ON_UNIX | 45, 45, 0, 0, count, count, size, offset
        )
        end64 += struct.pack("<4sIQI", LOCATOR_MAGIC, 0, offset + size, 1)
    end = (END_MAGIC, 0, 0, count, count, size, ZIP64_FROM if far else offset, len(comment))
    return end64 + struct.pack("<4s4H2IH", *end) + comment


def read_members(directory: bytes, count: int, where: str) -> list[Member]:
    """Parse a central directory leniently; comparing with `Layout(members).tail` checks it.

    Raises:
        ValueError: the directory is cut off, or a name is not ASCII.
    """
    members, at = [], 0
    for index in range(count):
        fixed = directory[at : at + CENTRAL_SIZE]
        if len(fixed) < CENTRAL_SIZE or fixed[:4] != CENTRAL_MAGIC:
            raise ValueError(
                f"{where}: record {index} of {count} in the central directory is damaged"
            )
        crc32, size = struct.unpack_from("<I4xI", fixed, 16)
        name_size, extra_size = struct.unpack_from("<HH", fixed, 28)
        at += CENTRAL_SIZE
        name = directory[at : at + name_size].decode("ascii")
        extra = directory[at + name_size : at + name_size + extra_size]
        if size == ZIP64_FROM and len(extra) >= 20:
            size = struct.unpack_from("<Q", extra, 4)[0]
        members.append(Member(name, size, crc32))
        at += name_size + extra_size
    return members
