"""An encoder-decoder as an ONNX model whose `Loop` carries the ids generated so far: they grow.

`torch.while_loop` carries tensors of fixed shapes, so the loop is put together here, from the
encoder and one step of the decoder as `torch.onnx.export` writes them.
"""

from __future__ import annotations

import warnings
from typing import Any

import onnx
import torch
from onnx import TensorProto, compose, helper
from torch import nn

from tests.zoo.translation import LONGEST, GreedyDecoding, sentence_batch


class _Encoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        memory: torch.Tensor = found.last_hidden_state
        return memory


class _Step(nn.Module):
    """One more id for every sentence."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, ended: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """-> whether to go on, ids `[batch, length + 1]`, which sentences have ended."""
        config = self.model.config
        logits = self.model(
            encoder_outputs=(memory,), attention_mask=mask, decoder_input_ids=ids, use_cache=False
        ).logits
        best = torch.where(ended, config.pad_token_id, logits[:, -1].argmax(-1))
        ended = ended | (best == config.eos_token_id)
        return ~ended.all(), torch.cat([ids, best.unsqueeze(1)], dim=1), ended


def growing_loop_model(module: GreedyDecoding) -> onnx.ModelProto:
    """What `module` computes: `input_ids`, `attention_mask` -> `ids` `[batch, 1 + steps]`."""
    ids, mask = sentence_batch({"batch": 3, "tokens": 9})
    memory = _Encoder(module.model)(ids, mask)
    axes: Any = {0: "batch", 1: "tokens"}
    encoder = _exported(
        _Encoder(module.model),
        (ids, mask),
        (axes, axes),
        ["input_ids", "attention_mask"],
        ["memory"],
    )
    step = _exported(
        _Step(module.model),
        (ids[:, :5], torch.zeros(3, dtype=torch.bool), memory, mask),
        ({0: "batch", 1: "length"}, {0: "batch"}, axes, axes),
        ["ids", "ended", "memory", "mask"],
        ["goes_on", "longer", "ended_now"],
    )
    start = module.model.config.decoder_start_token_id
    loop = helper.make_node(
        "Loop", ["longest", "", "first_ids", "none_ended"], ["ids", "ended"], body=_body(step.graph)
    )
    nodes = [*encoder.graph.node, *_beginning(start), loop]
    graph = helper.make_graph(
        nodes,
        "growing_loop",
        list(encoder.graph.input),
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
        [
            *encoder.graph.initializer,
            helper.make_tensor("longest", TensorProto.INT64, [], [LONGEST]),
        ],
    )
    return helper.make_model(
        graph, opset_imports=encoder.opset_import, ir_version=encoder.ir_version
    )


def _exported(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any, names: list[str],
    results: list[str],
) -> onnx.ModelProto:  # fmt: skip
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=names,
            output_names=results,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _beginning(start: int) -> list[onnx.NodeProto]:
    """`first_ids` `[batch, 1]` and `none_ended` `[batch]`."""

    def filled(shape: str, value: int, kind: int, name: str) -> onnx.NodeProto:
        tensor = helper.make_tensor("value", kind, [1], [value])
        return helper.make_node("ConstantOfShape", [shape], [name], value=tensor)

    return [
        helper.make_node("Shape", ["input_ids"], ["rows"], start=0, end=1),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Concat", ["rows", "one"], ["column"], axis=0),
        filled("column", start, TensorProto.INT64, "first_ids"),
        filled("rows", 0, TensorProto.BOOL, "none_ended"),
    ]


def _body(step: onnx.GraphProto) -> onnx.GraphProto:
    """The loop's body: a step whose memory and mask are those of the graph around it."""
    inside = compose.add_prefix_graph(step, "step/")
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    captured = [
        helper.make_node("Identity", ["memory"], ["step/memory"]),
        helper.make_node("Identity", ["attention_mask"], ["step/mask"]),
    ]
    return helper.make_graph(
        [*captured, *inside.node],
        "step",
        [number, condition, *inside.input[:2]],
        list(inside.output),
        list(inside.initializer),
    )
