"""Names, nested inputs and outputs, shared weights, source lines."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ranvier.frontends.detect import detect
from ranvier.frontends.torch import import_torch
from ranvier.ir.dtype import BF16
from tests.frontends.comparison import assert_same, check, run, to_numpy


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Nested(nn.Module):
    def forward(
        self, x: Any, inputs: Any, *, scale: float = 1.0, mask: Any = None
    ) -> dict[str, Any]:
        y = x * scale + inputs[0]["image"]
        if mask is not None:
            y = y * mask
        return {"y": y, "pair": (inputs[1], y + 1), "none": None, "three": 3, "list": [y - 1]}


def test_nested_inputs_and_outputs() -> None:
    x, image, second, mask = (torch.randn(2, 3) for _ in range(4))
    args, kwargs = (x, [{"image": image}, second]), {"scale": 2.0, "mask": mask}
    graph = import_torch(Nested(), args, kwargs)
    assert [v.name for v in graph.inputs] == ["x", "inputs.0.image", "inputs.1", "mask"]
    inputs = {"list": [{"dict": {"image": {"leaf": 1}}}, {"leaf": 2}]}
    assert graph.input_tree == {
        "parameters": [
            ["x", {"leaf": 0}],
            ["inputs", inputs],
            ["scale", {"constant": 2.0}],
            ["mask", {"leaf": 3}],
        ]
    }
    assert graph.output_names == ("y", "pair.0", "pair.1", "list.0")
    assert graph.output_tree == {
        "dict": {
            "y": {"leaf": 0},
            "pair": {"tuple": [{"leaf": 1}, {"leaf": 2}]},
            "none": {"none": True},
            "three": {"constant": 3},
            "list": {"list": [{"leaf": 3}]},
        }
    }
    expected = Nested()(*args, **kwargs)
    found = run(graph, args, kwargs)
    np.testing.assert_allclose(found[2], expected["pair"][1])
    np.testing.assert_array_equal(found[1], second)


def test_keywords_are_in_the_order_of_the_signature() -> None:
    x, mask = torch.randn(2, 3), torch.randn(2, 3)
    graph = import_torch(Nested(), (x,), {"mask": mask, "inputs": [{"image": x}, x]})
    tree: Any = graph.input_tree
    assert [name for name, _ in tree["parameters"]] == ["x", "inputs", "mask"]
    found = {v.name for v in graph.inputs}
    assert found == {"x", "inputs.0.image", "inputs.1", "mask"}


def test_variadic_arguments_have_names() -> None:
    class Variadic(nn.Module):
        def forward(self, x: torch.Tensor, *rest: torch.Tensor, **named: torch.Tensor) -> Any:
            return x + rest[0] + rest[1] + named["z"]

    x = torch.ones(2)
    graph = import_torch(Variadic(), (x, x, x), {"z": x})
    assert [v.name for v in graph.inputs] == ["x", "rest_0", "rest_1", "z"]


def test_tuples_and_named_tuples_as_outputs() -> None:
    x = torch.randn(2, 3)
    graph = check(lambda x: (x + 1, [x * 2, None]), x)
    assert graph.output_names == ("output_0", "output_1.0")
    assert graph.output_tree == {"tuple": [{"leaf": 0}, {"list": [{"leaf": 1}, {"none": True}]}]}
    named = check(lambda x: Pair(x + 1, x - 1), x)
    assert named.output_names == ("first", "second")
    ordered = check(lambda x: collections.OrderedDict(b=x + 1, a=x), x)
    assert ordered.output_names == ("b", "a")
    single = check(lambda x: x + 1, x)
    assert single.output_names == ("output",)
    assert single.output_tree == {"leaf": 0}


def test_inputs_and_parameters_as_outputs() -> None:
    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3))

        def forward(self, x: torch.Tensor) -> Any:
            return x, self.weight, x, self.weight.detach()

    graph = import_torch(Passing(), (torch.randn(2),))
    assert len(graph.outputs) == 4
    assert graph.outputs[0] is graph.inputs[0]
    constants = [node.result.name for node in graph.nodes if node.op == "constant"]
    assert constants == ["weight"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("offset", torch.arange(4.0))
        self.register_buffer("factor", torch.tensor(0.5), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.block(self.embedding(ids) + self.offset) * self.factor
        x += torch.tensor([1.0, 2.0, 3.0, 4.0])
        out: torch.Tensor = self.head(x)
        return out


def test_weights_keep_their_names_and_tied_ones_appear_once() -> None:
    graph = check(Tied(), torch.tensor([[1, 2, 6]]))
    names = {node.result.name for node in graph.nodes if node.op == "constant"}
    tied = {"embedding.weight", "head.weight"}
    assert names - tied == {
        "block.0.bias", "block.0.weight", "factor", "lifted_tensor_0", "offset",
    }  # fmt: skip
    assert len(names & tied) == 1


def test_a_weight_that_is_read_through_a_view_of_all_of_it_keeps_its_name() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.weight[:4] + self.weight[:2].sum()

    assert check(Model(), torch.randn(4, 8)).nodes[0].result.name == "weight"


def test_weights_are_not_copied() -> None:
    module = nn.Linear(4, 5).eval()
    graph = import_torch(module, (torch.randn(2, 4),))
    arrays = {n.result.name: n.attributes["value"] for n in graph.nodes if n.op == "constant"}
    assert np.shares_memory(arrays["weight"], module.weight.detach().numpy())


def test_values_keep_the_names_of_the_trace() -> None:
    graph = check(lambda x: torch.split(torch.relu(torch.addmm(x, x, x)), 2)[1], torch.randn(4, 4))
    names = {node.result.name for node in graph.nodes}
    assert {"addmm", "relu", "getitem_1"} <= names or {"addmm", "relu", "getitem"} <= names


def test_bf16_weights_are_bits() -> None:
    module = nn.Linear(4, 5).bfloat16().eval()
    graph = import_torch(module, (torch.randn(2, 4).bfloat16(),))
    weight = next(n.result for n in graph.nodes if n.result.name == "weight")
    assert weight.dtype == BF16
    np.testing.assert_array_equal(graph.constant(weight), to_numpy(module.weight))


def test_source_is_the_innermost_line_of_the_model() -> None:
    graph = import_torch(Tied().eval(), (torch.tensor([[1, 2]]),))
    lines = Path(__file__).read_text().splitlines()
    expected = {
        "matmul": ("self.block(", "self.head(x)"),
        "relu": ("self.block(",),
        "gather": ("self.embedding(ids)",),
        "mul": ("* self.factor",),
    }
    for node in graph.nodes:
        if node.op == "constant":
            continue
        path, _, number = node.source.rpartition(":")
        assert Path(path) == Path(__file__)
        parts = expected.get(node.op, ())
        assert not parts or any(part in lines[int(number) - 1] for part in parts)


def test_programs_and_files(tmp_path: Path) -> None:
    module, x = nn.Linear(4, 5).eval(), torch.randn(3, 4)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "linear.pt2")
    for given in (program, tmp_path / "linear.pt2", str(tmp_path / "linear.pt2")):
        assert detect(given) == "torch"
        graph = import_torch(given)
        assert [v.name for v in graph.inputs] == ["input"]
        assert_same(graph, module, (torch.randn(7, 4),))
    assert import_torch(program).inputs[0].type.__str__() == "f32[batch, 4]"
    assert import_torch(tmp_path / "linear.pt2").name == "linear"


def test_decomposed_programs_are_accepted() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
    x = torch.randn(2, 3, 5, 5)
    program = torch.export.export(module, (x,)).run_decompositions()
    assert_same(import_torch(program), module, (x,))
