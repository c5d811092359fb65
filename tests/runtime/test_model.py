from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier.artifact.format import Target, TensorSpec, Tree
from ranvier.errors import ArtifactError, InputError, RanvierError, TargetError
from ranvier.runtime import context, results
from ranvier.runtime import group as groups
from ranvier.runtime.model import Model
from tests.runtime.conftest import expected

TWO = len(os.sched_getaffinity(0)) >= 2
CORES = [1, pytest.param(2, marks=pytest.mark.skipif(not TWO, reason="one CPU"))]


@pytest.fixture(params=CORES)
def model(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Model]:
    with ranvier.load(tiny, cores=request.param) as model:
        yield model


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, 4), np.float32)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_any_size(model: Model, n: int) -> None:
    x = rows(n)
    y = model(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected(x))
    np.testing.assert_array_equal(model(x=x), y)
    np.testing.assert_array_equal(model.run({"x": x})["y"], y)


def test_results_are_new_arrays(model: Model) -> None:
    first = model(rows(5))
    kept = first.copy()
    model(rows(5) + 1)
    np.testing.assert_array_equal(first, kept)


def test_memory_of_large_results_is_used_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (results, context):
        monkeypatch.setattr(module, "KEPT_FROM", 1024)
    with ranvier.load(tiny, cores=1) as model:
        places = {model(rows(1000)).ctypes.data for _ in range(4)}
        kept = [model(rows(n)) for n in (700, 800, 900, 1000, 999)]
        assert len(places) == 1
    for result in kept:
        np.testing.assert_array_equal(result, expected(rows(len(result))))


def test_any_layout_of_the_input(model: Model) -> None:
    x = rows(8)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(x.shape)
    misaligned[:] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(x), x.astype(">f4"), misaligned, read_only, x[::-1][::-1]):
        np.testing.assert_array_equal(model(same), expected(x))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((2, 4)), "dtype float64"),
        (np.zeros((2, 5), np.float32), "axis 1 must be 4"),
        (np.zeros(4, np.float32), "expected x: f32"),
        (np.zeros((1001, 4), np.float32), "compiled for 0 to 1000"),
        ([[1.0] * 4], "is a list"),
        (None, "is a NoneType"),
    ],
)
def test_wrong_inputs(model: Model, value: object, message: str) -> None:
    for call in (lambda: model(value), lambda: model.run({"x": value})):
        with pytest.raises(InputError, match=message):
            call()
    np.testing.assert_array_equal(model(rows(3)), expected(rows(3)))


def test_wrong_arguments(model: Model) -> None:
    for call in (
        lambda: model(),
        lambda: model(rows(1), rows(1)),
        lambda: model(y=rows(1)),
        lambda: model(rows(1), x=rows(1)),
        lambda: model.run({}),
        lambda: model.run({"x": rows(1), "y": rows(1)}),
    ):
        with pytest.raises(InputError):
            call()


def test_introspection(model: Model, tiny: Path) -> None:
    assert model.inputs == (TensorSpec("x", "f32", ("n", 4)),)
    assert model.outputs[0].name == "y"
    assert [(s.name, s.minimum, s.maximum) for s in model.symbols] == [("n", 0, 1000)]
    assert (model.name, model.precision, model.target) == ("tiny", "f32", "baseline")
    assert model.arena_bytes(n=8) == 128
    assert "tiny" in repr(model)


def test_intermediates(model: Model) -> None:
    x = rows(6)
    values = model.intermediates({"x": x})
    assert list(values) == ["tmp"]
    np.testing.assert_array_equal(values["tmp"], expected(x)[::-1] / 2)
    assert model.intermediates({"x": rows(0)})["tmp"].shape == (0, 4)


def test_profile(model: Model) -> None:
    profile = model.profile({"x": rows(100)})
    assert profile.ticks.shape == (model.cores.count, 3)
    assert (np.diff(profile.ticks.astype(np.int64), axis=1) > 0).all()
    assert profile.step_seconds.sum() == pytest.approx(profile.seconds)
    assert profile.flops == (400, 0)
    np.testing.assert_array_equal(model(rows(3)), expected(rows(3)))


def test_many_threads_on_one_model(model: Model) -> None:
    def work(seed: int) -> bool:
        for n in range(seed, seed + 60):
            x = rows(n % 50)
            if not np.array_equal(model(x), expected(x)):
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_many_shapes(model: Model) -> None:
    for n in [*range(150), *range(150)]:
        np.testing.assert_array_equal(model(rows(n)), expected(rows(n)))
    assert len(model._contexts) <= 64


def test_models_share_a_group(tiny: Path) -> None:
    everything = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with ranvier.load(tiny, cores=everything) as first:
        with ranvier.load(tiny, cores=everything) as second:
            assert first._group is second._group
            np.testing.assert_array_equal(second(rows(9)), expected(rows(9)))
        np.testing.assert_array_equal(first(rows(9)), expected(rows(9)))


def test_asyncio(model: Model) -> None:
    async def many() -> list[np.ndarray]:
        return list(await asyncio.gather(*(asyncio.to_thread(model, rows(n)) for n in range(20))))

    for n, y in enumerate(asyncio.run(many())):
        np.testing.assert_array_equal(y, expected(rows(n)))


def workers() -> list[str]:
    names = []
    for task in os.listdir("/proc/self/task"):
        name = Path(f"/proc/self/task/{task}/comm").read_text().strip()
        if name.startswith("ranvier-"):
            names.append(name)
    return names


def test_close(tiny: Path) -> None:
    model = ranvier.load(tiny)
    model(rows(2))
    assert len(workers()) == model.cores.count - 1
    model.close()
    model.close()
    assert workers() == []
    with pytest.raises(RanvierError, match="closed"):
        model(rows(2))


def test_a_forgotten_model_gives_back_its_workers_and_descriptors(tiny: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    model = ranvier.load(tiny)
    model(rows(2))
    del model
    gc.collect()
    assert workers() == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not groups._groups
    assert not groups._alone


def test_close_waits_for_a_call(make_tiny: Callable[..., Path], tmp_path: Path) -> None:
    model = ranvier.load(make_tiny(tmp_path / "slow.rvr", repeat=5_000))
    results: list[np.ndarray] = []
    caller = threading.Thread(target=lambda: results.append(model(rows(40))))
    caller.start()
    while not model._contexts:
        time.sleep(0.001)
    model.close()
    caller.join()
    np.testing.assert_array_equal(results[0], expected(rows(40)))


@pytest.mark.skipif(not TWO, reason="one CPU")
def test_idle_workers_burn_no_time(tiny: Path) -> None:
    with ranvier.load(tiny, cores=2) as model:
        model(rows(2))
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.25)
        assert time.process_time() - before < 0.02
        np.testing.assert_array_equal(model(rows(2)), expected(rows(2)))


@pytest.mark.skipif(not TWO, reason="one CPU")
def test_calls_around_the_moment_when_workers_park(tiny: Path) -> None:
    with ranvier.load(tiny, cores=2) as model:
        x, y = rows(4), expected(rows(4))
        for pause_us in range(400):
            end = time.perf_counter() + pause_us * 1e-6
            while time.perf_counter() < end:
                pass
            np.testing.assert_array_equal(model(x), y)


@pytest.mark.skipif(not TWO, reason="one CPU")
def test_workers_are_pinned_and_block_signals(tiny: Path) -> None:
    with ranvier.load(
        tiny, cores=f"{','.join(map(str, sorted(os.sched_getaffinity(0))[:2]))}"
    ) as model:
        model(rows(2))
        for task in os.listdir("/proc/self/task"):
            status = Path(f"/proc/self/task/{task}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if fields["Name"].startswith("ranvier-"):
                assert fields["Cpus_allowed_list"].strip() == str(model.cores.cpus[1])
                assert int(fields["SigBlk"], 16) & (1 << 1)  # SIGINT
    assert os.sched_getaffinity(0) == os.sched_getaffinity(os.getpid())


def test_the_callers_affinity_is_its_own(tiny: Path) -> None:
    before = os.sched_getaffinity(0)
    for cpu in sorted(before):
        with ranvier.load(tiny, cores=[cpu]) as model:
            np.testing.assert_array_equal(model(rows(5)), expected(rows(5)))
    assert os.sched_getaffinity(0) == before


def test_an_oversubscribed_group_makes_progress(
    make_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    """Several groups with all cores each, called at once: barriers must sleep, not spin on."""
    path = make_tiny(tmp_path / "busy.rvr", repeat=300)
    models = [ranvier.load(path) for _ in range(3)]
    for model in models:  # as if other processes had the same cores
        groups.release(model._group)
        model._group = groups.Group(model.cores, model._code)
        model._group.users = 1
        groups._alone.append(model._group)
    start = time.perf_counter()
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda m: np.array_equal(m(rows(20)), expected(rows(20))), models))
    assert time.perf_counter() - start < 10
    for model in models:
        model.close()


def test_pickle(model: Model) -> None:
    with pickle.loads(pickle.dumps(model)) as again:
        assert again.cores == model.cores
        np.testing.assert_array_equal(again(rows(3)), expected(rows(3)))


def test_nesting(make_tiny: Callable[..., Path], tmp_path: Path) -> None:
    tree = Tree(
        "dict", (("batch", Tree("dict", (("x", Tree("leaf", 0)),))), ("mask", Tree("none")))
    )
    output = Tree("tuple", (Tree("dict", (("y", Tree("leaf", 0)),)), Tree("constant", "k")))
    path = make_tiny(tmp_path / "nested.rvr", input_tree=tree, output_tree=output)
    with ranvier.load(path, cores=1) as model:
        result = model({"x": rows(2)}, mask=None)
        assert result[1] == "k"
        np.testing.assert_array_equal(result[0]["y"], expected(rows(2)))
        np.testing.assert_array_equal(model.run({"x": rows(2)})["y"], expected(rows(2)))


def test_a_cpu_without_the_features(
    make_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tiny(tmp_path / "far.rvr", target=Target("far", "x86_64", ("sse2", "warp9")))
    with pytest.raises(TargetError, match="far needs warp9"):
        ranvier.load(path)


def test_code_from_a_file_system_without_execution(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ranvier.runtime.mapping._map_file", lambda *extent: None)
    with ranvier.load(tiny) as model:
        np.testing.assert_array_equal(model(rows(5)), expected(rows(5)))


def test_a_bad_artifact_leaves_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.rvr"
    bad.write_bytes(tiny.read_bytes()[:-3])
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ArtifactError):
        ranvier.load(bad)
    assert len(os.listdir("/proc/self/fd")) == descriptors
