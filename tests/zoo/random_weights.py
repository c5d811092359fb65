"""Seeded weights for untrained models that exercise a compiler: nothing is left at 0 or 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_MEAN_RECIPROCAL = 1.0986
"""The mean of `1 / u` for `u` uniform in [0.5, 1.5]: keeps the power of a layer's output at 1."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the body with PyTorch's generator seeded, and restore the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_seeded(
    make: Callable[[], nn.Module], calibration: tuple[Any, ...] = (), seed: int = 0
) -> nn.Module:
    """Build a module in eval mode whose every parameter and statistic has a seeded value.

    `calibration` is one batch of inputs; batch-norm statistics are measured on it and shifted at
    random, so that activations neither vanish nor grow with depth and folding is really tested.
    """
    with seeded(seed), torch.no_grad():
        model = make().eval()
        for name, parameter in model.named_parameters():
            _perturb_constant(name, parameter)
        _randomize_batch_norms(model, calibration)
    return model


def _perturb_constant(name: str, parameter: torch.Tensor) -> None:
    """Replace a parameter left constant by its initialiser (bias 0, scale 1, layer scale 1e-6)."""
    first = parameter.flatten()[0]
    if not bool((parameter == first).all()):
        return
    if float(first) == 1.0:
        parameter.normal_(1.0, 0.1)
    elif float(first) == 0.0:
        parameter.normal_(0.0, 0.05)
    else:
        parameter.uniform_(0.1, 0.5)


def _randomize_batch_norms(model: nn.Module, calibration: tuple[Any, ...]) -> None:
    """Set the statistics of every batch norm, in the order of execution, in one forward pass."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_set_statistics) for norm in norms]
    if norms:
        model(*calibration)
    for hook in hooks:
        hook.remove()


def _set_statistics(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Scale by the second moment of the input, and shift by a tenth of it at random.

    The mean itself is kept: a deep random network whose means are removed layer by layer amplifies
    rounding errors, which trained networks do not.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    power = inputs[0].square().mean()
    mean.normal_(0.0, 1.0).mul_(0.1 * power.sqrt())
    variance.uniform_(0.5, 1.5).mul_(power * _MEAN_RECIPROCAL)
