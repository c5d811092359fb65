"""What this CPU can do, and which program of an artifact suits it best."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from functools import cache

from ranvier.artifact.format import Target
from ranvier.errors import TargetError

_ALIASES = {
    "lzcnt": "abm",
    "bmi": "bmi1",
    "sha": "shani",
    "pclmul": "pclmulqdq",
    "rdrnd": "rdrand",
    "sse3": "pni",
}
"""Features that LLVM and /proc/cpuinfo name differently; beyond these only punctuation differs."""

_ARCH_PRCTL, _REQUEST_STATE_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def plain(feature: str) -> str:
    """Return a feature as the kernel names it, without punctuation: "avx512bf16", "bmi1"."""
    name = "".join(letter for letter in feature.lower() if letter.isalnum())
    return _ALIASES.get(name, name)


@cache
def host_features(cpuinfo: str = "/proc/cpuinfo") -> frozenset[str]:
    """Return the CPU's features in `plain` form; the kernel lists what programs may use."""
    with open(cpuinfo, encoding="ascii", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return frozenset(plain(name) for name in value.split())
    return frozenset()


def choose_target(
    targets: Sequence[Target],
    environment: Mapping[str, str] = os.environ,
    features: frozenset[str] | None = None,
    isa: str | None = None,
) -> int:
    """Return the index of the program to run: the runnable one that uses most features.

    Args:
        targets: what the programs of the artifact need.
        environment: `RANVIER_TARGET` forces the program of that target name.
        features: features of the CPU in `plain` form; None asks the CPU.
        isa: instruction set of the machine; None asks the machine.

    Raises:
        TargetError: no program fits; lists what each one misses.
    """
    present = host_features() if features is None else features
    machine = os.uname().machine if isa is None else isa
    forced = environment.get("RANVIER_TARGET", "").strip()
    candidates = [i for i, target in enumerate(targets) if not forced or target.name == forced]
    if not candidates:
        names = ", ".join(target.name for target in targets) or "none"
        raise TargetError(
            f"RANVIER_TARGET={forced}: the artifact has no such target; it has {names}"
        )
    fitting = [i for i in candidates if not missing(targets[i], present, machine)]
    if fitting:
        return max(fitting, key=lambda i: (len(targets[i].features), -i))
    lacks = "; ".join(
        f"{targets[i].name} needs {', '.join(missing(targets[i], present, machine))}"
        for i in candidates
    )
    raise TargetError(
        f"this CPU ({machine}) can run no program of the artifact: {lacks}. "
        "Compile it for this CPU's target too"
    )


def missing(target: Target, features: frozenset[str], isa: str) -> list[str]:
    """Return what the CPU lacks for a target: feature names, or the instruction set."""
    if target.isa != isa:
        return [f"a machine of type {target.isa}"]
    return [name for name in target.features if plain(name) not in features]


def permit_tiles(target: Target) -> None:
    """Ask Linux for the AMX tile state when the target uses it: it is granted on request.

    Raises:
        TargetError: the kernel refuses.
    """
    if not any(plain(name).startswith("amx") for name in target.features):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_ARCH_PRCTL, _REQUEST_STATE_PERMISSION, _TILE_DATA):
        raise TargetError(
            f"the kernel does not permit AMX tiles: {os.strerror(ctypes.get_errno())}"
        )
