"""Shape arithmetic folds into symbolic dims; what cannot be folded is computed and checked."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import numpy as np

from ranvier import onnx_backend
from ranvier.errors import InputError, UnsupportedOperatorError
from ranvier.frontends.onnx import import_onnx
from tests.frontends.onnx_comparison import check, expected, floats, ints, model_of

SHAPE_ARITHMETIC = {
    "flatten all but the batch": """
      s = Shape(x)  zero = Constant<value_ints=[0]>()  b = Gather(s, zero)
      rest = Constant<value_ints=[-1]>()  t = Concat<axis=0>(b, rest)  y = Reshape(x, t)""",
    "heads": """
      s = Shape<start=0, end=2>(x)  tail = Constant<value_ints=[2, 6]>()
      t = Concat<axis=0>(s, tail)  y = Reshape(x, t)""",
    "half of the rows": """
      s = Shape(x)  one = Constant<value_ints=[1]>()  n = Gather(s, one)
      two = Constant<value_ints=[2]>()  h = Div(n, two)  zero = Constant<value_ints=[0]>()
      y = Slice(x, zero, h, one)""",
    "a size times a number in floats": """
      s = Shape(x)  one = Constant<value_int=1>()  n = Gather(s, one)  f = Cast<to=1>(n)
      k = Constant<value_float=1.5>()  m = Mul(f, k)  c = Ceil(m)  i = Cast<to=7>(c)
      z = Constant<value_int=0>()  d = Constant<value_int=1>()  y = Range(z, i, d)""",
    "a causal mask": """
      s = Shape(x)  one = Constant<value_ints=[1]>()  n = Gather(s, one)
      t = Concat<axis=0>(n, n)  ones = ConstantOfShape<value=float[1] {1.0}>(t)
      y = Trilu<upper=0>(ones)""",
    "expand to the size of another": """
      s = Shape(x)  a = Constant<value_ints=[-1]>()  m = ReduceSum<keepdims=1>(x, a)
      y = Expand(m, s)""",
    "expand to a size that has to be the same": """
      o = Constant<value_ints=[1]>()  s = Shape(x)  zero = Constant<value_ints=[0]>()
      c = Constant<value_ints=[12]>()  b = Gather(s, zero)  r = Gather(s, o)
      t = Concat<axis=0>(b, r, c)  y = Expand(x, t)""",
    "the number of elements": """
      n = Size(x)  one = Constant<value_ints=[-1]>()  t = Reshape(n, one)  y = Reshape(x, t)""",
    "a known condition": """
      s = Shape(x)  r = Size(s)  three = Constant<value_int=3>()  c = Equal(r, three)
      y = If<then_branch = then () => (float[a, b, d] p) { p = Neg(x) },
             else_branch = other () => (float[a, b, d] q) { q = Abs(x) }>(c)""",
}
COMPUTE = {"dim", "mul", "concat", "div", "floor", "ceil", "cast", "if", "bind_dim"}


@pytest.mark.parametrize("name", SHAPE_ARITHMETIC)
def test_shape_arithmetic_leaves_nothing_to_compute(name: str) -> None:
    text = f"g (float[batch, rows, 12] x) => (y) {{ {SHAPE_ARITHMETIC[name]} }}"
    runs = [{"x": floats(b, n, 12)} for b, n in ((1, 1), (3, 4), (2, 7))]
    graph = check(text, *runs)
    assert not {node.op for node in graph.nodes} & COMPUTE


DYNAMIC = {
    "reshape": ("int64[3] s", "y = Reshape(x, s)", ints(2, -1, 4)),
    "reshape that copies a size": ("int64[2] s", "y = Reshape(x, s)", ints(0, 24)),
    "expand": ("int64[4] s", "y = Expand(x, s)", ints(3, 1, 6, 1)),
    "tile": ("int64[3] s", "y = Tile(x, s)", ints(2, 1, 3)),
    "slice ends": ("int64[1] s", "z = Constant<value_ints=[0]>()  y = Slice(x, z, s, z)", ints(-1)),
    "slice backwards": (
        "int64[1] s",
        "e = Constant<value_ints=[-9]>() a = Constant<value_ints=[1]>()"
        "t = Constant<value_ints=[-2]>() y = Slice(x, s, e, a, t)",
        ints(4),
    ),
    "pads": ("int64[6] s", "y = Pad(x, s)", ints(0, 1, 2, 0, 0, 3)),
    "reflected pads": ("int64[6] s", 'y = Pad<mode="reflect">(x, s)', ints(0, 1, 2, 0, 0, 3)),
    "constant of shape": ("int64[2] s", "y = ConstantOfShape<value=int64[1] {7}>(s)", ints(2, 5)),
    "range": (
        "int64 s",
        "z = Constant<value_int=1>()  d = Constant<value_int=3>()  y = Range(z, s, d)",
        np.array(11),
    ),
    "top k": ("int64[1] s", "y, i = TopK(x, s)", ints(3)),
    "one hot": (
        "int64 s",
        "i = ArgMax<axis=2, keepdims=0>(x) v = Constant<value_ints=[0, 1]>() y = OneHot(i, s, v)",
        np.array(9),
    ),
    "sizes of a resize": (
        "int64[3] s",
        'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, , , s)',
        ints(2, 6, 7),
    ),
    "scales of a resize": ("float[3] s", "y = Resize(x, , s)", np.array([1, 1.5, 2.0], np.float32)),
    "running sum along an axis": ("int64 s", "y = CumSum(x, s)", np.array(1)),
    "parts": ("int64[2] s", "y, z = Split<axis=1>(x, s)", ints(1, 5)),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_parameters_that_are_inputs(name: str) -> None:
    declaration, nodes, value = DYNAMIC[name]
    text = f"g (float[2, 6, 4] x, {declaration}) => (y) {{ {nodes} }}"
    check(text, {"x": floats(2, 6, 4), "s": value})


DATA_SIZES = {
    "positions": "y = NonZero(x)",
    "elements above a number": """z = Constant<value_float=0.3>()  c = Greater(x, z)
        f = Constant<value_ints=[-1]>()  p = Reshape(c, f)  y = Compress(x, p)""",
    "different numbers": "c = Cast<to=7>(x)  y, first, inverse, counts = Unique(c)",
    "different rows": "c = Cast<to=7>(x)  y, first, inverse, counts = Unique<axis=0>(c)",
    "different numbers in order of appearance": "c = Cast<to=7>(x)  y = Unique<sorted=0>(c)",
    "and what is done with them": """n = NonZero(x)  t = Transpose<perm=[1, 0]>(n)
        v = GatherND(x, t)  y = Softmax<axis=0>(v)""",
}


@pytest.mark.parametrize("name", DATA_SIZES)
def test_sizes_that_only_the_data_tell(name: str) -> None:
    text = f"g (float[n, 3] x) => (y) {{ {DATA_SIZES[name]} }}"
    check(text, *({"x": np.round(floats(n, 3, seed=n), 0)} for n in (1, 5, 40)))


def test_a_bound_of_a_slice_whose_sign_depends_on_a_size() -> None:
    text = """g (float[n, 3] x) => (y) {
      s = Shape(x)  zero = Constant<value_ints=[0]>()  n = Gather(s, zero)
      five = Constant<value_ints=[5]>()  e = Sub(n, five)  y = Slice(x, zero, e, zero) }"""
    check(text, *({"x": floats(n, 3)} for n in (2, 5, 9)))


def test_an_expand_that_needs_two_sizes_to_be_equal() -> None:
    text = "g (float[n, 3] x, float[m, 1] z) => (y) { s = Shape(z) y = Expand(x, s) }"
    check(text, {"x": floats(4, 3), "z": floats(4, 1)})
    prepared = onnx_backend.prepare(model_of(text), cores=1)
    with pytest.raises(InputError, match="mismatch"):
        prepared.run([floats(4, 3), floats(2, 1)])


def test_a_declared_size_is_checked_in_every_call() -> None:
    model = model_of("g (float[2, 6] x, int64[2] s) => (float[3, 4] y) { y = Reshape(x, s) }")
    graph = import_onnx(model)
    assert graph.outputs[0].shape == (3, 4)
    prepared = onnx_backend.prepare(model, cores=1)
    x = floats(2, 6)
    np.testing.assert_array_equal(prepared.run([x, ints(3, -1)])[0], x.reshape(3, 4))
    with pytest.raises(InputError, match="mismatch_at_y"):
        prepared.run([x, ints(4, 3)])


def test_axes_that_are_inputs_choose_among_what_the_result_allows() -> None:
    text = """g (float[3, 2, 2] x, int64[1] axes) => (float[3, 2] y) {
      y = ReduceMax<keepdims=0>(x, axes) }"""
    check(text, *({"x": floats(3, 2, 2), "axes": ints(axis)} for axis in (1, 2, -1, -2)))


def test_a_rank_that_only_the_data_tell_is_refused() -> None:
    model = model_of("g (float[3, 2] x, int64[k] axes) => (y) { y = Squeeze(x, axes) }")
    with pytest.raises(UnsupportedOperatorError, match="the rank of its result depends on data"):
        import_onnx(model)


def test_initializers_among_the_inputs_are_constants() -> None:
    text = """g (float[n, 4] x, float[4] w) => (float[n, 4] y)
      <float[4] w = {1.0, 2.0, 3.0, 4.0}> { y = Mul(x, w) }"""
    graph = import_onnx(model_of(text))
    assert [value.name for value in graph.inputs] == ["x"]


def test_dims_have_the_ranges_that_are_given() -> None:
    model = model_of("g (float[batch, width] x) => (y) { y = Relu(x) }")
    graph = import_onnx(model, {"batch": (2, 8), "width": 5})
    assert str(graph.inputs[0].shape) == "(batch, 5)"
    prepared = onnx_backend.prepare(model, dims={"batch": (2, 8), "width": 5}, cores=1)
    x = floats(3, 5)
    np.testing.assert_array_equal(prepared.run([x])[0], expected(model, {"x": x})[0])
    with pytest.raises(InputError, match="batch = 9"):
        prepared.run([floats(9, 5)])
