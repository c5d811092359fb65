"""Nested inputs and outputs: PyTorch's pytrees as the manifest's trees, with named leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils import _pytree as pytree

Tree = dict[str, Any]
Leaf = Callable[[str], Tree]
"""From the dotted path of a leaf to its tree; called in the order of the leaves."""


def build(spec: Any, path: str, leaf: Leaf) -> Tree:
    """The manifest tree of a pytree specification."""
    if spec.is_leaf():
        return leaf(path)
    named = list(zip(_keys(spec), spec.children(), strict=True))
    prefix = f"{path}." if path else ""
    trees = [(key, build(child, f"{prefix}{key}", leaf)) for key, child in named]
    if spec.type is list:
        return {"list": [tree for _, tree in trees]}
    if spec.type is tuple or all(isinstance(key, int) for key, _ in trees):
        return {"tuple": [tree for _, tree in trees]}
    return {"dict": {str(key): tree for key, tree in trees}}


def build_outputs(spec: Any, leaf: Leaf) -> Tree:
    """As `build`, with `output` or `output_<i>` as names where the structure gives none."""
    if spec.is_leaf():
        return leaf("output")
    if all(isinstance(key, int) for key in _keys(spec)):
        trees = [build(child, f"output_{i}", leaf) for i, child in enumerate(spec.children())]
        return {"list" if spec.type is list else "tuple": trees}
    return build(spec, "", leaf)


def build_parameters(spec: Any, names: Sequence[str], leaf: Leaf) -> Tree:
    """`{"parameters": [[name, tree], ...]}` of a call: positional arguments, then named ones."""
    arguments, keywords = spec.children()
    children = [*arguments.children(), *keywords.children()]
    trees = [[name, build(child, name, leaf)] for name, child in zip(names, children, strict=True)]
    return {"parameters": trees}


def parameter_names(spec: Any, positional: Sequence[str] | None) -> list[str]:
    """A name for every argument of a call, in the order of the pytree."""
    arguments, keywords = spec.children()
    count = arguments.num_children
    known = list(positional or ())[:count]
    known += [f"input_{i}" for i in range(len(known), count)]
    return [*known, *map(str, _keys(keywords))]


def _keys(spec: Any) -> list[str | int]:
    """Keys of the children: strings of dicts, dataclasses and named tuples; else positions."""
    if spec.type in (tuple, list):
        return list(range(spec.num_children))
    if spec.type is dict:
        return [str(key) for key in spec.context]
    described = pytree.SUPPORTED_NODES[spec.type].flatten_with_keys_fn
    if described is None:
        return list(range(spec.num_children))
    empty = pytree.tree_unflatten([None] * spec.num_leaves, spec)
    return [_plain(key) for key, _ in described(empty)[0]]


def _plain(key: Any) -> str | int:
    if isinstance(key, pytree.SequenceKey):
        return int(key.idx)
    return str(key.name if isinstance(key, pytree.GetAttrKey) else key.key)
