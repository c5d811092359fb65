"""The documents name every command, option, error code and environment variable, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ranvier import errors
from ranvier.cli.app import COMMANDS, app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
STANDARD_OPTIONS = {"--help"}


def sections(page: str) -> dict[str, str]:
    """Text by heading of the second level."""
    parts = re.split(r"^## (.+)$", (DOCS / page).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def options_of(command: str) -> set[str]:
    group: Any = typer.main.get_command(app)
    parameters = group.commands[command].params
    return {name for p in parameters for name in p.opts if name.startswith("-")} - STANDARD_OPTIONS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_in_its_section(command: str) -> None:
    text = sections("cli.md")[f"ranvier {command}"]
    documented = set(re.findall(r"`(--?[a-z][a-z-]*)", text))
    first_column = {
        option
        for row in re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
        for option in re.findall(r"`(--?[a-z][a-z-]*)`", row)
    }
    assert options_of(command) - first_column == set()
    others = {"--version", "--install-completion", "--show-completion"}
    assert {o for o in documented if o.startswith("--")} - options_of(command) - others == set()


def test_every_command_has_a_section() -> None:
    assert list(sections("cli.md")) == [f"ranvier {command}" for command in COMMANDS]


def error_classes(base: type[errors.RanvierError]) -> Iterator[type[errors.RanvierError]]:
    yield base
    for child in base.__subclasses__():
        yield from error_classes(child)


def test_every_error_code_has_an_example_and_a_fix() -> None:
    classes = {e.code: e for e in error_classes(errors.RanvierError)}
    found = sections("errors.md")
    assert set(found) == set(classes)
    for code, text in found.items():
        assert text.lstrip().startswith(f"`{classes[code].__name__}`")
        assert f"[{code}]" in text
        assert "*Fix*" in text


def test_every_environment_variable_is_documented() -> None:
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    used = {name for text in sources for name in re.findall(r"RANVIER_[A-Z_]*[A-Z]", text)}
    page = (DOCS / "environment.md").read_text()
    assert set(re.findall(r"^\| `(RANVIER_[A-Z_]+)`", page, re.MULTILINE)) == used


@pytest.mark.parametrize("page", [*sorted(DOCS.glob("*.md")), ROOT / "README.md"], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_documented_commands_exist() -> None:
    for page in (*DOCS.glob("*.md"), ROOT / "README.md"):
        for line in "\n".join(blocks(page, "sh")).splitlines():
            words = line.split()
            if words[:1] == ["ranvier"]:
                named = {word for word in words if word.startswith("--")}
                assert named <= options_of(words[1]), line


@pytest.mark.needs("torch", "llvmlite")
def test_the_example_of_the_command_line_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = blocks(DOCS / "cli.md", "python")
    (commands,) = blocks(DOCS / "cli.md", "sh")
    Path("my_model.py").write_text(source)
    for line in commands.splitlines():
        result = CliRunner().invoke(app, line.split()[1:])
        assert result.exit_code == 0, (line, result.output)


@pytest.mark.needs("torch", "llvmlite")
def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["scores"].shape == (2, 10)
    assert (tmp_path / "model.rvr").exists()
