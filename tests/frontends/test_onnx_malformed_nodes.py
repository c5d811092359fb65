"""Nodes that are not as the standard says are refused with the node's name, never with a crash."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

from ranvier.errors import RanvierError
from ranvier.frontends.onnx import import_onnx
from tests.frontends.onnx_comparison import model_of

NODES = (
    "y = Conv(x, x)",
    "y = DepthToSpace<blocksize=2>(x)",
    "y = DepthToSpace<blocksize=0>(q)",
    "y = Transpose<perm=[0]>(q)",
    "y = Gemm(q, q)",
    "y = LSTM<hidden_size=2>(x, x, x)",
    "y = Slice(x, q, s)",
    'y = Einsum<equation="ij,jk">(x)',
    "y = Concat<axis=0>()",
    "y = Tile(x, s)",
    "y = TopK(x, q)",
    "y = MaxPool<kernel_shape=[2, 2, 2]>(q)",
    "y = MaxPool<kernel_shape=[0, 2], strides=[0, 1]>(q)",
    "y = Resize(q, , x)",
    "y = GridSample(q, x)",
    "y = Attention(x, x, x)",
    "y = Attention(q, q, x)",
    "y = GroupNormalization<num_groups=3>(q, x, x)",
    "y = Gather(x, x)",
    "y = Trilu(x)",
    "y = STFT(x, s)",
    "y = RoiAlign<sampling_ratio=1>(q, x, s)",
    "y = NonMaxSuppression(q, q)",
    "y = Col2Im(q, s, s)",
    "y = BatchNormalization(x, x, x, x, x)",
    "y = LRN<size=0>(q)",
    "y = Squeeze(q, s)",
    """y = If<then_branch = a () => (float[1] p) { p = Neg(q) },
              else_branch = b () => (float[1] p, float[1] r) { p = Neg(x) r = Neg(x) }>(c)""",
    "y = Scan<num_scan_inputs=3, body = b (float[1] p) => (float[1] r) { r = Neg(p) }>(x)",
    "y = Loop<body = b (int64 i) => (bool c) { c = Cast<to=9>(i) }>(s, , x)",
    "y = DFT(x)",
    "y = Det(x)",
    "y = MatMul(x, q)",
    "y = ScatterND(x, s, x)",
    "y = EyeLike(x)",
    "y = MaxUnpool<kernel_shape=[2, 2]>(x, s)",
    "y = ReverseSequence(x, s)",
    "y = Compress(q, x)",
    "y = Unique<axis=7>(q)",
    "y = Cast<to=99>(x)",
    "y = Constant()",
    "y = Celu<alpha=0.0>(x)",
    "y = Relu<nonsense=1>(x)",
    "y = Relu(x, x)",
    "y = Nonsense(x)",
    "y = undeclared.Relu(x)",
)


@pytest.mark.parametrize("node", NODES)
def test_a_malformed_node_is_refused(node: str) -> None:
    text = f"g (float[3] x, float[2, 4, 6, 6] q, int64[2] s, bool c) => (y) {{ {node} }}"
    with pytest.raises(RanvierError, match=r"RVR-E10[12].*\n? *.*(y|body|Loop|If)"):
        import_onnx(model_of(text, 23))
