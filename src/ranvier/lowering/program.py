"""What lowering produces: buffers and kernel calls, ready for code generation.

program := dims, buffers, steps
step    := kernel, arguments (buffer + byte offset), scalars (Dims), what it reads and writes
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from ranvier.ir.dim import Dim, Symbol
from ranvier.ir.dtype import Array, DType
from ranvier.lowering.kernels.attention import Attention
from ranvier.lowering.kernels.compact import Compact
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.control import Control
from ranvier.lowering.kernels.depth_first import DepthFirst
from ranvier.lowering.kernels.depthwise import Depthwise
from ranvier.lowering.kernels.foreign import Foreign
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.kernels.scatter import Scatter
from ranvier.lowering.kernels.sort import Sort
from ranvier.lowering.kernels.winograd import Winograd

Kernel = (
    Nest | Contraction | Winograd | Depthwise | DepthFirst | Attention | Scatter | Sort | Compact
    | Control | Foreign
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Buffer:
    """A piece of memory. `index` numbers inputs and outputs; `data` is the array of a weight."""

    kind: Literal["input", "output", "weight", "temporary"]
    size_bytes: Dim
    index: int = 0
    data: Array | None = None


@dataclass(frozen=True)
class Tensor:
    """Where a value lies: element (i0, ...) is element `offset + sum(i * stride)` of `buffer`.

    Of scratch memory every thread has `thread_bytes` of its own, one after the other.
    """

    buffer: int
    dtype: DType
    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...]
    offset: Dim = 0
    thread_bytes: Dim = 0


@dataclass(frozen=True)
class Argument:
    """A pointer passed to a kernel: `buffer` plus `offset_bytes`, plus `thread_bytes` for every
    thread before the one that calls.
    """

    buffer: int
    offset_bytes: Dim = 0
    thread_bytes: Dim = 0


@dataclass(frozen=True)
class Pieces:
    """How threads share a large step, `lowering/claims.py`: at most `most` pieces for all of them,
    which `counter` of each thread counts.
    """

    counter: int
    most: Dim


@dataclass(frozen=True)
class Counters:
    """The memory of these counters: two sets of a row of `row_words` for each thread, of which
    the first `count` are used.
    """

    buffer: int
    count: int
    row_words: int


@dataclass(frozen=True)
class Step:
    """One kernel call. `label` names the value that it computes; `result` says where that lies.

    All threads meet before the step if `barrier` is set, see `lowering/barriers.py`. With `pieces`
    they share it by claims; `most_pieces` says how many may be cut at no cost, if there is a limit.
    """

    kernel: Kernel
    arguments: tuple[Argument, ...]
    scalars: tuple[Dim, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    label: str
    source: str
    operators: tuple[str, ...]
    flops: Dim
    bytes: Dim
    in_place: tuple[tuple[int, int], ...] = ()
    result: Tensor | None = None
    barrier: bool = True
    most_pieces: Dim | None = None
    pieces: Pieces | None = None


@dataclass
class Program:
    """All steps of a model for one target, in order.

    `computed` are the symbols whose values steps find out; a buffer whose size depends on one is
    not in the memory plan but gets its memory from `Reserve`. `counters` are those with
    which threads share steps, if they do.
    """

    buffers: list[Buffer] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    computed: dict[str, Symbol] = field(default_factory=dict)
    reserved: list[int] = field(default_factory=list)
    counters: Counters | None = None

    def add_buffer(self, buffer: Buffer) -> int:
        """Append a buffer and return its number."""
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def uses(self) -> Counter[int]:
        """By how many steps each buffer is used."""
        return Counter(n for step in self.steps for n in {*step.reads, *step.writes})

    def weight_bytes(self, step: Step) -> int:
        """Bytes of the weights that a step reads."""
        buffers = (self.buffers[argument.buffer] for argument in step.arguments)
        return sum(buffer.data.nbytes for buffer in buffers if buffer.data is not None)
