"""Malformed ONNX files: typed errors, whatever is wrong with the bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranvier.errors import CompileError, RanvierError, UnsupportedOperatorError
from ranvier.ir.verifier import verify

onnx = pytest.importorskip("onnx")
onnx_frontend: Any = pytest.importorskip("ranvier.frontends.onnx")

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[batch, 3, height, width] image, bool choice)
  => (float[batch, 4, pixels] features, float[n] rows)
<int64[1] zero = {0}, int64[1] two = {2}, int64[1] rest = {-1}>
{
  mapped = Conv <pads = [1, 1, 1, 1]> (image, weight)
  active = Relu (mapped)
  sizes = Shape (active)
  kept = Slice (sizes, zero, two)
  wanted = Concat <axis = 0> (kept, rest)
  features = Reshape (active, wanted)
  flat = Reshape (active, rest)
  rows = If (choice) <
    then_branch = small () => (float[k] a) { a = Neg (flat) },
    else_branch = large () => (float[m] b) { b = Concat <axis = 0> (flat, flat) }
  >
}"""


def model() -> Any:
    proto = onnx.parser.parse_model(TEXT)
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    return proto


def refusal_of(data: bytes) -> RanvierError | None:
    """The error that reading and translating `data` ends with; any other exception is a fault."""
    try:
        graph = onnx_frontend.import_onnx(data)
    except RanvierError as error:
        return error
    verify(graph)
    return None


def test_the_model_itself_is_fine() -> None:
    assert refusal_of(model().SerializeToString()) is None


def test_every_truncation_is_refused_or_another_valid_model() -> None:
    data = model().SerializeToString()
    refused = [refusal_of(data[:end]) is not None for end in range(0, len(data), 3)]
    assert np.mean(refused) > 0.9


@pytest.mark.parametrize("seed", range(8))
def test_altered_bytes_never_end_in_another_exception(seed: int) -> None:
    data = model().SerializeToString()
    rng = np.random.default_rng(seed)
    for _ in range(120):
        altered = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            altered[place] = rng.integers(0, 256)
        refusal_of(bytes(altered))


def no_output(proto: Any) -> None:
    del proto.graph.output[:]


def no_graph(proto: Any) -> None:
    proto.ClearField("graph")


def cycle(proto: Any) -> None:
    proto.graph.node[1].input[0] = "active"


def unknown_operand(proto: Any) -> None:
    proto.graph.node[1].input[0] = "nowhere"


def unknown_output(proto: Any) -> None:
    proto.graph.output[1].name = "absent"


def two_of_one_name(proto: Any) -> None:
    proto.graph.node[1].output[0] = "mapped"


def negative_dim(proto: Any) -> None:
    proto.graph.initializer[-1].dims[0] = -4


def huge_dim(proto: Any) -> None:
    proto.graph.initializer[-1].dims[0] = 2**60


def huge_input(proto: Any) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**62


def too_few_bytes(proto: Any) -> None:
    proto.graph.initializer[-1].raw_data = proto.graph.initializer[-1].raw_data[:-5]


def future_opset(proto: Any) -> None:
    proto.opset_import[0].version = 999


def external_data_missing(proto: Any) -> None:
    tensor = proto.graph.initializer[-1]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def external_data_outside(proto: Any) -> None:
    external_data_missing(proto)
    proto.graph.initializer[-1].external_data[0].value = "../../etc/passwd"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_output, "no outputs"),
        (no_graph, "no graph"),
        (cycle, "cycle"),
        (unknown_operand, "nowhere"),
        (unknown_output, "nothing computes the output absent"),
        (two_of_one_name, "mapped"),
        (negative_dim, "dim of -4"),
        (huge_dim, "elements"),
        (huge_input, "dim of"),
        (too_few_bytes, "weight has 427 bytes of data, its 108 elements need 432"),
        (future_opset, "operator set 999"),
        (external_data_missing, "weights.bin"),
        (external_data_outside, "outside the model's folder"),
    ],
)
def test_the_message_says_what_is_wrong(
    spoil: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    proto = model()
    spoil(proto)
    path = tmp_path / "spoiled.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(CompileError, match=message):
        onnx_frontend.import_onnx(path)


def test_external_data_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    proto = model()
    onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    graph = onnx_frontend.import_onnx(path)
    weights = [n.attributes["value"] for n in graph.nodes if n.op == "constant"]
    assert any(getattr(w, "shape", None) == (4, 3, 3, 3) for w in weights)


def test_all_that_is_missing_is_listed_at_once() -> None:
    proto = model()
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "Wrong", "my.domain"
    proto.graph.node[0].name = "/encoder/first"
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "AlsoWrong", "my.domain"
    proto.opset_import.add(domain="my.domain", version=1)
    with pytest.raises(UnsupportedOperatorError) as caught:
        onnx_frontend.import_onnx(proto)
    for part in ("my.domain::Wrong", "my.domain::AlsoWrong", "/encoder/first"):
        assert part in str(caught.value)
