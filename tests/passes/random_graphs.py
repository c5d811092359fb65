"""Random small graphs for property tests of passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from ranvier.ir.dim import symbol
from ranvier.ir.dtype import F32
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value

N = symbol("n", 1, 64)
Draw = Callable[..., object]
NUMBERS = (0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 6.0, 1 / 6, 0.3)
UNARY = ("neg", "abs", "relu", "sigmoid", "silu", "tanh", "hard_sigmoid", "softplus", "floor")
BINARY = ("add", "sub", "mul", "maximum", "minimum")


class Maker:
    """Grows a graph over one value `[n, c, h, w]`; every step reads and returns a value."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.b = GraphBuilder("random")
        self.random = np.random.default_rng(self.integer(0, 1 << 16))
        self.earlier: list[Value] = []

    def integer(self, low: int, high: int) -> int:
        """A drawn int."""
        return int(str(self.draw(st.integers(low, high))))

    def choose(self, options: tuple[str, ...]) -> str:
        """A drawn option."""
        return str(self.draw(st.sampled_from(options)))

    def number(self) -> float:
        """A drawn number that rules look for."""
        return NUMBERS[self.integer(0, len(NUMBERS) - 1)]

    def array(self, *shape: int) -> npt.NDArray[np.float32]:
        """Random numbers."""
        return self.random.standard_normal(shape).astype(np.float32)

    def constant(self, *shape: int) -> Value:
        """A constant of random numbers."""
        return self.b.constant(self.array(*shape))

    def channels(self, x: Value) -> int:
        """Size of dim 1."""
        assert isinstance(x.shape[1], int)
        return x.shape[1]

    def step(self, x: Value) -> Value:
        """One of the steps below."""
        step = getattr(self, self.choose(STEPS))
        result: Value = step(x)
        if result.rank == 4:
            self.earlier.append(result)
        return result

    def unary(self, x: Value) -> Value:
        """An operator of one operand."""
        return self.b.add(self.choose(UNARY), x)

    def with_number(self, x: Value) -> Value:
        """Arithmetic with a number, as a scalar, as a full constant or broadcast."""
        number = np.float32(self.number())
        shape = ((), (1,), (self.channels(x), 1, 1))[self.integer(0, 2)]
        constant = self.b.constant(np.full(shape, number))
        if self.integer(0, 3) == 0:
            constant = self.b.add("broadcast", constant, shape=x.shape)
        op = self.choose(BINARY)
        operands = (x, constant) if self.integer(0, 1) or op == "sub" else (constant, x)
        return self.b.add(op, *operands)

    def divided(self, x: Value) -> Value:
        """A division by a number."""
        return self.b.add("div", x, self.b.constant(np.full((), self.number() or 4.0, np.float32)))

    def clamped(self, x: Value) -> Value:
        """Bounds, often those of relu6."""
        bounds = ((0.0, 6.0), (0.0, None), (None, 6.0), (-1.0, 2.0))[self.integer(0, 3)]
        return self.b.add("clamp", x, min=bounds[0], max=bounds[1])

    def per_channel(self, x: Value) -> Value:
        """Arithmetic with one number per channel."""
        constant = self.constant(self.channels(x), 1, 1)
        return self.b.add(self.choose(("add", "sub", "mul")), x, constant)

    def with_earlier(self, x: Value) -> Value:
        """Arithmetic with an earlier value of the same shape."""
        same = [value for value in self.earlier if value.type == x.type] or [x]
        return self.b.add(self.choose(BINARY), x, same[self.integer(0, len(same) - 1)])

    def spelled_out(self, x: Value) -> Value:
        """An activation written with simpler operators."""
        number = {
            k: self.b.constant(np.full((), k, np.float32)) for k in (0.5, 1.0, 3.0, 6.0, 2**0.5)
        }
        kind = self.integer(0, 3)
        if kind == 0:
            return self.b.add("mul", self.b.add("sigmoid", x), x)
        if kind == 1:
            tail = self.b.add("erf", self.b.add("div", x, number[2**0.5]))
            body = self.b.add("add", tail, number[1.0])
            return self.b.add("mul", self.b.add("mul", x, number[0.5]), body)
        inner = self.b.add("clamp", self.b.add("add", x, number[3.0]), min=0.0, max=6.0)
        if kind == 2:
            return self.b.add("div", inner, number[6.0])
        return self.b.add("div", self.b.add("mul", x, inner), number[6.0])

    def conv(self, x: Value) -> Value:
        """A convolution, perhaps grouped, strided and padded."""
        channels = self.channels(x)
        groups = channels if self.integer(0, 2) == 0 else 1
        out = channels * self.integer(1, 2) if groups > 1 else self.integer(1, 5)
        kernel = (1, 3)[self.integer(0, 1)]
        operands = [x, self.constant(out, channels // groups, kernel, kernel)]
        if self.integer(0, 1):
            operands.append(self.constant(out))
        edge = kernel // 2 if self.integer(0, 1) or self.small(x) else 0
        return self.b.add(
            "conv",
            *operands,
            strides=(1, 1),
            padding=((edge, edge), (edge, edge)),
            dilations=(1, 1),
            groups=groups,
        )

    def small(self, x: Value) -> bool:
        """Whether spatial dims should not shrink any more."""
        return any(isinstance(dim, int) and dim < 4 for dim in x.shape[2:])

    def batch_norm(self, x: Value) -> Value:
        """A batch norm with constant statistics."""
        channels = self.channels(x)
        scale, bias, mean = (self.constant(channels) for _ in range(3))
        variance = self.b.constant(np.abs(self.array(channels)) + np.float32(0.1))
        return self.b.add("batch_norm", x, scale, bias, mean, variance, epsilon=1e-5)

    def group_norm(self, x: Value) -> Value:
        """A group norm with one group or as many as channels."""
        channels = self.channels(x)
        parameters = [self.constant(channels) for _ in range(self.integer(0, 2))]
        groups = (1, channels)[self.integer(0, 1)]
        return self.b.add("group_norm", x, *parameters, groups=groups, epsilon=1e-5)

    def there_and_back(self, x: Value) -> Value:
        """Views whose composition may be nothing."""
        if self.integer(0, 1):
            order = [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2)][self.integer(0, 2)]
            back = tuple(int(i) for i in np.argsort(order))
            y = self.b.add("transpose", x, permutation=order)
            return self.b.add("transpose", y, permutation=back)
        n, c, h, w = x.shape
        y = self.b.add("reshape", x, shape=(n, c, h * w))
        return self.b.add("reshape", y, shape=(n, c, 1, h * w))

    def sliced(self, x: Value) -> Value:
        """A slice of the channels, perhaps of everything, perhaps sliced again."""
        for _ in range(self.integer(1, 2)):
            channels = self.channels(x)
            start = self.integer(0, channels - 1)
            zeros, ones = (0, start, 0, 0), (1, self.integer(1, 2), 1, 1)
            x = self.b.add("slice", x, starts=zeros, stops=x.shape, steps=ones)
        return x

    def padded(self, x: Value) -> Value:
        """Zero padding."""
        edge = self.integer(0, 1)
        both = (0, 0, edge, edge)
        return self.b.add("pad", x, low=both, high=both, mode="constant", value=0.0)

    def joined(self, x: Value) -> Value:
        """A concat with itself, or of one operand."""
        return self.b.add("concat", *([x] * self.integer(1, 2)), axis=1)

    def pooled(self, x: Value) -> Value:
        """An adaptive average, a mean that keeps dims, or a variance."""
        kind = self.integer(0, 2)
        if kind == 0:
            return self.b.add("adaptive_avg_pool", x, output_size=(1, 1))
        if kind == 1:
            return self.b.add("reduce_mean", x, axes=(2, 3), keepdims=True)
        return self.b.add("reduce_variance", x, axes=(1, 2), keepdims=True, correction=0)

    def projected(self, x: Value) -> Value:
        """A matmul over the last dim, perhaps scaled before or after."""
        width = x.shape[-1]
        assert isinstance(width, int)
        if self.integer(0, 1):
            x = self.b.add("mul", x, self.constant(width))
        y = self.b.add("matmul", x, self.constant(width, 3))
        return self.b.add("mul", y, self.constant(3)) if self.integer(0, 1) else y

    def normalised(self, x: Value) -> Value:
        """softmax, log_softmax or layer_norm over the last dim."""
        kind = self.choose(("softmax", "log_softmax", "layer_norm"))
        if kind == "layer_norm":
            return self.b.add(kind, x, axis=3, epsilon=1e-5)
        return self.b.add(kind, x, axis=3)


STEPS = tuple(
    name
    for name in vars(Maker)
    if not name.startswith("_")
    and name
    not in ("integer", "choose", "number", "array", "constant", "channels", "step", "small")
)


@st.composite
def graphs(draw: Draw) -> Graph:
    """A graph of up to eight steps over an input `[n, 1..4, 5, 6]`, with one or two outputs."""
    maker = Maker(draw)
    x = maker.b.input("x", TensorType(F32, (N, maker.integer(1, 4), 5, 6)))
    maker.earlier.append(x)
    outputs = [x]
    for _ in range(maker.integer(1, 8)):
        outputs.append(maker.step(outputs[-1]))
    kept = [outputs[-1], outputs[maker.integer(0, len(outputs) - 1)]][: maker.integer(1, 2)]
    return maker.b.finish(kept, [f"out_{i}" for i in range(len(kept))])
