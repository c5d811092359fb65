"""The parameters of a kernel, as its callers pass them (docs/architecture.md, section 4)."""

from __future__ import annotations

from typing import Protocol

from ranvier.codegen.builder import I64, PTR

Parameters = list[tuple[str, str]]  # names and types

THREAD_PARAMETERS: Parameters = [("thread", I64), ("threads", I64)]


class Described(Protocol):
    """What every kernel's description has."""

    @property
    def operand_count(self) -> int:
        """Pointers that it takes."""

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the integers that it takes."""


def kernel_parameters(kernel: Described) -> Parameters:
    """Its operands `b0`, `b1`, ..., and its scalars by name."""
    operands = [(f"b{i}", PTR) for i in range(kernel.operand_count)]
    return operands + [(name, I64) for name in kernel.scalars]
