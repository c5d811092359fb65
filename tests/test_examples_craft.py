"""CRAFT with trained weights: one artifact for all sizes, PyTorch's scores, no more memory.

The words that the example draws are those that PyTorch's scores give.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier

pytestmark = pytest.mark.needs("torch", "llvmlite", "easyocr_en_models", "PIL", "skimage")

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "ocr"
SMALL = ((160, 160), (192, 320), (320, 224), (213, 181))
LARGE = ((481, 355), (640, 480), (768, 1024), (1280, 720), (1600, 1200))
MEASURED = (1280, 1280)
TOLERANCE = {"f32": 1e-4, "bf16": 5e-2}
MOST_MEMORY = 1.3
"""Peak of a whole process, over that of PyTorch's."""


@pytest.fixture(autouse=True)
def _example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of the example import one another by their names."""
    monkeypatch.syspath_prepend(EXAMPLE)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CRAFT in f32."""
    return _compiled(tmp_path_factory.mktemp("craft"), "f32")


def _compiled(folder: Path, precision: str) -> Path:
    path = folder / f"craft.{precision}.rvr"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        from compile_craft import compile_craft

        compile_craft(path, precision)
    return path


def _pytorch() -> Any:
    import torch

    from tests.zoo.craft import build_craft

    model = build_craft()

    def run(image: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(image)).numpy()

    return run


def _error(found: Any, wanted: Any) -> float:
    assert found.shape == wanted.shape
    assert wanted.max() > 0.9  # there is text, and the network sees it
    return float(np.abs(found - wanted).max())


def test_one_artifact_gives_pytorchs_scores_at_every_size(artifact: Path) -> None:
    from tests.zoo.page import page

    pytorch = _pytorch()
    with ranvier.load(artifact) as compiled:
        for size in SMALL:
            image = page(*size)
            assert _error(compiled(image), pytorch(image)) < TOLERANCE["f32"]


@pytest.mark.slow
def test_bf16_is_close(tmp_path: Path) -> None:
    from tests.zoo.page import page

    pytorch = _pytorch()
    with ranvier.load(_compiled(tmp_path, "bf16")) as compiled:
        for size in SMALL:
            image = page(*size)
            assert _error(compiled(image), pytorch(image)) < TOLERANCE["bf16"]


def _in_a_process(engine: str, size: tuple[int, int], scores: Path) -> tuple[float, Any]:
    """Peak memory in MiB, and the scores."""
    command = [sys.executable, "-m", "tests.zoo.craft_process", engine, *map(str, (*size, scores))]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)["peak_mib"], np.load(scores)


@pytest.mark.slow
@pytest.mark.parametrize("size", [*LARGE, MEASURED], ids=lambda size: f"{size[0]}x{size[1]}")
def test_large_sizes_agree_and_take_no_more_memory_than_pytorch(
    size: tuple[int, int], artifact: Path, tmp_path: Path
) -> None:
    ours, found = _in_a_process(str(artifact), size, tmp_path / "ours.npy")
    pytorchs, wanted = _in_a_process("torch", size, tmp_path / "pytorchs.npy")
    assert _error(found, wanted) < TOLERANCE["f32"]
    assert ours < MOST_MEMORY * pytorchs


def test_the_words_on_the_page_are_those_of_pytorch(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import craft
    from PIL import Image
    from read_text import pictures

    monkeypatch.setattr(craft, "LONG_SIDE", 768)
    page = Image.open(pictures()[0])
    with ranvier.load(artifact) as compiled:
        found = craft.find_words(compiled, page)
    wanted = craft.find_words(_pytorch(), page)
    assert len(found) == len(wanted) > 40
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_the_example_draws_with_numpy_and_pillow_alone(artifact: Path, tmp_path: Path) -> None:
    from PIL import Image

    blank = tmp_path / "blank.png"
    Image.new("RGB", (256, 16), "white").save(blank)
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'llvmlite', 'onnx', 'cv2'))\n"
        "import find_words; find_words.main()"
    )
    arguments = ["--folder", str(artifact.parent), str(blank)]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("blank.png: 0 words")
    assert Image.open(artifact.parent / "blank.craft.f32.png").size == (512, 32)


def test_words_are_joined_by_affinity_and_need_a_peak() -> None:
    from craft import words

    scores = np.zeros((40, 80, 2), np.float32)
    scores[10:16, 10:16, 0] = scores[10:16, 24:30, 0] = 0.9  # two characters
    scores[11:15, 15:25, 1] = 0.8  # of one word
    scores[10:16, 40:46, 0] = 0.6  # no peak
    scores[30:32, 10:13, 0] = 0.9  # too few pixels
    (word,) = words(scores)
    width, height = np.ptp(word, axis=0)
    assert 19 < width < 26
    assert 5 < height < 12
    np.testing.assert_allclose(word.mean(axis=0), (19.5, 12.5))
