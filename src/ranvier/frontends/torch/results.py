"""Results of FX nodes: which are read, what they are called, whether sizes agree."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Node as FxNode

from ranvier.frontends.torch.call import Refusal
from ranvier.frontends.torch.dtypes import from_torch
from ranvier.frontends.torch.symbols import Symbols
from ranvier.ir.dim import Dim, Symbol, evaluate, symbols
from ranvier.ir.graph import Node, TensorType, Value


def used_results(node: FxNode) -> frozenset[int]:
    """Positions of a tuple's results that are read."""
    if all(user.target is operator.getitem for user in node.users):
        return frozenset(int(user.args[1]) for user in node.users if user.users)  # type: ignore[arg-type]
    return frozenset({0})


def result_names(node: FxNode, returned: Any) -> dict[Value, str]:
    """The FX names of results: the node's, or those of the `getitem` nodes that read a tuple."""
    if isinstance(returned, Value):
        return {returned: node.name}
    names: dict[Value, str] = {}
    for user in node.users:
        if user.target is operator.getitem and returned is not None:
            value = returned[user.args[1]]
            if isinstance(value, Value):
                names.setdefault(value, user.name)
    return names


def rename(nodes: list[Node], start: int, names: Mapping[Value, str], returned: Any) -> Any:
    """Gives results of the nodes from `start` on their FX names; other values keep theirs."""
    renamed: dict[Value, Value] = {}
    for i in range(start, len(nodes)):
        node = nodes[i]
        results = tuple(
            replace(value, name=names[value]) if value in names else value for value in node.results
        )
        renamed |= dict(zip(node.results, results, strict=True))
        operands = tuple(renamed.get(value, value) for value in node.operands)
        nodes[i] = replace(node, operands=operands, results=results)
    if returned is None or isinstance(returned, Value):
        return renamed.get(returned, returned) if returned is not None else None
    return tuple(renamed.get(value, value) for value in returned)


def same_sizes(found: tuple[Dim, ...], expected: tuple[Dim, ...]) -> bool:
    """Whether dims are equal, or have equal values at a few sizes within their ranges."""
    if found == expected:
        return True
    if len(found) != len(expected):
        return False
    known: dict[str, Symbol] = {}
    for size in (*found, *expected):
        known |= symbols(size)
    return all(
        evaluate(a, sample) == evaluate(b, sample)
        for sample in _samples(known.values())
        for a, b in zip(found, expected, strict=True)
    )


def _samples(known: Iterable[Symbol]) -> Iterator[dict[str, int]]:
    """A few assignments within the symbols' ranges, the smallest first."""
    entries = list(known)
    for offset in (0, 1, 6, 97):
        yield {s.name: _within(s, offset * (i + 1)) for i, s in enumerate(entries)}


def _within(known: Symbol, offset: int) -> int:
    value = known.minimum + offset
    return min(value, known.maximum) if isinstance(known.maximum, int) else value


def reads_dense(node: FxNode) -> bool:
    """Whether the first tensor that a node reads is the whole of its memory, in order."""
    tensors = (n.meta.get("val") for n in node.all_input_nodes)
    first = next((t for t in tensors if isinstance(t, torch.Tensor)), None)
    if first is None or first.layout != torch.strided or not isinstance(first.numel(), int):
        return False
    whole = first.untyped_storage().nbytes() == first.numel() * first.element_size()
    return first.is_contiguous() and first.storage_offset() == 0 and whole


def stand_in(node: FxNode, known: Symbols) -> Any:
    """Values for an unsupported node, so that all others are still looked at."""

    def value(found: Any) -> Any:
        if isinstance(found, (tuple, list)):
            return tuple(map(value, found))
        dtype = from_torch(found.dtype) if isinstance(found, torch.Tensor) else None
        if dtype is None:
            return None
        try:
            shape = tuple(known.dim(size) for size in found.shape)
        except Refusal:
            return None
        return Value(node.name, TensorType(dtype, shape))

    return value(node.meta.get("val"))
