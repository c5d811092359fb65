"""Scales and shifts move into contractions."""

from __future__ import annotations

from collections.abc import Callable

from ranvier.passes import FoldBatchNorm
from tests.passes.text import apply, body, nodes

CONSTANTS = """
    %w: f32[2, 1, 1, 1] = constant() {value=tensor[1.0, 2.0]}
    %v: f32[1, 2, 1, 1] = constant() {value=tensor[3.0, 5.0]}
    %s: f32[2] = constant() {value=tensor[2.0, 4.0]}
    %b: f32[2] = constant() {value=tensor[10.0, 20.0]}
    %m: f32[2] = constant() {value=tensor[1.0, 1.0]}
    %var: f32[2] = constant() {value=tensor[4.0, 16.0]}
    %c: f32[2, 1, 1] = constant() {value=tensor[7.0, 9.0]}
"""
PLAIN = "strides=(1, 1), padding=((0, 0), (0, 0)), dilations=(1, 1), groups=1"
PADDED = "strides=(1, 1), padding=((1, 1), (1, 1)), dilations=(1, 1), groups=1"


def test_norm_after_convolution(golden: Callable[[str], None]) -> None:
    text = body(f"""input %x: f32[n, 1, 3, 3]{CONSTANTS}
        %conv: f32[n, 2, 3, 3] = conv(%x, %w) {{{PLAIN}}} @ "model.py:1"
        %y: f32[n, 2, 3, 3] = batch_norm(%conv, %s, %b, %m, %var) {{epsilon=0.0}} @ "model.py:2"
    """)
    golden(apply(text, FoldBatchNorm()))


def test_norm_before_convolution(golden: Callable[[str], None]) -> None:
    text = body(f"""input %x: f32[n, 2, 3, 3]{CONSTANTS}
        %norm: f32[n, 2, 3, 3] = batch_norm(%x, %s, %b, %m, %var) {{epsilon=0.0}}
        %y: f32[n, 1, 3, 3] = conv(%norm, %v) {{{PLAIN}}}
    """)
    golden(apply(text, FoldBatchNorm()))


def test_norm_before_padded_convolution_is_a_product_and_a_sum() -> None:
    text = body(f"""input %x: f32[n, 2, 3, 3]{CONSTANTS}
        %norm: f32[n, 2, 3, 3] = batch_norm(%x, %s, %b, %m, %var) {{epsilon=0.0}}
        %y: f32[n, 1, 5, 5] = conv(%norm, %v) {{{PADDED}}}
    """)
    assert nodes(apply(text, FoldBatchNorm())) == ["mul", "add", "conv"]


def test_arithmetic_per_channel_after_convolution() -> None:
    text = body(f"""input %x: f32[n, 1, 3, 3]{CONSTANTS}
        %conv: f32[n, 2, 3, 3] = conv(%x, %w) {{{PLAIN}}}
        %a: f32[n, 2, 3, 3] = sub(%conv, %c)
        %d: f32[n, 2, 3, 3] = div(%a, %c)
        %y: f32[n, 2, 3, 3] = mul(%c, %d)
    """)
    assert nodes(apply(text, FoldBatchNorm())) == ["conv"]


def test_convolution_with_two_readers_is_kept() -> None:
    text = body(f"""input %x: f32[n, 1, 3, 3]{CONSTANTS}
        %conv: f32[n, 2, 3, 3] = conv(%x, %w) {{{PLAIN}}}
        %a: f32[n, 2, 3, 3] = mul(%conv, %c)
        %y: f32[n, 2, 3, 3] = add(%conv, %a)
    """)
    assert nodes(apply(text, FoldBatchNorm())) == ["conv", "mul", "add"]


def test_products_around_matmul(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n, 2]
        %w: f32[2, 2] = constant() {value=tensor[1.0, 2.0, 3.0, 4.0]}
        %rows: f32[2] = constant() {value=tensor[10.0, 100.0]}
        %columns: f32[1, 2] = constant() {value=tensor[2.0, 3.0]}
        %a: f32[n, 2] = mul(%x, %rows)
        %b: f32[n, 2] = matmul(%a, %w)
        %y: f32[n, 2] = mul(%b, %columns)
    """)
    golden(apply(text, FoldBatchNorm()))
