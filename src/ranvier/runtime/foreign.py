"""Steps that a framework runs, between parts of the native program."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from ranvier.artifact.format import Program, Step
from ranvier.artifact.reader import Artifact
from ranvier.errors import FrameworkError
from ranvier.runtime.arrays import Array
from ranvier.runtime.plan import ForeignCall, Place
from ranvier.segments import Segment, Tensor, open_segment


class ForeignSteps:
    """The segments of a program, opened: their frameworks are imported, their operators found."""

    def __init__(self, artifact: Artifact, program: Program, threads: int) -> None:
        """Raises FrameworkError, which names the package and what needs it."""
        self._end = len(program.steps)
        self._segments = {
            number: _open(artifact, step, threads)
            for number, step in enumerate(program.steps)
            if step.foreign is not None
        }

    def run(
        self,
        calls: Sequence[ForeignCall],
        table: ctypes.Array[ctypes.c_uint64],
        part: Array,
        native: Callable[[], None],
    ) -> None:
        """Run a whole program.

        Args:
            calls: of the plan.
            table: addresses of buffers.
            part: takes the first step of a native part, and the one behind its last.
            native: runs that part.

        Raises:
            FrameworkError: a framework failed.
        """
        first = 0
        for call in calls:
            # Native code passes the step, too: all threads meet there, and a profile sees it.
            part[0], part[1] = first, call.step + 1
            native()
            operands, results = _tensors(call.operands, table), _tensors(call.results, table)
            self._segments[call.step].run(operands, call.sizes, results)
            first = call.step + 1
        part[0], part[1] = first, self._end
        native()

    def finish(self, ticks: Array) -> None:
        """Put the ends of these steps into clock readings: native code took no time for them.

        `ticks` are when steps begin and when they are finished, (2, threads, steps + 1).
        """
        for number in self._segments:
            ticks[1, :, number] = ticks[0, :, number + 1]


def _open(artifact: Artifact, step: Step, threads: int) -> Segment:
    foreign = step.foreign
    assert foreign is not None
    try:
        return open_segment(
            foreign.framework,
            artifact.entry(foreign.entry).tobytes(),
            [tensor.dtype for tensor in foreign.operands],
            [tensor.dtype for tensor in foreign.results],
            len(foreign.sizes),
            threads,
        )
    except FrameworkError as error:
        operators = ", ".join(dict.fromkeys(step.operators))
        raise FrameworkError(
            f"{artifact.path} needs {foreign.framework} for {operators}: {error.args[0]}"
        ) from error


def _tensors(places: Sequence[Place], table: ctypes.Array[ctypes.c_uint64]) -> list[Tensor]:
    return [Tensor(table[p.buffer] + p.offset_bytes, p.shape) for p in places]
