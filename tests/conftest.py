"""Shared test settings: one thread per worker, `needs` marks, golden files.

`--update-golden` rewrites the files under `tests/golden/` instead of comparing with them.
`--emulate` has the whole run believe that the CPU has every target's instructions.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_TESTS = Path(__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden/ from what the code does"
    )
    parser.addoption(
        "--emulate", action="store_true", help="test targets that this CPU lacks, too, emulated"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--emulate"):
        from tests.emulation import emulation

        emulated = ExitStack()
        emulated.enter_context(emulation())
        config.add_cleanup(emulated.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        modules = [name for mark in item.iter_markers("needs") for name in mark.args]
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compare a text with `tests/golden/<folder>/<module>/<test>.txt`."""
    module = Path(str(request.node.path)).relative_to(_TESTS).with_suffix("")
    path = _TESTS / "golden" / module / f"{request.node.name}.txt"

    def check(text: str) -> None:
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"no golden file {path}; write it with --update-golden"
        assert text == path.read_text()

    return check
