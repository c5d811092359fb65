"""Kernel times summed up by what the user wrote: operators, or lines of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ranvier.profiling.measure import KernelTime


@dataclass(frozen=True)
class Group:
    """Kernels that have something in common.

    Attributes:
        name: what they have in common.
        kernels: their positions in the order of execution.
        microseconds, share, flops, bytes, wait_microseconds: sums, as in `KernelTime`.
        gflops, gbytes_per_second: over the summed time.
    """

    name: str
    kernels: tuple[int, ...]
    microseconds: float
    share: float
    flops: int
    bytes: int
    gflops: float
    gbytes_per_second: float
    wait_microseconds: float | None


def by_operators(kernels: Iterable[KernelTime]) -> tuple[Group, ...]:
    """One group for each combination of operators that was fused, the longest first."""
    return _grouped(kernels, lambda kernel: operators_text(kernel.operators))


def by_source(kernels: Iterable[KernelTime]) -> tuple[Group, ...]:
    """One group for each line of the model, the longest first."""
    return _grouped(kernels, lambda kernel: kernel.source or "(unknown)")


def operators_text(operators: Iterable[str]) -> str:
    """Fused operators as a person reads them; what is fused several times is counted."""
    counts: dict[str, int] = {}
    for name in operators:
        counts[name] = counts.get(name, 0) + 1
    parts = [name if count == 1 else f"{count} {name}" for name, count in counts.items()]
    return ", ".join(parts) or "(copy)"


def _grouped(
    kernels: Iterable[KernelTime], name_of: Callable[[KernelTime], str]
) -> tuple[Group, ...]:
    members: dict[str, list[KernelTime]] = {}
    for kernel in kernels:
        members.setdefault(name_of(kernel), []).append(kernel)
    groups = [_group(name, each) for name, each in members.items()]
    return tuple(sorted(groups, key=lambda group: -group.microseconds))


def _group(name: str, kernels: list[KernelTime]) -> Group:
    spent = sum(kernel.microseconds for kernel in kernels)
    flops, size = sum(k.flops for k in kernels), sum(k.bytes for k in kernels)
    waits = [k.wait_microseconds for k in kernels if k.wait_microseconds is not None]
    scale = 1e-3 / spent if spent > 0 else 0.0  # per microsecond -> 10^9 per second
    return Group(
        name=name,
        kernels=tuple(kernel.index for kernel in kernels),
        microseconds=spent,
        share=sum(kernel.share for kernel in kernels),
        flops=flops,
        bytes=size,
        gflops=flops * scale,
        gbytes_per_second=size * scale,
        wait_microseconds=sum(waits) if len(waits) == len(kernels) else None,
    )
