"""The command `ranvier`. `app` has the table of commands, one file each."""

from __future__ import annotations

import importlib.util
import sys

NEEDS = ("typer", "rich")


def main() -> None:
    """Entry point of the command: runs it, or says what to install when its libraries are missing.

    Exit codes: 0 done; 1 an error of Ranvier or a comparison that failed; 2 wrong usage; 130
    interrupted.
    """
    lacking = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if lacking:
        sys.exit(
            f"ranvier: the command line needs {' and '.join(lacking)}, which the base install "
            "leaves out: pip install 'ranvier[cli]'"
        )
    from ranvier.cli.app import app

    app(prog_name="ranvier")
