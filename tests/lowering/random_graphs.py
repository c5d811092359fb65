"""Random graphs for property tests of lowering: values of many shapes that are read several times.

Numbers of inputs and constants are multiples of 1/4, so sums and products of few of them are exact
in f32. What is discontinuous (comparisons, positions, rounding to 16 bits) is applied to exact
values only; then a difference between two right implementations stays a rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from ranvier.ir.dim import Dim, symbol
from ranvier.ir.dtype import BF16, BOOL, F16, F32, I64
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.operators import infer

Draw = Callable[..., Any]
N = symbol("n", 1, 64)
SIZES = (1, 2, 3, 4, 5, 7, 8, 17)
LARGE_SIZES = (1, 3, 8, 16, 33, 48)
MAXIMUM_ELEMENTS, LARGE_ELEMENTS = 4000, 40000  # from 16384 on threads share the work of a nest
EXACT_UNARY = ("neg", "abs", "relu", "sign", "floor", "trunc")
SMOOTH_UNARY = ("tanh", "sigmoid", "silu", "softplus", "erf", "gelu_tanh")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
REDUCTIONS = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min")


class Maker:
    """Grows a graph; every step reads values of the pool and may add one."""

    def __init__(self, draw: Draw, is_symbolic: bool, is_large: bool) -> None:
        self.draw = draw
        self.sizes = LARGE_SIZES if is_large else SIZES
        self.maximum = LARGE_ELEMENTS if is_large else MAXIMUM_ELEMENTS
        self.b = GraphBuilder("random")
        self.is_symbolic = is_symbolic
        self.random = np.random.default_rng(self.integer(0, 1 << 16))
        self.pool: list[Value] = []
        self.exact: set[Value] = set()

    # Draws ---------------------------------------------------------------------------------------
    def integer(self, low: int, high: int) -> int:
        """A drawn int."""
        return int(self.draw(st.integers(low, high)))

    def choose(self, options: Sequence[Any]) -> Any:
        """An option; the generator's own numbers even out that small ones are drawn more often."""
        shift = int(self.random.integers(len(options)))
        return options[(self.integer(0, len(options) - 1) + shift) % len(options)]

    def array(self, *shape: int) -> npt.NDArray[np.float32]:
        """Multiples of 1/4 between -2 and 2."""
        return (self.random.integers(-8, 9, shape) / 4).astype(np.float32)

    def constant(self, *shape: int) -> Value:
        """A constant of such numbers."""
        return self.keep(self.b.constant(self.array(*shape)), exact=True)

    def any(self, *ranks: int) -> Value:
        """A value of the pool, late ones more often; of one of the `ranks` if there is one."""
        fitting = [v for v in self.pool if not ranks or v.rank in ranks] or self.pool
        back = min(self.integer(1, len(fitting)), self.integer(1, len(fitting)))
        return fitting[-back]

    def any_exact(self) -> Value:
        """A value without rounding errors."""
        fitting = [v for v in self.pool if v in self.exact]
        return fitting[-self.integer(1, len(fitting))]

    # Building ------------------------------------------------------------------------------------
    def keep(self, value: Value, exact: bool) -> Value:
        """Note whether a value is exact."""
        if exact:
            self.exact.add(value)
        return value

    def view(self, op: str, *operands: Value, **attributes: Any) -> Value:
        """A node whose result is as exact as its operands."""
        result = self.b.add(op, *operands, **attributes)
        return self.keep(result, all(operand in self.exact for operand in operands))

    def inputs(self) -> None:
        """One to three inputs."""
        for index in range(self.integer(1, 3)):
            shape: list[Dim] = [self.choose(self.sizes) for _ in range(self.integer(1, 4))]
            if self.is_symbolic and (index == 0 or self.integer(0, 1)):
                shape[0] = N
            value = self.b.input(f"x{index}", TensorType(F32, tuple(shape)))
            self.pool.append(self.keep(value, exact=True))

    def grow(self) -> None:
        """Add the result of one step, unless it is empty or too large."""
        step = self.choose(STEPS)
        value = getattr(self, step)()
        if value is None:
            return
        if value.dtype is not F32:
            value = self.view("cast", value, dtype=F32)
        self.pool.append(value)

    def fits(self, shape: Sequence[Dim]) -> bool:
        """Whether a shape stays small."""
        return int(np.prod([s if isinstance(s, int) else 3 for s in shape])) <= self.maximum

    # Element-wise --------------------------------------------------------------------------------
    def unary(self) -> Value:
        """An operator of one operand."""
        op = self.choose(EXACT_UNARY + SMOOTH_UNARY)
        x = self.any_exact() if op in ("sign", "floor", "trunc") else self.any()
        if op == "gelu_tanh":
            return self.b.add("gelu", x, approximate="tanh")
        result = self.b.add(op, x)
        return self.keep(result, x in self.exact and op in EXACT_UNARY)

    def clamped(self) -> Value:
        """Bounds."""
        low, high = self.choose(((0.0, 6.0), (0.0, None), (None, 1.0), (-1.0, 2.0)))
        return self.view("clamp", self.any(), min=low, max=high)

    def binary(self) -> Value | None:
        """Arithmetic on two values that broadcast."""
        x = self.any()
        y = self.partner(x)
        x, y = (x, y) if self.integer(0, 1) else (y, x)
        shape = infer("add", (x, y), {})[0].shape
        if not self.fits(shape):
            return None
        op = self.choose(BINARY)
        both = x in self.exact and y in self.exact
        return self.keep(self.b.add(op, x, y), both and op != "mul")

    def partner(self, x: Value) -> Value:
        """A value that broadcasts with `x`: from the pool if there is one, or a constant."""
        fitting = [v for v in self.pool if self.broadcasts(v.shape, x.shape)]
        if self.integer(0, 3) and fitting:
            return fitting[-self.integer(1, len(fitting))]
        shape = [s if isinstance(s, int) and self.integer(0, 1) else 1 for s in x.shape]
        return self.constant(*shape[self.integer(0, len(shape)) :])

    @staticmethod
    def broadcasts(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
        """Whether NumPy would broadcast the shapes."""
        return all(p == q or 1 in (p, q) for p, q in zip(a[::-1], b[::-1], strict=False))

    def chosen(self) -> Value | None:
        """`where` on a comparison."""
        x = self.any()
        y = self.partner(x)
        a = self.any_exact()
        if not self.broadcasts(a.shape, infer("add", (x, y), {})[0].shape):
            return None
        condition = self.b.add(self.choose(("less", "greater_equal")), a, self.constant())
        if not self.fits(infer("where", (condition, x, y), {})[0].shape):
            return None
        exact = x in self.exact and y in self.exact
        return self.keep(self.b.add("where", condition, x, y), exact)

    def rounded(self) -> Value:
        """To another element type and back."""
        dtype = self.choose((F16, BF16, I64, BOOL))
        return self.view("cast", self.any_exact(), dtype=dtype)

    # Index maps ----------------------------------------------------------------------------------
    def reshaped(self) -> Value:
        """Merge, split or insert dims."""
        x = self.any()
        shape = list(x.shape)
        kind = self.integer(0, 3)
        axis = self.integer(0, x.rank - 1) if x.rank else 0
        if kind == 0 and x.rank > 1:
            axis = min(axis, x.rank - 2)
            shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        elif kind == 1 and x.rank and isinstance(shape[axis], int) and shape[axis] % 2 == 0:
            shape[axis : axis + 1] = [2, shape[axis] // 2]
        elif kind == 2 or x.rank > 4:
            product: Dim = 1
            for size in shape:
                product = product * size
            shape = [product]
        else:
            shape.insert(axis, 1)
        return self.view("reshape", x, shape=tuple(shape))

    def transposed(self) -> Value:
        """Any permutation."""
        x = self.any(2, 3, 4)
        order = self.draw(st.permutations(range(x.rank)))
        return self.view("transpose", x, permutation=tuple(order))

    def broadcasted(self) -> Value | None:
        """Dims of size 1 grow, and perhaps one more dim in front."""
        x = self.any()
        shape = [self.choose((3, 5)) if size == 1 else size for size in x.shape]
        if self.integer(0, 1):
            shape.insert(0, 2)
        return self.view("broadcast", x, shape=tuple(shape)) if self.fits(shape) else None

    def sliced(self) -> Value:
        """A slice, perhaps with steps."""
        x = self.any()
        starts, stops, steps = [], [], []
        for size in x.shape:
            start = self.integer(0, size - 1) if isinstance(size, int) and size > 0 else 0
            stop = self.integer(start + 1, size) if isinstance(size, int) and size > 0 else size
            starts.append(start)
            stops.append(stop)
            steps.append(self.integer(1, 2) if isinstance(size, int) else 1)
        return self.view("slice", x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))

    def moved(self) -> Value | None:
        """reverse or roll."""
        x = self.any(1, 2, 3, 4)
        if not x.rank:
            return None
        axis = self.integer(0, x.rank - 1)
        if self.integer(0, 1):
            return self.view("reverse", x, axes=(axis,))
        return self.view("roll", x, shifts=(self.integer(-3, 3),), axes=(axis,))

    def padded(self) -> Value | None:
        """Constant, reflected or repeated edges."""
        x = self.any()
        mode = self.choose(("constant", "constant", "reflect", "edge"))
        sizes = [size if isinstance(size, int) else 1 for size in x.shape]
        most = [min(2, s - 1) if mode == "reflect" else 2 for s in sizes]
        low = tuple(self.integer(0, m) for m in most)
        high = tuple(self.integer(0, m) for m in most)
        if mode == "constant":
            low = tuple(
                -1 if s > 3 and not self.integer(0, 3) else p
                for s, p in zip(sizes, low, strict=True)
            )
        shape = [s + a + b for s, a, b in zip(x.shape, low, high, strict=True)]
        if not self.fits(shape):
            return None
        value = self.choose((0.0, 1.0)) if mode == "constant" else 0
        return self.view("pad", x, low=low, high=high, mode=mode, value=value)

    def joined(self) -> Value | None:
        """A concatenation of values that fit, perhaps of one value twice."""
        x = self.any(1, 2, 3, 4)
        if not x.rank:
            return None
        axis = self.integer(0, x.rank - 1)
        rest = (*x.shape[:axis], *x.shape[axis + 1 :])
        fitting = [
            v
            for v in self.pool
            if v.rank == x.rank and (*v.shape[:axis], *v.shape[axis + 1 :]) == rest
        ]
        parts = [fitting[-self.integer(1, len(fitting))] for _ in range(self.integer(1, 3))]
        parts.insert(self.integer(0, len(parts)), x)
        shape = infer("concat", parts, {"axis": axis})[0].shape
        return self.view("concat", *parts, axis=axis) if self.fits(shape) else None

    def gathered(self) -> Value | None:
        """Known positions, or positions that an exact value gives."""
        x = self.any(1, 2, 3, 4)
        if not x.rank:
            return None
        axis = self.integer(0, x.rank - 1)
        size = x.shape[axis]
        if not isinstance(size, int):
            return None
        if self.integer(0, 1):
            indices = self.b.constant(self.random.integers(-size, size, 3))
        else:
            indices = self.b.add(
                "cast", self.b.add("clamp", self.any_exact(), min=0.0, max=size - 1.0), dtype=I64
            )
        shape = infer("gather", (x, indices), {"axis": axis})[0].shape
        if not self.fits(shape) or len(shape) > 5:
            return None
        return self.view("gather", x, indices, axis=axis)

    # Reductions ----------------------------------------------------------------------------------
    def reduced(self) -> Value | None:
        """A reduction over some dims."""
        x = self.any(1, 2, 3, 4)
        if not x.rank:
            return None
        axes = sorted({self.integer(0, x.rank - 1) for _ in range(2)})
        op, keepdims = self.choose(REDUCTIONS), bool(self.integer(0, 1))
        result = self.b.add(op, x, axes=tuple(axes), keepdims=keepdims)
        return self.keep(result, x in self.exact and op in ("reduce_max", "reduce_min"))

    def position(self) -> Value | None:
        """arg_max or arg_min."""
        x = self.any_exact()
        if not x.rank:
            return None
        op, axis = self.choose(("arg_max", "arg_min")), self.integer(0, x.rank - 1)
        return self.view(op, x, axis=axis, keepdims=bool(self.integer(0, 1)))

    def normalised(self) -> Value | None:
        """softmax, log_softmax, layer_norm or cumsum."""
        x = self.any(2, 3, 4)
        if not x.rank:
            return None
        op, axis = self.choose(("softmax", "log_softmax", "layer_norm", "cumsum")), x.rank - 1
        if op == "layer_norm":
            return self.b.add(op, x, axis=axis, epsilon=0.5)
        return self.b.add(op, x, axis=self.integer(0, x.rank - 1))

    # Contractions --------------------------------------------------------------------------------
    def product(self) -> Value | None:
        """A matmul with a constant or with another value."""
        x = self.any(2, 3, 4)
        if x.rank < 2:
            return None
        fitting = [
            v
            for v in self.pool
            if v.rank >= 2
            and v.shape[-2] == x.shape[-1]
            and self.broadcasts(v.shape[:-2], x.shape[:-2])
        ]
        if fitting and self.integer(0, 1):
            other = fitting[-self.integer(1, len(fitting))]
        elif isinstance(x.shape[-1], int):
            other = self.constant(x.shape[-1], self.choose(self.sizes))
        else:
            return None
        shape = infer("matmul", (x, other), {})[0].shape
        return self.b.add("matmul", x, other) if self.fits(shape) else None

    def convolved(self) -> Value | None:
        """A convolution or pooling."""
        x = self.any(3, 4)
        if x.rank not in (3, 4) or not isinstance(x.shape[1], int):
            return None
        spatial = x.rank - 2
        kernel = tuple(self.choose((1, 2, 3)) for _ in range(spatial))
        edges = tuple((k // 2, self.integer(k // 2, 2)) for k in kernel)
        if any(
            not isinstance(s, int) or s + 1 < k for s, k in zip(x.shape[2:], kernel, strict=True)
        ):
            return None
        strides = tuple(self.integer(1, 2) for _ in kernel)
        if self.integer(0, 2) == 0 and all(k > 1 for k in kernel):
            edges = tuple((min(a, 1), min(b, 1)) for a, b in edges)
            if self.integer(0, 1):
                return self.b.add(
                    "avg_pool", x, kernel=kernel, strides=strides, padding=edges,
                    ceil_mode=False, count_include_pad=bool(self.integer(0, 1)),
                )  # fmt: skip
            return self.view("max_pool", x, kernel=kernel, strides=strides, padding=edges,
                             ceil_mode=False, dilations=(1,) * spatial)  # fmt: skip
        channels = x.shape[1]
        groups = self.choose([g for g in (1, 2, channels) if channels % g == 0])
        out = groups * self.choose((1, 2, 3))
        operands = [x, self.constant(out, channels // groups, *kernel)]
        if self.integer(0, 1):
            operands.append(self.constant(out))
        result = self.b.add("conv", *operands, strides=strides, padding=edges,
                            dilations=(1,) * spatial, groups=groups)  # fmt: skip
        return result if self.fits(result.shape) else None

    def enlarged(self) -> Value | None:
        """A transposed convolution or a resize."""
        x = self.any(3, 4)
        if x.rank not in (3, 4) or not isinstance(x.shape[1], int):
            return None
        spatial = x.rank - 2
        if self.integer(0, 1):
            mode = self.choose(("nearest", "linear", "cubic"))
            size = tuple(self.choose((1, 3, 6)) for _ in range(spatial))
            if not self.fits((*x.shape[:2], *size)):
                return None
            result = self.b.add("resize", x, size=size, mode=mode, coordinates="half_pixel",
                                antialias=False)  # fmt: skip
            return self.keep(result, x in self.exact and mode == "nearest")
        groups = self.choose([g for g in (1, 2, 3) if x.shape[1] % g == 0])
        weights = self.constant(x.shape[1], self.integer(1, 3), *(3,) * spatial)
        result = self.b.add("conv_transpose", x, weights, strides=(2,) * spatial,
                            padding=((1, 0),) * spatial, dilations=(1,) * spatial,
                            output_padding=(1,) * spatial, groups=groups)  # fmt: skip
        return result if self.fits(result.shape) else None

    # Kernels with several results or writes ------------------------------------------------------
    def selected(self) -> Value | None:
        """Values or positions of a sort or of the largest elements."""
        x = self.any_exact()
        if not x.rank:
            return None
        axis, flag = self.integer(0, x.rank - 1), bool(self.integer(0, 1))
        if self.integer(0, 1):
            results = self.b.add_node("sort", [x], {"axis": axis, "descending": flag})
        else:
            results = self.b.add_node("top_k", [x], {"axis": axis, "k": 1, "largest": flag})
        values, positions = results
        chosen = self.choose((values, positions))
        return self.keep(chosen, exact=True)

    def scattered(self) -> Value | None:
        """Rows of a value replaced by, or added to, rows of another or of itself."""
        x = self.any(2, 3, 4)
        if not x.rank or not isinstance(x.shape[0], int):
            return None
        fitting = [v for v in self.pool if v.rank == x.rank and v.shape[1:] == x.shape[1:]]
        updates = fitting[-self.integer(1, len(fitting))]
        if not isinstance(updates.shape[0], int) or updates.shape[0] > x.shape[0]:
            return None
        places = self.random.permutation(x.shape[0])[: updates.shape[0]].reshape(-1, 1)
        result = self.b.add("scatter_nd", x, self.b.constant(places), updates)
        return self.keep(result, x in self.exact and updates in self.exact)


STEPS = (
    "unary", "unary", "clamped", "binary", "binary", "binary", "chosen", "rounded",
    "reshaped", "transposed", "broadcasted", "sliced", "moved", "padded", "joined", "joined",
    "gathered", "enlarged", "selected", "scattered", "reduced", "position", "normalised",
    "product", "convolved", "convolved",
)  # fmt: skip


@st.composite
def graphs(draw: Draw) -> Graph:
    """A graph of up to fifteen steps with up to four outputs, which may repeat or be inputs."""
    is_symbolic, is_large = bool(draw(st.booleans())), draw(st.integers(0, 3)) == 3
    maker = Maker(draw, is_symbolic, is_large)
    maker.inputs()
    for _ in range(maker.integer(2, 15)):
        maker.grow()
    outputs = [maker.pool[-1]]
    for _ in range(maker.integer(0, 3)):
        outputs.append(maker.any())
    return maker.b.finish(outputs, [f"out{i}" for i in range(len(outputs))])


def sample_inputs(graph: Graph, n: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a graph of `graphs` at symbol value `n`."""
    random = np.random.default_rng(seed)
    found = {}
    for value in graph.inputs:
        shape = tuple(size if isinstance(size, int) else n for size in value.shape)
        found[value.name] = (random.integers(-8, 9, shape) / 4).astype(np.float32)
    return found
