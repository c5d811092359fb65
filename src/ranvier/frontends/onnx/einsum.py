"""Einsum: operands are multiplied two at a time, each time as a matrix product."""

from __future__ import annotations

import string
from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim, product
from ranvier.ir.graph import Value

_ELLIPSIS = "..."


@onnx_operator("Einsum")
def einsum(call: Call, *operands: Value, equation: str) -> Value:
    """Sums of products over the labels that the result has not."""
    terms, result = _labels(equation, [x.rank for x in operands])
    parts = [_without_repeats(call, x, term) for x, term in zip(operands, terms, strict=True)]
    total, labels = parts[0]
    for i, (operand, term) in enumerate(parts[1:], 2):
        later = set(result).union(*(other for _, other in parts[i:]))
        total, labels = _product(call, (total, labels), (operand, term), later)
    dropped = [i for i, label in enumerate(labels) if label not in result]
    total = call.reduce("sum", total, dropped)
    kept = [label for label in labels if label in result]
    return call.transpose(total, [kept.index(label) for label in result])


def _labels(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """One letter per dim of every operand, and of the result; the ellipsis becomes letters."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise Refusal(f"the equation {equation} has {len(terms)} terms, not {len(ranks)}")
    free = [c for c in string.ascii_letters if c not in equation]
    counts = [
        rank - len(term.replace(_ELLIPSIS, "")) if _ELLIPSIS in term else 0
        for term, rank in zip(terms, ranks, strict=True)
    ]
    most = max(counts, default=0)
    batch = "".join(free[:most])
    spelled = [
        term.replace(_ELLIPSIS, batch[most - count :])
        for term, count in zip(terms, counts, strict=True)
    ]
    for term, rank in zip(spelled, ranks, strict=True):
        if len(term) != rank:
            raise Refusal(f"the term {term} of the equation {equation} does not fit rank {rank}")
    if arrow:
        return spelled, right.replace(_ELLIPSIS, batch)
    once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
    return spelled, batch + "".join(once)


def _without_repeats(call: Call, x: Value, term: str) -> tuple[Value, str]:
    """Diagonals of the dims that share a label."""
    for label in term:
        while term.count(label) > 1:
            first, second = term.index(label), term.rindex(label)
            size = x.shape[first]
            row = call.iota(size, axis=first, rank=x.rank)
            column = call.iota(size, axis=second, rank=x.rank)
            kept = call.where(call.emit("equal", row, column), x, 0)
            x, term = call.reduce("sum", kept, (second,)), term[:second] + term[second + 1 :]
    return x, term


def _product(
    call: Call, left: tuple[Value, str], right: tuple[Value, str], later: set[str]
) -> tuple[Value, str]:
    """The product of two operands, summed over the labels that nothing reads later."""
    a, first = _summed(call, left, set(right[1]) | later)
    b, second = _summed(call, right, set(first) | later)
    both = [label for label in first if label in second]
    sizes = {label: a.shape[first.index(label)] for label in first}
    for label in second:
        size = b.shape[second.index(label)]
        sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    batch = [label for label in both if label in later]
    summed = [label for label in both if label not in later]
    rows = [label for label in first if label not in both]
    columns = [label for label in second if label not in both]
    x = _grouped(call, a, first, (batch, rows, summed), sizes)
    y = _grouped(call, b, second, (batch, summed, columns), sizes)
    labels = "".join(batch + rows + columns)
    found = call.emit("matmul", x, y)
    return call.reshape(found, tuple(sizes[label] for label in labels)), labels


def _summed(call: Call, operand: tuple[Value, str], needed: set[str]) -> tuple[Value, str]:
    x, term = operand
    dropped = [i for i, label in enumerate(term) if label not in needed]
    return call.reduce("sum", x, dropped), "".join(c for c in term if c in needed)


def _grouped(
    call: Call, x: Value, term: str, groups: Sequence[Sequence[str]], sizes: dict[str, Dim]
) -> Value:
    """Dims in the order of the groups, the labels of each group as one dim."""
    order = [label for group in groups for label in group]
    moved = call.transpose(x, [term.index(label) for label in order])
    spread = call.broadcast(moved, tuple(sizes[label] for label in order))
    return call.reshape(spread, tuple(product(sizes[label] for label in group) for group in groups))
