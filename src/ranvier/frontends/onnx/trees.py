"""Ensembles of decision trees: every row walks down all trees at once, level by level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.dtypes import to_array
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import ML, onnx_operator
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Value

_RELATIONS = ("less_equal", "less", "greater_equal", "greater", "equal", "not_equal")
_MEMBER = 6
_AGGREGATES = ("average", "sum", "min", "max")
_NONE, _SOFTMAX, _LOGISTIC = 0, 1, 2


@dataclass
class _Table:
    """All nodes of all trees; a leaf is its own successor."""

    feature: list[int] = field(default_factory=list)
    split: list[float] = field(default_factory=list)
    relation: list[int] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    target: list[int] = field(default_factory=list)

    def leaf(self, weight: float, target: int) -> int:
        """Add a leaf."""
        place = self._add(0, 0.0, 0, False, weight, target)
        self.yes[place] = self.no[place] = place
        return place

    def branch(self, feature: int, split: float, relation: int, missing: bool) -> int:
        """Add a node whose successors are still to be set."""
        return self._add(feature, split, relation, missing, 0.0, 0)

    def _add(
        self, feature: int, split: float, relation: int, missing: bool, weight: float, target: int
    ) -> int:
        self.feature.append(feature)
        self.split.append(split)
        self.relation.append(relation)
        self.missing.append(missing)
        self.weight.append(weight)
        self.target.append(target)
        self.yes.append(0)
        self.no.append(0)
        return len(self.feature) - 1

    def depth(self, roots: Sequence[int]) -> int:
        """The longest way down from a root; Refusal for a way that comes back."""
        level, depth = set(roots), 0
        while True:
            level = {n for p in level if self.yes[p] != p for n in (self.yes[p], self.no[p])}
            if not level:
                return depth
            depth += 1
            if depth > len(self.feature):
                raise Refusal("has a tree with a cycle")


@onnx_operator("TreeEnsemble", domain=ML, since=5)
def tree_ensemble(
    call: Call, x: Value, *, aggregate_function: int = 1, leaf_targetids: tuple[int, ...],
    leaf_weights: TensorProto, membership_values: TensorProto | None = None, n_targets: int = 1,
    nodes_falseleafs: tuple[int, ...], nodes_falsenodeids: tuple[int, ...],
    nodes_featureids: tuple[int, ...], nodes_hitrates: TensorProto | None = None,
    nodes_missing_value_tracks_true: tuple[int, ...] = (), nodes_modes: TensorProto,
    nodes_splits: TensorProto, nodes_trueleafs: tuple[int, ...],
    nodes_truenodeids: tuple[int, ...], post_transform: int = 0, tree_roots: tuple[int, ...],
) -> Value:  # fmt: skip
    """Sums (or means, extremes) of the leaves that every row reaches, per target."""
    table = _Table()
    modes = to_array(nodes_modes).tolist()
    splits, weights = to_array(nodes_splits).tolist(), to_array(leaf_weights).tolist()
    missing = nodes_missing_value_tracks_true or (0,) * len(modes)
    members = _members(modes, membership_values)

    def successor(node: int, is_leaf: int) -> int:
        if is_leaf:
            return table.leaf(weights[node], leaf_targetids[node])
        return grown(node)

    def grown(node: int) -> int:
        values = members[node] if modes[node] == _MEMBER else [splits[node]]
        relation = 4 if modes[node] == _MEMBER else modes[node]
        chain = [
            table.branch(nodes_featureids[node], value, relation, bool(missing[node]))
            for value in values
        ]
        yes = successor(nodes_truenodeids[node], nodes_trueleafs[node])
        no = successor(nodes_falsenodeids[node], nodes_falseleafs[node])
        for place, following in zip(chain, [*chain[1:], no], strict=True):
            table.yes[place], table.no[place] = yes, following
        return chain[0] if chain else no

    roots = []
    for root in tree_roots:
        only_leaf = (
            nodes_trueleafs[root]
            and nodes_falseleafs[root]
            and nodes_truenodeids[root] == nodes_falsenodeids[root]
        )
        roots.append(successor(nodes_truenodeids[root], 1) if only_leaf else grown(root))
    scores = _scores(call, x, table, roots, n_targets, _AGGREGATES[aggregate_function])
    return _transformed(call, scores, post_transform)


def _members(modes: Sequence[int], values: TensorProto | None) -> dict[int, list[float]]:
    """The set of every node that tests for membership; sets end with NaN."""
    given: Iterator[float] = iter(() if values is None else to_array(values).tolist())
    found: dict[int, list[float]] = {}
    for node, mode in enumerate(modes):
        if mode == _MEMBER:
            found[node] = []
            for value in given:
                if math.isnan(value):
                    break
                found[node].append(value)
    return found


def _scores(
    call: Call, x: Value, table: _Table, roots: Sequence[int], targets: int, aggregate: str
) -> Value:
    rows, trees = x.shape[0], len(roots)
    kind = x.dtype.storage
    place = call.broadcast(call.vector(list(roots)), (rows, trees))
    columns = {
        "feature": call.vector(table.feature), "yes": call.vector(table.yes),
        "no": call.vector(table.no), "split": call.constant(np.asarray(table.split, kind)),
        "missing": call.constant(np.asarray(table.missing, np.bool_)),
        "relation": call.vector(table.relation), "target": call.vector(table.target),
        "weight": call.constant(np.asarray(table.weight, kind)),
    }  # fmt: skip

    def at(name: str) -> Value:
        return call.emit("gather", columns[name], place, axis=0)

    used = sorted({table.relation[p] for p, yes in enumerate(table.yes) if yes != p})
    for _ in range(table.depth(roots)):
        seen = call.emit("gather_elements", x, at("feature"), axis=1)
        holds = _holds(call, seen, at("split"), at("relation"), used)
        if any(table.missing):
            absent = call.emit("logical_and", call.emit("is_nan", seen), at("missing"))
            holds = call.emit("logical_or", holds, absent)
        place = call.emit("where", holds, at("yes"), at("no"))
    weight = call.reshape(at("weight"), (rows, trees, 1))
    mine = call.emit(
        "equal", call.reshape(at("target"), (rows, trees, 1)), call.iota(targets, axis=2, rank=3)
    )
    if aggregate in ("sum", "average"):
        total = call.reduce("sum", call.where(mine, weight, 0.0), (1,))
        return total if aggregate == "sum" else call.number("div", total, trees)
    info = np.finfo(kind.name)
    worst = float(info.max if aggregate == "min" else info.min)
    return call.reduce(aggregate, call.where(mine, weight, worst), (1,))


def _holds(call: Call, x: Value, split: Value, relation: Value, used: Sequence[int]) -> Value:
    """Whether the test of every node holds; nodes may have different relations."""
    result = call.full((), False, BOOL)
    for i, kind in enumerate(used):
        found = call.emit(_RELATIONS[kind], x, split)
        is_kind = call.number("equal", call.cast(relation, I64), kind)
        result = found if i == 0 else call.emit("where", is_kind, found, result)
    return result


def _transformed(call: Call, scores: Value, transform: int) -> Value:
    if transform == _NONE:
        return scores
    if transform == _SOFTMAX:
        return call.emit("softmax", scores, axis=1)
    if transform == _LOGISTIC:
        return call.emit("sigmoid", scores)
    raise Refusal(f"has the post_transform {transform}")
