"""The deploy side of the demo: NumPy alone; importing torch, onnx or llvmlite raises.

usage: python deploy.py SECONDS LABELS_JSON ARTIFACT...   (prints one line of JSON)
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

FORBIDDEN = ("torch", "onnx", "llvmlite")


class Forbid(MetaPathFinder):
    """Makes every import of the named packages fail: the proof that nothing here needs them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise for a forbidden package; leave the others to the finders after this one."""
        if fullname.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{fullname} must not be imported where a model is deployed")
        return None


def import_runtime() -> float:
    """Import NumPy and Ranvier's runtime; the milliseconds that took."""
    start = time.perf_counter()
    importlib.import_module("ranvier.runtime.model")
    return (time.perf_counter() - start) * 1000


def serve(path: Path, labels: list[str], seconds: float) -> dict[str, Any]:
    """Load one artifact, classify the photo, measure; all times in milliseconds."""
    from measure import measure
    from photo import cat_photo, preprocess, top_labels

    from ranvier import load

    image = preprocess(cat_photo())
    start = time.perf_counter()
    model = load(path)
    load_ms = (time.perf_counter() - start) * 1000
    with model:
        logits = model(image)
        latency = measure(lambda: model(image), seconds)
    return {
        "load_ms": load_ms,
        "top": top_labels(logits[0], labels),
        "latency": asdict(latency),
    }


def main(arguments: Sequence[str]) -> None:
    """Serve every artifact and print the results as JSON, keyed by file name."""
    seconds, labels_path, *paths = arguments
    labels = json.loads(Path(labels_path).read_text())
    import_ms = import_runtime()
    results = {Path(path).name: serve(Path(path), labels, float(seconds)) for path in paths}
    loaded = [name for name in FORBIDDEN if name in sys.modules]
    assert not loaded, f"{loaded} were imported"
    print(json.dumps({"artifacts": results, "import_ms": import_ms}))


if __name__ == "__main__":
    sys.meta_path.insert(0, Forbid())
    main(sys.argv[1:])
