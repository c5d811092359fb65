"""A small artifact whose code is never run: enough for the format, the writer and the reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranvier.artifact.format import (
    CODE_SYMBOLS,
    Buffer,
    Manifest,
    Program,
    Step,
    StepResult,
    Symbol,
    Target,
    TensorSpec,
    Tree,
)
from ranvier.artifact.writer import write_artifact

ENTRIES = {
    "code/a.img": bytes(range(32)),
    "weights/0.bin": bytes(range(200)),
    "graph.txt": b"graph tiny\n",
}


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        name="small",
        precision="f32",
        symbols=(Symbol("n", 0, 64), Symbol("s", 1, 9)),
        inputs=(TensorSpec("x", "f32", ("n", ("*", 2, "s"))), TensorSpec("ids", "i64", ("s",))),
        outputs=(TensorSpec("y", "bf16", (("+", "n", 1),)), TensorSpec("z", "bool", ())),
        input_tree=Tree(
            "dict",
            (("x", Tree("leaf", 0)), ("rest", Tree("tuple", (Tree("leaf", 1), Tree("none"))))),
        ),
        output_tree=Tree("list", (Tree("leaf", 1), Tree("constant", [1, "a"]), Tree("leaf", 0))),
        producer={"ranvier": "0.1"},
    )


@pytest.fixture
def programs() -> list[Program]:
    result = StepResult("v", "f32", ("n",), (1,), 3, ("*", "n", 4))
    return [
        Program(
            target=Target("base", "x86_64", ("sse2",)),
            code="code/a.img",
            symbols=dict.fromkeys(CODE_SYMBOLS, 8),
            dims=("n", ("min", ("//", "n", 2), "threads"), -3),
            buffers=(
                Buffer("input", ("*", ("*", 8, "n"), "s"), 0),
                Buffer("input", ("*", 8, "s"), 1),
                Buffer("weight", 100, entry="weights/0.bin", offset=64),
                Buffer("temporary", ("*", 8, "n")),
                Buffer("output", ("*", 2, ("+", "n", 1)), 0),
                Buffer("output", 1, 1),
            ),
            steps=(
                Step("k0", "first", (0, 2), (3,), flops="n", source="m.py:3", result=result),
                Step("k1", "second", (3,), (4, 5), ((4, 3),), operators=("add",), barrier=False),
            ),
        )
    ]


@pytest.fixture
def small(tmp_path: Path, manifest: Manifest, programs: list[Program]) -> Path:
    path = tmp_path / "small.rvr"
    write_artifact(path, manifest, programs, ENTRIES)
    return path
