"""Operators that are refused on principle, with the reason."""

from __future__ import annotations

from ranvier.frontends.onnx.registry import ML, TRAINING

_TEXT = "works on strings, which have no native form"
_RANDOM = "draws random numbers; a compiled model gives the same result for the same inputs"

REASONS = {
    **{
        ("", name): reason
        for reason, names in {
            _TEXT: ("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch"),
            _RANDOM: (
                "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
                "RandomUniformLike",
            ),
            "decodes image files; give the model the decoded image": ("ImageDecoder",),
        }.items()
        for name in names
    },
    (TRAINING, "Gradient"): "differentiates a part of the model, which is for training",
    **{
        (ML, name): "works on maps, which have no native form"
        for name in ("CastMap", "DictVectorizer", "ZipMap")
    },
}  # fmt: skip
"""(domain, operator) -> why there is no translation and none is planned."""
