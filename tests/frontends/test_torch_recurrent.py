"""Recurrent layers against PyTorch, interpreted and compiled: loops, so the length may be any."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ranvier.errors import UnsupportedOperatorError
from ranvier.frontends.torch import import_torch
from ranvier.ir.graph import Graph
from tests.frontends.comparison import check
from tests.frontends.test_torch_operators import randn

BATCH, LENGTH = Dim("batch", min=1, max=8), Dim("length", min=1, max=64)

LAYERS: dict[str, Any] = {
    "lstm": lambda: nn.LSTM(3, 5),
    "lstm_two_ways": lambda: nn.LSTM(3, 5, 2, bidirectional=True, batch_first=True),
    "lstm_projected": lambda: nn.LSTM(3, 5, 2, proj_size=2),
    "lstm_no_bias": lambda: nn.LSTM(3, 5, bias=False),
    "gru": lambda: nn.GRU(3, 5, batch_first=True),
    "gru_two_ways": lambda: nn.GRU(3, 5, 2, bidirectional=True, dropout=0.3),
    "rnn": lambda: nn.RNN(3, 5, 2, bidirectional=True),
    "rnn_relu": lambda: nn.RNN(3, 5, nonlinearity="relu", bias=False),
    "wide": lambda: nn.LSTM(3, 37),
}
CELLS: dict[str, Any] = {
    "lstm": lambda: nn.LSTMCell(3, 5),
    "gru": lambda: nn.GRUCell(3, 5),
    "rnn": lambda: nn.RNNCell(3, 5, nonlinearity="relu"),
}


def _loops(graph: Graph) -> int:
    return sum(node.op == "loop" for node in graph.nodes)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    torch.manual_seed(3)
    layer = LAYERS[name]()
    graph = check(layer, randn(4, 6, 3))
    directions = 2 if layer.bidirectional else 1
    assert _loops(graph) == layer.num_layers * directions


@pytest.mark.parametrize("name", ["lstm_two_ways", "gru_two_ways", "rnn"])
def test_any_length_and_batch(name: str) -> None:
    torch.manual_seed(4)
    layer = LAYERS[name]()
    axes = {0: BATCH, 1: LENGTH} if layer.batch_first else {0: LENGTH, 1: BATCH}
    sizes = [(4, 6), (1, 1), (8, 40)] if layer.batch_first else [(6, 4), (1, 1), (40, 8)]
    first, *others = [(randn(*size, 3),) for size in sizes]
    check(layer, *first, dynamic=(axes,), others=others)


def test_given_states() -> None:
    torch.manual_seed(5)
    check(nn.LSTM(3, 5, 2), randn(4, 6, 3), (randn(2, 6, 5), randn(2, 6, 5)))
    check(nn.GRU(3, 5), randn(4, 6, 3), randn(1, 6, 5))


def test_without_a_batch() -> None:
    check(nn.LSTM(3, 5), randn(4, 3))


@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str) -> None:
    torch.manual_seed(6)
    check(CELLS[name](), randn(4, 3))


def test_a_tagger() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(50, 8)
            self.encoder = nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True)
            self.head = nn.Linear(12, 4)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            hidden, _ = self.encoder(self.embedding(words))
            return self.head(hidden).log_softmax(-1)

    torch.manual_seed(7)
    words = [(torch.randint(0, 50, size),) for size in ((2, 5), (1, 1), (3, 33))]
    graph = check(Tagger(), *words[0], dynamic=({0: BATCH, 1: LENGTH},), others=words[1:])
    assert str(graph.outputs[0].type) == "f32[batch, length, 4]"


class Packed(nn.Module):
    """A layer over sequences of different lengths."""

    def __init__(self, layer: Any, **options: Any) -> None:
        super().__init__()
        self.layer = layer
        self.options = options

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, self.layer.batch_first, enforce_sorted=False)
        output, states = self.layer(packed)
        return *pad_packed_sequence(output, self.layer.batch_first, **self.options), states


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "wide"])
def test_packed_sequences(name: str) -> None:
    torch.manual_seed(8)
    layer = LAYERS[name]()
    x = randn(6, 4, 3).transpose(0, 1) if layer.batch_first else randn(6, 4, 3)
    others = [(x, torch.tensor(each)) for each in ([6, 6, 6, 6], [1, 2, 1, 1])]
    check(Packed(layer), x, torch.tensor([3, 6, 1, 5]), others=others)


def test_packed_sequences_of_any_length_and_batch() -> None:
    torch.manual_seed(9)
    module = Packed(nn.LSTM(3, 5, bidirectional=True), padding_value=-1.0)
    others = [
        (randn(1, 1, 3), torch.tensor([1])),
        (randn(30, 7, 3), torch.tensor([7, 1, 2, 29, 3, 29, 4])),
    ]
    check(
        module,
        randn(6, 4, 3),
        torch.tensor([3, 6, 1, 5]),
        dynamic=({0: LENGTH, 1: BATCH}, {0: BATCH}),
        others=others,
    )


def test_packed_sequences_to_a_given_length() -> None:
    torch.manual_seed(10)
    module = Packed(nn.GRU(3, 5, batch_first=True), total_length=9)
    check(module, randn(4, 6, 3), torch.tensor([3, 6, 1, 5]), others=[
        (randn(4, 6, 3), torch.tensor([3, 2, 1, 2]))])  # fmt: skip


def test_what_is_done_with_packed_data() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LSTM(3, 5), nn.GRU(4, 2)
            self.between = nn.Linear(5, 4)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
            packed, _ = self.first(pack_padded_sequence(x, lengths))
            data = self.between(packed.data).relu()
            again = PackedSequence(data, packed.batch_sizes)
            output, last = self.second(again, torch.ones(1, 4, 2))
            return pad_packed_sequence(output)[0], last, data.mean(0), packed.batch_sizes

    torch.manual_seed(11)
    others = [(randn(6, 4, 3), torch.tensor([4, 4, 2, 1]))]
    check(Net(), randn(6, 4, 3), torch.tensor([6, 4, 3, 1]), others=others)


def test_training_with_dropout_is_refused() -> None:
    layer = nn.LSTM(3, 5, 2, dropout=0.5).train()
    with pytest.raises(UnsupportedOperatorError, match=r"eval\(\)"):
        import_torch(layer, (randn(4, 6, 3),))


def test_modules_are_as_they_were_after_tracing() -> None:
    layer = nn.LSTM(3, 5)
    before, forward = layer(randn(4, 6, 3))[0], nn.LSTM.forward
    import_torch(layer, (randn(4, 6, 3),))
    assert vars(torch._VF).keys().isdisjoint({"lstm", "_pack_padded_sequence"})
    assert nn.LSTM.forward is forward
    torch.testing.assert_close(layer(randn(4, 6, 3))[0], before)
