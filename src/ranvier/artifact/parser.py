"""Parses and validates the manifest of a `.rvr` file.

Parsing is strict: unknown keys are refused, every index is in range, every dtype and symbol is
known, sizes are not negative, depths and lengths are bounded. A message names the place as a path
into the JSON document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from ranvier.artifact.expression import INTEGER_LIMIT, THREADS, Expr, parse_expr, symbols_of
from ranvier.artifact.format import (
    CODE_SYMBOLS,
    DTYPES,
    FORMAT_VERSION,
    WEIGHT_ALIGNMENT,
    Buffer,
    Computed,
    Entry,
    Foreign,
    ForeignTensor,
    Loop,
    Manifest,
    Program,
    Step,
    StepResult,
    Symbol,
    Target,
    TensorSpec,
    Tree,
    is_entry_name,
)
from ranvier.errors import ArtifactError

MAXIMUM_RANK = 32
MAXIMUM_ITEMS = 1 << 20
MAXIMUM_TEXT = 1 << 16
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
    version = _integer(document.get("format"), "manifest.format", 1, MAXIMUM_ITEMS)
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
    top = _object(document, "manifest", (*keys, "producer", "programs"), ("computed",))
    symbols = _unique(_list(top["symbols"], "manifest.symbols", _symbol), "manifest.symbols")
    given = (*(symbol.name for symbol in symbols), THREADS)
    computed = _list(top.get("computed", []), "manifest.computed", _symbol_name)
    if len({*given, *computed}) != len(given) + len(computed):
        raise ArtifactError("manifest.computed: a symbol appears twice")

    def tensors(key: str, names: Collection[str]) -> tuple[TensorSpec, ...]:
        where = f"manifest.{key}"
        return _unique(_list(top[key], where, lambda v, w: _tensor(v, w, names)), where)

    inputs, outputs = tensors("inputs", given), tensors("outputs", (*given, *computed))
    targets = _list(top["programs"], "manifest.programs", _target)
    if not targets:
        raise ArtifactError("manifest.programs: there is no program")
    return Manifest(
        name=_string(top["name"], "manifest.name"),
        precision=_choice(top["precision"], "manifest.precision", ("f32", "bf16")),
        symbols=symbols,
        inputs=inputs,
        outputs=outputs,
        input_tree=_whole_tree(top["input_tree"], "manifest.input_tree", len(inputs)),
        output_tree=_whole_tree(top["output_tree"], "manifest.output_tree", len(outputs)),
        producer=_map(top["producer"], "manifest.producer", _string),
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
    top = _object(programs[index], where, _PROGRAM_KEYS, _CONTROL_KEYS)
    code = _entry_reference(top["code"], f"{where}.code", manifest)
    symbols = _map(
        top["symbols"],
        f"{where}.symbols",
        lambda v, w: _integer(v, w, 0, manifest.entries[code].size - 1),
    )
    missing = [name for name in CODE_SYMBOLS if name not in symbols]
    if missing:
        raise ArtifactError(f"{where}.symbols: missing {', '.join(missing)}")
    names = frozenset(manifest.expression_symbols)
    buffers = _list(top["buffers"], f"{where}.buffers", lambda v, w: _buffer(v, w, manifest, names))
    written = {buffer.index for buffer in buffers if buffer.kind == "output"}
    unwritten = [spec.name for i, spec in enumerate(manifest.outputs) if i not in written]
    if unwritten:
        raise ArtifactError(f"{where}.buffers: no buffer for output {', '.join(unwritten)}")
    dims = _list(top["dims"], f"{where}.dims", lambda v, w: parse_expr(v, names, w))
    steps = _list(
        top["steps"], f"{where}.steps", lambda v, w: _step(v, w, buffers, names, manifest)
    )
    computed = _list(
        top.get("computed", []), f"{where}.computed", lambda v, w: _computed(v, w, dims, manifest)
    )
    if [each.name for each in computed] != list(manifest.computed):
        raise ArtifactError(f"{where}.computed: expected one entry for each of manifest.computed")
    reserved = _list(
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
        loops=_list(
            top.get("loops", []), f"{where}.loops", lambda v, w: _loop(v, w, len(steps), buffers)
        ),
    )


_T = TypeVar("_T")
_Named = TypeVar("_Named", Symbol, TensorSpec)
_C = TypeVar("_C", bound=str)
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


def _object(
    value: object, where: str, keys: Collection[str], optional: Collection[str] = ()
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ArtifactError(f"{where}: expected an object, got {value!r:.80}")
    for key in keys:
        if key not in value:
            raise ArtifactError(f"{where}: the key {key!r} is missing")
    if len(value) > len(keys):
        for key in value:
            if key not in keys and key not in optional:
                raise ArtifactError(f"{where}: unknown key {key!r:.80}")
    return value


def _list(value: object, where: str, item: Callable[[object, str], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise ArtifactError(f"{where}: expected a list, got {value!r:.80}")
    if len(value) > MAXIMUM_ITEMS:
        raise ArtifactError(f"{where}: {len(value)} items, at most {MAXIMUM_ITEMS} are allowed")
    return tuple([item(element, f"{where}[{i}]") for i, element in enumerate(value)])


def _map(value: object, where: str, item: Callable[[object, str], _T]) -> dict[str, _T]:
    if not isinstance(value, dict):
        raise ArtifactError(f"{where}: expected an object, got {value!r:.80}")
    return {key: item(element, f"{where}.{key}") for key, element in value.items()}


def _string(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAXIMUM_TEXT:
        raise ArtifactError(
            f"{where}: expected a string of at most {MAXIMUM_TEXT} characters, got {value!r:.80}"
        )
    return value


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ArtifactError(f"{where}: expected true or false, got {value!r:.80}")
    return value


def _integer(value: object, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ArtifactError(f"{where}: expected an integer in {low}..{high}, got {value!r:.80}")
    return value


def _choice(value: object, where: str, choices: tuple[_C, ...]) -> _C:
    for choice in choices:
        if value == choice:
            return choice
    raise ArtifactError(f"{where}: expected one of {', '.join(choices)}, got {value!r:.80}")


def _unique(items: tuple[_Named, ...], where: str) -> tuple[_Named, ...]:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise ArtifactError(f"{where}: the name {item.name!r} appears twice")
        seen.add(item.name)
    return items


def _symbol(value: object, where: str) -> Symbol:
    top = _object(value, where, ("name", "min", "max"))
    name = _symbol_name(top["name"], f"{where}.name")
    low = _integer(top["min"], f"{where}.min", 0, INTEGER_LIMIT - 1)
    return Symbol(name, low, _integer(top["max"], f"{where}.max", low, INTEGER_LIMIT - 1))


def _symbol_name(value: object, where: str) -> str:
    name = _string(value, where)
    if not _IDENTIFIER.fullmatch(name) or name == THREADS:
        raise ArtifactError(f"{where}: {name!r:.80} is reserved or not an identifier")
    return name


def _computed(value: object, where: str, dims: Sequence[Expr], manifest: Manifest) -> Computed:
    top = _object(value, where, ("name", "dim"))
    number = _integer(top["dim"], f"{where}.dim", 0, len(dims) - 1)
    name = _string(top["name"], f"{where}.name")
    if name not in manifest.computed or dims[number] != name:
        raise ArtifactError(f"{where}: dim {number} is not the computed symbol {name!r:.80}")
    return Computed(name, number)


def _reserved(value: object, where: str, buffers: Sequence[Buffer]) -> int:
    number = _integer(value, where, 0, len(buffers) - 1)
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
    top = _object(value, where, ("first", "last", "pairs"))
    first = _integer(top["first"], f"{where}.first", 0, steps - 1)

    def pair(v: object, w: str) -> tuple[int, int]:
        numbers = _list(v, w, lambda n, at: _integer(n, at, 0, len(buffers) - 1))
        if len(numbers) != 2 or any(buffers[n].kind != "temporary" for n in numbers):
            raise ArtifactError(f"{w}: expected two temporary buffers, got {v!r:.80}")
        return numbers[0], numbers[1]

    return Loop(
        first,
        _integer(top["last"], f"{where}.last", first, steps - 1),
        _list(top["pairs"], f"{where}.pairs", pair),
    )


def _dtype(value: object, where: str) -> str:
    name = _string(value, where)
    if name not in DTYPES:
        raise ArtifactError(f"{where}: unknown dtype {name!r:.40}; known: {', '.join(DTYPES)}")
    return name


def _shape(value: object, where: str, names: Collection[str]) -> tuple[Expr, ...]:
    shape = _list(value, where, lambda v, w: parse_expr(v, names, w))
    if len(shape) > MAXIMUM_RANK:
        raise ArtifactError(f"{where}: rank {len(shape)}, at most {MAXIMUM_RANK} is allowed")
    return shape


def _size(value: object, where: str, names: Collection[str]) -> Expr:
    expr = parse_expr(value, names, where)
    if isinstance(expr, int) and expr < 0:
        raise ArtifactError(f"{where}: negative size {expr}")
    return expr


def _tensor(value: object, where: str, names: Collection[str]) -> TensorSpec:
    top = _object(value, where, ("name", "dtype", "shape"))
    shape = _shape(top["shape"], f"{where}.shape", names)
    if any(isinstance(dim, int) and dim < 0 for dim in shape):
        raise ArtifactError(f"{where}.shape: negative size in {shape}")
    return TensorSpec(
        _string(top["name"], f"{where}.name"), _dtype(top["dtype"], f"{where}.dtype"), shape
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
        found.append(_integer(content, where, 0, leaves - 1))
        return Tree("leaf", content)
    if kind in ("tuple", "list"):
        return Tree(kind, _list(content, f"{where}.{kind}", child))
    if kind == "dict":
        return Tree("dict", tuple(_map(content, f"{where}.dict", child).items()))
    if kind == "none":
        return Tree("none")
    if kind == "constant":
        return Tree("constant", content)
    raise ArtifactError(f"{where}: unknown kind of tree {kind!r:.40}")


def _entries(value: object) -> dict[str, Entry]:
    entries = _map(value, "manifest.entries", _entry)
    for name in entries:
        if not is_entry_name(name):
            raise ArtifactError(f"manifest.entries: {name!r:.80} is not a valid entry name")
    return entries


def _entry(value: object, where: str) -> Entry:
    top = _object(value, where, ("size", "sha256", "sum64"))
    digest = _string(top["sha256"], f"{where}.sha256")
    if not _HEX.fullmatch(digest):
        raise ArtifactError(f"{where}.sha256: expected 64 hexadecimal digits, got {digest!r:.80}")
    return Entry(
        size=_integer(top["size"], f"{where}.size", 0, INTEGER_LIMIT - 1),
        sha256=digest,
        sum64=_integer(top["sum64"], f"{where}.sum64", 0, (1 << 64) - 1),
    )


def _entry_reference(value: object, where: str, manifest: Manifest) -> str:
    name = _string(value, where)
    if name not in manifest.entries:
        raise ArtifactError(f"{where}: the entry {name!r:.80} is not in manifest.entries")
    return name


def _target(value: object, where: str) -> Target:
    top = _object(value, where, _PROGRAM_KEYS, _CONTROL_KEYS)
    return Target(
        name=_string(top["target"], f"{where}.target"),
        isa=_string(top["isa"], f"{where}.isa"),
        features=_list(top["features"], f"{where}.features", _string),
    )


def _buffer(value: object, where: str, manifest: Manifest, names: Collection[str]) -> Buffer:
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "weight":
        return _weight(value, where, manifest)
    if kind == "temporary":
        top = _object(value, where, ("kind", "size"))
        return Buffer("temporary", _size(top["size"], f"{where}.size", names))
    if kind not in ("input", "output"):
        raise ArtifactError(
            f"{where}: expected an input, output, weight or temporary, got {value!r:.80}"
        )
    top = _object(value, where, ("kind", "index", "size"))
    tensors = manifest.inputs if kind == "input" else manifest.outputs
    index = _integer(top["index"], f"{where}.index", 0, len(tensors) - 1)
    return Buffer(kind, _size(top["size"], f"{where}.size", names), index)


def _weight(value: object, where: str, manifest: Manifest) -> Buffer:
    top = _object(value, where, ("kind", "entry", "offset", "size"))
    entry = _entry_reference(top["entry"], f"{where}.entry", manifest)
    available = manifest.entries[entry].size
    offset = _integer(top["offset"], f"{where}.offset", 0, available)
    if offset % WEIGHT_ALIGNMENT:
        raise ArtifactError(f"{where}.offset: {offset} is not a multiple of {WEIGHT_ALIGNMENT}")
    return Buffer(
        "weight",
        _integer(top["size"], f"{where}.size", 0, available - offset),
        entry=entry,
        offset=offset,
    )


_STEP_KEYS = (
    "kernel",
    "label",
    "reads",
    "writes",
    "in_place",
    "flops",
    "bytes",
    "source",
    "operators",
    "result",
)


def _step(
    value: object,
    where: str,
    buffers: Sequence[Buffer],
    names: Collection[str],
    manifest: Manifest,
) -> Step:
    top = _object(value, where, _STEP_KEYS, ("barrier", "foreign"))
    last = len(buffers) - 1

    def buffer_number(v: object, w: str) -> int:
        return _integer(v, w, 0, last)

    reads = _list(top["reads"], f"{where}.reads", buffer_number)
    writes = _list(top["writes"], f"{where}.writes", buffer_number)
    for number in writes:
        if buffers[number].kind in ("input", "weight"):
            raise ArtifactError(
                f"{where}.writes: buffer {number} is an {buffers[number].kind} and must not change"
            )
    result, foreign = top["result"], top.get("foreign")
    return Step(
        kernel=_string(top["kernel"], f"{where}.kernel"),
        label=_string(top["label"], f"{where}.label"),
        reads=reads,
        writes=writes,
        in_place=_list(
            top["in_place"], f"{where}.in_place", lambda v, w: _in_place(v, w, reads, writes)
        ),
        flops=parse_expr(top["flops"], names, f"{where}.flops"),
        bytes=parse_expr(top["bytes"], names, f"{where}.bytes"),
        source=_string(top["source"], f"{where}.source"),
        operators=_list(top["operators"], f"{where}.operators", _string),
        result=None if result is None else _result(result, f"{where}.result", last, names),
        barrier=_boolean(top.get("barrier", True), f"{where}.barrier"),
        foreign=None
        if foreign is None
        else _foreign(foreign, f"{where}.foreign", reads, writes, manifest),
    )


def _foreign(
    value: object,
    where: str,
    reads: Collection[int],
    writes: Collection[int],
    manifest: Manifest,
) -> Foreign:
    """Sizes have to be known before the call: a framework gets memory of the plan."""
    top = _object(value, where, ("framework", "entry", "operands", "results", "sizes"))
    names = frozenset((*(symbol.name for symbol in manifest.symbols), THREADS))

    def tensors(key: str, buffers: Collection[int]) -> tuple[ForeignTensor, ...]:
        def tensor(v: object, w: str) -> ForeignTensor:
            return _foreign_tensor(v, w, buffers, names)

        return _list(top[key], f"{where}.{key}", tensor)

    return Foreign(
        framework=_string(top["framework"], f"{where}.framework"),
        entry=_entry_reference(top["entry"], f"{where}.entry", manifest),
        operands=tensors("operands", reads),
        results=tensors("results", writes),
        sizes=_list(top["sizes"], f"{where}.sizes", lambda v, w: parse_expr(v, names, w)),
    )


def _foreign_tensor(
    value: object, where: str, buffers: Collection[int], names: Collection[str]
) -> ForeignTensor:
    top = _object(value, where, ("dtype", "shape", "buffer", "offset"))
    number = _integer(top["buffer"], f"{where}.buffer", 0, MAXIMUM_ITEMS)
    if number not in buffers:
        raise ArtifactError(f"{where}.buffer: the step does not use buffer {number} in this way")
    return ForeignTensor(
        dtype=_dtype(top["dtype"], f"{where}.dtype"),
        shape=_shape(top["shape"], f"{where}.shape", names),
        buffer=number,
        offset=parse_expr(top["offset"], names, f"{where}.offset"),
    )


def _in_place(
    value: object, where: str, reads: Collection[int], writes: Collection[int]
) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or value[0] not in writes
        or value[1] not in reads
    ):
        raise ArtifactError(
            f"{where}: expected [a written buffer, a read buffer] of this step, got {value!r:.80}"
        )
    return value[0], value[1]


def _result(value: object, where: str, last: int, names: Collection[str]) -> StepResult:
    top = _object(value, where, ("value", "dtype", "shape", "strides", "buffer", "offset"))
    shape = _shape(top["shape"], f"{where}.shape", names)
    strides = _shape(top["strides"], f"{where}.strides", names)
    if len(strides) != len(shape):
        raise ArtifactError(f"{where}.strides: {len(strides)} strides for {len(shape)} dims")
    return StepResult(
        value=_string(top["value"], f"{where}.value"),
        dtype=_dtype(top["dtype"], f"{where}.dtype"),
        shape=shape,
        strides=strides,
        buffer=_integer(top["buffer"], f"{where}.buffer", 0, last),
        offset=parse_expr(top["offset"], names, f"{where}.offset"),
    )
