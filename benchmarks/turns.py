"""Workers take turns: one runs, the others are stopped, so idle threads cannot disturb."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.engines.engine import Pace, Turn
from benchmarks.job import Job


class WorkerFailedError(RuntimeError):
    """A worker ended before it answered; the message ends with what it wrote last."""


class Worker:
    """One engine in a process of its own; stopped except during its turns."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._log = Path(job.folder) / f"{job.key()}.log"
        # Binding OpenMP's threads to cores (OMP_PROC_BIND) gains nothing where there are as many
        # threads as cores, and would leave the C++ compiler of torch.compile on one of them.
        environment = os.environ | {"OMP_NUM_THREADS": str(job.threads)}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", job.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.communicate()

    def prepared(self) -> dict[str, float]:
        """Wait until the engine has answered once: `prepare_s`, and the `error` of its answer.

        Leaves the engine stopped.
        """
        report: dict[str, float] = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        return report

    def turn(self, pace: Pace) -> Turn:
        """Run at this pace. Leaves the engine stopped."""
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(pace)) + "\n")
        self._process.stdin.flush()
        turn = Turn(**self._answer())
        self._process.send_signal(signal.SIGSTOP)
        return turn

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text().splitlines()[-15:])
            raise WorkerFailedError(f"{self.job.key()} on {self.job.model} failed:\n{tail}")
        return json.loads(line)
