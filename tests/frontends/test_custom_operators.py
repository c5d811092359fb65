"""Operators that users register: decompositions become native, definitions can be interpreted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch.export import Dim

import ranvier
from ranvier.errors import CompileError, UnsupportedOperatorError
from ranvier.frontends.onnx import import_onnx
from ranvier.frontends.torch import import_torch, survey
from ranvier.ir.dtype import F32
from ranvier.ir.graph import TensorType
from ranvier.ir.interpreter import interpret
from ranvier.ir.operators.custom import CUSTOM
from ranvier.ir.parser import parse
from ranvier.ir.printer import format_graph
from ranvier.ir.verifier import verify
from tests.frontends.comparison import Function, assert_same, check, run


@torch.library.custom_op("ranvier_test::centre", mutates_args=())
def centre(x: torch.Tensor, weight: torch.Tensor | None, scale: float) -> torch.Tensor:
    """(x - mean over the last dim) * scale * weight."""
    result = (x - x.mean(-1, keepdim=True)) * scale
    return result if weight is None else result * weight


@centre.register_fake
def _(x: torch.Tensor, weight: torch.Tensor | None, scale: float) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("ranvier_test::spread", mutates_args=())
def spread(parts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest and the least of several tensors, element by element."""
    stacked = torch.stack(parts)
    return stacked.amax(0), stacked.amin(0)


@spread.register_fake
def _(parts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(parts[0]), torch.empty_like(parts[0])


@torch.library.custom_op("ranvier_test::increment", mutates_args=("x",))
def increment(x: torch.Tensor) -> None:
    """Writes its argument."""
    x.add_(1)


def _centre(ops: Any, x: Any, weight: Any = None, *, scale: float) -> Any:
    mean = ops.reduce_mean(x, axes=[x.rank - 1], keepdims=True)
    result = ops.mul(ops.sub(x, mean), scale)
    return result if weight is None else ops.mul(result, weight)


def _numpy_centre(x: Any, weight: Any = 1.0, *, scale: float) -> Any:
    return (x - x.mean(-1, keepdims=True)) * scale * weight


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """Every test starts with no custom operators."""
    kept = dict(CUSTOM)
    CUSTOM.clear()
    yield
    CUSTOM.clear()
    CUSTOM.update(kept)


X = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


def test_a_decomposition_is_compiled() -> None:
    ranvier.register_operator("ranvier_test::centre", decomposition=_centre)
    graph = check(
        lambda x, w: centre(x * 2, w, 0.5) + centre(x, None, 1.5),
        X,
        torch.arange(5.0),
        dynamic=({0: Dim("rows", min=1, max=9)}, None),
        others=[(X[:1], torch.ones(5))],
    )
    assert {node.op for node in graph.nodes} <= ranvier_operators()
    assert all(node.source for node in graph.nodes if node.op == "reduce_mean")


def ranvier_operators() -> set[str]:
    """The names of the operator table."""
    from ranvier.ir.operators import OPERATORS

    return set(OPERATORS)


def test_lists_of_tensors_and_several_results() -> None:
    def both(ops: Any, first: Any, *rest: Any) -> tuple[Any, Any]:
        high = low = first
        for part in rest:
            high, low = ops.maximum(high, part), ops.minimum(low, part)
        return high, low

    ranvier.register_operator("ranvier_test::spread", decomposition=both)
    check(lambda x: spread([x, -x, x * x])[1] + 1, X)
    check(lambda x: spread([x, x.flip(0)]), X)


def test_a_definition_is_interpreted_and_not_compiled() -> None:
    ranvier.register_operator(
        "ranvier_test::centre",
        definition=_numpy_centre,
        shape=lambda x, *rest, scale: x,
    )
    module = Function(lambda x: torch.relu(centre(x, None, 0.5)))  # no native code
    graph = import_torch(module, (X,))
    verify(graph)
    assert_same(graph, module, (X,))
    assert "ranvier_test::centre" in {node.op for node in graph.nodes}
    with pytest.raises(UnsupportedOperatorError, match=r"ranvier_test::centre: 1"):
        ranvier.trace(module, (X,))
    analysis = ranvier.analyze(module, (X,))
    assert "ranvier_test::centre" in str(analysis)


def test_graphs_with_custom_operators_are_printed_and_parsed() -> None:
    ranvier.register_operator(
        "ranvier_test::centre", definition=_numpy_centre, shape=lambda x, *rest, scale: x
    )
    graph = import_torch(Function(lambda x: centre(x, x, 0.5)), (X,))
    text = format_graph(graph)
    assert "ranvier_test::centre(" in text
    again = parse(text)
    assert format_graph(again) == text
    np.testing.assert_array_equal(run(again, (X,))[0], run(graph, (X,))[0])


def test_a_definition_must_keep_to_its_shape_rule() -> None:
    ranvier.register_operator(
        "ranvier_test::centre",
        definition=lambda x, scale: x[:1],
        shape=lambda x, scale: x,
    )
    graph = import_torch(Function(lambda x: centre(x, None, 0.5)), (X,))
    with pytest.raises(CompileError, match=r"gave shapes \[\(1, 5\)\], its shape rule says"):
        run(graph, (X,))


def test_results_must_be_what_pytorch_says() -> None:
    ranvier.register_operator(
        "ranvier_test::centre",
        definition=_numpy_centre,
        shape=lambda x, scale: replace(x, shape=(1,)),
    )
    with pytest.raises(CompileError, match="where PyTorch has"):
        import_torch(Function(lambda x: centre(x, None, 0.5)), (X,))


def test_unregistered_operators_are_listed() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"ranvier_test\.centre\.default x 1"):
        import_torch(Function(lambda x: centre(x, None, 0.5)), (X,))
    (use, *_) = survey(Function(lambda x: centre(x, None, 0.5)), (X,))
    assert "ranvier.register_operator" in use.reason


def test_operators_that_write_are_refused() -> None:
    ranvier.register_operator("ranvier_test::increment", decomposition=lambda ops, x: x)

    def writes(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        increment(y)
        return y

    with pytest.raises(UnsupportedOperatorError, match="writes one of its arguments"):
        import_torch(Function(writes), (X,))


def test_a_registration_replaces_what_ranvier_has() -> None:
    ranvier.register_operator(
        "aten::special_i0", decomposition=lambda ops, x: ops.add(ops.mul(x, 0.0), 7.0)
    )
    graph = import_torch(Function(torch.special.i0), (X,))
    np.testing.assert_array_equal(run(graph, (X,))[0], np.full((3, 5), 7, np.float32))


def test_decompositions_take_arrays_and_element_types_by_name() -> None:
    def decomposition(ops: Any, x: Any, *, scale: float) -> Any:
        table = np.arange(5, dtype=np.int64)
        return ops.add(x, ops.cast(table, dtype="f32"))

    ranvier.register_operator("ranvier_test::centre", decomposition=decomposition)
    graph = import_torch(Function(lambda x: centre(x, None, 0.5)), (X,))
    np.testing.assert_allclose(run(graph, (X,))[0], X.numpy() + np.arange(5), rtol=1e-6)


def test_what_cannot_be_registered() -> None:
    with pytest.raises(CompileError, match="namespace::name"):
        ranvier.register_operator("centre", decomposition=_centre)
    with pytest.raises(CompileError, match="needs a decomposition"):
        ranvier.register_operator("a::b", definition=_numpy_centre)
    ranvier.register_operator("a::b", decomposition=_centre)
    with pytest.raises(CompileError, match="replace=True"):
        ranvier.register_operator("a::b", decomposition=_centre)
    ranvier.register_operator("a::b", decomposition=_centre, replace=True)


def test_types_can_be_made_by_shape_rules() -> None:
    ranvier.register_operator(
        "ranvier_test::spread",
        definition=lambda *parts: (np.max(parts, 0), np.min(parts, 0)),
        shape=lambda *parts: (TensorType(F32, parts[0].shape), parts[0]),
    )
    module = Function(lambda x: spread([x, -x]))
    assert_same(import_torch(module, (X,)), module, (X,))


def test_operators_of_onnx() -> None:
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Centre", ["x", "w"], ["y"], domain="com.example", scale=0.5),
                helper.make_node("Relu", ["y"], ["z"]),
            ],
            "custom",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 5]) for name in "xw"],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 5])],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)],
    )
    with pytest.raises(UnsupportedOperatorError, match=r"com\.example::Centre"):
        import_onnx(model)
    ranvier.register_operator("com.example::Centre", decomposition=_centre)
    x, w = X.numpy(), np.arange(15, dtype=np.float32).reshape(3, 5)
    (found,) = interpret(import_onnx(model), {"x": x, "w": w}).values()
    np.testing.assert_allclose(found, np.maximum(_numpy_centre(x, w, scale=0.5), 0), rtol=1e-6)
