"""Arguments and options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

ModelArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .pt2 or .onnx file, or FILE.py:FUNCTION or MODULE:FUNCTION that returns "
        "(model, args[, kwargs[, dynamic_shapes]]).",
        show_default=False,
    ),
]
ArtifactArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help="A .rvr file.", show_default=False)
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]
DimOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=LOW:HIGH",
        help="Range of a symbolic dim of an ONNX model, or NAME=SIZE to fix it; may be repeated.",
    ),
]
FallbackOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--fallback",
        metavar="FRAMEWORK",
        help="torch or onnxruntime: it runs what has no native form, and is then needed there.",
    ),
]
MaxSegmentsOption: TypeAlias = Annotated[
    int, typer.Option("--max-segments", help="The most parts that the fallback may run.")
]
MinNativeOption: TypeAlias = Annotated[
    float,
    typer.Option("--min-native-percent", help="The least share of native operators, in percent."),
]
CoresOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cores", help="A count such as 4, or a list such as 0-3,5; all allowed ones otherwise."
    ),
]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=SIZE", help="Size of a symbol; may be repeated."),
]


def parse_cores(text: str | None) -> int | str | None:
    """The value of `--cores` as `ranvier.load` takes it: a plain number is a count."""
    return int(text) if text is not None and text.strip().isdecimal() else text


def parse_sizes(settings: Sequence[str] | None) -> dict[str, int]:
    """`--set` options, "batch=2" or "batch=2,height=224" -> sizes; typer's error when malformed."""
    sizes: dict[str, int] = {}
    for part in ",".join(settings or ()).split(","):
        if not part.strip():
            continue
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not number.isdecimal():
            raise typer.BadParameter(f"{part!r} is not NAME=SIZE, such as batch=2")
        sizes[name] = int(number)
    return sizes


def parse_dims(settings: Sequence[str] | None) -> dict[str, int | tuple[int, int]]:
    """`--dim` options, "batch=1:64" or "height=32" -> ranges; typer's error when malformed."""
    dims: dict[str, int | tuple[int, int]] = {}
    for part in ",".join(settings or ()).split(","):
        if not part.strip():
            continue
        name, equals, text = (piece.strip() for piece in part.partition("="))
        numbers = text.split(":")
        if not equals or not name or len(numbers) > 2 or not all(map(str.isdecimal, numbers)):
            raise typer.BadParameter(f"{part!r} is not NAME=LOW:HIGH, such as batch=1:64")
        low, high = int(numbers[0]), int(numbers[-1])
        if low > high:
            raise typer.BadParameter(f"{part!r}: {low} is more than {high}")
        dims[name] = low if len(numbers) == 1 else (low, high)
    return dims


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """A list such as "1,2,4,8"; typer's error when malformed."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(
            f"{text!r} is not a list of numbers such as 1,2,4", param_hint=option
        )
    return tuple(int(part) for part in parts)
