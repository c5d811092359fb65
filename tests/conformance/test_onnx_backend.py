"""ONNX's own backend suite on native code: what passes, and what does not and why."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from tests.conformance.suite import cases, outcome

LIST = Path(__file__).with_name("not_passing.toml")
GOAL = 1900


def not_passing() -> dict[str, str]:
    """The reason of every case that does not pass."""
    groups = tomllib.loads(LIST.read_text())["reason"]
    return {case: group["text"] for group in groups for case in group["cases"]}


REASONS = not_passing()


@pytest.mark.parametrize("name", cases())
def test_case(name: str) -> None:
    failure = outcome(name)
    if name in REASONS:
        assert failure, f"{name} passes now: take it off {LIST.name}"
    else:
        assert not failure


def test_every_listed_case_is_there_once() -> None:
    groups = tomllib.loads(LIST.read_text())["reason"]
    listed = [case for group in groups for case in group["cases"]]
    assert len(listed) == len(set(listed))
    assert set(listed) <= cases().keys()


def test_the_goal_is_met() -> None:
    assert len(cases()) - len(REASONS) >= GOAL


def test_the_readme_shows_the_count() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = readme.partition("<!-- conformance: begin -->")[2].partition("<!--")[0]
    assert shown == f"{len(cases()) - len(REASONS)} of {len(cases())}"
