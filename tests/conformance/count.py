"""Runs cases of ONNX's backend suite and prints how many pass.

python -m tests.conformance.count [pattern] [--failures] [--reasons]
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter

from tests.conformance.suite import cases, outcome


def _shape_of(failure: str) -> str:
    """A failure without the names and numbers that differ from case to case."""
    return re.sub(r" \(at .*|\d+(\.\d+)?", "", failure)[:160]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="regular expression of case names")
    parser.add_argument("--failures", action="store_true", help="print every failure")
    parser.add_argument("--reasons", action="store_true", help="count failures by their reason")
    options = parser.parse_args()
    chosen = [name for name in cases() if re.search(options.pattern, name)]
    reasons: Counter[str] = Counter()
    since, passed = time.perf_counter(), 0
    for name in chosen:
        failure = outcome(name)
        passed += not failure
        reasons.update([_shape_of(failure)] if failure else [])
        if failure and options.failures:
            print(f"{name}: {failure}", flush=True)
    seconds = time.perf_counter() - since
    if options.reasons:
        for reason, count in reasons.most_common():
            print(f"{count:5}  {reason}")
    print(f"{passed} of {len(chosen)} cases pass ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
