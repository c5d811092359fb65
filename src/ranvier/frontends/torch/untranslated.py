"""Why operators have no translation, where there is more to say than that."""

from __future__ import annotations

_RANDOM = "draws random numbers: pass them to forward as an input"
_GRADIENT = "computes a gradient, as in training: compile the forward pass alone"
_DATA_DEPENDENT = "gives a number of elements that depends on data"
_STATISTICS = "writes running statistics, as in training: call model.eval() first"
_IN_PLACE = "changes the size of a tensor in place"
_OUT = "writes its result into an argument: call the form without out="

_BY_REASON: dict[str, tuple[str, ...]] = {
    _RANDOM: (
        "bernoulli.p", "multinomial.default", "normal.Tensor_Tensor", "normal.Tensor_float",
        "normal.float_Tensor", "normal.float_float", "normal_functional.default",
        "poisson.default", "rand.default", "rand_like.default", "randint.default", "randint.low",
        "randint_like.default", "randint_like.low_dtype", "randn.default", "randn_like.default",
        "randperm.default", "rrelu_with_noise_functional.default",
    ),
    _GRADIENT: (
        "_adaptive_avg_pool2d_backward.default", "avg_pool2d_backward.default",
        "convolution_backward.default", "max_pool2d_with_indices_backward.default",
    ),
    _DATA_DEPENDENT: ("unique_dim.default",),
    _STATISTICS: ("_native_batch_norm_legit.default",),
    _IN_PLACE: ("resize_.default",),
    _OUT: ("atan2.out",),
}  # fmt: skip

REASONS: dict[str, str] = {
    f"aten.{name}": reason for reason, names in _BY_REASON.items() for name in names
}
"""Overload -> reason; what is in neither this nor the table of translations is just unknown."""
