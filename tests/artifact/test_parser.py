from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranvier.artifact.document import to_document
from ranvier.artifact.format import Entry, Manifest, Program
from ranvier.artifact.parser import load_document, parse_manifest, parse_program
from ranvier.errors import ArtifactError

Document = dict[str, Any]


@pytest.fixture
def full(manifest: Manifest, programs: list[Program]) -> Manifest:
    sizes = {"code/a.img": 32, "weights/0.bin": 200, "graph.txt": 11}
    entries = {name: Entry(size, "0" * 64, 5) for name, size in sizes.items()}
    return replace(manifest, entries=entries, targets=(programs[0].target,))


@pytest.fixture
def document(full: Manifest, programs: list[Program]) -> Document:
    return json.loads(json.dumps(to_document(full, programs)))  # type: ignore[no-any-return]


def parse(document: Document) -> Program:
    loaded = load_document(json.dumps(document).encode())
    return parse_program(loaded, parse_manifest(loaded), 0)


def test_round_trip(full: Manifest, programs: list[Program], document: Document) -> None:
    loaded = load_document(json.dumps(document).encode())
    assert parse_manifest(loaded) == full
    assert parse_program(loaded, full, 0) == programs[0]


def at(*path: str | int) -> Callable[[Document, object], None]:
    def put(document: Document, value: object) -> None:
        target: Any = document
        for part in path[:-1]:
            target = target[part]
        if value is DELETED:
            del target[path[-1]]
        else:
            target[path[-1]] = value

    return put


DELETED = object()
PROGRAM = ("programs", 0)
STEP = (*PROGRAM, "steps", 0)


@pytest.mark.parametrize(
    ("put", "value", "message"),
    [
        (at("format"), 0, "manifest.format"),
        (at("format"), "1", "manifest.format"),
        (at("format"), 3, "format 3"),
        (at("extra"), 1, "unknown key 'extra'"),
        (at("name"), DELETED, "'name' is missing"),
        (at("precision"), "int3", "manifest.precision"),
        (at("symbols", 0, "min"), -1, r"symbols\[0\].min"),
        (at("symbols", 0, "max"), True, r"symbols\[0\].max"),
        (at("symbols", 1, "min"), 10, r"symbols\[1\].max"),
        (at("symbols", 1, "name"), "n", "'n' appears twice"),
        (at("symbols", 1, "name"), "threads", "reserved"),
        (at("inputs", 1, "name"), "x", "'x' appears twice"),
        (at("inputs", 0, "dtype"), "f8", "unknown dtype 'f8'"),
        (at("inputs", 0, "shape", 0), "q", "unknown symbol 'q'"),
        (at("inputs", 0, "shape", 0), -4, "negative size"),
        (at("inputs", 0, "shape"), [1] * 40, "rank 40"),
        (at("input_tree", "dict", "x", "leaf"), 1, "every leaf"),
        (at("input_tree", "dict", "x", "leaf"), 2, r"0\.\.1"),
        (at("output_tree"), {"set": []}, "unknown kind of tree"),
        (at("output_tree"), [], "expected an object with one key"),
        (at("entries", "code/a.img", "size"), -1, "size"),
        (at("entries", "code/a.img", "size"), 1 << 64, "size"),
        (at("entries", "code/a.img", "sha256"), "zz", "64 hexadecimal"),
        (at("entries", "../etc"), {"size": 1, "sha256": "0" * 64, "sum64": 0}, "entry name"),
        (at("programs"), {}, "manifest.programs"),
        (at("programs"), [], "there is no program"),
        (at(*PROGRAM, "target"), None, "target"),
        (at(*PROGRAM, "code"), "code/b.img", "not in manifest.entries"),
        (at(*PROGRAM, "symbols", "ranvier_run"), 32, r"0\.\.31"),
        (at(*PROGRAM, "symbols", "ranvier_call"), DELETED, "missing ranvier_call"),
        (at(*PROGRAM, "dims", 0), ["+", 1], r"dims\[0\]"),
        (at(*PROGRAM, "buffers", 0, "index"), 2, r"0\.\.1"),
        (at(*PROGRAM, "buffers", 0, "kind"), "stack", "input, output, weight or temporary"),
        (at(*PROGRAM, "buffers", 2, "offset"), 63, "multiple of 64"),
        (at(*PROGRAM, "buffers", 2, "offset"), 256, r"0\.\.200"),
        (at(*PROGRAM, "buffers", 2, "size"), 137, r"0\.\.136"),
        (at(*PROGRAM, "buffers", 3, "size"), -1, "negative size"),
        (at(*PROGRAM, "buffers", 5), {"kind": "temporary", "size": 1}, "no buffer for output z"),
        (at(*STEP, "reads", 0), 6, r"0\.\.5"),
        (at(*STEP, "writes", 0), 2, "must not change"),
        (at(*STEP, "in_place"), [[3, 4]], "a written buffer, a read buffer"),
        (at(*STEP, "in_place"), [[3, [0]]], "a written buffer, a read buffer"),
        (at(*STEP, "barrier"), 1, "true or false"),
        (at(*STEP, "label"), "x" * 70000, "label"),
        (at(*STEP, "result", "buffer"), 6, r"0\.\.5"),
        (at(*STEP, "result", "strides"), [], "0 strides for 1 dims"),
    ],
)
def test_malformed(
    document: Document, put: Callable[[Document, object], None], value: object, message: str
) -> None:
    put(document, value)
    with pytest.raises(ArtifactError, match=message):
        parse(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"format": 1, "format": 1}', "appears twice"),
        (b'{"format": NaN}', "NaN"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"format": ' + b"9" * 10_000 + b"}", "not valid JSON"),
    ],
)
def test_not_a_document(text: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        load_document(text)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_altered_document_is_accepted_or_refused_by_name(
    document: Document, data: st.DataObject
) -> None:
    copy = json.loads(json.dumps(document))
    target: Any = copy
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        inside = target[key]
        if not isinstance(inside, (dict, list)) or not inside or data.draw(st.booleans()):
            break
        target = inside
    target[key] = data.draw(junk)
    message = "manifest"
    try:
        parse(copy)
    except ArtifactError as error:
        message = str(error)
    assert "manifest" in message or "format" in message
