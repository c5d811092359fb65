"""The progress bar of the compiler, drawn by rich when it is installed, else plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ranvier.compiler import Progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A listener that shows the current stage and the fraction done on standard error."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
    except ImportError:
        yield _print_stage
        return
    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task("compile", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)


def _print_stage(stage: str, fraction: float) -> None:
    print(f"{fraction:4.0%} {stage}", file=sys.stderr)
