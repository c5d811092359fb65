"""What one engine is asked to do: a model of the zoo at one size, precision and thread count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tests import zoo


@dataclass(frozen=True)
class Job:
    """One engine's task; every engine of a comparison gets the same but for `engine`.

    `folder` holds what the engines share: the ONNX file, and every engine's first output.
    """

    engine: str
    model: str
    sizes: Mapping[str, int]
    precision: str
    threads: int
    folder: str

    def key(self) -> str:
        """Names the job inside its folder."""
        return f"{self.engine}-{self.precision}"

    def to_json(self) -> str:
        """One line, for the command line of a worker."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Job:
        """The inverse of `to_json`."""
        return Job(**json.loads(text))


def sizes_of(model: str, batch: int, tokens: int) -> dict[str, int]:
    """Concrete sizes of a zoo model: this batch, 224 x 224 images, this many tokens."""
    defaults = {"batch": batch, "tokens": tokens, "height": 224, "width": 224}
    return {symbol.name: defaults[symbol.name] for symbol in zoo.model(model).symbols}
