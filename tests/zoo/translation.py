"""Encoder-decoders of `transformers` with the greedy decode loop inside: T5 and BART, small.

The loop is `torch.while_loop`: it ends when every sentence has ended or the limit is reached, so
the number of passes of the decoder depends on data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.zoo.entry import Sizes
from tests.zoo.language import token_batch
from tests.zoo.random_weights import build_seeded

WORDS = 40
"""The vocabulary."""
LONGEST = 20
"""Tokens that are generated at most."""


class GreedyDecoding(nn.Module):
    """What `model.generate(ids, do_sample=False)` computes, as a loop inside the model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """`[batch, tokens]` ids and mask -> the generated ids `[batch, 1 + steps]`.

        The first id starts the sentence; a sentence that has ended is padded up to the longest.
        """
        config = self.model.config
        encoder = self.model.get_encoder()
        memory = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        batch = input_ids.shape[0]
        start = torch.full((batch, 1), config.decoder_start_token_id)
        ids = torch.cat([start, torch.full((batch, LONGEST), config.pad_token_id)], dim=1)
        ended = torch.zeros(batch, dtype=torch.bool)

        def goes_on(step: torch.Tensor, ids: torch.Tensor, ended: torch.Tensor) -> torch.Tensor:
            return (step < LONGEST) & ~ended.all()

        def advance(
            step: torch.Tensor, ids: torch.Tensor, ended: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            logits = self.model(
                encoder_outputs=(memory,),
                attention_mask=attention_mask,
                decoder_input_ids=ids[:, :-1],
                use_cache=False,
            ).logits
            best = logits.index_select(1, step.reshape(1)).squeeze(1).argmax(-1)
            best = torch.where(ended, config.pad_token_id, best)
            written = torch.arange(LONGEST + 1) == step + 1
            return (
                step + 1,
                torch.where(written, best.unsqueeze(1), ids),
                ended | (best == config.eos_token_id),
            )

        step = torch.zeros((), dtype=torch.int64)
        steps, ids, _ = torch.while_loop(goes_on, advance, (step, ids, ended))
        length = steps.item()
        torch._check(length >= 1)
        torch._check(length <= LONGEST)
        return ids[:, : length + 1]


def build_t5() -> nn.Module:
    """T5 with two layers on either side, seeded random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    def make() -> nn.Module:
        config = T5Config(
            vocab_size=WORDS,
            d_model=64,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            use_cache=False,
            decoder_start_token_id=0,
        )
        model = T5ForConditionalGeneration(config)
        model.lm_head = nn.Linear(config.d_model, WORDS, bias=False)  # with the embedding's weights
        nn.init.normal_(model.lm_head.weight)  # it would repeat its input
        return GreedyDecoding(model)

    return build_seeded(make, seed=2)  # some sentences end early


def build_bart() -> nn.Module:
    """BART with two layers on either side, seeded random weights."""
    from transformers import BartConfig, BartForConditionalGeneration

    def make() -> nn.Module:
        config = BartConfig(
            vocab_size=WORDS,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_position_embeddings=256,
            init_std=0.2,
            use_cache=False,
            tie_word_embeddings=False,
            forced_eos_token_id=None,
        )
        return GreedyDecoding(BartForConditionalGeneration(config))

    return build_seeded(make, seed=4)  # some sentences end early


def sentence_batch(sizes: Sizes) -> tuple[torch.Tensor, ...]:
    """Seeded ids and a mask `[batch, tokens]`."""
    return token_batch(sizes, WORDS)
