"""A profile in the types of JSON: what `ranvier profile --json` prints and the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ranvier.profiling.groups import by_operators, by_source
from ranvier.profiling.measure import ArtifactProfile, KernelTime


def document(
    profile: ArtifactProfile, steps: Sequence[KernelTime] | None = None
) -> dict[str, object]:
    """The figures of a profile; `steps` chooses and orders the kernel calls that are listed.

    Keys are the attributes of `ArtifactProfile`, `KernelTime` (under "steps"), `Level` (under
    "roofline") and `Group` (under "operators" and "sources").
    """
    roofline = profile.roofline
    return {
        "name": profile.name,
        "precision": profile.precision,
        "target": profile.target,
        "cpu": profile.cpu,
        "cores": profile.cores,
        "sizes": dict(profile.sizes),
        "batch": profile.batch,
        "calls": profile.calls,
        "microseconds": profile.microseconds,
        "call_microseconds": profile.call_microseconds,
        "items_per_second": profile.items_per_second,
        "share_of_peak": profile.share_of_peak,
        "share_waiting": profile.share_waiting,
        "roofline": {
            "peaks": dict(roofline.peaks),
            "levels": [asdict(level) for level in roofline.levels],
            "call_bytes": roofline.call_bytes,
        },
        "steps": [asdict(step) for step in (profile.kernels if steps is None else steps)],
        "operators": [asdict(group) for group in by_operators(profile.kernels)],
        "sources": [asdict(group) for group in by_source(profile.kernels)],
    }
