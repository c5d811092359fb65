"""What a `.rvr` file says, as data: the manifest, its programs, and the rules for names and dtypes.

`docs/artifact.md` says what every field means; `parser.py` reads JSON into these types,
`document.py` writes them. Records are named tuples where they can be: every process that loads an
artifact defines them, and a frozen dataclass takes six times as long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ranvier.artifact.expression import THREADS, Expr

FORMAT_VERSION = 2
"""The newest format; `document.py` writes the oldest that has what an artifact needs.

2: sizes found during the call, memory reserved for them, loops; element types below 16 bits, bool
apart; steps that a framework runs.
"""

DTYPES = {
    "f32": "<f4",
    "f64": "<f8",
    "f16": "<f2",
    "bf16": "<u2",
    "i8": "|i1",
    "i16": "<i2",
    "i32": "<i4",
    "i64": "<i8",
    "u8": "|u1",
    "u16": "<u2",
    "u32": "<u4",
    "u64": "<u8",
    "bool": "|b1",
    "f8e4m3fn": "|u1",
    "f8e4m3fnuz": "|u1",
    "f8e5m2": "|u1",
    "f8e5m2fnuz": "|u1",
    "f8e8m0": "|u1",
    "f6e2m3": "|u1",
    "f6e3m2": "|u1",
    "f4e2m1": "|u1",
    "i4": "|i1",
    "u4": "|u1",
    "i2": "|i1",
    "u2": "|u1",
}
"""NumPy type string of every dtype.

NumPy has no bf16, so its bits travel as uint16, and no floats below 16 bits: theirs travel as
uint8. Integers of 4 and 2 bits have a byte each.
"""

FIRST_DTYPES = frozenset({
    "f32", "f64", "f16", "bf16", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool",
})  # fmt: skip
"""The dtypes of format 1."""

CODE_SYMBOLS = ("ranvier_run", "ranvier_worker", "ranvier_call", "ranvier_stop")
WEIGHT_ALIGNMENT = 64

_ENTRY_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*")

BufferKind = Literal["input", "output", "weight", "temporary"]
TreeKind = Literal["leaf", "tuple", "list", "dict", "none", "constant"]


class Symbol(NamedTuple):
    """A named dimension; `minimum` and `maximum` are inclusive."""

    name: str
    minimum: int
    maximum: int


class TensorSpec(NamedTuple):
    """An input or output: name, dtype name ("f32", ...) and shape in elements."""

    name: str
    dtype: str
    shape: tuple[Expr, ...]


class Tree(NamedTuple):
    """The nesting of inputs or outputs.

    `value` by kind: leaf: index of the input or output; tuple, list: tuple of trees; dict: tuple of
    (key, tree); none: None; constant: a JSON value.
    """

    kind: TreeKind
    value: Any = None


class Entry(NamedTuple):
    """A file inside the artifact: size in bytes, SHA-256, and `checksum.sum64`."""

    size: int
    sha256: str
    sum64: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a program, in bytes; `index` for inputs and outputs, `entry` for weights."""

    kind: BufferKind
    size: Expr
    index: int = 0
    entry: str = ""
    offset: int = 0


class StepResult(NamedTuple):
    """The graph value that a step computes; strides in elements, offset in bytes."""

    value: str
    dtype: str
    shape: tuple[Expr, ...]
    strides: tuple[Expr, ...]
    buffer: int
    offset: Expr = 0


class ForeignTensor(NamedTuple):
    """A dense tensor that a framework reads or writes; offset in bytes."""

    dtype: str
    shape: tuple[Expr, ...]
    buffer: int
    offset: Expr = 0


class Foreign(NamedTuple):
    """What a framework runs in a step: the entry that says it, its tensors, and its sizes."""

    framework: str
    entry: str
    operands: tuple[ForeignTensor, ...]
    results: tuple[ForeignTensor, ...]
    sizes: tuple[Expr, ...] = ()


class Step(NamedTuple):
    """One kernel call; `reads`, `writes` and the (written, read) pairs hold buffer numbers.

    `barrier` says that all threads meet before this step; without it the step joins the one before
    it, and threads may be in either, so the memory plan gives the two no common memory.
    `foreign` says what a framework runs instead of a kernel.
    """

    kernel: str
    label: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    in_place: tuple[tuple[int, int], ...] = ()
    flops: Expr = 0
    bytes: Expr = 0
    source: str = ""
    operators: tuple[str, ...] = ()
    result: StepResult | None = None
    barrier: bool = True
    foreign: Foreign | None = None


class Computed(NamedTuple):
    """A size that the call itself finds out; `dim` is its place in the program's dims."""

    name: str
    dim: int


class Loop(NamedTuple):
    """Steps `first` to `last` that run again and again.

    `pairs` are buffers that change places after every iteration.
    """

    first: int
    last: int
    pairs: tuple[tuple[int, int], ...] = ()


class Target(NamedTuple):
    """What a program runs on: name, instruction set ("x86_64"), and the CPU features it needs."""

    name: str
    isa: str
    features: tuple[str, ...]


class Program(NamedTuple):
    """The native program of one target: code, offsets of its functions, dims, buffers, steps.

    `reserved` are the buffers whose memory native code asks for, in the order of the pool.
    """

    target: Target
    code: str
    symbols: Mapping[str, int]
    dims: tuple[Expr, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    computed: tuple[Computed, ...] = ()
    reserved: tuple[int, ...] = ()
    loops: tuple[Loop, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of the manifest but the programs. The writer fills `entries` and `targets`.

    `computed` are the symbols whose values a call finds out; shapes of outputs may have them.
    """

    name: str
    precision: Literal["f32", "bf16"]
    symbols: tuple[Symbol, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_tree: Tree
    output_tree: Tree
    producer: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    computed: tuple[str, ...] = ()

    @property
    def expression_symbols(self) -> tuple[str, ...]:
        """The names that expressions may use: declared and computed symbols, and `threads`."""
        return (*(symbol.name for symbol in self.symbols), *self.computed, THREADS)


def is_entry_name(name: str) -> bool:
    """Whether a name may be an entry of an artifact: relative, ASCII, no "." or ".." parts."""
    return len(name) <= 255 and _ENTRY_NAME.fullmatch(name) is not None
