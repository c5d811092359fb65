"""ONNX Runtime runs what has no translation: right at every size, within limits, named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier
from ranvier.errors import FrameworkError, UnsupportedOperatorError

pytestmark = pytest.mark.needs("onnx", "onnxruntime", "torch", "llvmlite")

RNG = np.random.default_rng(1)


def graph_of(
    nodes: Sequence[Any],
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    stated: dict[str, Sequence[int | str]] | None = None,
) -> Any:
    """A model of float inputs; types of `outputs` and `stated` are as little as ONNX asks for."""
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, shape: Sequence[int | str] | None) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "model",
        [value(name, shape) for name, shape in inputs.items()],
        [value(name, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
        value_info=[value(name, shape) for name, shape in (stated or {}).items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def node(op: str, reads: Sequence[str], makes: Sequence[str], **attributes: Any) -> Any:
    """A node called after its first result; operators that the standard lacks are Microsoft's."""
    from onnx import defs, helper

    domain = "" if defs.has(op) else "com.microsoft"
    return helper.make_node(op, reads, makes, name=f"make_{makes[0]}", domain=domain, **attributes)


def check(
    model: Any, path: Path, sizes: Sequence[dict[str, tuple[int, ...]]], **options: Any
) -> Any:
    """Compiled with fallback, the model gives what ONNX Runtime gives; returns the report."""
    import onnxruntime

    compiled = ranvier.trace(model, fallback="onnxruntime", **options)
    compiled.save(path / "model.rvr")
    session = onnxruntime.InferenceSession(
        model.SerializeToString() if hasattr(model, "SerializeToString") else str(model)
    )
    names = [each.name for each in session.get_outputs()]
    for cores in (1, 2):
        with ranvier.load(path / "model.rvr", cores=cores) as loaded:
            for shapes in sizes:
                given = {n: RNG.normal(size=s).astype(np.float32) for n, s in shapes.items()}
                expected = session.run(None, given)
                found = loaded.run(given)
                for name, value in zip(names, expected, strict=True):
                    np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
    return compiled.report


def test_any_batch_goes_through_segments(tmp_path: Path) -> None:
    from tests.fallback.models import onnx_model

    sizes = [{"x": (n, 6)} for n in (1, 64, 5, 1)]
    report = check(
        onnx_model(tmp_path / "model.onnx"), tmp_path, sizes, dynamic_shapes={"batch": (1, 64)}
    )
    assert report.fallback.segments == 2
    assert {each.operator: each.sources for each in report.fallback.operators} == {
        "com.microsoft::CDist": ("near", "far"),
        "com.microsoft::SampleOp": ("sample",),
        "Reshape": ("view",),
    }
    assert report.native_percent == pytest.approx(100 * 9 / 13)


def test_limits_and_refusal(tmp_path: Path) -> None:
    from tests.fallback.models import onnx_model

    path = onnx_model(tmp_path / "model.onnx")
    with pytest.raises(UnsupportedOperatorError, match=r"CDist x 2: .*\(at near, far\)"):
        ranvier.trace(path)
    with pytest.raises(UnsupportedOperatorError, match="max_segments=2"):
        ranvier.trace(path, fallback="onnxruntime", max_segments=1)
    with pytest.raises(UnsupportedOperatorError, match="min_native_percent=69"):
        ranvier.trace(path, fallback="onnxruntime", min_native_percent=70)


def test_large_constants_are_shared_weights_and_small_ones_part_of_the_segment(
    tmp_path: Path,
) -> None:
    from tests.fallback.models import onnx_model

    path = onnx_model(tmp_path / "model.onnx")
    graph = ranvier.trace(path, fallback="onnxruntime").stages["optimized"]
    lines = [line for line in graph.splitlines() if "= foreign(" in line]
    assert "%large" in lines[1]
    assert "%small" not in lines[0]


def test_a_node_goes_with_the_graphs_inside_it(tmp_path: Path) -> None:
    """An operator without translation in a branch, which reads names of the graph around."""
    from onnx import TensorProto, helper

    output = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    branches = {
        "then_branch": helper.make_graph([node("SampleOp", ["a"], ["t"])], "yes", [], [output]),
        "else_branch": helper.make_graph([node("Neg", ["a"], ["t"])], "no", [], [output]),
    }
    model = graph_of(
        [
            node("Relu", ["x"], ["a"]),
            node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
            node("Greater", ["sum", "zero"], ["c"]),
            node("If", ["c"], ["b"], **branches),
            node("Abs", ["b"], ["y"]),
        ],
        {"x": ["n", 3]},
        ["y"],
        {"zero": np.float32(0), "axes": np.array([0, 1])},
    )
    report = check(model, tmp_path, [{"x": (n, 3)} for n in (1, 2, 7, 1, 3)])
    assert [each.operator for each in report.fallback.operators] == ["If"]


def test_functions_of_the_model_are_opened(tmp_path: Path) -> None:
    from onnx import helper

    model = graph_of([], {"x": ["n", 4]}, ["y"])
    body = [node("SampleOp", ["a"], ["b"]), node("Relu", ["b"], ["c"])]
    opsets = list(model.opset_import)
    model.functions.append(helper.make_function("local", "Block", ["a"], ["c"], body, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    calls = [("x", "m"), ("m", "y")]
    model.graph.node.extend(
        helper.make_node("Block", [a], [b], name=f"block_{b}", domain="local") for a, b in calls
    )
    report = check(model, tmp_path, [{"x": (2, 4)}])
    assert report.fallback.segments == 2
    assert report.native_percent == 50


def test_what_is_no_tensor_stays_inside_a_segment(tmp_path: Path) -> None:
    """Strings between two operators that ONNX Runtime runs."""
    model = graph_of(
        [
            node("Floor", ["x"], ["a"]),
            node("Cast", ["a"], ["text"], to=8),
            node("Cast", ["text"], ["b"], to=1),
            node("Neg", ["b"], ["y"]),
        ],
        {"x": ["n", 3]},
        ["y"],
    )
    report = check(model, tmp_path, [{"x": (n, 3)} for n in (1, 4)])
    assert report.fallback.segments == 1
    assert [each.operator for each in report.fallback.operators] == ["Cast", "Cast"]


def test_what_onnx_runtime_cannot_run_is_refused_with_both_reasons() -> None:
    from onnx import helper

    model = graph_of([node("Relu", ["x"], ["a"])], {"x": ["n", 3]}, ["y"])
    model.graph.node.append(helper.make_node("Odd", ["a"], ["y"], name="odd", domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(UnsupportedOperatorError, match="acme::Odd x 1") as caught:
        ranvier.trace(model, fallback="onnxruntime")
    assert "has no translation; ONNX Runtime cannot run it" in str(caught.value)
    assert "(at odd)" in str(caught.value)


def unique(stated: dict[str, Sequence[int | str]] | None = None) -> Any:
    """A result of a size that only the data tell."""
    from onnx import helper

    nodes = [
        node("Relu", ["x"], ["a"]),
        helper.make_node("Unique", ["a"], ["u", "i", "n"], name="unique", domain="com.microsoft"),
        node("Sqrt", ["u"], ["y"]),
    ]
    return graph_of(nodes, {"x": [6]}, ["y"], stated=stated)


def test_a_size_that_depends_on_data_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"Sqrt x 1: reads u, .* value_info"):
        ranvier.trace(unique(), fallback="onnxruntime")


def test_what_the_model_states_is_checked_in_every_call(tmp_path: Path) -> None:
    compiled = ranvier.trace(unique({"u": [3]}), fallback="onnxruntime")
    compiled.save(tmp_path / "stated.rvr")
    with ranvier.load(tmp_path / "stated.rvr") as loaded:
        right = np.array([4, 9, 4, 16, 9, 9], np.float32)
        assert loaded(right).tolist() == [2, 3, 4]
        with pytest.raises(FrameworkError, match=r"has shape \{3\} but the computed"):
            loaded(right + np.arange(6, dtype=np.float32))
        assert loaded(right).tolist() == [2, 3, 4]


def test_what_could_not_be_loaded_is_not_compiled() -> None:
    """ONNX Runtime packs two numbers of 4 bits into a byte; Ranvier gives each its own."""
    from onnx import TensorProto, helper

    output = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    cast = node("Cast", ["a"], ["f"], to=TensorProto.FLOAT)
    yes, no = [cast, node("SampleOp", ["f"], ["t"])], [cast, node("Neg", ["f"], ["t"])]
    branches = {
        "then_branch": helper.make_graph(yes, "yes", [], [output]),
        "else_branch": helper.make_graph(no, "no", [], [output]),
    }
    nodes = [node("Cast", ["x"], ["a"], to=TensorProto.INT4), node("If", ["c"], ["y"], **branches)]
    model = graph_of(nodes, {"x": ["n", 4]}, ["y"])
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    model.opset_import[0].version, model.ir_version = 21, 10
    with pytest.raises(FrameworkError, match="no element type i4"):
        ranvier.trace(model, fallback="onnxruntime")


def test_rank_zero_and_an_unknown_rank_are_told_apart(tmp_path: Path) -> None:
    """ONNX Runtime shows an empty shape for both."""
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("RandomUniformLike", ["s"], ["r"], low=0.5, high=0.5),
        node("Add", ["x", "r"], ["y"]),
    ]
    model = graph_of(nodes, {"x": ["n", 3]}, ["y"])
    report = check(model, tmp_path, [{"x": (n, 3)} for n in (1, 4)])
    assert [each.operator for each in report.fallback.operators] == ["RandomUniformLike"]
    pairs = node("CDist", ["x", "x"], ["d"], metric="euclidean")
    unknown = graph_of([pairs, node("Relu", ["d"], ["y"])], {"x": ["n", 3]}, ["y"])
    with pytest.raises(UnsupportedOperatorError, match=r"Relu x 1: reads d, .* value_info"):
        ranvier.trace(unknown, fallback="onnxruntime")
