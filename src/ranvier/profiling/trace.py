"""One call as trace events, for Perfetto and `chrome://tracing`.

The format is Google's "Trace Event Format"; times are microseconds since the call began.
"""

from __future__ import annotations

from collections.abc import Iterator

from ranvier.profiling.measure import ArtifactProfile, KernelTime
from ranvier.profiling.timeline import Timeline

WAIT = "wait"
"""Category of the bars that are no work."""


def chrome_trace(profile: ArtifactProfile) -> dict[str, object]:
    """The typical call: on the row of each thread a bar per kernel, then one for its wait."""
    events: list[dict[str, object]] = [
        _named("process_name", 0, f"{profile.name} ({profile.precision})"),
        *(_named("thread_name", thread, f"thread {thread}") for thread in range(profile.cores)),
    ]
    for thread in range(profile.cores):
        events.extend(_bars(profile.kernels, profile.typical, thread))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _named(what: str, thread: int, name: str) -> dict[str, object]:
    return {"name": what, "ph": "M", "pid": 0, "tid": thread, "args": {"name": name}}


def _bars(
    kernels: tuple[KernelTime, ...], call: Timeline, thread: int
) -> Iterator[dict[str, object]]:
    for kernel in kernels:
        at = thread, kernel.index
        begin, end = float(call.begins[at]), float(call.ends[at])
        finish = end if call.finishes is None else float(call.finishes[at])
        yield {
            **_bar(kernel.label, kernel.kernel, thread, begin, finish),
            "args": {
                "kernel": kernel.kernel, "operators": ", ".join(kernel.operators),
                "source": kernel.source, "flops": kernel.flops, "bytes": kernel.bytes,
                "limit": kernel.limit or "unknown",
            },
        }  # fmt: skip
        if finish < end:
            yield _bar(WAIT, WAIT, thread, finish, end)


def _bar(name: str, category: str, thread: int, begin: float, end: float) -> dict[str, object]:
    return {
        "name": name, "cat": category, "ph": "X", "pid": 0, "tid": thread,
        "ts": begin * 1e6, "dur": (end - begin) * 1e6,
    }  # fmt: skip
