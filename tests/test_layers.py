"""Every part of the package imports only what stands before it (docs/architecture.md)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ranvier

SOURCE = Path(ranvier.__file__).parent

LAYERS = (
    ("errors",),
    ("segments",),
    ("target",),
    ("ir",),
    ("frontends", "passes"),
    ("lowering",),
    ("codegen",),
    ("artifact",),
    ("runtime",),
    ("compiler", "compile_report", "progress"),
    ("tuning",),
    (
        "api",
        "onnx_backend",
        "bench",
        "inspection",
        "peak",
        "profiling",
        "sample_inputs",
        "verification",
    ),
    ("cli",),
)
"""Parts by name, in order; those of one layer do not know each other unless `PEERS` says so."""

PEERS = frozenset({"compiler", "api"})
"""The first part of each layer whose parts may use one another."""

ONLY = {
    "segments": {"errors"},
    "artifact": {"errors"},
    "runtime": {"artifact", "errors", "segments"},
}
"""Parts that know nothing but these."""

LIGHT = (
    "errors",
    "segments",
    "artifact",
    "runtime",
    "inspection",
    "sample_inputs",
    "profiling",
    "bench",
    "peak",
)
"""Parts that run where only NumPy is installed."""

ADAPTERS = ("frontends", "onnx_backend")
"""Parts that may import a framework: they read its models, or are called by it."""

RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}


def modules() -> list[str]:
    return sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


def part_of(module: str) -> str:
    return module.split("/")[0].removesuffix(".py")


def imports(module: str) -> Iterator[str]:
    """Absolute names of what a file imports, at any depth: "ranvier.ir.dim", "numpy"."""
    for node in ast.walk(ast.parse((SOURCE / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            # `from ranvier import x` names a part, or something of the package itself.
            if node.module == "ranvier":
                yield from (f"ranvier.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_part_has_a_layer() -> None:
    assert {part_of(module) for module in modules()} - {"__init__"} <= set(RANK)


@pytest.mark.parametrize("module", [m for m in modules() if m != "__init__.py"])
def test_imports_point_down(module: str) -> None:
    part = part_of(module)
    known = {name.split(".")[1] for name in imports(module) if name.startswith("ranvier.")}
    known = (known & set(RANK)) - {part}
    if part in ONLY:
        assert known <= ONLY[part]
    peers = LAYERS[RANK[part]] if LAYERS[RANK[part]][0] in PEERS else ()
    assert {other for other in known if RANK[other] >= RANK[part] and other not in peers} == set()


@pytest.mark.parametrize("module", [m for m in modules() if part_of(m) == "codegen"])
def test_codegen_knows_the_kernels_of_lowering_and_not_its_decisions(module: str) -> None:
    known = {name for name in imports(module) if name.startswith("ranvier.lowering")}
    allowed = (
        "ranvier.lowering.kernels",
        "ranvier.lowering.program",
        "ranvier.lowering.expression",
    )
    assert {name for name in known if not name.startswith(allowed)} == set()


@pytest.mark.parametrize("module", [m for m in modules() if part_of(m) in LIGHT])
def test_running_an_artifact_needs_numpy_alone(module: str) -> None:
    names = {name.split(".")[0] for name in imports(module)}
    assert names <= set(sys.stdlib_module_names) | {"numpy", "ranvier"}


@pytest.mark.parametrize("module", [m for m in modules() if part_of(m) not in ADAPTERS])
def test_only_front_ends_know_a_framework(module: str) -> None:
    names = {name.split(".")[0] for name in imports(module)}
    assert not names & {"torch", "onnx", "tensorflow"}
