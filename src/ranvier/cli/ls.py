"""`ranvier ls`: the cores and CPU features that Ranvier can use here."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ranvier.artifact.format import Target
from ranvier.cli.options import CoresOption, JsonOption, parse_cores
from ranvier.cli.output import print_json
from ranvier.inspection import lacking_here
from ranvier.profiling.machine import cpu_name
from ranvier.runtime.cores import cgroup_quota, select_cores
from ranvier.runtime.cpu import host_features
from ranvier.target import TARGETS

VARIABLES = ("RANVIER_VISIBLE_CORES", "RANVIER_NUM_CORES", "RANVIER_TARGET")
_SHOWN = ("avx", "fma", "f16c", "amx", "sse42", "bmi2")


@dataclass(frozen=True)
class TargetHere:
    """A target, and what this CPU lacks for it."""

    name: str
    lacking: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """What Ranvier may use; `quota` is in CPUs, None for no limit."""

    cpu: str
    isa: str
    cores: int
    cpus: tuple[int, ...]
    pinned: bool
    quota: float | None
    features: tuple[str, ...]
    targets: tuple[TargetHere, ...]
    environment: dict[str, str]


def ls_command(cores: CoresOption = None, as_json: JsonOption = False) -> None:
    """List the cores that Ranvier may use, their CPU features, and the targets that run here."""
    machine = _machine(parse_cores(cores))
    if as_json:
        print_json(machine)
        return
    quota = "none" if machine.quota is None else f"{machine.quota:g} CPUs"
    pinned = "one thread on each" if machine.pinned else "threads go where the system puts them"
    print(f"cpu        {machine.cpu} ({machine.isa})")
    print(f"cores      {machine.cores} of CPUs {', '.join(map(str, machine.cpus))}; {pinned}")
    print(f"quota      {quota}")
    print(f"features   {' '.join(machine.features)}")
    for target in machine.targets:
        here = f"lacks {', '.join(target.lacking)}" if target.lacking else "runs here"
        print(f"target     {target.name:16} {here}")
    for name, value in machine.environment.items():
        print(f"set        {name}={value}")


def _machine(cores: int | str | None) -> Machine:
    selected = select_cores(cores)
    features = sorted(f for f in host_features() if f.startswith(_SHOWN))
    targets = tuple(
        TargetHere(t.name, lacking_here(Target(t.name, t.triple.partition("-")[0], t.features)))
        for t in TARGETS.values()
    )
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return Machine(
        cpu_name(), os.uname().machine, selected.count, selected.cpus, selected.pinned,
        cgroup_quota(), tuple(features), targets, environment,
    )  # fmt: skip
