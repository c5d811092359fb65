"""Recurrent layers stay whole while torch.export traces a model.

PyTorch's own rule for the shapes of `aten.lstm.input` and its kin writes the sequence out step by
step, which fixes its length and the batch. While a model is traced, `nn.LSTM`, `nn.GRU` and
`nn.RNN` therefore call operators of the same signature that have a rule for any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

LIBRARY: Any = torch.library.Library("ranvier", "FRAGMENT")  # type: ignore[no-untyped-call]
_OPTIONS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, "
    "bool bidirectional, bool batch_first"
)
KINDS = {
    "lstm": "Tensor[] hx",
    "gru": "Tensor hx",
    "rnn_tanh": "Tensor hx",
    "rnn_relu": "Tensor hx",
}


def results_of(kind: str) -> str:
    """The results in the schema of a kind of layer."""
    return "(Tensor, Tensor, Tensor)" if kind == "lstm" else "(Tensor, Tensor)"


def result_shapes(input: Tensor, hx: Any, params: Any, *options: Any) -> tuple[Tensor, ...]:
    """Empty results: the hidden states of all steps, and the last states like the first ones."""
    bidirectional = options[-2]
    states = hx if isinstance(hx, (list, tuple)) else (hx,)
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    output = input.new_empty((*input.shape[:-1], width))
    return (output, *(torch.empty_like(state) for state in states))


for _kind, _states in KINDS.items():
    LIBRARY.define(f"{_kind}(Tensor input, {_states}, {_OPTIONS}) -> {results_of(_kind)}")
    torch.library.impl(f"ranvier::{_kind}", "default", lib=LIBRARY)(
        getattr(torch._C._VariableFunctions, _kind)
    )
    torch.library.register_fake(f"ranvier::{_kind}", result_shapes, lib=LIBRARY)

NAMES = {f"ranvier.{kind}.default": f"aten.{kind}.input" for kind in KINDS}
"""Our operator -> the one of PyTorch for which it stands."""


@contextmanager
def whole_recurrences() -> Iterator[None]:
    """Recurrent modules call our operators inside; packed sequences and training do as always."""
    functions: Any = torch._VF
    for kind in KINDS:
        setattr(functions, kind, _call(kind))
    try:
        yield
    finally:
        for kind in KINDS:
            delattr(functions, kind)


def _call(kind: str) -> Callable[..., Any]:
    original = getattr(torch._C._VariableFunctions, kind)
    ours = getattr(torch.ops.ranvier, kind)

    def call(*args: Any) -> Any:
        is_packed = not isinstance(args[3], bool)
        drops = not is_packed and args[5] > 0 and args[6]
        return original(*args) if is_packed or drops else ours(*args)

    return call
