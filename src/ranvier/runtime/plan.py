"""The plan of one concrete input shape: every size, and a place for every temporary buffer.

The placement is greedy by size (Pisarchyk and Lee, "Efficient memory management for deep neural net
inference", arXiv 2001.03288): the largest buffer first, each at the lowest offset that is free
during its whole life.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ranvier.artifact.expression import THREADS, ExpressionTable, evaluate, symbols_of
from ranvier.artifact.format import (
    DTYPES,
    Foreign,
    ForeignTensor,
    Loop,
    Manifest,
    Program,
    Step,
    StepResult,
)
from ranvier.errors import ArtifactError

ALIGNMENT = 64
MAXIMUM_BYTES = 1 << 46
_INT64 = 1 << 63


class View(NamedTuple):
    """Where a step's result lies: bytes into a buffer, shape and strides in elements."""

    result: StepResult
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset_bytes: int


class Place(NamedTuple):
    """Where a dense tensor lies: bytes into a buffer, shape in elements."""

    buffer: int
    offset_bytes: int
    shape: tuple[int, ...]


class ForeignCall(NamedTuple):
    """What a framework does in a step at concrete sizes."""

    step: int
    operands: tuple[Place, ...]
    results: tuple[Place, ...]
    sizes: tuple[int, ...]


class Plan(NamedTuple):
    """Sizes and places for concrete symbol values.

    Attributes:
        symbols: the values of the declared symbols, and of `threads`.
        dims: the program's dims, as native code reads them.
        sizes: bytes of every buffer.
        offsets: bytes into the arena of every temporary buffer, by buffer number.
        arena_bytes: size of the arena.
        output_shapes: shape of every output; with 1 for computed symbols.
        views: where the results of the steps lie, for the steps that have one; empty unless
            temporaries are kept.
        foreign: the steps that a framework runs, in order.
    """

    symbols: Mapping[str, int]
    dims: tuple[int, ...]
    sizes: tuple[int, ...]
    offsets: Mapping[int, int]
    arena_bytes: int
    output_shapes: tuple[tuple[int, ...], ...]
    views: tuple[View, ...]
    foreign: tuple[ForeignCall, ...] = ()


class Planner:
    """Makes the plans of one program."""

    def __init__(self, program: Program, manifest: Manifest) -> None:
        self._program, self._manifest = program, manifest
        self._table = ExpressionTable()
        self._dims = [self._table.add(dim) for dim in program.dims]
        self._sizes = [self._table.add(buffer.size) for buffer in program.buffers]
        self._inputs = [[self._table.add(dim) for dim in spec.shape] for spec in manifest.inputs]
        self._outputs = [[self._table.add(dim) for dim in spec.shape] for spec in manifest.outputs]
        computed = set(manifest.computed)
        self._is_open = [
            any(symbols_of(dim) & computed for dim in spec.shape) for spec in manifest.outputs
        ]
        self._foreign = [
            (number, step.foreign)
            for number, step in enumerate(program.steps)
            if step.foreign is not None
        ]
        self._lives = _lives(program)
        self._shared = _in_place_pairs(program)

    def plan(self, symbols: Mapping[str, int], threads: int, keep: bool = False) -> Plan:
        """Return the plan for the symbols' values and a group of `threads`.

        Args:
            symbols: value of every declared symbol.
            threads: size of the core group.
            keep: give every temporary memory of its own, so that all results can be read after the
                call.

        Raises:
            ArtifactError: a size of the artifact is negative, too large, or does not fit its
                tensor.
        """
        scope = {**dict.fromkeys(self._manifest.computed, 1), **symbols, THREADS: threads}
        values = self._table.evaluate(scope)
        dims, sizes = [values[row] for row in self._dims], [values[row] for row in self._sizes]
        for number, value in enumerate(dims):
            if not -_INT64 <= value < _INT64:
                raise ArtifactError(
                    f"dim {number} of the program is {value}, which does not fit into 64 bits"
                )
        for number, size in enumerate(sizes):
            if not 0 <= size < MAXIMUM_BYTES:
                raise ArtifactError(
                    f"buffer {number} of the program has {size} bytes for {_show(symbols)}"
                )
        for number in self._program.reserved:
            sizes[number] = 0
        inputs = [tuple(values[row] for row in rows) for rows in self._inputs]
        outputs = tuple(tuple(values[row] for row in rows) for rows in self._outputs)
        self._check_tensors(sizes, inputs, outputs, symbols)
        offsets, arena_bytes = self._place(sizes, keep)
        return Plan(
            symbols={**symbols, THREADS: threads},
            dims=tuple(dims),
            sizes=tuple(sizes),
            offsets=offsets,
            arena_bytes=arena_bytes,
            output_shapes=outputs,
            views=self._views(sizes, scope) if keep else (),
            foreign=tuple(_foreign_call(n, each, sizes, scope) for n, each in self._foreign),
        )

    def _place(self, sizes: Sequence[int], keep: bool) -> tuple[dict[int, int], int]:
        temporary = [
            i
            for i, buffer in enumerate(self._program.buffers)
            if buffer.kind == "temporary" and i not in self._program.reserved
        ]
        if keep:
            return place_apart({i: sizes[i] for i in temporary})
        lives = {i: self._lives.get(i, (0, 0)) for i in temporary}
        # A chain of in-place steps is one piece of memory that lives from its first buffer's start
        # to its last's end.
        owner = {i: i for i in temporary}
        for written, read in self._shared:
            if sizes[written] == sizes[read]:
                owner[written] = owner[read]
                start, end = lives[owner[read]]
                lives[owner[read]] = min(start, lives[written][0]), max(end, lives[written][1])
        owned = {i: sizes[i] for i in temporary if owner[i] == i}
        places, arena_bytes = place_greedily(owned, lives)
        return {i: places[owner[i]] for i in temporary}, arena_bytes

    def _check_tensors(
        self,
        sizes: Sequence[int],
        inputs: Sequence[tuple[int, ...]],
        outputs: Sequence[tuple[int, ...]],
        symbols: Mapping[str, int],
    ) -> None:
        """No buffer may be larger than its array: native code trusts the sizes."""
        for number, buffer in enumerate(self._program.buffers):
            if buffer.kind not in ("input", "output"):
                continue
            is_input = buffer.kind == "input"
            shape = (inputs if is_input else outputs)[buffer.index]
            spec = (self._manifest.inputs if is_input else self._manifest.outputs)[buffer.index]
            if not is_input and self._is_open[buffer.index]:
                continue  # its size is known after the call
            if any(dim < 0 for dim in shape) or sizes[number] > bytes_of(shape, spec.dtype):
                raise ArtifactError(
                    f"{buffer.kind} {spec.name!r} has shape {shape} for {_show(symbols)}, "
                    f"but the program uses {sizes[number]} bytes of it"
                )

    def _is_planned(self, result: StepResult) -> bool:
        """Whether it is known before a call where a result lies."""
        dims = (*result.shape, *result.strides, result.offset)
        swapped = {n for loop in self._program.loops for pair in loop.pairs for n in pair}
        if result.buffer in self._program.reserved or result.buffer in swapped:
            return False
        return not any(symbols_of(dim) & set(self._manifest.computed) for dim in dims)

    def _views(self, sizes: Sequence[int], scope: Mapping[str, int]) -> tuple[View, ...]:
        results = [
            step.result
            for step in self._program.steps
            if step.result is not None and self._is_planned(step.result)
        ]
        table = ExpressionTable()
        rows = [
            ([table.add(d) for d in (*r.shape, *r.strides)], table.add(r.offset)) for r in results
        ]
        values = table.evaluate(scope)
        views = []
        for result, (dims, offset) in zip(results, rows, strict=True):
            numbers, rank = [values[row] for row in dims], len(result.shape)
            view = View(result, tuple(numbers[:rank]), tuple(numbers[rank:]), values[offset])
            _check_view(view, sizes[result.buffer])
            views.append(view)
        return tuple(views)


def bytes_of(shape: Sequence[int], dtype: str) -> int:
    """Return the size in bytes of a contiguous tensor of that shape and dtype name."""
    size = int(DTYPES[dtype][2:])
    for dim in shape:
        size *= dim
    return size


def place_greedily(
    sizes: Mapping[int, int], lives: Mapping[int, tuple[int, int]]
) -> tuple[dict[int, int], int]:
    """Return offsets and the total size; buffers whose lives overlap share no memory.

    Args:
        sizes: bytes by buffer number.
        lives: first and last moment of use, inclusive, by buffer number.
    """
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[int, int] = {}
    total = 0
    for number in sorted(sizes, key=lambda i: (-sizes[i], i)):
        size = -(-sizes[number] // ALIGNMENT) * ALIGNMENT
        first, last = lives[number]
        offset = 0
        if size:
            for start, end, begin, finish in placed:  # by offset
                if begin > last or finish < first:
                    continue
                if start - offset >= size:
                    break
                offset = max(offset, end)
            insort(placed, (offset, offset + size, first, last))
        offsets[number] = offset
        total = max(total, offset + size)
    return offsets, total


def place_apart(sizes: Mapping[int, int]) -> tuple[dict[int, int], int]:
    """Return an offset for every buffer, none sharing memory, and the total size."""
    offsets, total = {}, 0
    for number, size in sizes.items():
        offsets[number] = total
        total += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, total


def _stages(steps: Sequence[Step]) -> list[int]:
    """Return the stage of every step; steps without a barrier between them share one."""
    stages, stage = [], 0
    for number, step in enumerate(steps):
        if step.barrier and number:
            stage += 1
        stages.append(stage)
    return stages


def _lives(program: Program) -> dict[int, tuple[int, int]]:
    """Return the first and last stage in which each buffer is used.

    What a loop uses and something before it has written lives until the loop ends, since the next
    iteration needs it again; so do both buffers of a pair, from the loop's begin on.
    """
    stages = _stages(program.steps)
    uses: dict[int, tuple[int, int]] = {}
    for place, step in enumerate(program.steps):
        for number in (*step.reads, *step.writes):
            first, _ = uses.get(number, (place, place))
            uses[number] = (first, place)
    lives = {number: (stages[first], stages[last]) for number, (first, last) in uses.items()}
    for loop in program.loops:
        _extend_lives(lives, uses, loop, stages[loop.first], stages[loop.last])
    return lives


def _extend_lives(
    lives: dict[int, tuple[int, int]],
    uses: Mapping[int, tuple[int, int]],
    loop: Loop,
    begin: int,
    end: int,
) -> None:
    """Steps decide, not stages: what follows a loop may stand in the stage of its end."""
    for pair in loop.pairs:
        both = [lives[number] for number in pair if number in lives]
        first, last = min(f for f, _ in both), max(e for _, e in both)
        lives.update(dict.fromkeys(pair, (min(first, begin), max(last, end))))
    for number, (first_step, last_step) in uses.items():
        first, last = lives[number]
        if first_step < loop.first <= last_step <= loop.last:
            lives[number] = first, max(last, end)
        elif loop.first <= first_step <= loop.last < last_step:  # rows that iterations collect
            lives[number] = min(first, begin), last


def _loop_of(program: Program, step: int) -> Loop | None:
    """Return the innermost loop around a step."""
    return next((loop for loop in program.loops if loop.first <= step <= loop.last), None)


def _in_place_pairs(program: Program) -> list[tuple[int, int]]:
    """Return the (written, read) pairs that may share memory, in step order.

    The step must be the read buffer's last user and alone in its stage with it, and the written
    buffer's first; both must be temporaries that are planned before the call.
    """
    apart = {number for loop in program.loops for pair in loop.pairs for number in pair}
    apart |= set(program.reserved)
    users: dict[int, list[int]] = {}
    for number, step in enumerate(program.steps):
        for buffer in {*step.reads, *step.writes}:
            users.setdefault(buffer, []).append(number)
    stages = _stages(program.steps)
    pairs: list[tuple[int, int]] = []
    taken: set[tuple[int, int]] = set()
    for number, step in enumerate(program.steps):
        joined: set[int] = set()  # no chains within one step: its operands would be three in one
        for written, read in step.in_place:
            kinds = {program.buffers[written].kind, program.buffers[read].kind}
            last = users[read][-1] == number and (
                len(users[read]) < 2 or stages[users[read][-2]] < stages[number]
            )
            first = users[written][0] == number and written != read
            is_free = not taken & {(0, written), (1, read)} and not joined & {written, read}
            loop = _loop_of(program, number)
            again = loop is not None and users[read][0] < loop.first
            is_free &= not again and not apart & {written, read}
            if kinds == {"temporary"} and first and last and is_free:
                pairs.append((written, read))
                joined |= {written, read}
                taken |= {(0, written), (1, read)}
    return pairs


def _foreign_call(
    number: int, foreign: Foreign, sizes: Sequence[int], scope: Mapping[str, int]
) -> ForeignCall:
    def place(tensor: ForeignTensor) -> Place:
        shape = tuple(evaluate(dim, scope) for dim in tensor.shape)
        offset = evaluate(tensor.offset, scope)
        end = offset + bytes_of(shape, tensor.dtype)
        if min(shape, default=1) < 0 or offset < 0 or end > sizes[tensor.buffer]:
            raise ArtifactError(
                f"step {number} gives {foreign.framework} bytes {offset} to {end} of a buffer "
                f"that has {sizes[tensor.buffer]}"
            )
        return Place(tensor.buffer, offset, shape)

    return ForeignCall(
        number,
        tuple(map(place, foreign.operands)),
        tuple(map(place, foreign.results)),
        tuple(evaluate(size, scope) for size in foreign.sizes),
    )


def _check_view(view: View, size: int) -> None:
    itemsize = int(DTYPES[view.result.dtype][2:])
    if 0 in view.shape:
        return
    reach = [(dim - 1) * stride for dim, stride in zip(view.shape, view.strides, strict=True)]
    low = view.offset_bytes + itemsize * sum(r for r in reach if r < 0)
    high = view.offset_bytes + itemsize * (1 + sum(r for r in reach if r > 0))
    if min(view.shape, default=1) < 0 or low < 0 or high > size:
        raise ArtifactError(
            f"the result {view.result.value!r} reaches bytes {low} to {high} "
            f"of a buffer that has {size}"
        )


def _show(symbols: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{name}={value}" for name, value in symbols.items()) or "the model's fixed sizes"
    )
