"""Parts of a model that a framework runs: segments.

A *segment* is what the compiler leaves to PyTorch or ONNX Runtime when it is asked to
(docs/fallback.md). Here is what runs one, for the interpreter of the graph and for the runtime
alike. A framework is imported when a segment is opened, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ranvier.errors import FrameworkError
from ranvier.segments.onnxruntime import OnnxRuntimeSegment
from ranvier.segments.pytorch import TorchSegment
from ranvier.segments.segment import Segment, Tensor

__all__ = ["FRAMEWORKS", "Segment", "Tensor", "open_segment"]

FRAMEWORKS: dict[str, Callable[[bytes, Sequence[str], Sequence[str], int, int | None], Segment]] = {
    "torch": TorchSegment,
    "onnxruntime": OnnxRuntimeSegment,
}
"""Segments by the name of their framework, which is that of its Python package."""


def open_segment(
    framework: str,
    document: bytes,
    operands: Sequence[str],
    results: Sequence[str],
    sizes: int = 0,
    threads: int | None = None,
) -> Segment:
    """A segment that is ready to run.

    Args:
        framework: a name of `FRAMEWORKS`.
        document: what to run: JSON for PyTorch, a serialised ONNX model for ONNX Runtime.
        operands, results: dtype names, such as "f32".
        sizes: how many numbers every call gives.
        threads: for the framework's kernels where it lets a segment choose; None for its default.

    Raises:
        FrameworkError: the framework is unknown or not installed, lacks an operator, or cannot
            read the document.
    """
    if framework not in FRAMEWORKS:
        known = ", ".join(FRAMEWORKS)
        raise FrameworkError(f"no framework {framework!r:.40} runs segments; known: {known}")
    return FRAMEWORKS[framework](document, operands, results, sizes, threads)
