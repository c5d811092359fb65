"""Parses the steps of a program, as strictly as `parser.py` does the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ranvier.artifact.expression import THREADS, parse_expr
from ranvier.artifact.fields import (
    MAXIMUM_ITEMS,
    expect_boolean,
    expect_dtype,
    expect_entry,
    expect_integer,
    expect_list,
    expect_object,
    expect_shape,
    expect_string,
)
from ranvier.artifact.format import Buffer, Foreign, ForeignTensor, Manifest, Step, StepResult
from ranvier.errors import ArtifactError

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


def parse_step(
    value: object,
    where: str,
    buffers: Sequence[Buffer],
    names: Collection[str],
    manifest: Manifest,
) -> Step:
    """A step of a program with `buffers`; `names` are the symbols that expressions may have.

    Raises:
        ArtifactError: what is wrong, and where.
    """
    top = expect_object(value, where, _STEP_KEYS, ("barrier", "foreign"))
    last = len(buffers) - 1

    def buffer_number(v: object, w: str) -> int:
        return expect_integer(v, w, 0, last)

    reads = expect_list(top["reads"], f"{where}.reads", buffer_number)
    writes = expect_list(top["writes"], f"{where}.writes", buffer_number)
    for number in writes:
        if buffers[number].kind in ("input", "weight"):
            raise ArtifactError(
                f"{where}.writes: buffer {number} is an {buffers[number].kind} and must not change"
            )
    result, foreign = top["result"], top.get("foreign")
    return Step(
        kernel=expect_string(top["kernel"], f"{where}.kernel"),
        label=expect_string(top["label"], f"{where}.label"),
        reads=reads,
        writes=writes,
        in_place=expect_list(
            top["in_place"], f"{where}.in_place", lambda v, w: _in_place(v, w, reads, writes)
        ),
        flops=parse_expr(top["flops"], names, f"{where}.flops"),
        bytes=parse_expr(top["bytes"], names, f"{where}.bytes"),
        source=expect_string(top["source"], f"{where}.source"),
        operators=expect_list(top["operators"], f"{where}.operators", expect_string),
        result=None if result is None else _result(result, f"{where}.result", last, names),
        barrier=expect_boolean(top.get("barrier", True), f"{where}.barrier"),
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
    top = expect_object(value, where, ("framework", "entry", "operands", "results", "sizes"))
    names = frozenset((*(symbol.name for symbol in manifest.symbols), THREADS))

    def tensors(key: str, buffers: Collection[int]) -> tuple[ForeignTensor, ...]:
        def tensor(v: object, w: str) -> ForeignTensor:
            return _foreign_tensor(v, w, buffers, names)

        return expect_list(top[key], f"{where}.{key}", tensor)

    return Foreign(
        framework=expect_string(top["framework"], f"{where}.framework"),
        entry=expect_entry(top["entry"], f"{where}.entry", manifest),
        operands=tensors("operands", reads),
        results=tensors("results", writes),
        sizes=expect_list(top["sizes"], f"{where}.sizes", lambda v, w: parse_expr(v, names, w)),
    )


def _foreign_tensor(
    value: object, where: str, buffers: Collection[int], names: Collection[str]
) -> ForeignTensor:
    top = expect_object(value, where, ("dtype", "shape", "buffer", "offset"))
    number = expect_integer(top["buffer"], f"{where}.buffer", 0, MAXIMUM_ITEMS)
    if number not in buffers:
        raise ArtifactError(f"{where}.buffer: the step does not use buffer {number} in this way")
    return ForeignTensor(
        dtype=expect_dtype(top["dtype"], f"{where}.dtype"),
        shape=expect_shape(top["shape"], f"{where}.shape", names),
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
    top = expect_object(value, where, ("value", "dtype", "shape", "strides", "buffer", "offset"))
    shape = expect_shape(top["shape"], f"{where}.shape", names)
    strides = expect_shape(top["strides"], f"{where}.strides", names)
    if len(strides) != len(shape):
        raise ArtifactError(f"{where}.strides: {len(strides)} strides for {len(shape)} dims")
    return StepResult(
        value=expect_string(top["value"], f"{where}.value"),
        dtype=expect_dtype(top["dtype"], f"{where}.dtype"),
        shape=shape,
        strides=strides,
        buffer=expect_integer(top["buffer"], f"{where}.buffer", 0, last),
        offset=parse_expr(top["offset"], names, f"{where}.offset"),
    )
