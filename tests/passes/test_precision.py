"""Where bf16 is stored, and where f32 stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ranvier.errors import CompileError
from ranvier.ir.parser import parse
from ranvier.passes import Precision
from tests.passes.text import apply, body, nodes

CONV = "strides=(1, 1), padding=((0, 0), (0, 0)), dilations=(1, 1), groups=1"


def test_convolution_block(golden: Callable[[str], None]) -> None:
    text = body(f"""input %x: f32[n, 1, 3, 3]
        %half: f32[] = constant() {{value=tensor[0.5]}}
        %w: f32[2, 1, 1, 1] = constant() {{value=tensor[1.1, 2.2]}}
        %b: f32[2] = constant() {{value=tensor[0.1, 0.2]}}
        %v: f32[2, 2, 1, 1] = constant() {{value=tensor[1.0, 2.0, 3.0, 4.0]}}
        %scaled: f32[n, 1, 3, 3] = mul(%x, %half)
        %c: f32[n, 2, 3, 3] = conv(%scaled, %w, %b) {{{CONV}}} @ "model.py:1"
        %r: f32[n, 2, 3, 3] = relu(%c)
        %d: f32[n, 2, 3, 3] = conv(%r, %v) {{{CONV}}}
        %s: f32[n, 2, 3, 3] = add(%d, %r)
        %y: f32[n, 2] = reduce_mean(%s) {{axes=(2, 3), keepdims=false}}
    """)
    golden(apply(text, Precision("bf16")))


def test_transformer_block(golden: Callable[[str], None]) -> None:
    text = body("""input %ids: i64[n]
        %table: f32[3, 2] = constant() {value=tensor[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
        %scale: f32[2] = constant() {value=tensor[1.0, 1.5]}
        %w: f32[2, 2] = constant() {value=tensor[1.0, 2.0, 3.0, 4.0]}
        %e: f32[n, 2] = gather(%table, %ids) {axis=0}
        %norm: f32[n, 2] = layer_norm(%e, %scale) {axis=1, epsilon=0.00001}
        %q: f32[n, 2] = matmul(%norm, %w)
        %t: f32[2, n] = transpose(%q) {permutation=(1, 0)}
        %p: f32[n, n] = matmul(%q, %t)
        %soft: f32[n, n] = softmax(%p) {axis=1}
        %o: f32[n, 2] = matmul(%soft, %q)
        %sum: f32[n, 2] = add(%e, %o)
        %g: f32[n, 2] = gelu(%sum) {approximate="none"}
        %y: f32[n, 2] = matmul(%g, %w)
    """)
    golden(apply(text, Precision("bf16")))


def test_positions_stay_exact() -> None:
    """The angles of a rotary embedding: an outer product of frequencies and positions."""
    text = body("""%f: f32[2, 1] = constant() {value=tensor[1.0, 0.01]}
        %i: i64[n] = iota() {size=<n>, dtype=i64}
        %p: f32[n] = cast(%i) {dtype=f32}
        %r: f32[1, n] = reshape(%p) {shape=(1, <n>)}
        %a: f32[2, n] = matmul(%f, %r)
        %y: f32[2, n] = cos(%a)
    """)
    assert "bf16" not in apply(text, Precision("bf16"))


def test_large_offsets_survive_being_put_in_order() -> None:
    """Boxes of different classes are moved apart, sorted, and compared with each other."""
    text = body("""input %x: f32[n, 2]
        input %order: i64[n]
        %w: f32[2, 4] = constant() {value=tensor[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}
        %far: f32[] = constant() {value=tensor[40960.0]}
        %boxes: f32[n, 4] = matmul(%x, %w)
        %apart: f32[n, 4] = add(%boxes, %far)
        %sorted: f32[n, 4] = gather(%apart, %order) {axis=0}
        %y: f32[n] = reduce_max(%sorted) {axes=(1,), keepdims=false}
    """)
    found = {str(node.result.dtype) for node in parse(apply(text, Precision("bf16"))).nodes
             if node.op in ("add", "gather", "reduce_max")}  # fmt: skip
    assert found == {"f32"}


def test_integers_and_f64_are_untouched() -> None:
    text = body("""input %x: f64[n, 2]
        %w: f64[2, 2] = constant() {value=tensor[1.0, 2.0, 3.0, 4.0]}
        %y: f64[n, 2] = matmul(%x, %w)
    """)
    assert "bf16" not in apply(text, Precision("bf16"))


def test_last_softmax_stays_f32() -> None:
    text = body("""input %x: f32[n, 2]
        %w: f32[2, 2] = constant() {value=tensor[1.0, 2.0, 3.0, 4.0]}
        %a: f32[n, 2] = matmul(%x, %w)
        %y: f32[n, 2] = softmax(%a) {axis=1}
    """)
    after = apply(text, Precision("bf16"))
    assert nodes(after) == ["cast", "matmul", "cast", "softmax"]
    assert "%y: f32[n, 2] = softmax" in after


def test_f32_changes_nothing() -> None:
    graph = parse(body("input %x: f32[n]\n%y: f32[n] = exp(%x)"))
    assert Precision("f32")(graph) is graph


def test_unknown_precision() -> None:
    graph = parse(body("input %x: f32[n]\n%y: f32[n] = exp(%x)"))
    with pytest.raises(CompileError, match="fp8"):
        Precision("fp8")(graph)
