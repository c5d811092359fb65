"""examples/ocr: the three networks at many sizes, the steps between them, and the whole.

ONNX Runtime is the judge: it runs the same ONNX files in the same pipeline.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier
from ranvier.errors import InputError

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ocr"
MODELS = ("detection", "orientation", "recognition")
NEEDS = pytest.mark.needs("onnx", "onnxruntime", "rapidocr_onnxruntime", "skimage", "PIL")

# (batch, height, width). Detection halves five times and doubles again, so its own additions fit
# where 29 to 32 pixels are left over 32s; recognition needs one row after its last pooling.
SIZES = {
    "detection": (
        (1, 32, 32), (1, 61, 94), (2, 64, 96), (1, 96, 32), (1, 127, 160), (3, 64, 64),
        (1, 128, 255), (1, 190, 62), (1, 256, 320), (1, 352, 480),
    ),
    "orientation": (
        (1, 48, 192), (6, 48, 192), (2, 33, 47), (1, 64, 320), (1, 97, 40), (3, 40, 41),
        (1, 48, 33), (4, 49, 191), (1, 128, 128), (2, 60, 100),
    ),
    "recognition": (
        (1, 48, 320), (6, 48, 320), (1, 48, 33), (2, 48, 500), (1, 48, 7), (1, 47, 321),
        (1, 64, 127), (3, 33, 99), (1, 80, 81), (2, 71, 250),
    ),
}  # fmt: skip
LARGE = {
    "detection": ((1, 736, 1472), (1, 960, 959), (2, 544, 736)),
    "orientation": ((17, 48, 192), (1, 500, 333)),
    "recognition": ((1, 48, 2500), (16, 48, 640)),
}
TOLERANCE = {"f32": 1e-4, "bf16": 0.1}
OUTSIDE = {"detection": (1, 50, 64), "recognition": (1, 81, 320)}


@pytest.fixture(autouse=True)
def _example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of the example import one another by their names."""
    monkeypatch.syspath_prepend(EXAMPLE)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artifacts in f32."""
    return _compiled(tmp_path_factory.mktemp("ocr"), "f32")


def _compiled(folder: Path, precision: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        from compile_models import compile_all

        compile_all(folder, precision)
    return folder


def _session(model: str) -> Any:
    import onnxruntime
    from compile_models import onnx_file

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(onnx_file(model), options)


def _images(size: tuple[int, int, int]) -> Any:
    batch, height, width = size
    random = np.random.default_rng(height * width)
    return random.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)


def _errors(folder: Path, precision: str, model: str, sizes: Any) -> Iterator[float]:
    session = _session(model)
    with ranvier.load(folder / f"{model}.{precision}.rvr") as compiled:
        for size in sizes:
            images = _images(size)
            (wanted,) = session.run(None, {"x": images})
            found = compiled(images)
            assert found.shape == wanted.shape
            yield float(np.abs(found - wanted).max())


@NEEDS
@pytest.mark.parametrize("model", MODELS)
def test_one_artifact_is_right_at_ten_sizes(model: str, artifacts: Path) -> None:
    assert max(_errors(artifacts, "f32", model, SIZES[model])) < TOLERANCE["f32"]


@NEEDS
@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_one_artifact_is_right_at_large_sizes(model: str, artifacts: Path) -> None:
    assert max(_errors(artifacts, "f32", model, LARGE[model])) < TOLERANCE["f32"]


@NEEDS
@pytest.mark.parametrize("model", OUTSIDE)
def test_sizes_that_the_model_itself_cannot_take_are_refused(model: str, artifacts: Path) -> None:
    with (
        ranvier.load(artifacts / f"{model}.f32.rvr") as compiled,
        pytest.raises(InputError, match="mismatch_at_"),
    ):
        compiled(_images(OUTSIDE[model]))


@NEEDS
@pytest.mark.slow
def test_bf16_is_close_and_reads_the_same_page(tmp_path: Path) -> None:
    folder = _compiled(tmp_path, "bf16")
    for model in MODELS:
        assert max(_errors(folder, "bf16", model, SIZES[model])) < TOLERANCE["bf16"]
    from PIL import Image
    from read_text import load_reader, pictures

    lines = load_reader(folder, "bf16").read(Image.open(pictures()[0]))
    assert lines[0].text.startswith("Region-based")


@NEEDS
def test_the_text_is_that_of_onnx_runtime(artifacts: Path) -> None:
    from PIL import Image
    from read_text import load_reader, pictures
    from reader import Reader
    from recognition import alphabet_of

    ours = load_reader(artifacts, "f32")
    sessions = [_session(model) for model in MODELS]
    alphabet = sessions[2].get_modelmeta().custom_metadata_map["character"]
    networks = [lambda x, s=s: s.run(None, {"x": x})[0] for s in sessions]
    theirs = Reader(*networks, alphabet_of(alphabet))
    assert len(theirs.characters) == sessions[2].get_outputs()[0].shape[2] - 2
    for path in pictures():
        picture = Image.open(path)
        found, wanted = ours.read(picture), theirs.read(picture)
        assert [line.text for line in found] == [line.text for line in wanted]
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a.box, b.box, atol=1)
            assert a.score == pytest.approx(b.score, abs=1e-3)
        assert found
    assert any("Let us first determine markers of the coins and the" in line.text
               for line in ours.read(Image.open(pictures()[0])))  # fmt: skip


_ALONE = """
import os, runpy, sys
blocked = ("cv2", "llvmlite", "onnx", "onnxruntime", "rapidocr_onnxruntime", "torch")
sys.modules |= dict.fromkeys(blocked)  # importing any of them raises
script, sys.argv = sys.argv[1], sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
assert "skimage" not in sys.modules
"""


@NEEDS
def test_the_deploy_side_needs_numpy_and_pillow_alone(artifacts: Path) -> None:
    """A process in which the heavy packages cannot be imported reads both pictures."""
    arguments = [EXAMPLE / "read_text.py", "--folder", artifacts]
    command = [sys.executable, "-c", _ALONE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Let us first determine markers of the coins and the" in done.stdout
    from PIL import Image

    for name in ("page", "text"):
        drawn = np.asarray(Image.open(artifacts / f"{name}.f32.png"))
        assert (drawn == (214, 39, 40)).all(axis=2).sum() > 100  # the colour of the first box


def test_components_are_those_of_8_neighbours() -> None:
    from components import components, pixels_of

    rows = ["#...##.", ".#....#", "..#.#..", "#......", "##.####"]
    mask = np.array([[c == "#" for c in row] for row in rows])
    found = components(mask)
    label = np.full(mask.shape, -1.0, np.float32)
    for number, ends in enumerate(found):
        for (x, y), (last, _) in ends.reshape(-1, 2, 2).astype(int):
            assert (label[y, x : last + 1] == -1).all()
            label[y, x : last + 1] = number
        assert (pixels_of(label, ends) == number).all()
    assert ((label >= 0) == mask).all()
    assert label[0, 0] == label[1, 1] == label[2, 2]
    assert label[0, 5] == label[1, 6] != label[2, 4]
    assert label[3, 0] == label[4, 1] != label[4, 3] == label[4, 6]
    assert len(found) == 5
    assert components(np.zeros((3, 3), bool)) == []


@pytest.mark.parametrize("degrees", [-80, -45, -10, 0, 30, 60, 90])
def test_the_smallest_rectangle_is_found_in_any_direction(degrees: float) -> None:
    from rectangles import grown, sides, smallest_rectangle

    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = np.array([[0, 0], [9, 0], [9, 3], [0, 3]]) @ np.array([[c, s], [-s, c]]) + 20
    inside = np.random.default_rng(3).dirichlet(np.ones(4), 50) @ corners
    found = smallest_rectangle(np.concatenate([inside, corners]))
    assert sorted(sides(found)) == pytest.approx([3, 9])
    for corner in corners:
        assert np.abs(found - corner).sum(axis=1).min() < 1e-9
    assert sorted(sides(grown(found, 2))) == pytest.approx([7, 13])
    np.testing.assert_allclose(grown(found, 2).mean(0), found.mean(0))
    (ax, ay), (bx, by) = found[1] - found[0], found[2] - found[1]
    assert ax * by - ay * bx > 0  # clockwise where y points down


def test_ctc_drops_blanks_and_repetitions() -> None:
    from recognition import decoded

    path = [0, 1, 1, 0, 1, 2, 2, 3, 3, 0]
    probabilities = np.full((len(path), 4), 0.1, np.float32)
    probabilities[range(len(path)), path] = np.linspace(0.5, 0.95, len(path))
    text, score = decoded(probabilities, ["a", "b"])
    assert text == "aab "
    assert score == pytest.approx(np.linspace(0.5, 0.95, len(path))[[1, 4, 5, 7]].mean())
    assert decoded(probabilities[:1], ["a", "b"]) == ("", 0.0)


def test_boxes_on_a_line_are_read_from_the_left() -> None:
    from detection import in_reading_order

    box = np.array([[0, 0], [5, 0], [5, 5], [0, 5]])
    places = [(40, 3), (0, 30), (20, 0), (0, 8), (10, 33)]
    ordered = in_reading_order([box + place for place in places])
    assert [tuple(b[0]) for b in ordered] == [(0, 8), (20, 0), (40, 3), (0, 30), (10, 33)]


@pytest.mark.needs("PIL")
def test_a_box_is_cut_out_as_it_stands() -> None:
    from PIL import Image
    from recognition import cut_out

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:20, 15:45] = (250, 0, 0)
    pixels[10:20, 15:20] = (0, 0, 250)
    picture = Image.fromarray(pixels)
    lying = np.array([[15, 10], [45, 10], [45, 20], [15, 20]], float)
    line = np.asarray(cut_out(picture, lying))
    assert line.shape == (10, 30, 3)
    assert line[5, 2].argmax() == 2
    assert line[5, 20].argmax() == 0
    turned = picture.transpose(Image.Transpose.ROTATE_270)
    upwards = np.array([[20, 15], [30, 15], [30, 45], [20, 45]], float)
    np.testing.assert_array_equal(np.asarray(cut_out(turned, upwards)), line)
