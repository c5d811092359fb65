"""Canonicalize, text in and text out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ranvier.passes import Canonicalize, FoldConstants
from tests.passes.text import apply, body, nodes

IDENTITIES = {
    "add_zero": """%c: f32[] = constant() {value=tensor[0.0]}
        %y: f32[n, 4] = add(%x, %c)""",
    "mul_full_of_ones": """%c: f32[n, 4] = full() {shape=(<n>, 4), value=1.0, dtype=f32}
        %y: f32[n, 4] = mul(%c, %x)""",
    "reshape_back": """%a: f32[4*n] = reshape(%x) {shape=(<4*n>,)}
        %y: f32[n, 4] = reshape(%a) {shape=(<n>, 4)}""",
    "transpose_back": """%a: f32[4, n] = transpose(%x) {permutation=(1, 0)}
        %y: f32[n, 4] = transpose(%a) {permutation=(1, 0)}""",
    "slice_of_everything": """
        %y: f32[n, 4] = slice(%x) {starts=(0, 0), stops=(<n>, 4), steps=(1, 1)}""",
    "cast_there_and_back": """%a: f64[n, 4] = cast(%x) {dtype=f64}
        %y: f32[n, 4] = cast(%a) {dtype=f32}""",
    "pad_by_nothing": """%y: f32[n, 4] = pad(%x) {low=(0, 0), high=(0, 0), mode="edge", value=0}""",
    "concat_of_one": "%y: f32[n, 4] = concat(%x) {axis=1}",
    "neg_twice": """%a: f32[n, 4] = neg(%x)
        %y: f32[n, 4] = neg(%a)""",
    "where_always": """%c: bool[4] = constant() {value=tensor[true, true, true, true]}
        %a: f32[n, 4] = exp(%x)
        %y: f32[n, 4] = where(%c, %x, %a)""",
    "roll_by_nothing": "%y: f32[n, 4] = roll(%x) {shifts=(0,), axes=(1,)}",
}


@pytest.mark.parametrize("lines", IDENTITIES.values(), ids=IDENTITIES)
def test_identities_vanish(lines: str) -> None:
    assert nodes(apply(body(f"input %x: f32[n, 4]\n{lines}"), Canonicalize())) == []


KEPT = {
    "add_zero_that_broadcasts": """%c: f32[3, 1] = constant() {value=tensor[0.0, 0.0, 0.0]}
        %y: f32[3, 4] = add(%x, %c)""",
    "cast_that_loses": """%a: bf16[1, 4] = cast(%x) {dtype=bf16}
        %y: f32[1, 4] = cast(%a) {dtype=f32}""",
    "contradicting_bounds": """%a: f32[1, 4] = clamp(%x) {min=2.0, max=none}
        %y: f32[1, 4] = clamp(%a) {min=none, max=1.0}""",
    "crop_after_pad": """
        %a: f32[1, 6] = pad(%x) {low=(0, 1), high=(0, 1), mode="constant", value=0.0}
        %y: f32[1, 4] = pad(%a) {low=(0, -1), high=(0, -1), mode="constant", value=0.0}""",
}


@pytest.mark.parametrize("lines", KEPT.values(), ids=KEPT)
def test_lookalikes_stay(lines: str) -> None:
    before = body(f"input %x: f32[1, 4]\n{lines}")
    assert nodes(apply(before, Canonicalize())) == nodes(apply(before))


ACTIVATIONS = {
    "hard_sigmoid": """%three: f32[] = constant() {value=tensor[3.0]}
        %six: f32[] = constant() {value=tensor[6.0]}
        %a: f32[n, 4] = add(%three, %x)
        %b: f32[n, 4] = relu(%a)
        %c: f32[n, 4] = minimum(%b, %six)
        %y: f32[n, 4] = div(%c, %six)""",
    "hard_swish": """%three: f32[] = constant() {value=tensor[3.0]}
        %sixth: f32[] = constant() {value=tensor[0.16666667]}
        %a: f32[n, 4] = add(%x, %three)
        %b: f32[n, 4] = clamp(%a) {min=0.0, max=6.0}
        %c: f32[n, 4] = mul(%b, %x)
        %y: f32[n, 4] = mul(%c, %sixth)""",
    "silu": """%a: f32[n, 4] = sigmoid(%x)
        %y: f32[n, 4] = mul(%a, %x)""",
    "gelu": """%half: f32[] = constant() {value=tensor[0.5]}
        %three: f32[] = constant() {value=tensor[3.0]}
        %k: f32[] = constant() {value=tensor[0.044715]}
        %s: f32[] = constant() {value=tensor[0.7978846]}
        %one: f32[] = constant() {value=tensor[1.0]}
        %h: f32[n, 4] = mul(%x, %half)
        %p: f32[n, 4] = pow(%x, %three)
        %q: f32[n, 4] = mul(%p, %k)
        %r: f32[n, 4] = add(%x, %q)
        %t: f32[n, 4] = mul(%r, %s)
        %u: f32[n, 4] = tanh(%t)
        %v: f32[n, 4] = add(%u, %one)
        %y: f32[n, 4] = mul(%h, %v)""",
    "relu": """%zero: f32[] = constant() {value=tensor[0.0]}
        %y: f32[n, 4] = maximum(%x, %zero)""",
}


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activations_are_named(op: str) -> None:
    after = apply(body(f"input %x: f32[n, 4]\n{ACTIVATIONS[op]}"), Canonicalize())
    assert nodes(after) == [op]
    assert f"%y: f32[n, 4] = {op}(%x)" in after


def test_views_compose(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n, 4, 6]
        %a: f32[n, 6, 4] = transpose(%x) {permutation=(0, 2, 1)} @ "model.py:1"
        %b: f32[6, n, 4] = transpose(%a) {permutation=(1, 0, 2)} @ "model.py:2"
        %c: f32[6, n, 3] = slice(%b) {starts=(0, 0, 1), stops=(6, <n>, 4), steps=(1, 1, 1)}
        %d: f32[3, n, 3] = slice(%c) {starts=(1, 0, 0), stops=(6, <n>, 3), steps=(2, 1, 1)}
        %e: f32[3, 3*n] = reshape(%d) {shape=(3, <3*n>)}
        %y: f32[9*n] = reshape(%e) {shape=(<9*n>,)} @ "model.py:6"
    """)
    golden(apply(text, Canonicalize()))


def test_rows_of_products_keep_their_dims(golden: Callable[[str], None]) -> None:
    """A linear layer as `addmm` computes it, behind attention with heads, and what follows it."""
    text = body("""input %x: f32[n, 5, 2, 3]
        input %w: f32[6, 8]
        input %bias: f32[8]
        %rows: f32[5*n, 6] = reshape(%x) {shape=(<5*n>, 6)}
        %product: f32[5*n, 8] = matmul(%rows, %w) @ "model.py:1"
        %sum: f32[5*n, 8] = add(%product, %bias)
        %back: f32[n, 5, 8] = reshape(%sum) {shape=(<n>, 5, 8)}
        %y: f32[n, 5, 8] = gelu(%back) {approximate="none"}
    """)
    golden(apply(text, Canonicalize()))


ROWS_KEPT = {
    "two readers": """%b: f32[n, 2, 4] = reshape(%p) {shape=(<n>, 2, 4)}
        %c: f32[2*n, 4] = exp(%p)
        %d: f32[n, 2, 4] = reshape(%c) {shape=(<n>, 2, 4)}
        %y: f32[n, 2, 4] = add(%b, %d)""",
    "other columns": "%y: f32[n, 8] = reshape(%p) {shape=(<n>, 8)}",
}


@pytest.mark.parametrize("lines", ROWS_KEPT.values(), ids=ROWS_KEPT)
def test_rows_stay_flat(lines: str) -> None:
    text = body(f"""input %x: f32[n, 2, 3]
        input %w: f32[3, 4]
        %rows: f32[2*n, 3] = reshape(%x) {{shape=(<2*n>, 3)}}
        %p: f32[2*n, 4] = matmul(%rows, %w)
        {lines}""")
    after = apply(text, Canonicalize())
    assert "matmul(%rows, %w)" in after


def test_numbers_become_scalars_and_broadcasts_go(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n, 2, 3]
        %c: f32[2, 1] = constant() {value=tensor[0.5, 0.5]}
        %d: f32[3] = constant() {value=tensor[1.0, 2.0, 3.0]}
        %wide: f32[n, 2, 3] = broadcast(%d) {shape=(<n>, 2, 3)}
        %a: f32[n, 2, 3] = mul(%x, %c)
        %y: f32[n, 2, 3] = add(%a, %wide)
    """)
    golden(apply(text, Canonicalize()))


def test_padding_moves_into_the_convolution(golden: Callable[[str], None]) -> None:
    pad = 'low=(0, 0, 0, 1), high=(0, 0, 1, 1), mode="constant", value=0'
    conv = "strides=(2, 2), padding=((0, 0), (0, 0)), dilations=(1, 1), groups=1"
    text = body(f"""input %x: f32[n, 1, 5, 5]
        %w: f32[1, 1, 2, 2] = constant() {{value=tensor[1.0, 2.0, 3.0, 4.0]}}
        %p: f32[n, 1, 6, 7] = pad(%x) {{{pad}}}
        %y: f32[n, 1, 3, 3] = conv(%p, %w) {{{conv}}}
    """)
    golden(apply(text, Canonicalize()))


def test_equal_nodes_merge_and_dead_ones_go(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n]
        %a: f32[n] = exp(%x)
        %b: f32[n] = exp(%x)
        %dead: f32[n] = log(%x)
        %y: f32[n] = add(%a, %b)
    """)
    golden(apply(text, Canonicalize()))


def test_gather_of_one_position_is_a_slice(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n, 5, 2]
        %i: i64[] = constant() {value=tensor[-1]}
        %y: f32[n, 2] = gather(%x, %i) {axis=1}
    """)
    golden(apply(text, Canonicalize()))


def test_constants_fold(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n, 2]
        %w: f32[2, 3] = constant() {value=tensor[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
        %t: f32[3, 2] = transpose(%w) {permutation=(1, 0)}
        %i: f32[3] = iota() {size=3, dtype=f32}
        %c: f32[3, 1] = reshape(%i) {shape=(3, 1)}
        %u: f32[3, 2] = mul(%t, %c)
        %v: f32[2, 3] = transpose(%u) {permutation=(1, 0)}
        %y: f32[n, 3] = matmul(%x, %v)
    """)
    golden(apply(text, FoldConstants()))


def test_large_results_are_not_folded() -> None:
    text = body("""%c: f32[] = constant() {value=tensor[2.5]}
        %a: f32[1000, 1000] = broadcast(%c) {shape=(1000, 1000)}
        %y: f32[1000, 1000] = exp(%a)
    """)
    assert nodes(apply(text, FoldConstants())) == ["broadcast", "exp"]


def test_a_lone_row_stays_a_matrix() -> None:
    """A product has no operand of rank 1."""
    text = body("""input %x: f32[3]
        input %w: f32[3, 4]
        %row: f32[1, 3] = reshape(%x) {shape=(1, 3)}
        %p: f32[1, 4] = matmul(%row, %w)
        %y: f32[4] = reshape(%p) {shape=(4,)}""")
    assert "matmul(%row, %w)" in apply(text, Canonicalize())
