"""The hand-written artifact of the runtime's tests, as old as the format: it notes no finishes."""

from __future__ import annotations

from tests.runtime.conftest import image, make_tiny, tiny

__all__ = ["image", "make_tiny", "tiny"]
