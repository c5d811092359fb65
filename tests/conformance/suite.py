"""ONNX's own backend suite, case by case, on Ranvier's native code."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from ranvier.onnx_backend import RanvierBackend


class Backend(RanvierBackend):
    """One core: the cases are tiny, and the machine has others to run."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """Compile a case's model."""
        return super().prepare(model, device, cores=1, **kwargs)


@functools.cache
def cases() -> dict[str, Callable[[], None]]:
    """The CPU cases of the suite by name; calling one runs it, and raises when it fails."""
    from onnx.backend.test.runner import Runner

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = Runner(Backend)
    found = {}
    for items in runner._test_items.values():
        for name, item in items.items():
            if name.endswith("_cpu"):
                found[name.removesuffix("_cpu")] = functools.partial(item.func, None)
    return dict(sorted(found.items()))


def outcome(name: str) -> str:
    """What goes wrong with a case, in one line; empty when it passes.

    Every error counts as a failure of the case, so that one cannot hide the others.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cases()[name]()
        except Exception as error:  # noqa: BLE001  (a failure is the outcome that is asked for)
            lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
            return f"{type(error).__name__}: {' | '.join(lines[:3])[:300]}"
    return ""
