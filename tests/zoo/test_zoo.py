"""The zoo itself: seeded, finite, and telling two inputs apart."""

from __future__ import annotations

import pytest

from tests import zoo

pytestmark = pytest.mark.needs("torch")
_SMALL = ("mnist_cnn", "mobilenet_v2", "efficientnet_lite0", "craft", "minilm")


def test_names_are_unique_and_resolvable() -> None:
    assert [zoo.model(name).name for name in zoo.names()] == list(zoo.names())
    with pytest.raises(KeyError, match="known: mnist_cnn"):
        zoo.model("no_such_model")


@pytest.mark.parametrize("name", _SMALL)
def test_outputs_are_finite_repeatable_and_depend_on_the_input(name: str) -> None:
    import torch

    entry = zoo.model(name)
    sizes = entry.check_sizes[-1]
    with torch.no_grad():
        first = entry.build()(*entry.inputs(sizes))
        second = entry.build()(*entry.inputs(sizes))
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)
    assert (first[0] - first[1]).abs().max() > 1e-2 * first.abs().max()


@pytest.mark.parametrize("name", zoo.names())
def test_every_symbol_is_used_and_sized(name: str) -> None:
    entry = zoo.model(name)
    symbols = {symbol.name for symbol in entry.symbols}
    assert symbols == {name for axes in entry.axes for name in axes.values()}
    for sizes in (entry.example_sizes, *entry.check_sizes):
        assert set(sizes) == symbols
    assert len(entry.dynamic_shapes()) == len(entry.axes)


@pytest.mark.needs("transformers")
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_decode_loop_generates_what_the_library_generates(name: str) -> None:
    import torch

    from tests.zoo.translation import LONGEST

    entry = zoo.model(name)
    module = entry.build()
    lengths = set()
    for sizes in entry.check_sizes:
        ids, mask = entry.inputs(sizes)
        options = {"do_sample": False, "num_beams": 1, "max_new_tokens": LONGEST}
        with torch.no_grad():
            found = module(ids, mask)
            wanted = module.model.generate(input_ids=ids, attention_mask=mask, **options)
        assert torch.equal(found, wanted)
        lengths.add(found.shape[1])
    assert len(lengths) > 1  # some sentences end before the limit
