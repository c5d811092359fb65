"""Arguments and options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

ModelArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .pt2 file, or FILE.py:FUNCTION or MODULE:FUNCTION that returns "
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


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """A list such as "1,2,4,8"; typer's error when malformed."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(
            f"{text!r} is not a list of numbers such as 1,2,4", param_hint=option
        )
    return tuple(int(part) for part in parts)
