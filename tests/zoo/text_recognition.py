"""PARSeq, the reader of words in pictures, as docTR has it."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.entry import Sizes
from tests.zoo.images import image_batch
from tests.zoo.random_weights import build_seeded
from tests.zoo.torchvision_import import define_detection_operators


def build_parseq(characters: int) -> nn.Module:
    """docTR's PARSeq in its exportable form, decode loop included, seeded weights.

    Words have up to `characters` characters; the package's own choice is 32.
    """
    define_detection_operators()
    from doctr.models.recognition.parseq.pytorch import parseq

    return build_seeded(lambda: parseq(pretrained=False, exportable=True, max_length=characters))


def word_images(sizes: Sizes) -> torch.Tensor:
    """A seeded batch `[batch, 3, 32, 128]`."""
    return image_batch({"batch": sizes["batch"], "height": 32, "width": 128})
