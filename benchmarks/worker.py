"""A process that holds one engine and measures when its turn comes.

usage: python -m benchmarks.worker JOB_JSON

Standard input carries the seconds of a turn, one number a line; each is answered by one line of
JSON on the original standard output. What the engine itself prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TextIO

import numpy as np

from benchmarks import engines
from benchmarks.job import Job


def main(job: Job, replies: TextIO) -> None:
    """Prepare the engine, then answer turns until standard input ends."""
    cpus = sorted(os.sched_getaffinity(0))[: job.threads]
    os.sched_setaffinity(0, cpus)
    engine = engines.make(job)
    stages = engine.prepare()
    np.save(Path(job.folder) / f"{job.key()}.npy", engine.call())
    _reply(replies, stages)
    for line in sys.stdin:
        _reply(replies, engine.turn(float(line)))


def _reply(replies: TextIO, value: object) -> None:
    replies.write(json.dumps(value) + "\n")
    replies.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(Job.from_json(sys.argv[1]), answers)
