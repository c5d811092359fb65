"""`--tune`: measures other schedules on this machine and keeps those that win.

Lowering chooses how each step is computed by a cost model. Tuning compiles the whole model once for
every *candidate*, a decision forced on all steps that it fits, and profiles each beside the
untuned program. Programs are compared piece by piece: the steps up to a result that both have are
one *site*, so a candidate may also fuse or split steps. Every site takes its fastest candidate, and
the program compiled from these choices replaces the untuned one only if whole calls are faster.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ranvier.artifact.writer import write_artifact
from ranvier.compiler import Compiled, Progress
from ranvier.lowering.options import CANDIDATES, LoweringOptions, Schedule
from ranvier.runtime.model import Model, load
from ranvier.runtime.profile import Profile

GAIN = 1.03  # how many times faster a candidate has to be measured before a site takes it
NOTICEABLE = 0.002  # least gain of a site, as a share of the whole call
ROUNDS = 12  # turns of each program; sites compare their fastest turn
SECONDS = 1.0  # per candidate; at least three rounds are made
_DECIDED = ("winograd", "depthfirst")  # kernels that are a choice of a schedule

Compile = Callable[[LoweringOptions], Compiled]
Inputs = Mapping[str, object]


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes:
        schedules: the choice of every site that left the cost model's, by its result's name.
        untuned_ms, tuned_ms: medians of whole calls, alternating; equal when nothing was changed.
        sizes: the symbols' values that were measured.
        seconds: what tuning took.
    """

    schedules: Mapping[str, str]
    untuned_ms: float
    tuned_ms: float
    sizes: Mapping[str, int]
    seconds: float

    def __str__(self) -> str:
        where = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        place = f" at {where}" if where else ""
        if not self.schedules:
            return f"tuned{place} in {self.seconds:.0f} s: the cost model's choices stay"
        lines = [f"  {site}: {schedule}" for site, schedule in self.schedules.items()]
        gain = self.untuned_ms / self.tuned_ms
        head = f"tuned{place} in {self.seconds:.0f} s: {self.untuned_ms:.3f} -> "
        return "\n".join((f"{head}{self.tuned_ms:.3f} ms, {gain:.2f}x", *lines))


def tune(
    compile_with: Compile,
    options: LoweringOptions,
    inputs_for: Callable[[Model], Inputs],
    progress: Progress | None = None,
) -> tuple[Compiled, Tuning]:
    """The fastest program found for the inputs that `inputs_for` gives, never a slower one.

    Args:
        compile_with: compiles the model with other options, for a target that runs here.
        options: those of the untuned program.
        inputs_for: the inputs to measure with, by name, for the loaded untuned program.
        progress: called with (stage, fraction done).
    """
    start = time.perf_counter()
    tell = progress or (lambda stage, fraction: None)
    untuned = compile_with(options)
    with _loaded(untuned) as model:
        inputs = inputs_for(model)
        sizes = model.sizes(inputs)
        sites = _Sites()
        for position, candidate in enumerate(CANDIDATES):
            tell(f"tune: {candidate}", position / (len(CANDIDATES) + 1))
            compiled = compile_with(replace(options, schedule=candidate))
            if not _is_same(compiled, untuned):
                with _loaded(compiled) as other:
                    sites.compare(candidate, *_profiles(model, other, inputs))
        chosen = sites.winners()
        if not chosen:
            return untuned, Tuning({}, *_same_time(model, inputs), sizes, _since(start))
        tell("tune: winners", len(CANDIDATES) / (len(CANDIDATES) + 1))
        tuned = compile_with(replace(options, schedules=chosen))
        with _loaded(tuned) as other:
            before, after = _call_times(model, other, inputs)
    names = {site: str(schedule) for site, schedule in chosen.items()}
    if after >= before:
        return untuned, Tuning({}, before, before, sizes, _since(start))
    return tuned, Tuning(names, before, after, sizes, _since(start))


class _Sites:
    """The fastest schedule of every site so far."""

    def __init__(self) -> None:
        self._gains: dict[str, tuple[float, Schedule]] = {}

    def compare(
        self, candidate: Schedule, base: Sequence[Profile], other: Sequence[Profile]
    ) -> None:
        """Note where `candidate` is faster; its profiles stand beside those of the untuned."""
        ends = _common_ends(base[0], other[0])
        before, after = _site_seconds(base, ends), _site_seconds(other, ends)
        noticeable = NOTICEABLE * sum(before.values())
        # Elsewhere the programs do the same, whatever the clock says.
        decided = _decided_sites(base[0], ends) | _decided_sites(other[0], ends)
        for end in (end for end in ends if end in decided):
            gain = before[end] / max(after[end], 1e-9)
            best = max(GAIN, self._gains.get(end.label, (0.0, candidate))[0])
            if gain > best and before[end] - after[end] > noticeable:
                self._gains[end.label] = gain, candidate

    def winners(self) -> dict[str, Schedule]:
        return {site: schedule for site, (_, schedule) in self._gains.items()}


class _End(NamedTuple):
    """The last step of a site: the result that it computes, and how often that was seen before.

    A result is computed twice where an output of the model is also copied into the user's layout.
    """

    label: str
    repetition: int


def _ends(profile: Profile) -> list[_End]:
    """Every step as the end of a site."""
    seen: Counter[str] = Counter()
    ends: list[_End] = []
    for step in profile.steps:
        ends.append(_End(step.label, seen[step.label]))
        seen[step.label] += 1
    return ends


def _common_ends(base: Profile, other: Profile) -> list[_End]:
    """Results that both programs compute, in the order in which both do."""
    known = {end: number for number, end in enumerate(_ends(other))}
    common: list[_End] = []
    last = -1
    for end in _ends(base):
        position = known.get(end, -1)
        if position > last:
            common.append(end)
            last = position
    return common


def _decided_sites(profile: Profile, ends: Sequence[_End]) -> set[_End]:
    """Sites with a kernel that schedules decide about."""
    found: set[_End] = set()
    decided = False
    for end, step in zip(_ends(profile), profile.steps, strict=True):
        decided |= step.kernel.startswith(_DECIDED)
        if end in ends:
            found |= {end} if decided else set()
            decided = False
    return found


def _site_seconds(profiles: Sequence[Profile], ends: Sequence[_End]) -> dict[_End, float]:
    """The least time of the steps up to each of `ends`, behind the one before."""
    found = dict.fromkeys(ends, float("inf"))
    steps = _ends(profiles[0])  # of one program, so all profiles have the same
    for profile in profiles:
        spent = 0.0
        for end, seconds in zip(steps, profile.step_seconds, strict=True):
            spent += float(seconds)
            if end in found:
                found[end] = min(found[end], spent)
                spent = 0.0
    return found


@contextmanager
def _loaded(compiled: Compiled) -> Iterator[Model]:
    with tempfile.TemporaryDirectory(prefix="ranvier-tune-") as folder:
        path = Path(folder) / "candidate.rvr"
        write_artifact(path, compiled.manifest, compiled.programs, compiled.entries)
        with load(path, verify="none") as model:
            yield model


def _is_same(one: Compiled, other: Compiled) -> bool:
    """Whether two compilations of one model came to the same steps and code."""
    if one.programs != other.programs:
        return False
    images = [program.code for program in one.programs]
    return all(bytes(one.entries[name]) == bytes(other.entries[name]) for name in images)


def _profiles(model: Model, other: Model, inputs: Inputs) -> tuple[list[Profile], list[Profile]]:
    """Profiles of both in alternation, warm."""
    for each in (model, other):
        each.run(inputs)
    pairs: list[tuple[Profile, Profile]] = []
    start = time.perf_counter()
    while len(pairs) < 3 or (len(pairs) < ROUNDS and _since(start) < SECONDS):
        pairs.append((model.profile(inputs), other.profile(inputs)))
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _call_times(model: Model, other: Model, inputs: Inputs) -> tuple[float, float]:
    """Median milliseconds of whole calls in alternation."""
    times: tuple[list[float], list[float]] = ([], [])
    start = time.perf_counter()
    while len(times[0]) < 7 or _since(start) < 2 * SECONDS:
        for each, spent in zip((model, other), times, strict=True):
            began = time.perf_counter()
            each.run(inputs)
            spent.append(_since(began) * 1e3)
    return median(times[0][1:]), median(times[1][1:])


def _same_time(model: Model, inputs: Inputs) -> tuple[float, float]:
    milliseconds = _call_times(model, model, inputs)[0]
    return milliseconds, milliseconds


def _since(start: float) -> float:
    return time.perf_counter() - start
