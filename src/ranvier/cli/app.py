"""The table of commands, and how errors end a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ranvier import __version__
from ranvier.cli.analyze import analyze_command
from ranvier.cli.bench import bench_command
from ranvier.cli.compile import compile_command
from ranvier.cli.inspect import inspect_command
from ranvier.cli.ls import ls_command
from ranvier.cli.operators import operators_command
from ranvier.cli.profile import profile_command
from ranvier.cli.run import run_command
from ranvier.cli.verify import verify_command
from ranvier.errors import RanvierError

INTERRUPTED = 130
"""Exit code, as shells give it to a process that SIGINT ended."""

COMMANDS: dict[str, Callable[..., None]] = {
    "compile": compile_command,
    "run": run_command,
    "analyze": analyze_command,
    "operators": operators_command,
    "inspect": inspect_command,
    "verify": verify_command,
    "bench": bench_command,
    "profile": profile_command,
    "ls": ls_command,
}


class _Group(TyperGroup):
    """Ends a command that raises one of Ranvier's errors with its message and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of a pipe has gone: typer ends quietly
        except KeyboardInterrupt:
            print("ranvier: interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except (RanvierError, OSError) as error:
            print(f"ranvier: {error}", file=sys.stderr)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compile neural networks ahead of time, and run them on CPU cores.",
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ranvier {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Compile neural networks ahead of time, and run them on CPU cores."""
