"""If, Loop and Scan, recurrent layers, functions and sequences of ONNX on native code."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import numpy as np

from ranvier.frontends.onnx import import_onnx
from tests.frontends.onnx_comparison import check, floats, model_of


def test_a_branch_reads_values_around_it() -> None:
    text = """g (float[n, 3] x, bool c) => (y) {
      k = Constant<value_float=2.0>()  w = Mul(x, k)
      r = If<then_branch = then () => (float[n, 3] p) { p = Add(w, x) },
             else_branch = other () => (float[n, 3] q) { h = Neg(w)  q = Relu(h) }>(c)
      y = Sub(r, w) }"""
    runs = [{"x": floats(n, 3), "c": np.array(c)} for n in (1, 4) for c in (True, False)]
    graph = check(text, *runs)
    assert [node.op for node in graph.nodes].count("if") == 1


def test_branches_of_different_sizes() -> None:
    text = """g (float[n, 3] x, bool c) => (y) {
      r = If<then_branch = then () => (float[a, 3] p) { p = Concat<axis=0>(x, x) },
             else_branch = other () => (float[b, 3] q) { q = Neg(x) }>(c)
      y = Abs(r) }"""
    check(text, *({"x": floats(n, 3), "c": np.array(c)} for n in (1, 4) for c in (True, False)))


def test_nested_branches() -> None:
    text = """g (float[n] x, bool c, bool d) => (y) {
      y = If<then_branch = a () => (float[n] p) {
               p = If<then_branch = aa () => (float[n] s) { s = Neg(x) },
                      else_branch = ab () => (float[n] t) { t = Exp(x) }>(d) },
             else_branch = b () => (float[n] q) { q = Abs(x) }>(c) }"""
    runs = [
        {"x": floats(5), "c": np.array(c), "d": np.array(d)}
        for c in (True, False)
        for d in (True, False)
    ]
    check(text, *runs)


def test_a_loop_whose_number_of_iterations_is_an_input() -> None:
    text = """g (float[n, 2] x, int64 m) => (last, rows) {
      t = Constant<value=bool {1}>()
      last, rows = Loop<body = body (int64 i, bool c, float[n, 2] h)
                          => (bool go, float[n, 2] next, float[n, 2] row) {
        go = Identity(c)  f = Cast<to=1>(i)  s = Add(h, f)  next = Mul(s, x)  row = Tanh(next)
      }>(m, t, x) }"""
    check(text, *({"x": floats(n, 2), "m": np.array(m)} for n, m in ((1, 1), (3, 4), (2, 40))))


def test_a_loop_that_ends_by_its_condition() -> None:
    text = """g (float[2] x, float limit) => (last, sums) {
      m = Constant<value_int=50>()  t = Constant<value=bool {1}>()
      last, sums = Loop<body = body (int64 i, bool c, float[2] h)
                          => (bool go, float[2] next, float row) {
        one = Constant<value_float=1.0>()  next = Add(h, one)
        row = ReduceSum<keepdims=0>(next)  go = Less(row, limit)
      }>(m, t, x) }"""
    runs = [{"x": floats(2), "limit": np.array(limit, np.float32)} for limit in (-90.0, 9.0, 1e9)]
    check(text, *runs)


def test_what_a_loop_carries_may_grow() -> None:
    text = """g (float[n, 2] x, int64 m) => (y) {
      z = Constant<value_ints=[0]>()  t = Constant<value=bool {1}>()
      y = Loop<body = body (int64 i, bool c, float[k, 2] h) => (bool go, float[j, 2] next) {
        go = Identity(c)  a = ReduceSum<keepdims=1>(h, z)  next = Concat<axis=0>(h, a)
      }>(m, t, x) }"""
    check(text, *({"x": floats(n, 2), "m": np.array(m)} for n, m in ((1, 1), (3, 5), (2, 20))))


def test_branches_in_loops_and_loops_in_branches() -> None:
    text = """g (float[n, 2] x, int64 m, bool c) => (y) {
      t = Constant<value=bool {1}>()  two = Constant<value_int=2>()  w = Exp(x)
      y = If<then_branch = outer () => (float[n, 2] p) {
        p = Loop<body = body (int64 i, bool go, float[n, 2] h) => (bool on, float[n, 2] next) {
          on = Identity(go)  r = Mod(i, two)  zero = Constant<value_int=0>()  even = Equal(r, zero)
          next = If<then_branch = a () => (float[n, 2] u) { u = Add(h, w) },
                    else_branch = b () => (float[n, 2] v) {
                      v = Loop<body = inner (int64 j, bool k, float[n, 2] s)
                                 => (bool l, float[n, 2] q) {
                        l = Identity(k)  f = Cast<to=1>(j)  d = Mul(w, f)  q = Sub(s, d)
                      }>(i, t, h) }>(even)
        }>(m, t, x) },
        else_branch = other () => (float[n, 2] q) { q = Neg(w) }>(c) }"""
    runs = [
        {"x": floats(n, 2), "m": np.array(m), "c": np.array(c)}
        for n, m, c in ((1, 1, True), (3, 6, True), (2, 3, False))
    ]
    check(text, *runs, tolerance=1e-4)


def test_scans_in_both_directions_along_any_axis() -> None:
    text = """g (float[3] h, float[4, n] x) => (last, y) {
      last, y = Scan<num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1],
                     scan_input_directions=[1], scan_output_directions=[1],
                     body = body (float[3] s, float[4] row) => (float[3] next, float[3] out) {
        z = Constant<value_ints=[0]>()  e = Constant<value_ints=[3]>()
        cut = Slice(row, z, e)  next = Add(s, cut)  out = Neg(next)
      }>(h, x) }"""
    check(text, *({"h": floats(3), "x": floats(4, n)} for n in (1, 5, 30)))


KINDS = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_over_a_symbolic_length(kind: str, direction: str) -> None:
    gates, count = KINDS[kind], 2 if direction == "bidirectional" else 1
    hidden, width = 5, 3
    extra = ", linear_before_reset=1" if kind == "GRU" else ""
    text = f"""g (float[t, b, {width}] x, float[{count}, {gates * hidden}, {width}] w,
                  float[{count}, {gates * hidden}, {hidden}] r,
                  float[{count}, {2 * gates * hidden}] bias, int32[b] lengths) => (y, last) {{
      y, last = {kind}<hidden_size={hidden}, direction="{direction}"{extra}>(
        x, w, r, bias, lengths) }}"""
    weights = {
        "w": floats(count, gates * hidden, width, seed=1),
        "r": floats(count, gates * hidden, hidden, seed=2) * np.float32(0.5),
        "bias": floats(count, 2 * gates * hidden, seed=3),
    }
    runs = [
        {"x": floats(t, b, width), "lengths": np.arange(t, t - b, -1, dtype=np.int32), **weights}
        for t, b in ((1, 1), (4, 2), (9, 3))
    ]
    check(text, *runs, tolerance=1e-4)


def test_peepholes_activations_and_clipping_of_an_lstm() -> None:
    text = """g (float[t, 2, 3] x, float[1, 16, 3] w, float[1, 16, 4] r, float[1, 32] bias,
                float[1, 2, 4] h, float[1, 2, 4] c, float[1, 12] p) => (y, hn, cn) {
      y, hn, cn = LSTM<hidden_size=4, clip=1.5,
        activations=["HardSigmoid", "Tanh", "Softsign"],
        activation_alpha=[0.3], activation_beta=[0.4]>(x, w, r, bias, , h, c, p) }"""
    shapes = {
        "w": (1, 16, 3), "r": (1, 16, 4), "bias": (1, 32), "h": (1, 2, 4), "c": (1, 2, 4),
        "p": (1, 12),
    }  # fmt: skip
    weights = {name: floats(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    check(text, *({"x": floats(t, 2, 3), **weights} for t in (1, 6)), tolerance=1e-4)


def test_functions_of_the_model_call_functions() -> None:
    head = '<ir_version: 10, opset_import: ["": 21, "own": 1]>'
    from onnx import parser

    model = parser.parse_model(f"""{head}
    g (float[n, 3] x) => (float[n, 3] y) {{ y = own.twice<alpha=0.3>(x) }}
    <domain: "own", opset_import: ["": 21, "own": 1]>
    twice <alpha: float = 0.1> (a) => (b) {{ c = own.once<alpha: float = @alpha>(a)
                                             b = own.once(c) }}
    <domain: "own", opset_import: ["": 21]>
    once <alpha: float = 0.5> (a) => (b) {{ b = LeakyRelu<alpha: float = @alpha>(a) }}
    """)
    check(model, {"x": floats(4, 3)})


def test_operators_without_a_translation_are_expanded_as_the_standard_defines_them() -> None:
    text = "g (float[n, 4] x, int64[n] t) => (y) { y = SoftmaxCrossEntropyLoss(x, t) }"
    check(text, *({"x": floats(n, 4), "t": np.arange(n) % 4} for n in (1, 6)))


def test_sequences_of_known_length() -> None:
    text = """g (float[2, n] x, float[2, n] z, int64 at) => (y, all, count) {
      s = SequenceConstruct(x, z)  last = Constant<value_int=0>()  w = Neg(x)
      t = SequenceInsert(s, w, last)  y = SequenceAt(t, at)
      all = ConcatFromSequence<axis=0, new_axis=1>(t)  count = SequenceLength(t) }"""
    runs = [{"x": floats(2, 3), "z": floats(2, 3, seed=1), "at": np.array(at)} for at in (0, 2, -1)]
    check(text, *runs)


def test_a_sequence_is_a_list_among_the_outputs() -> None:
    text = """g (float[4, n] x) => (seq(float[1, n]) parts, y) {
      parts = SplitToSequence(x)  y = Neg(x) }"""
    graph = check(text, {"x": floats(4, 3)})
    assert len(graph.outputs) == 5


def test_constants_inside_of_a_loop_keep_shapes_symbolic() -> None:
    text = """g (float[n, 4] x, int64 m) => (y) {
      t = Constant<value=bool {1}>()
      y = Loop<body = body (int64 i, bool c, float[n, 4] h) => (bool go, float[n, 4] next) {
        go = Identity(c)  s = Shape(h)  f = Constant<value_ints=[-1]>()
        r = Reshape(h, f)  e = Exp(r)  next = Reshape(e, s)
      }>(m, t, x) }"""
    graph = import_onnx(model_of(text))
    (loop,) = (node for node in graph.nodes if node.op == "loop")
    assert not {node.op for node in loop.attributes["body"].nodes} & {"dim", "concat"}  # type: ignore[attr-defined]
    check(text, {"x": floats(2, 4) / 9, "m": np.array(2)})
