"""What the caller of the compiler may decide about lowering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Schedule:
    """Decisions about a step that its cost model would take otherwise; None leaves them to it.

    Attributes:
        winograd_tile: outputs per side of a Winograd tile; 0 computes the convolution directly.
        depth_first: whether a chain of products of pixels around a depthwise convolution is
            computed band by band.
    """

    winograd_tile: int | None = None
    depth_first: bool | None = None

    def __str__(self) -> str:
        decisions = []
        if self.winograd_tile is not None:
            tile = self.winograd_tile
            decisions.append(f"winograd tile {tile}x{tile}" if tile else "direct convolution")
        if self.depth_first is not None:
            decisions.append("depth first" if self.depth_first else "layer by layer")
        return ", ".join(decisions) or "cost model"


CANDIDATES = (
    Schedule(winograd_tile=0), Schedule(winograd_tile=2), Schedule(winograd_tile=4),
    Schedule(depth_first=False), Schedule(depth_first=True),
)  # fmt: skip
"""What tuning tries, one decision at a time."""


@dataclass(frozen=True)
class LoweringOptions:
    """What lowering is told.

    Attributes:
        winograd: convolutions may take fewer multiplications, which changes their rounding.
        schedule: decisions for all steps that they fit.
        schedules: decisions for single steps, by the name of their result; they come first.
    """

    winograd: bool = True
    schedule: Schedule = Schedule()
    schedules: Mapping[str, Schedule] = field(default_factory=dict)

    def schedule_of(self, result: str) -> Schedule:
        """The decisions for the step that computes `result`."""
        return self.schedules.get(result, self.schedule)
