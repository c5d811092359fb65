"""Every model of the zoo, compiled whole, gives PyTorch's numbers at every size and precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import zoo
from tests.targets import HOST

pytestmark = pytest.mark.needs("torch", "llvmlite")

Array = NDArray[Any]
TOLERANCE = {"f32": 1e-4, "bf16": 3e-2}
COSINE = 0.999
SMALL = ("mnist_cnn", "resnet18", "minilm")
TARGETS = ("x86-64-v3", "x86-64-v4", "x86-64-v4-bf16")


def parameters(names: Iterable[str]) -> list[Any]:
    """Models as parameters; skipped where a package that one needs is missing.

    A test takes all precisions in turn: importing a model can take longer than compiling it.
    """
    return [pytest.param(name, marks=marks(zoo.model(name))) for name in names]


def marks(entry: zoo.ZooModel) -> list[pytest.MarkDecorator]:
    """What a test of a model needs, and whether it is slow."""
    slow = [pytest.mark.slow] if entry.slow else []
    return [pytest.mark.needs(*entry.needs), *slow]


@dataclass(frozen=True)
class Network:
    """A model of the zoo, imported once: its graph, and inputs with PyTorch's outputs per size."""

    entry: zoo.ZooModel
    graph: Any
    cases: tuple[tuple[dict[str, Array], tuple[Array, ...]], ...]


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Network:
    """The network named by the parameter; tests of one network follow each other and share it."""
    return build_network(request.param)


def build_network(name: str) -> Network:
    """Import a model of the zoo, and run it in PyTorch at its check sizes."""
    from ranvier.api import import_model
    from ranvier.ir.verifier import verify
    from tests.zoo.report import pytorchs_cases

    entry = zoo.model(name)
    module = entry.build().requires_grad_(False)
    graph = import_model(module, entry.example_inputs(), None, entry.dynamic_shapes(), name)
    verify(graph)
    assert graph.name == name
    assert all(node.source for node in graph.nodes if node.op != "constant")
    cases = pytorchs_cases(entry, module, [value.name for value in graph.inputs])
    return Network(entry, graph, cases)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is gone after the test: artifacts are large."""
    with TemporaryDirectory(prefix="ranvier-zoo-") as path:
        yield Path(path)


@pytest.mark.parametrize("network", parameters(zoo.names()), indirect=True)
def test_gives_pytorchs_numbers(network: Network, folder: Path) -> None:
    for precision in network.entry.precisions:
        check_precision(network, precision, folder)


def check_precision(network: Network, precision: str, folder: Path) -> None:
    """Compile in one precision and compare with PyTorch at every size."""
    import ranvier
    from ranvier.api import resolve_targets
    from ranvier.compiler import compile_graph

    compiled = compile_graph(network.graph, resolve_targets("native"), precision)
    assert compiled.report.native_percent == 100.0
    if all(node.op != "loop" for node in network.graph.nodes):  # an LSTM is one operator
        assert compiled.report.kernel_calls < compiled.report.operators_before
    path = folder / "model.rvr"
    ranvier.CompiledModel(compiled).save(path)
    with ranvier.load(path) as model:
        assert model.precision == precision
        for inputs, expected in network.cases:
            check(model, inputs, expected, network.entry.photos)
            check_memory(model, compiled, inputs)


@pytest.mark.parametrize("network", parameters(SMALL), indirect=True)
def test_every_target_of_one_artifact(
    network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision in network.entry.precisions:
        check_targets(network, precision, folder, monkeypatch)


def check_targets(
    network: Network, precision: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compile for all targets and run those that this CPU has."""
    import ranvier
    from ranvier.api import resolve_targets
    from ranvier.compiler import compile_graph

    targets = resolve_targets(TARGETS)
    path = folder / "model.rvr"
    ranvier.CompiledModel(compile_graph(network.graph, targets, precision)).save(path)
    here = [target.name for target in targets if target in HOST]
    if not here:
        pytest.skip("this CPU runs none of the targets")
    for name in here:
        monkeypatch.setenv("RANVIER_TARGET", name)
        with ranvier.load(path) as model:
            assert model.target == name
            for inputs, expected in network.cases:
                check(model, inputs, expected)
    monkeypatch.delenv("RANVIER_TARGET")
    with ranvier.load(path) as model:
        assert model.target == here[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [pytest.param("yolo", marks=marks(zoo.model("yolo")))], indirect=True
)
def test_bf16_finds_the_same_objects(network: Network, folder: Path) -> None:
    """Near equals may change places, and what is near the threshold may come or go."""
    import ranvier
    from ranvier.api import resolve_targets
    from ranvier.compiler import compile_graph

    path = folder / "model.rvr"
    ranvier.CompiledModel(compile_graph(network.graph, resolve_targets("native"), "bf16")).save(
        path
    )
    with ranvier.load(path) as model:
        for inputs, (boxes, scores, classes, images) in network.cases:
            found, _, found_classes, found_images = model.run(inputs).values()
            same = (found_classes == classes[:, None]) & (found_images == images[:, None])
            best = np.where(same, overlaps(boxes, found), 0).max(1)
            assert (best[scores > np.median(scores)] > 0.8).mean() > 0.9
            assert abs(len(found) / len(boxes) - 1) < 0.1


def overlaps(a: Array, b: Array) -> Array:
    """The intersection over the union of every box of `a` with every box of `b`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    result: Array = shared / (areas[0][:, None] + areas[1][None, :] - shared)
    return result


def check(
    model: Any, inputs: Mapping[str, Array], expected: tuple[Array, ...], photos: bool = False
) -> None:
    """Every output agrees within the precision's tolerance; on photos the labels are the same."""
    outputs = list(model.run(inputs).values())
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.shape == wanted.shape
        assert output.dtype == wanted.dtype
        agree(output, wanted, model.precision)
        if photos:
            labels = 5 if model.precision == "f32" else 1
            assert np.array_equal(best(output, labels), best(wanted, labels))


def agree(output: Array, expected: Array, precision: str) -> None:
    """Numbers within the tolerance of the precision, in norm and direction; equal integers."""
    if output.dtype.kind in "iub":
        assert np.array_equal(output, expected)
        return
    got, wanted = output.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    size = np.linalg.norm(wanted)
    assert np.linalg.norm(got - wanted) <= TOLERANCE[precision] * size
    assert got @ wanted >= COSINE * np.linalg.norm(got) * size


def best(scores: Array, count: int) -> Array:
    """The classes with the highest scores, per row, best first."""
    return np.argsort(-scores, axis=-1)[:, :count]


def check_memory(model: Any, compiled: Any, inputs: Mapping[str, Array]) -> None:
    """Temporaries share memory: a network of some depth takes less than half of their sum."""
    from ranvier.artifact.expression import evaluate

    sizes = symbol_sizes(model, inputs)
    scope = {**sizes, "threads": model.cores.count}
    buffers = [buffer for buffer in compiled.programs[0].buffers if buffer.kind == "temporary"]
    everything = sum(evaluate(buffer.size, scope) for buffer in buffers)
    assert 0 < model.arena_bytes(**sizes) <= (everything / 2 if len(buffers) > 10 else everything)


def symbol_sizes(model: Any, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The value of every symbol that stands alone in the shape of an input."""
    shapes = [(spec.shape, inputs[spec.name].shape) for spec in model.inputs]
    pairs = [pair for declared, given in shapes for pair in zip(declared, given, strict=True)]
    return {dim: size for dim, size in pairs if isinstance(dim, str)}
