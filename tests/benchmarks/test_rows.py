"""The rows name models of the zoo with all their sizes, each once."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.rows import QUICK, ROWS, select
from tests import zoo


def test_rows_size_every_symbol_of_their_model() -> None:
    for row in ROWS:
        symbols = {symbol.name: symbol for symbol in zoo.model(row.model).symbols}
        assert set(row.sizes) == set(symbols)
        assert all(
            symbols[name].low <= size <= symbols[name].high for name, size in row.sizes.items()
        )


def test_labels_are_unique_and_models_stand_together() -> None:
    labels = [row.label for row in ROWS]
    assert len(set(labels)) == len(labels)
    models = [row.model for row in ROWS]
    changes = sum(a != b for a, b in pairwise(models))
    assert changes == len(set(models)) - 1


def test_select_keeps_what_is_named() -> None:
    assert [row.sizes["batch"] for row in select(ROWS, ["mnist_cnn"], [])] == [1, 64, 512]
    assert {row.sizes["batch"] for row in select(ROWS, [], [8])} == {8}
    assert select(QUICK, [], []) == list(QUICK)
    with pytest.raises(ValueError, match="no row has the model"):
        select(ROWS, ["alexnet"], [])
    with pytest.raises(ValueError, match="no row has the batch"):
        select(ROWS, [], [7])
