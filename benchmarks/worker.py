"""A process that holds one engine and measures when its turn comes.

usage: python -m benchmarks.worker JOB_JSON

Every line on standard input is the pace of a turn as JSON; each is answered by one line of
JSON on the original standard output. What the engine itself prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import TextIO

import numpy as np

from benchmarks import engines
from benchmarks.engines.engine import Array, Pace
from benchmarks.job import Job


def main(job: Job, replies: TextIO) -> None:
    """Prepare the engine and compare its output with the reference, then answer turns."""
    cpus = sorted(os.sched_getaffinity(0))[: job.threads]
    os.sched_setaffinity(0, cpus)
    start = time.perf_counter()
    engine = engines.make(job)
    engine.prepare()
    error = _error(engine.call(), np.load(job.material.reference(job.sizes)))
    _reply(replies, {"prepare_s": time.perf_counter() - start, "error": error})
    for line in sys.stdin:
        _reply(replies, asdict(engine.turn(Pace(**json.loads(line)))))


def _error(output: Array, reference: Array) -> float:
    """The norm of the difference over the norm of the reference."""
    if output.shape != reference.shape:
        raise ValueError(f"output has the shape {output.shape}, PyTorch's {reference.shape}")
    difference = np.subtract(output, reference, dtype=np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(reference.astype(np.float64)))


def _reply(replies: TextIO, value: object) -> None:
    replies.write(json.dumps(value) + "\n")
    replies.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(Job.from_json(sys.argv[1]), answers)
