"""Documents of PyTorch segments: what they may say, and that anything else has a typed error."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.errors import FrameworkError
from ranvier.segments import Tensor, open_segment

pytestmark = pytest.mark.needs("torch")

Array = np.ndarray[Any, Any]


def call(operator: str, *arguments: object, **named: object) -> dict[str, object]:
    return {"operator": operator, "arguments": list(arguments), "named": named}


def document(calls: Sequence[object], results: Sequence[object]) -> bytes:
    return json.dumps({"calls": calls, "results": results}).encode()


def tensor(array: Array) -> Tensor:
    return Tensor(array.ctypes.data, array.shape)


RENORM = call("aten.renorm.default", {"operand": 0}, 2.0, 0, 1.0)


def test_calls_lists_sizes_and_items() -> None:
    text = document(
        [
            call("aten.split.Tensor", {"operand": 0}, {"size": 0}, 0),
            call("aten.stack.default", [{"call": 0, "item": 1}, {"call": 0, "item": 0}]),
            call("aten.clamp.default", {"call": 1}, None, {"float": "inf"}),
            call("aten.sum.dim_IntList", {"call": 2}, [0], dtype={"dtype": "float64"}),
        ],
        [{"call": 3}, {"call": 0, "item": 0}],
    )
    segment = open_segment("torch", text, ["f32"], ["f64", "f32"], sizes=1)
    x = np.arange(6, dtype=np.float32)
    total, first = np.zeros(3), np.zeros(3, np.float32)
    segment.run([tensor(x)], [3], [tensor(total), tensor(first)])
    assert total.tolist() == [3, 5, 7]
    assert first.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["bf16", "f16", "i64", "u8", "bool", "f8e5m2", "u32"])
def test_element_types_keep_their_bits(dtype: str) -> None:
    from ranvier.ir.dtype import BY_NAME

    storage = BY_NAME[dtype].storage
    x = np.arange(8).astype(storage)
    y = np.zeros((2, 4), storage)
    text = document([call("aten.view.default", {"operand": 0}, [2, 4])], [{"call": 0}])
    open_segment("torch", text, [dtype], [dtype]).run([tensor(x)], [], [tensor(y)])
    assert y.reshape(-1).tolist() == x.tolist()


def test_no_elements() -> None:
    text = document([RENORM], [{"call": 0}])
    x = np.zeros((0, 3), np.float32)
    open_segment("torch", text, ["f32"], ["f32"]).run([tensor(x)], [], [tensor(x.copy())])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "malformed"),
        (b"[]", "expected an object"),
        (document([3], []), "a call is 3"),
        (document([{"operator": "os.system"}], []), "no operator"),
        (document([call("aten.renorm.nothing")], []), "has no operator aten.renorm.nothing"),
        (document([call("nowhere.near.default")], []), "has no operator nowhere.near.default"),
        (document([call("aten.relu.default", {"operand": 1})], []), "below 1"),
        (document([call("aten.relu.default", {"call": 0})], []), "below 0"),
        (document([call("aten.relu.default", {"dtype": "Tensor"})], []), "no argument"),
        (document([call("aten.relu.default", {"pickle": "x"})], []), "no argument"),
        (document([{"operator": "aten.relu.default", "arguments": 1}], []), "no list"),
        (document([call("aten.relu.default", {"size": 0})], []), "below 0"),
        (document([call("aten.relu.default", {"device": "cuda"})], []), "not the CPU"),
        (document([RENORM], []), "0 results for 1"),
        (document([RENORM], [{"operand": True}]), "below 1"),
    ],
)
def test_malformed(text: bytes, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        open_segment("torch", text, ["f32"], ["f32"])


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "aten.relu.default"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["call", "item", "operand", "size", "operator", "arguments", "float"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(st.lists(junk, max_size=3), st.lists(junk, max_size=2))
@settings(max_examples=200, deadline=None)
def test_any_document_is_opened_or_refused_by_name(calls: list[Any], results: list[Any]) -> None:
    message = "segment"
    try:
        open_segment("torch", document(calls, results), ["f32"], ["f32"])
    except FrameworkError as error:
        message = str(error)
    assert "segment" in message or "no operator" in message


def test_what_does_not_fit_is_an_error_of_the_call() -> None:
    x, y = np.ones((2, 3), np.float32), np.zeros((3, 2), np.float32)
    text = document([RENORM], [{"call": 0}])
    with pytest.raises(FrameworkError, match=r"shape \(2, 3\) where the artifact expects \(3, 2\)"):
        open_segment("torch", text, ["f32"], ["f32"]).run([tensor(x)], [], [tensor(y)])
    with pytest.raises(FrameworkError, match=r"float32 where the artifact expects torch\.int32"):
        open_segment("torch", text, ["f32"], ["i32"]).run([tensor(x)], [], [tensor(y)])
    text = document([call("aten.matmul.default", {"operand": 0}, {"operand": 0})], [{"call": 0}])
    with pytest.raises(FrameworkError, match=r"aten.matmul.default failed in PyTorch"):
        open_segment("torch", text, ["f32"], ["f32"]).run([tensor(x)], [], [tensor(y)])


def test_a_result_that_is_not_there_is_an_error_of_the_call() -> None:
    x = np.ones((2, 3), np.float32)
    text = document([RENORM], [{"call": 0, "item": 1}])
    with pytest.raises(FrameworkError, match="call 0 of a PyTorch segment has no result 1"):
        open_segment("torch", text, ["f32"], ["f32"]).run([tensor(x)], [], [tensor(x.copy())])


def test_unknown_framework_and_element_type() -> None:
    with pytest.raises(FrameworkError, match="known: torch, onnxruntime"):
        open_segment("caffe", b"", [], [])
    with pytest.raises(FrameworkError, match="no element type f6e2m3"):
        open_segment("torch", document([], []), ["f6e2m3"], [])


def test_a_forked_child_does_not_wait_for_the_threads_of_its_parent() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    x = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    text = document([call("aten.special_bessel_j0.default", {"operand": 0})], [{"call": 0}])
    segment = open_segment("torch", text, ["f32"], ["f32"])
    expected = np.zeros_like(x)
    segment.run([tensor(x)], [], [tensor(expected)])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            found = np.zeros_like(x)
            segment.run([tensor(x)], [], [tensor(found)])
            status = 0 if np.array_equal(found, expected) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    torch.set_num_threads(before)
