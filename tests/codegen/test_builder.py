"""Interleaved pieces of code: turns, what keeps them, and pieces that differ."""

from __future__ import annotations

from collections.abc import Callable

from ranvier.codegen.builder import (
    FLOAT,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    int_const,
    vector,
)
from ranvier.codegen.math_context import fma


def emitted(parts: Callable[[FunctionBuilder, str], None]) -> list[str]:
    """The instructions of two interleaved pieces, which work on arguments `x` and `y`."""
    module = ModuleWriter("x86_64-unknown-linux-gnu")
    f = FunctionBuilder(module, "k", [("x", PTR), ("y", PTR)])
    f.interleave([lambda: parts(f, "x"), lambda: parts(f, "y")])
    f.ret()
    f.finish()
    return [line.strip() for line in str(module).split("entry:\n")[1].split("\n")]


def power(f: FunctionBuilder, name: str, times: int) -> None:
    value = f.load(vector(8, FLOAT), f.arg(name), 32)
    total: Val = value
    for _ in range(times):
        total = fma(f, total, value, value)
    f.store(total, f.arg(name), 32)


def test_alike_pieces_take_turns() -> None:
    lines = emitted(lambda f, name: power(f, name, 6))
    assert ["%x" in line for line in lines[:2]] == [True, False]
    assert [line.startswith("store") for line in lines[-5:-3]] == [True, True]
    calls = [line for line in lines if line.startswith("call void asm sideeffect")]
    assert calls == ['call void asm sideeffect "", "x,x"(<8 x float> %v.5, <8 x float> %v.12)'], (
        lines
    )


def test_pieces_that_differ_follow_each_other() -> None:
    lines = emitted(lambda f, name: power(f, name, 2 if name == "x" else 3))
    stores = [number for number, line in enumerate(lines) if line.startswith("store")]
    assert stores[0] == 3
    assert ", ptr %x" in lines[stores[0]]
    assert ", ptr %y" in lines[stores[1]]
    assert not any("asm" in line for line in lines)


def test_pieces_with_branches_follow_each_other() -> None:
    def choice(f: FunctionBuilder, name: str) -> None:
        value = f.load(I64, f.arg(name), 8)
        with f.when(f.compare("icmp ne", value, int_const(0))):
            power(f, name, 6)

    lines = emitted(choice)
    labels = [number for number, line in enumerate(lines) if line.endswith(":")]
    assert len(labels) == 4
    assert all("%y" not in line for line in lines[: labels[1]])
