"""Parses and validates the manifest of a `.rvr` file.

Parsing is strict: unknown keys are refused, every index is in range, every dtype and symbol is
known, sizes are not negative, depths and lengths are bounded. A message names the place as a path
into the JSON document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from ranvier.artifact.expression import INTEGER_LIMIT, THREADS, Expr, parse_expr, symbols_of
from ranvier.artifact.fields import (
    MAXIMUM_ITEMS,
    expect_choice,
    expect_dtype,
    expect_entry,
    expect_integer,
    expect_list,
    expect_map,
    expect_object,
    expect_shape,
    expect_size,
    expect_string,
)
from ranvier.artifact.format import (
    CODE_SYMBOLS,
    FORMAT_VERSION,
    WEIGHT_ALIGNMENT,
    Buffer,
    Computed,
    Entry,
    Loop,
    Manifest,
    Program,
    Symbol,
    Target,
    TensorSpec,
    Tree,
    is_entry_name,
)
from ranvier.artifact.step_parser import parse_step
from ranvier.errors import ArtifactError

MAXIMUM_TREE_DEPTH = 64

_HEX = re.compile(r"[0-9a-f]{64}")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def load_document(text: bytes) -> dict[str, object]:
    """Parse the JSON of a manifest; `parse_manifest` and `parse_program` read the result.

    Raises:
        ArtifactError: not JSON, a key that appears twice, not an object, or a newer format.
    """
    try:
        document = json.loads(
            text, object_pairs_hook=_object_without_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"manifest: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise ArtifactError("manifest: expected a JSON object")
    version = expect_integer(document.get("format"), "manifest.format", 1, MAXIMUM_ITEMS)
    if version > FORMAT_VERSION:
        raise ArtifactError(newer_format(version))
    return document


def newer_format(version: int) -> str:
    """Return the message for an artifact of a later format version."""
    return (
        f"the artifact has format {version}, this runtime reads formats up to {FORMAT_VERSION}; "
        "update ranvier on this machine, or compile with the older version"
    )


def parse_manifest(document: Mapping[str, object]) -> Manifest:
    """Validate everything but the programs.

    Raises:
        ArtifactError: what is wrong, and where.
    """
    keys = (
        "format",
        "name",
        "precision",
        "symbols",
        "inputs",
        "outputs",
        "input_tree",
        "output_tree",
        "entries",
    )
    top = expect_object(document, "manifest", (*keys, "producer", "programs"), ("computed",))
    symbols = _unique(expect_list(top["symbols"], "manifest.symbols", _symbol), "manifest.symbols")
    given = (*(symbol.name for symbol in symbols), THREADS)
    computed = expect_list(top.get("computed", []), "manifest.computed", _symbol_name)
    if len({*given, *computed}) != len(given) + len(computed):
        raise ArtifactError("manifest.computed: a symbol appears twice")

    def tensors(key: str, names: Collection[str]) -> tuple[TensorSpec, ...]:
        where = f"manifest.{key}"
        return _unique(expect_list(top[key], where, lambda v, w: _tensor(v, w, names)), where)

    inputs, outputs = tensors("inputs", given), tensors("outputs", (*given, *computed))
    targets = expect_list(top["programs"], "manifest.programs", _target)
    if not targets:
        raise ArtifactError("manifest.programs: there is no program")
    return Manifest(
        name=expect_string(top["name"], "manifest.name"),
        precision=expect_choice(top["precision"], "manifest.precision", ("f32", "bf16")),
        symbols=symbols,
        inputs=inputs,
        outputs=outputs,
        input_tree=_whole_tree(top["input_tree"], "manifest.input_tree", len(inputs)),
        output_tree=_whole_tree(top["output_tree"], "manifest.output_tree", len(outputs)),
        producer=expect_map(top["producer"], "manifest.producer", expect_string),
        entries=_entries(top["entries"]),
        targets=targets,
        computed=computed,
    )


def parse_program(document: Mapping[str, object], manifest: Manifest, index: int) -> Program:
    """Validate program number `index` of a document against its manifest.

    Raises:
        ArtifactError: what is wrong, and where.
    """
    programs = document["programs"]
    assert isinstance(programs, list)  # parse_manifest has checked it
    where = f"manifest.programs[{index}]"
    top = expect_object(programs[index], where, _PROGRAM_KEYS, _CONTROL_KEYS)
    code = expect_entry(top["code"], f"{where}.code", manifest)
    symbols = expect_map(
        top["symbols"],
        f"{where}.symbols",
        lambda v, w: expect_integer(v, w, 0, manifest.entries[code].size - 1),
    )
    missing = [name for name in CODE_SYMBOLS if name not in symbols]
    if missing:
        raise ArtifactError(f"{where}.symbols: missing {', '.join(missing)}")
    names = frozenset(manifest.expression_symbols)
    buffers = expect_list(
        top["buffers"], f"{where}.buffers", lambda v, w: _buffer(v, w, manifest, names)
    )
    written = {buffer.index for buffer in buffers if buffer.kind == "output"}
    unwritten = [spec.name for i, spec in enumerate(manifest.outputs) if i not in written]
    if unwritten:
        raise ArtifactError(f"{where}.buffers: no buffer for output {', '.join(unwritten)}")
    dims = expect_list(top["dims"], f"{where}.dims", lambda v, w: parse_expr(v, names, w))
    steps = expect_list(
        top["steps"], f"{where}.steps", lambda v, w: parse_step(v, w, buffers, names, manifest)
    )
    computed = expect_list(
        top.get("computed", []), f"{where}.computed", lambda v, w: _computed(v, w, dims, manifest)
    )
    if [each.name for each in computed] != list(manifest.computed):
        raise ArtifactError(f"{where}.computed: expected one entry for each of manifest.computed")
    reserved = expect_list(
        top.get("reserved", []), f"{where}.reserved", lambda v, w: _reserved(v, w, buffers)
    )
    _check_reserved(buffers, reserved, manifest, where)
    return Program(
        target=manifest.targets[index],
        code=code,
        symbols=symbols,
        dims=dims,
        buffers=buffers,
        steps=steps,
        computed=computed,
        reserved=reserved,
        loops=expect_list(
            top.get("loops", []), f"{where}.loops", lambda v, w: _loop(v, w, len(steps), buffers)
        ),
    )


_Named = TypeVar("_Named", Symbol, TensorSpec)
_PROGRAM_KEYS = ("target", "isa", "features", "code", "symbols", "dims", "buffers", "steps")
_CONTROL_KEYS = ("computed", "reserved", "loops")


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return result


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not allowed")


def _unique(items: tuple[_Named, ...], where: str) -> tuple[_Named, ...]:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise ArtifactError(f"{where}: the name {item.name!r} appears twice")
        seen.add(item.name)
    return items


def _symbol(value: object, where: str) -> Symbol:
    top = expect_object(value, where, ("name", "min", "max"))
    name = _symbol_name(top["name"], f"{where}.name")
    low = expect_integer(top["min"], f"{where}.min", 0, INTEGER_LIMIT - 1)
    return Symbol(name, low, expect_integer(top["max"], f"{where}.max", low, INTEGER_LIMIT - 1))


def _symbol_name(value: object, where: str) -> str:
    name = expect_string(value, where)
    if not _IDENTIFIER.fullmatch(name) or name == THREADS:
        raise ArtifactError(f"{where}: {name!r:.80} is reserved or not an identifier")
    return name


def _computed(value: object, where: str, dims: Sequence[Expr], manifest: Manifest) -> Computed:
    top = expect_object(value, where, ("name", "dim"))
    number = expect_integer(top["dim"], f"{where}.dim", 0, len(dims) - 1)
    name = expect_string(top["name"], f"{where}.name")
    if name not in manifest.computed or dims[number] != name:
        raise ArtifactError(f"{where}: dim {number} is not the computed symbol {name!r:.80}")
    return Computed(name, number)


def _reserved(value: object, where: str, buffers: Sequence[Buffer]) -> int:
    number = expect_integer(value, where, 0, len(buffers) - 1)
    if buffers[number].kind not in ("temporary", "output"):
        raise ArtifactError(f"{where}: buffer {number} is an {buffers[number].kind}")
    return number


def _check_reserved(
    buffers: Sequence[Buffer], reserved: Sequence[int], manifest: Manifest, where: str
) -> None:
    """What the plan cannot size has to be reserved."""
    if len(set(reserved)) != len(reserved):
        raise ArtifactError(f"{where}.reserved: a buffer appears twice")
    for number, buffer in enumerate(buffers):
        unknown = symbols_of(buffer.size) & set(manifest.computed)
        if unknown and number not in reserved:
            raise ArtifactError(
                f"{where}.buffers[{number}]: its size needs {', '.join(sorted(unknown))}, which "
                "is not known before the call; it must be reserved"
            )


def _loop(value: object, where: str, steps: int, buffers: Sequence[Buffer]) -> Loop:
    top = expect_object(value, where, ("first", "last", "pairs"))
    first = expect_integer(top["first"], f"{where}.first", 0, steps - 1)

    def pair(v: object, w: str) -> tuple[int, int]:
        numbers = expect_list(v, w, lambda n, at: expect_integer(n, at, 0, len(buffers) - 1))
        if len(numbers) != 2 or any(buffers[n].kind != "temporary" for n in numbers):
            raise ArtifactError(f"{w}: expected two temporary buffers, got {v!r:.80}")
        return numbers[0], numbers[1]

    return Loop(
        first,
        expect_integer(top["last"], f"{where}.last", first, steps - 1),
        expect_list(top["pairs"], f"{where}.pairs", pair),
    )


def _tensor(value: object, where: str, names: Collection[str]) -> TensorSpec:
    top = expect_object(value, where, ("name", "dtype", "shape"))
    shape = expect_shape(top["shape"], f"{where}.shape", names)
    if any(isinstance(dim, int) and dim < 0 for dim in shape):
        raise ArtifactError(f"{where}.shape: negative size in {shape}")
    return TensorSpec(
        expect_string(top["name"], f"{where}.name"),
        expect_dtype(top["dtype"], f"{where}.dtype"),
        shape,
    )


def _whole_tree(value: object, where: str, leaves: int) -> Tree:
    found: list[int] = []
    tree = _tree(value, where, leaves, found, 0)
    if sorted(found) != list(range(leaves)):
        raise ArtifactError(f"{where}: expected every leaf of 0..{leaves - 1} once, got {found}")
    return tree


def _tree(value: object, where: str, leaves: int, found: list[int], depth: int) -> Tree:
    if not isinstance(value, dict) or len(value) != 1:
        raise ArtifactError(f"{where}: expected an object with one key, got {value!r:.80}")
    if depth > MAXIMUM_TREE_DEPTH:
        raise ArtifactError(f"{where}: nested deeper than {MAXIMUM_TREE_DEPTH}")
    kind, content = next(iter(value.items()))

    def child(v: object, w: str) -> Tree:
        return _tree(v, w, leaves, found, depth + 1)

    if kind == "leaf":
        found.append(expect_integer(content, where, 0, leaves - 1))
        return Tree("leaf", content)
    if kind in ("tuple", "list"):
        return Tree(kind, expect_list(content, f"{where}.{kind}", child))
    if kind == "dict":
        return Tree("dict", tuple(expect_map(content, f"{where}.dict", child).items()))
    if kind == "none":
        return Tree("none")
    if kind == "constant":
        return Tree("constant", content)
    raise ArtifactError(f"{where}: unknown kind of tree {kind!r:.40}")


def _entries(value: object) -> dict[str, Entry]:
    entries = expect_map(value, "manifest.entries", _entry)
    for name in entries:
        if not is_entry_name(name):
            raise ArtifactError(f"manifest.entries: {name!r:.80} is not a valid entry name")
    return entries


def _entry(value: object, where: str) -> Entry:
    top = expect_object(value, where, ("size", "sha256", "sum64"))
    digest = expect_string(top["sha256"], f"{where}.sha256")
    if not _HEX.fullmatch(digest):
        raise ArtifactError(f"{where}.sha256: expected 64 hexadecimal digits, got {digest!r:.80}")
    return Entry(
        size=expect_integer(top["size"], f"{where}.size", 0, INTEGER_LIMIT - 1),
        sha256=digest,
        sum64=expect_integer(top["sum64"], f"{where}.sum64", 0, (1 << 64) - 1),
    )


def _target(value: object, where: str) -> Target:
    top = expect_object(value, where, _PROGRAM_KEYS, _CONTROL_KEYS)
    return Target(
        name=expect_string(top["target"], f"{where}.target"),
        isa=expect_string(top["isa"], f"{where}.isa"),
        features=expect_list(top["features"], f"{where}.features", expect_string),
    )


def _buffer(value: object, where: str, manifest: Manifest, names: Collection[str]) -> Buffer:
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "weight":
        return _weight(value, where, manifest)
    if kind == "temporary":
        top = expect_object(value, where, ("kind", "size"))
        return Buffer("temporary", expect_size(top["size"], f"{where}.size", names))
    if kind not in ("input", "output"):
        raise ArtifactError(
            f"{where}: expected an input, output, weight or temporary, got {value!r:.80}"
        )
    top = expect_object(value, where, ("kind", "index", "size"))
    tensors = manifest.inputs if kind == "input" else manifest.outputs
    index = expect_integer(top["index"], f"{where}.index", 0, len(tensors) - 1)
    return Buffer(kind, expect_size(top["size"], f"{where}.size", names), index)


def _weight(value: object, where: str, manifest: Manifest) -> Buffer:
    top = expect_object(value, where, ("kind", "entry", "offset", "size"))
    entry = expect_entry(top["entry"], f"{where}.entry", manifest)
    available = manifest.entries[entry].size
    offset = expect_integer(top["offset"], f"{where}.offset", 0, available)
    if offset % WEIGHT_ALIGNMENT:
        raise ArtifactError(f"{where}.offset: {offset} is not a multiple of {WEIGHT_ALIGNMENT}")
    return Buffer(
        "weight",
        expect_integer(top["size"], f"{where}.size", 0, available - offset),
        entry=entry,
        offset=offset,
    )
