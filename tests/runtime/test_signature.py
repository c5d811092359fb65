from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.artifact.format import Manifest, Symbol, TensorSpec, Tree
from ranvier.errors import ArtifactError, InputError
from ranvier.runtime.signature import Signature, describe

LEAVES = (Tree("leaf", 0), Tree("leaf", 1))
MANIFEST = Manifest(
    name="m",
    precision="f32",
    symbols=(Symbol("n", 0, 8), Symbol("s", 1, 9)),
    inputs=(
        TensorSpec("x", "f32", ("n", ("+", ("*", 2, "s"), "n"))),
        TensorSpec("ids", "i64", (("//", "s", 2), 3)),
    ),
    outputs=(TensorSpec("y", "f32", ("n",)), TensorSpec("z", "f32", ("n",))),
    input_tree=Tree("dict", (("x", LEAVES[0]), ("ids", LEAVES[1]), ("mask", Tree("none")))),
    output_tree=Tree("dict", (("a", Tree("tuple", LEAVES)), ("b", Tree("list", (Tree("none"),))))),
)
NESTED = replace(
    MANIFEST,
    input_tree=Tree(
        "tuple",
        (
            Tree("dict", (("p", LEAVES[0]), ("q", Tree("list", (LEAVES[1],))))),
            Tree("constant", 2),
        ),
    ),
)


def test_by_position_and_by_name() -> None:
    signature = Signature(MANIFEST)
    for args, kwargs in [
        ((1, 2), {}),
        ((1,), {"ids": 2}),
        ((), {"ids": 2, "x": 1}),
        ((1, 2, None), {}),
    ]:
        assert signature.bind(args, kwargs) == [1, 2]
    assert signature.bind_names({"ids": 2, "x": 1}) == [1, 2]
    assert not signature.flat


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, 2, None, 4), {}, "4 positional arguments, the model takes 3"),
        ((1,), {}, "'ids' is missing"),
        ((1, 2), {"ids": 2}, "given twice"),
        ((1, 2), {"extra": 2}, r"no argument 'extra'; the model takes x: f32\[n, \(2\*s\)\+n\]"),
        ((1, 2, 3), {}, "mask: the model was compiled with None here, got 3"),
    ],
)
def test_wrong_arguments(args: tuple[object, ...], kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Signature(MANIFEST).bind(args, kwargs)


def test_wrong_names() -> None:
    with pytest.raises(InputError, match="missing: ids; unknown: idx"):
        Signature(MANIFEST).bind_names({"x": 1, "idx": 2})


def test_nested_arguments() -> None:
    signature = Signature(NESTED)
    assert signature.bind(({"q": [5], "p": 4}, 2), {}) == [4, 5]
    assert signature.bind(({"q": (5,), "p": 4},), {}) == [4, 5]
    for argument, message in [
        (7, "argument_0: expected a dict with the keys p, q, got 7"),
        ({"p": 1}, "got a dict with the keys p"),
        ({"p": 1, "q": []}, r"argument_0\['q'\]: expected a list of 1, got a list of 0"),
    ]:
        with pytest.raises(InputError, match=message):
            signature.bind((argument, 2), {})
    with pytest.raises(InputError, match="compiled with 2 here, got 3"):
        signature.bind(({"p": 1, "q": [1]}, 3), {})


def test_nested_results() -> None:
    y, z = np.zeros(1), np.ones(1)
    assert Signature(MANIFEST).nest([y, z]) == {"a": (y, z), "b": [None]}


@given(st.integers(0, 8), st.integers(1, 9))
def test_symbols_are_solved(n: int, s: int) -> None:
    shapes = ((n, 2 * s + n), (s // 2, 3))
    assert Signature(MANIFEST).solve(shapes) == {"n": n, "s": s}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2,), (1, 3)), r"input 'x' has shape \(2,\); expected x: f32"),
        (((9, 13), (1, 3)), "makes n = 9; the model was compiled for 0 to 8"),
        (((2, 2), (0, 3)), "makes s = 0; the model was compiled for 1 to 9"),
        (((2, 7), (1, 3)), r"axis 1 must be \(2\*s\)\+n for a whole number s"),
        (((2, 6), (2, 3)), r"input 'ids' has shape \(2, 3\): axis 0 must be 1 \(s//2 with s=2\)"),
        (((2, 6), (1, 4)), r"axis 1 must be 3; expected ids: i64\[s//2, 3\]"),
    ],
)
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Signature(MANIFEST).solve(shapes)


@pytest.mark.parametrize("dim", [("//", "s", 2), ("*", "s", "s"), ("min", "s", 4), 3])
def test_a_symbol_that_no_shape_determines(dim: object) -> None:
    inputs = (TensorSpec("x", "f32", ("n", dim)),)  # type: ignore[arg-type]
    tree = Tree("tuple", LEAVES[:1])
    with pytest.raises(ArtifactError, match="determines s"):
        Signature(replace(MANIFEST, inputs=inputs, input_tree=tree))


def test_describe() -> None:
    assert describe(MANIFEST.inputs[1]) == "ids: i64[s//2, 3]"
