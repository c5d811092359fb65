"""What a `.rvr` file says, as data: the manifest, its programs, and the rules for names and dtypes.

`docs/artifact.md` says what every field means; `parser.py` reads JSON into these types,
`document.py` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ranvier.artifact.expression import THREADS, Expr

FORMAT_VERSION = 1

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
}
"""NumPy type string of every dtype; NumPy has no bf16, so its bits travel as uint16."""

CODE_SYMBOLS = ("ranvier_run", "ranvier_worker", "ranvier_call", "ranvier_stop")
WEIGHT_ALIGNMENT = 64

_ENTRY_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*")

BufferKind = Literal["input", "output", "weight", "temporary"]
TreeKind = Literal["leaf", "tuple", "list", "dict", "none", "constant"]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named dimension; `minimum` and `maximum` are inclusive."""

    name: str
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: name, dtype name ("f32", ...) and shape in elements."""

    name: str
    dtype: str
    shape: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """The nesting of inputs or outputs.

    `value` by kind: leaf: index of the input or output; tuple, list: tuple of trees; dict: tuple of
    (key, tree); none: None; constant: a JSON value.
    """

    kind: TreeKind
    value: Any = None


@dataclass(frozen=True, slots=True)
class Entry:
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


@dataclass(frozen=True, slots=True)
class StepResult:
    """The graph value that a step computes; strides in elements, offset in bytes."""

    value: str
    dtype: str
    shape: tuple[Expr, ...]
    strides: tuple[Expr, ...]
    buffer: int
    offset: Expr = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call; `reads`, `writes` and the (written, read) pairs hold buffer numbers.

    `barrier` says that all threads meet before this step; without it the step joins the one before
    it, and threads may be in either, so the memory plan gives the two no common memory.
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


@dataclass(frozen=True, slots=True)
class Target:
    """What a program runs on: name, instruction set ("x86_64"), and the CPU features it needs."""

    name: str
    isa: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """The native program of one target: code, offsets of its functions, dims, buffers, steps."""

    target: Target
    code: str
    symbols: Mapping[str, int]
    dims: tuple[Expr, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of the manifest but the programs. The writer fills `entries` and `targets`."""

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

    @property
    def expression_symbols(self) -> tuple[str, ...]:
        """The names that expressions may use: the declared symbols and `threads`."""
        return (*(symbol.name for symbol in self.symbols), THREADS)


def is_entry_name(name: str) -> bool:
    """Whether a name may be an entry of an artifact: relative, ASCII, no "." or ".." parts."""
    return len(name) <= 255 and _ENTRY_NAME.fullmatch(name) is not None
