"""`ranvier operators`: what each front end can translate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from ranvier.cli.extras import require
from ranvier.cli.options import JsonOption
from ranvier.cli.output import print_json


def operators_command(
    frontend: Annotated[
        str | None, typer.Option("--frontend", help="One front end instead of all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the supported operators of every front end."""
    if frontend is not None and frontend not in FRONT_ENDS:
        raise typer.BadParameter(
            f"unknown front end {frontend!r}; known: {', '.join(FRONT_ENDS)}",
            param_hint="--frontend",
        )
    names = FRONT_ENDS if frontend is None else [frontend]
    lists = {name: list(FRONT_ENDS[name]()) for name in names}
    if as_json:
        print_json(lists)
        return
    for name, operators in lists.items():
        print(f"{name}: {len(operators)} operators")
        print("\n".join(f"  {operator}" for operator in operators))


def _torch() -> Sequence[str]:
    require("torch")
    from ranvier.frontends.torch import supported_operators

    return supported_operators()


def _onnx() -> Sequence[str]:
    require("onnx")
    from ranvier.frontends.onnx import supported_operators

    return supported_operators()


FRONT_ENDS: dict[str, Callable[[], Sequence[str]]] = {"torch": _torch, "onnx": _onnx}
