"""examples/ocr: the three networks at many sizes, the steps between them, and the whole.

ONNX Runtime is the judge: it runs the same ONNX files in the same pipeline.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier.errors import InputError
from tests.zoo.ocr import FILES, LARGE, OUTSIDE, SIZES, Error, Size, errors, images, session

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ocr"
NEEDS = pytest.mark.needs("onnx", "onnxruntime", "rapidocr_onnxruntime", "skimage", "PIL")
TOLERANCE = 1e-4
MEAN_TOLERANCE_BF16 = {"detection": 5e-3, "orientation": 3e-2, "recognition": 1e-5}
"""Detection is made to be steep at the borders of text, so single pixels there differ by much;
recognition has 6625 classes, almost all of them with a probability near zero.
"""


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


def _errors(folder: Path, precision: str, model: str, sizes: Sequence[Size]) -> list[Error]:
    return list(errors(folder / f"{model}.{precision}.rvr", model, sizes))


@NEEDS
@pytest.mark.parametrize("model", FILES)
def test_one_artifact_is_right_at_ten_sizes(model: str, artifacts: Path) -> None:
    for error in _errors(artifacts, "f32", model, SIZES[model]):
        assert error.greatest < TOLERANCE, error.size


@NEEDS
@pytest.mark.slow
@pytest.mark.parametrize("model", FILES)
def test_one_artifact_is_right_at_large_sizes(model: str, artifacts: Path) -> None:
    for error in _errors(artifacts, "f32", model, LARGE[model]):
        assert error.greatest < TOLERANCE, error.size


@NEEDS
@pytest.mark.parametrize("model", OUTSIDE)
def test_sizes_that_the_model_itself_cannot_take_are_refused(model: str, artifacts: Path) -> None:
    with (
        ranvier.load(artifacts / f"{model}.f32.rvr") as compiled,
        pytest.raises(InputError, match="mismatch_at_"),
    ):
        compiled(images(OUTSIDE[model]))


@NEEDS
@pytest.mark.slow
def test_bf16_is_close_and_reads_the_same_page(tmp_path: Path) -> None:
    folder = _compiled(tmp_path, "bf16")
    for model in FILES:
        found = _errors(folder, "bf16", model, SIZES[model])
        assert max(error.mean for error in found) < MEAN_TOLERANCE_BF16[model]
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
    sessions = [session(model) for model in FILES]
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
