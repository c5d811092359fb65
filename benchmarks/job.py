"""What one engine is asked to do: a model of the zoo at one size, precision and thread count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One engine's task; every engine of a comparison gets the same but for `engine`.

    `folder` holds the model in every engine's form and the inputs; `Material` names the files.
    """

    engine: str
    model: str
    sizes: Mapping[str, int]
    precision: str
    threads: int
    folder: str

    def key(self) -> str:
        """Names the job inside its folder."""
        return f"{self.engine}-{self.precision}-{sizes_key(self.sizes)}"

    @property
    def material(self) -> Material:
        """The files that the engine loads."""
        return Material(Path(self.folder))

    def to_json(self) -> str:
        """One line, for the command line of a worker."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Job:
        """The inverse of `to_json`."""
        return Job(**json.loads(text))


def sizes_key(sizes: Mapping[str, int]) -> str:
    """Names sizes inside a folder: "batch8-tokens128"."""
    return "-".join(f"{name}{size}" for name, size in sizes.items())


@dataclass(frozen=True)
class Material:
    """Where a model lies in every form that an engine loads; `prepare_model.py` writes it."""

    folder: Path

    @property
    def module(self) -> Path:
        """The pickled `torch.nn.Module`."""
        return self.folder / "module.pt"

    def onnx(self, sizes: Mapping[str, int]) -> Path:
        """The ONNX file with fixed sizes; its weights are in the file beside it."""
        return self.folder / f"{sizes_key(sizes)}.onnx"

    def artifact(self, precision: str) -> Path:
        """Ranvier's file, for all sizes."""
        return self.folder / f"{precision}.rvr"

    def inputs(self, sizes: Mapping[str, int]) -> Path:
        """The positional inputs, an `.npz` with `input_0`, `input_1`, ..."""
        return self.folder / f"{sizes_key(sizes)}.npz"

    def reference(self, sizes: Mapping[str, int]) -> Path:
        """The output of PyTorch in f32, an `.npy`."""
        return self.folder / f"{sizes_key(sizes)}.npy"

    @property
    def facts(self) -> Path:
        """JSON: `forms` and `precisions` made, `flops` by sizes, `failures` by form."""
        return self.folder / "facts.json"
