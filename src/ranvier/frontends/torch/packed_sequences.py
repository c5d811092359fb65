"""Packed sequences in models that torch.export traces.

PyTorch packs sequences of different lengths by native code that has no rule for shapes, so
torch.export stops at `pack_padded_sequence`. While a model is traced, packing and unpacking are
written in ordinary operators, and recurrent modules that get a packed sequence call operators of
padded sequences and lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ranvier.frontends.torch.whole_recurrences import KINDS, LIBRARY, result_shapes, results_of

_NATIVE: Any = torch._C._VariableFunctions
_MODULES: tuple[type[nn.RNNBase], ...] = (nn.LSTM, nn.GRU, nn.RNN)
_OPTIONS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, "
    "bool bidirectional"
)


def _name(kind: str) -> str:
    return f"{kind}_of_lengths"


def _shapes(input: Tensor, lengths: Tensor, hx: Any, *options: Any) -> tuple[Tensor, ...]:
    return result_shapes(input, hx, *options, False)


def _native(kind: str) -> Callable[..., Any]:
    """What the operator computes, by PyTorch's packing."""

    def run(input: Tensor, lengths: Tensor, hx: Any, *options: Any) -> tuple[Tensor, ...]:
        data, sizes = _NATIVE._pack_padded_sequence(input, lengths, False)
        output, *states = getattr(_NATIVE, kind)(data, sizes, hx, *options)
        padded, _ = _NATIVE._pad_packed_sequence(output, sizes, False, 0.0, input.shape[0])
        return (padded, *states)

    return run


for _kind, _states in KINDS.items():
    _operands = f"Tensor input, Tensor lengths, {_states}, {_OPTIONS}"
    LIBRARY.define(f"{_name(_kind)}({_operands}) -> {results_of(_kind)}")
    torch.library.impl(f"ranvier::{_name(_kind)}", "default", lib=LIBRARY)(_native(_kind))
    torch.library.register_fake(f"ranvier::{_name(_kind)}", _shapes, lib=LIBRARY)


@dataclass
class _Packing:
    """Lengths, longest first, and the mask `[time, batch]` of what lies within them."""

    lengths: Tensor
    mask: Tensor


@dataclass
class _Traced:
    """What is known of tensors that packing made, by the tensor's identity."""

    packings: dict[int, _Packing] = field(default_factory=dict)
    padded: dict[int, Tensor] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)

    def pack(self, input: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        """As `_pack_padded_sequence`: elements of all sequences at time 0, then at time 1, ..."""
        input = input.transpose(0, 1) if batch_first else input
        longest = input.shape[0]
        mask = torch.arange(longest)[:, None] < lengths[None, :]
        most = lengths.max().item()
        torch._check(most >= 0)  # type: ignore[no-untyped-call]
        torch._check(most <= longest)  # type: ignore[no-untyped-call]
        sizes = mask.sum(1)[:most]
        packing = _Packing(lengths, mask)
        self.packings[id(sizes)] = packing
        self.alive.append(sizes)
        return self.packed(input, packing), sizes

    def packed(self, padded: Tensor, packing: _Packing) -> Tensor:
        """The data of a packed sequence."""
        data = padded[packing.mask]
        self.padded[id(data)] = padded
        self.alive.append(data)
        return data

    def unpacked(self, data: Tensor, packing: _Packing) -> Tensor:
        """`[time, batch, ...]`; what lies behind the end of a sequence is arbitrary."""
        if id(data) in self.padded:
            return self.padded[id(data)]
        order = packing.mask.flatten().cumsum(0) - 1
        return data[order.clamp(min=0).reshape(packing.mask.shape)]

    def pad(
        self, data: Tensor, sizes: Tensor, batch_first: bool, value: float, length: Any = -1
    ) -> tuple[Tensor, Tensor]:
        """As `_pad_packed_sequence`."""
        packing = self.packings.get(id(sizes))
        if packing is None:
            result: tuple[Tensor, Tensor] = _NATIVE._pad_packed_sequence(
                data, sizes, batch_first, value, length
            )
            return result
        padded = self.unpacked(data, packing)
        inside = packing.mask.reshape(*packing.mask.shape, *(1,) * (padded.dim() - 2))
        padded = torch.where(inside, padded, value)
        more = padded.new_full((length, *padded.shape[1:]), value)
        padded = torch.cat([padded, more])[:length]
        return padded.transpose(0, 1) if batch_first else padded, packing.lengths

    def forward(self, module: nn.RNNBase, sequence: PackedSequence, hx: Any) -> Any:
        """A recurrent module's result for a sequence that was packed while tracing."""
        packing = self.packings[id(sequence.batch_sizes)]
        padded = self.unpacked(sequence.data, packing)
        states = _first_states(module, padded) if hx is None else hx
        if hx is not None and sequence.sorted_indices is not None:
            states = module.permute_hidden(hx, sequence.sorted_indices)
        kind = module.mode.lower()
        output, *last = getattr(torch.ops.ranvier, _name(kind))(
            padded, packing.lengths, states, module._flat_weights, module.bias, module.num_layers,
            module.dropout, module.training, module.bidirectional,
        )  # fmt: skip
        result = PackedSequence(
            self.packed(output, packing),
            sequence.batch_sizes,
            sequence.sorted_indices,
            sequence.unsorted_indices,
        )
        hidden: Any = tuple(last) if kind == "lstm" else last[0]
        if sequence.unsorted_indices is not None:
            hidden = module.permute_hidden(hidden, sequence.unsorted_indices)
        return result, hidden


def _first_states(module: nn.RNNBase, padded: Tensor) -> Any:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    batch = padded.shape[1]
    hidden = padded.new_zeros(rows, batch, module.proj_size or module.hidden_size)
    if module.mode != "LSTM":
        return hidden
    return hidden, padded.new_zeros(rows, batch, module.hidden_size)


@contextmanager
def traced_packing() -> Iterator[None]:
    """Packing, unpacking and recurrent modules can be traced inside."""
    traced, functions = _Traced(), torch._VF
    replaced: dict[str, Any] = {
        "_pack_padded_sequence": traced.pack,
        "_pad_packed_sequence": traced.pad,
    }
    forwards = {module: module.forward for module in _MODULES}
    for name, function in replaced.items():
        setattr(functions, name, function)
    for module, original in forwards.items():
        module.forward = _forward(traced, original)
    try:
        yield
    finally:
        for name in replaced:
            delattr(functions, name)
        for module, original in forwards.items():
            module.forward = original


def _forward(traced: _Traced, original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: nn.RNNBase, input: Any, hx: Any = None) -> Any:
        is_traced = isinstance(input, PackedSequence) and id(input.batch_sizes) in traced.packings
        drops = self.training and self.dropout > 0 and self.num_layers > 1
        if not is_traced or drops:
            return original(self, input, hx)
        return traced.forward(self, input, hx)

    return forward
