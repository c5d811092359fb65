"""Operators of ONNX over symbolic sizes, old operator sets and options beside ONNX Runtime."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import numpy as np
from onnx import TensorProto, helper

from ranvier.errors import UnsupportedOperatorError
from ranvier.frontends.onnx import import_onnx, supported_operators, survey
from tests.frontends.onnx_comparison import check, floats, model_of

IMAGES = "float[n, 4, h, w] x"
RUNS = [(1, 6, 8), (2, 7, 9), (3, 12, 5)]

ON_IMAGES = {
    "conv": 'y = Conv<auto_pad="SAME_UPPER", strides=[2, 2]>(x, W)',
    "conv, same lower": 'y = Conv<auto_pad="SAME_LOWER">(x, W)',
    "conv in groups": "y = Conv<group=2, pads=[1, 0, 2, 1], dilations=[1, 2]>(x, G)",
    "transposed conv": """y = ConvTranspose<strides=[2, 1], pads=[1, 0, 1, 1],
        output_padding=[1, 0]>(x, W)""",
    "max pool": "y = MaxPool<kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]>(x)",
    "max pool, rounded up": "y = MaxPool<kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1>(x)",
    "max pool with positions": "v, y = MaxPool<kernel_shape=[2, 3], strides=[2, 1]>(x)",
    "average pool": "y = AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(x)",
    "average pool, padding counted": """y = AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1],
        strides=[2, 2], count_include_pad=1>(x)""",
    "dilated average pool": "y = AveragePool<kernel_shape=[2, 2], dilations=[2, 2]>(x)",
    "lp pool": "y = LpPool<kernel_shape=[2, 2], p=3>(x)",
    "global pools": "a = GlobalAveragePool(x) b = GlobalMaxPool(x) y = Sub(a, b)",
    "batch norm": "y = BatchNormalization(x, C, C, C, P)",
    "instance norm": "y = InstanceNormalization(x, C, P)",
    "group norm": "y = GroupNormalization<num_groups=2>(x, C, P)",
    "local response norm": "y = LRN<size=3, alpha=0.2, beta=0.6>(x)",
    "depth to space": 'y = DepthToSpace<blocksize=2, mode="CRD">(x)',
    "resize by scales": """s = Constant<value_floats=[1.0, 1.0, 2.0, 1.5]>()
        y = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(x, , s)""",
    "resize, nearest": """s = Constant<value_floats=[1.0, 1.0, 2.0, 3.0]>()
        y = Resize<nearest_mode="round_prefer_ceil">(x, , s)""",
    "resize, cubic": """s = Constant<value_floats=[1.0, 1.0, 2.0, 0.5]>()
        y = Resize<mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1>(x, , s)""",
    "resize to a size": """s = Constant<value_ints=[5, 7]>()
        y = Resize<mode="linear", axes=[2, 3],
                   coordinate_transformation_mode="align_corners">(x, , , s)""",
    "pad": "p = Constant<value_ints=[0, 0, 1, 2, 0, 0, -1, 3]>() y = Pad(x, p)",
    "pad, reflected": """p = Constant<value_ints=[0, 0, 1, 2, 0, 0, 3, 1]>()
        y = Pad<mode="reflect">(x, p)""",
    "pad, wrapped": """p = Constant<value_ints=[1, 2]>() a = Constant<value_ints=[3]>()
        y = Pad<mode="wrap">(x, p, , a)""",
    "slices": """s = Constant<value_ints=[-1, 1]>() e = Constant<value_ints=[-99, -1]>()
        a = Constant<value_ints=[2, -1]>() t = Constant<value_ints=[-2, 2]>()
        y = Slice(x, s, e, a, t)""",
    "tile": "r = Constant<value_ints=[1, 2, 1, 3]>() y = Tile(x, r)",
    "softmax over channels": "y = Softmax<axis=1>(x)",
    "log sum exp": "a = Constant<value_ints=[-1, 1]>() y = ReduceLogSumExp<keepdims=0>(x, a)",
    "mean of squares": "y = ReduceSumSquare<keepdims=1>(x)",
    "last of equal maxima": "r = Round(x) y = ArgMax<axis=3, select_last_index=1>(r)",
    "running product": "a = Constant<value_int=3>() y = CumProd<reverse=1, exclusive=1>(x, a)",
    "running sum": "a = Constant<value_int=-1>() y = CumSum<exclusive=1>(x, a)",
    "top k": "k = Constant<value_ints=[3]>() v, y = TopK<axis=3, largest=0>(x, k)",
    "einsum": 'y = Einsum<equation="nchw,ncdw->hdc">(x, x)',
    "einsum with an ellipsis": 'y = Einsum<equation="...hw,...kw->...hk">(x, x)',
    "hardmax": "y = Hardmax<axis=2>(x)",
    "gather": "i = Constant<value_ints=[2, -1, 0]>() y = Gather<axis=1>(x, i)",
    "split": "y, z = Split<axis=1, num_outputs=2>(x)",
    "celu and shrink": "a = Celu<alpha=0.7>(x) y = Shrink<bias=0.1, lambd=0.3>(a)",
    "trilu": "k = Constant<value_int=1>() y = Trilu<upper=0>(x, k)",
    "rows of a grid": """s = Constant<value_ints=[2, 4, 5, 3]>() g = AffineGrid(T, s)
        y = GridSample<padding_mode="reflection">(I, g)""",
}
CONSTANTS = """float[4, 4, 3, 2] W, float[6, 2, 2, 3] G, float[4] C, float[4] P,
  float[2, 2, 3] T, float[2, 4, 6, 6] I"""


@pytest.mark.parametrize("name", ON_IMAGES)
def test_on_images_of_any_size(name: str) -> None:
    text = f"g ({IMAGES}, {CONSTANTS}) => (y) {{ {ON_IMAGES[name]} }}"
    given = {
        "W": floats(4, 4, 3, 2, seed=1), "G": floats(6, 2, 2, 3, seed=2), "C": floats(4, seed=3),
        "P": np.abs(floats(4, seed=4)) + 0.5, "T": floats(2, 2, 3, seed=5),
        "I": floats(2, 4, 6, 6, seed=6),
    }  # fmt: skip
    model = model_of(text, 22)
    read = {name for node in model.graph.node for name in node.input}
    for value in [v for v in model.graph.input if v.name not in read]:
        model.graph.input.remove(value)
    runs = [
        {k: v for k, v in {"x": floats(n, 4, h, w), **given}.items() if k in read}
        for n, h, w in RUNS
    ]
    check(model, *runs, tolerance=2e-4)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 20, 21])
def test_a_small_network_in_every_operator_set(opset: int) -> None:
    """Attributes moved to operands over the years: the same network as each set writes it."""
    tensors, nodes = [], []

    def ints(name: str, *values: int) -> str:
        tensors.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def add(op: str, *operands: str, **attributes: object) -> str:
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(op, list(operands), [name], **attributes))
        return name

    x = add("Relu", "x")
    x = add("Clip", x, max=3.0) if opset < 11 else add("Clip", x, "", "three")
    if opset < 10:
        x = add("Slice", x, starts=[1], ends=[9999], axes=[2])
    else:
        x = add("Slice", x, ints("s", 1), ints("e", 9999), ints("a", 2))
    if opset < 11:
        x = add("Pad", x, pads=[0, 0, 1, 0, 0, 1], mode="constant", value=0.5)
    else:
        x = add("Pad", x, ints("p", 0, 0, 1, 0, 0, 1), "half")
    x = add("Softmax", x, axis=2)
    x = add("Unsqueeze", x, axes=[1]) if opset < 13 else add("Unsqueeze", x, ints("u", 1))
    x = add("Squeeze", x, axes=[1]) if opset < 13 else add("Squeeze", x, ints("q", 1))
    x = (
        add("ReduceSum", x, axes=[1], keepdims=0)
        if opset < 13
        else add("ReduceSum", x, ints("r", 1), keepdims=0)
    )
    x = (
        add("ReduceMean", x, axes=[1], keepdims=1)
        if opset < 18
        else add("ReduceMean", x, ints("m", 1), keepdims=1)
    )
    x = add("Dropout", x)
    if opset >= 11:
        tensors.append(helper.make_tensor("three", TensorProto.FLOAT, [], [3.0]))
        tensors.append(helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "t"])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", 1])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    check(model, *({"x": floats(n, 3, t)} for n, t in ((1, 2), (4, 9))))


ATTENTION = {
    "heads in the last dim": (
        "float[b, s, 24] q, float[b, t, 24] k, float[b, t, 24] v",
        "y = Attention<q_num_heads=4, kv_num_heads=4>(q, k, v)",
    ),
    "shared keys, causal": (
        "float[b, 4, s, 8] q, float[b, 2, s, 8] k, float[b, 2, s, 8] v",
        "y = Attention<is_causal=1, scale=0.2>(q, k, v)",
    ),
    "a mask of booleans": (
        "float[b, 4, s, 8] q, float[b, 4, t, 8] k, float[b, 4, t, 8] v",
        """w = Transpose<perm=[0, 1, 3, 2]>(k) m = MatMul(q, w)
        z = Constant<value_float=-1.0>() keep = Less(z, m) y = Attention(q, k, v, keep)""",
    ),
    "softcap is left to the definition": (
        "float[b, 4, s, 8] q, float[b, 4, t, 8] k, float[b, 4, t, 8] v",
        "y = Attention<softcap=2.0>(q, k, v)",
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_over_symbolic_lengths(name: str) -> None:
    inputs, nodes = ATTENTION[name]
    model = model_of(f"g ({inputs}) => (y) {{ {nodes} }}", 23)

    def sized(b: int, s: int, t: int) -> dict[str, np.ndarray]:
        sizes = {"b": b, "s": s, "t": t}
        return {
            value.name: floats(
                *(sizes.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim),
                seed=i,
            )
            for i, value in enumerate(model.graph.input)
        }

    graph = check(model, *(sized(*each) for each in ((1, 3, 5), (2, 6, 4))))
    whole = [node.op for node in graph.nodes].count("attention")
    assert whole == (0 if "softcap" in name else 1)


CONTRIB = {
    "gelu": "y = com.microsoft.Gelu(x)",
    "bias and gelu": "y = com.microsoft.BiasGelu(x, B)",
    "fast gelu": "y = com.microsoft.FastGelu(x, B)",
    "quick gelu": "y = com.microsoft.QuickGelu<alpha=1.3>(x)",
    "matrix product": "y = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(x, x)",
    "skip and layer norm": "y, , , s = com.microsoft.SkipLayerNormalization(x, x, B, B, B)",
    "skip and rms norm": "y = com.microsoft.SkipSimplifiedLayerNormalization(x, x, B, B)",
    "rms norm": "y = SimplifiedLayerNormalization(x, B)",
}


@pytest.mark.parametrize("name", CONTRIB)
def test_operators_of_onnx_runtime(name: str) -> None:
    row = ", ".join(f"{i}.5" for i in range(8))
    text = f"g (float[n, t, 8] x) => (y) <float[8] B = {{{row}}}> "
    nodes = CONTRIB[name]
    text = text.replace("(y)", "(y, s)") if "s =" in nodes else text
    model = model_of(text + f"{{ {nodes} }}", 17, ', "com.microsoft": 1')
    check(model, *({"x": floats(n, t, 8)} for n, t in ((1, 3), (2, 5))))


def test_a_convolution_that_onnx_runtime_fused() -> None:
    text = """g (float[n, 4, h, w] x, float[6, 4, 3, 3] k, float[6] b) => (y) {
      y = com.microsoft.FusedConv<activation="Relu", pads=[1, 1, 1, 1]>(x, k, b) }"""
    weights = {"k": floats(6, 4, 3, 3, seed=1), "b": floats(6, seed=2)}
    model = model_of(text, 17, ', "com.microsoft": 1')
    check(model, *({"x": floats(n, 4, h, w), **weights} for n, h, w in RUNS))


def test_suppression_of_boxes_with_a_number_of_candidates_that_varies() -> None:
    text = """g (float[n, b, 4] boxes, float[n, c, b] scores) => (y) {
      most = Constant<value=int64 {3}>()  iou = Constant<value=float {0.4}>()
      least = Constant<value=float {0.5}>()
      y = NonMaxSuppression(boxes, scores, most, iou, least) }"""
    runs = []
    for n, c, b in ((1, 1, 4), (2, 3, 30)):
        corners = np.random.default_rng(b).random((n, b, 4), np.float32)
        corners[..., 2:] = corners[..., :2] + corners[..., 2:] / 2
        runs.append(
            {"boxes": corners, "scores": np.random.default_rng(1).random((n, c, b), np.float32)}
        )
    check(text, *runs)


def test_positions_of_a_max_pool_that_nothing_reads_cost_nothing() -> None:
    text = "g (float[n, 4, h, w] x) => (y) { y, unused = MaxPool<kernel_shape=[2, 2]>(x) }"
    assert [node.op for node in import_onnx(model_of(text)).nodes] == ["max_pool"]


def test_all_that_is_missing_is_listed_with_its_reason() -> None:
    model = model_of("""g (float[n, 3] x) => (y) {
      a = RandomNormalLike(x)  b = own.Strange(a)  c = ImageDecoder(x)  d = Elu(c)  y = Abs(d) }
    """, domains=', "own": 1')  # fmt: skip
    with pytest.raises(UnsupportedOperatorError) as error:
        import_onnx(model)
    text = str(error.value)
    assert "RandomNormalLike x 1: draws random numbers" in text
    assert "own::Strange x 1: has no translation" in text
    assert "ImageDecoder x 1: decodes image files" in text
    assert "Elu" not in text
    assert [use.operator for use in survey(model) if not use.supported] == [
        "ImageDecoder", "RandomNormalLike", "own::Strange",
    ]  # fmt: skip


def test_the_exporter_s_module_and_line_are_in_the_message() -> None:
    node = helper.make_node("Bernoulli", ["x"], ["y"], name="node_7")
    for key, value in {
        "pkg.torch.onnx.name_scopes": "['', 'encoder', 'encoder.drop', 'bernoulli']",
        "pkg.torch.onnx.stack_trace": 'File "/src/model.py", line 12, in forward',
    }.items():
        node.metadata_props.add(key=key, value=value)
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    graph = helper.make_graph([node], "g", [info], [helper.make_empty_tensor_value_info("y")])
    with pytest.raises(UnsupportedOperatorError, match=r"node_7 in encoder\.drop model\.py:12"):
        import_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


def test_supported_operators_are_listed() -> None:
    names = supported_operators()
    assert names == sorted(names)
    assert {"Conv", "Loop", "LSTM", "ai.onnx.ml::TreeEnsemble"} <= set(names)
    assert len(names) > 190
