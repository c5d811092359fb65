"""The models of the zoo import without an unsupported operator; small ones are compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from ranvier.frontends.torch import import_torch, survey
from ranvier.ir.verifier import verify
from tests import zoo
from tests.frontends.comparison import assert_same

BATCH, TOKENS = Dim("batch", min=1, max=64), Dim("tokens", min=1, max=64)
FREE_BATCH = ("mobilenet_v3_large", "vit_b_16")


def _import(model: zoo.ZooModel, module: nn.Module, dynamic: Any) -> None:
    graph = import_torch(module, model.example_inputs(), dynamic_shapes=dynamic, name=model.name)
    verify(graph)
    assert graph.name == model.name
    assert all(node.source for node in graph.nodes if node.op != "constant")


@pytest.mark.needs("torchvision")
@pytest.mark.parametrize("name", FREE_BATCH)
def test_image_models_with_a_free_batch(name: str) -> None:
    model = zoo.model(name)
    _import(model, model.build(), ({0: BATCH},))


def test_mnist_cnn_gives_pytorchs_numbers() -> None:
    model = zoo.model("mnist_cnn")
    module = model.build()
    graph = import_torch(module, model.example_inputs(), dynamic_shapes=model.dynamic_shapes())
    for batch in (1, 3):
        assert_same(graph, module, model.inputs({"batch": batch}), 1e-4)
    uses = survey(module, model.example_inputs())
    assert all(use.supported for use in uses)
    assert {use.operator: use.uses for use in uses}["aten.conv2d.default"] == 2


@pytest.mark.needs("torchvision")
def test_resnet18_gives_pytorchs_numbers() -> None:
    model = zoo.model("resnet18")
    module = model.build()
    graph = import_torch(module, (torch.randn(2, 3, 64, 64),), dynamic_shapes=({0: BATCH},))
    assert_same(graph, module, (torch.randn(1, 3, 64, 64),), 1e-3)


@pytest.mark.needs("transformers")
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_small_transformers_give_pytorchs_numbers(kind: str) -> None:
    from tests.zoo.language import TensorOutput

    module = TensorOutput(_small(kind), "last_hidden_state").eval()
    ids, mask = torch.randint(0, 50, (2, 9)), torch.ones(2, 9, dtype=torch.int64)
    mask[1, 6:] = 0
    axes = {0: BATCH, 1: TOKENS}
    graph = import_torch(module, (ids, mask), dynamic_shapes=(axes, axes))
    assert_same(graph, module, (ids, mask), 1e-4)
    assert_same(graph, module, (ids[:1, :5], mask[:1, :5]), 1e-4)


def _small(kind: str) -> Any:
    import transformers

    if kind == "gpt2":
        sizes: dict[str, Any] = {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "vocab_size": 50,
        }
        return transformers.GPT2Model(transformers.GPT2Config(**sizes, use_cache=False))
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.BertModel(config, add_pooling_layer=False)
