"""What commands print: tables for people, one JSON document for machines."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 160  # columns when standard output is no terminal: tables are not cut to 80


def print_json(document: object) -> None:
    """Print a document; records become objects, numbers that are not finite become null."""
    json.dump(plain(document), sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    print()


def plain(value: object) -> object:
    """A value in the types of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, frozenset, set)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; columns whose heading begins with ">" are right-aligned."""
    table = Table(title=title or None, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column[:1] == ">" else "left")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    console().print(table)


def console() -> Console:
    """A console on standard output, as wide as the terminal."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, width=width)


def megabytes(size: int) -> str:
    """Bytes as a person reads them: "12.3 MB"."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"


def cores_text(count: int) -> str:
    """A number of cores in words: "1 core", "2 cores"."""
    return "1 core" if count == 1 else f"{count} cores"


def short_source(source: str) -> str:
    """A line of the model for a table: relative to the current folder, else its last folders."""
    path = Path(source)
    if not path.is_absolute():
        return source
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return "/".join(path.parts[-3:])


def percent(share: float | None) -> str:
    """A share of 0 to 1 as per cent; "?" when unknown."""
    return "?" if share is None else f"{share:.1%}"
