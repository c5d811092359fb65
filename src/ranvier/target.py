"""What the code generator knows of a CPU: vector width, features, caches."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.errors import TargetError

_V3 = ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse4.2", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


@dataclass(frozen=True)
class Target:
    """A CPU to compile for; `features` are LLVM's names, `lanes` the f32 lanes of a register."""

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    lanes: int
    registers: int
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024

    @property
    def has_bf16_dot(self) -> bool:
        """Whether the CPU has a dot product of bf16 pairs."""
        return "avx512bf16" in self.features

    @property
    def feature_string(self) -> str:
        """The features in LLVM's form: `+avx,+avx2`."""
        return ",".join(f"+{feature}" for feature in self.features)


_LINUX = "x86_64-unknown-linux-gnu"
TARGETS = {
    t.name: t
    for t in (
        Target("x86-64-v3", _LINUX, "x86-64-v3", _V3, lanes=8, registers=16),
        Target("x86-64-v4", _LINUX, "x86-64-v4", _V4, lanes=16, registers=32),
        Target("x86-64-v4-bf16", _LINUX, "x86-64-v4", (*_V4, "avx512bf16"), lanes=16, registers=32),
    )
}


def target_named(name: str) -> Target:
    """The target of that name; TargetError lists the known ones."""
    if name not in TARGETS:
        raise TargetError(f"unknown target {name!r}; known targets: native, {', '.join(TARGETS)}")
    return TARGETS[name]
