"""Runs CRAFT once in a process of its own and measures it: PyTorch, or an artifact.

usage: python -m tests.zoo.craft_process torch|ARTIFACT HEIGHT WIDTH SCORES.npy

Writes the score maps of scikit-image's page at that size, and prints the peak of the process's
memory and the seconds of the call as JSON. The input is the same for both engines.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from tests.zoo.page import page


def main(engine: str, height: int, width: int, scores: str) -> None:
    """Run once and report."""
    image = page(height, width)
    if engine == "torch":
        import torch

        from tests.zoo.craft import build_craft

        model = build_craft()
        start = time.perf_counter()
        with torch.inference_mode():
            found = model(torch.from_numpy(image)).numpy()
    else:
        import ranvier

        compiled = ranvier.load(engine)
        start = time.perf_counter()
        found = compiled(image)
    seconds = time.perf_counter() - start
    np.save(scores, found)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mib": peak_mib, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
