"""Cases for contractions, pooling and resize: strides, dilations, groups, padding, 1 to 3 dims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ranvier.ir.dtype import BF16, BOOL, F16, F32, F64, I32, I64, U8, DType
from tests.lowering.operator_cases import FLOATS, Case, Operand, fixed, integers, numbers


def _units(dtype: DType) -> float:
    return {"f16": 1.0, "bf16": 1.0, "f32": 32.0, "f64": 64.0}.get(dtype.name, 0.0)


def _case(op: str, operands: tuple[Operand, ...], **attributes: Any) -> Case:
    return Case(op, operands, attributes, _units(operands[0].dtype), is_sum=True)


# Contractions -------------------------------------------------------------------------------------
def contractions(op: str) -> Iterator[Case]:
    """Cases of one contraction."""
    yield from {
        "matmul": _matmul, "conv": _conv, "conv_transpose": _conv_transpose,
        "attention": _attention,
    }[op]()  # fmt: skip


_PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1, 1), (1, 1)), ((5, 1), (1, 7)), ((1, 9), (9, 1)), ((7, 33), (33, 65)), ((13, 16), (16, 17)),
    ((2, 5, 8), (8, 3)), ((2, 5, 8), (2, 8, 3)), ((3, 1, 5, 8), (2, 8, 19)), ((5, 8), (3, 8, 4)),
    ((0, 8), (8, 3)), ((3, 0), (0, 5)), ((3, 4), (4, 0)), ((2, 1, 3, 4), (1, 3, 4, 5)),
]  # fmt: skip


def _matmul() -> Iterator[Case]:
    for dtype in (F32, BF16, F16, F64, I32, I64, U8):
        for a, b in _PRODUCTS if dtype in (F32, BF16) else _PRODUCTS[3:9:2]:
            yield _case("matmul", (numbers(dtype, *a), numbers(dtype, *b)))
            if dtype in (F32, BF16) and 0 not in (*a, *b):
                yield _case("matmul", (numbers(dtype, *a), fixed(numbers(dtype, *b))))


def _convolution(**changes: Any) -> dict[str, Any]:
    """Attributes of a 2-D convolution, but for `changes`."""
    plain: dict[str, Any] = {
        "strides": (1, 1),
        "padding": ((0, 0), (0, 0)),
        "dilations": (1, 1),
        "groups": 1,
    }
    return {**plain, **changes}


_CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 9), (5, 3, 3, 3), _convolution(padding=((1, 1), (1, 1)))),
    ((1, 16, 6, 5), (24, 16, 1, 1), _convolution()),
    ((1, 16, 7, 8), (8, 16, 1, 1), _convolution(strides=(2, 2))),
    ((1, 9, 7, 11), (17, 9, 3, 2), _convolution(strides=(2, 3), padding=((2, 0), (1, 3)))),
    ((1, 9, 12, 13), (7, 9, 3, 3), _convolution(dilations=(2, 3), padding=((2, 2), (3, 3)))),
    ((1, 2, 9, 9), (4, 2, 5, 5), _convolution(strides=(3, 2), padding=((2, 1), (0, 4)))),
    ((1, 2, 9, 9), (4, 2, 3, 3), _convolution(dilations=(2, 2))),
    ((2, 1, 5, 5), (1, 1, 3, 3), _convolution(padding=((1, 1), (1, 1)))),
    ((1, 3, 8, 8), (4, 3, 4, 4), _convolution(padding=((-1, 2), (0, -2)))),
    ((1, 16, 8, 8), (4, 16, 3, 3), _convolution(padding=((-1, 2), (0, -2)))),
    ((1, 16, 5, 5), (4, 16, 5, 5), _convolution()),
    ((0, 16, 5, 5), (4, 16, 3, 3), _convolution()),
    *(((1, 4 * c, 6, 7), (8, c, 3, 3),
       _convolution(groups=4, padding=((1, 1), (0, 1)), strides=(1, 2))) for c in range(1, 9)),
    ((1, 16, 9, 8), (16, 1, 3, 3), _convolution(groups=16, padding=((1, 1), (1, 1)))),
    ((2, 5, 9, 8), (5, 1, 3, 5),
     _convolution(groups=5, strides=(2, 1), padding=((0, 2), (3, 1)), dilations=(1, 2))),
    ((1, 5, 9, 8), (10, 1, 3, 3), _convolution(groups=5)),
    ((1, 8, 9, 8), (8, 1, 3, 3), _convolution(groups=8, padding=((-1, 1), (1, -2)))),
    ((2, 6, 15), (4, 6, 3),
     {"strides": (2,), "padding": ((1, 2),), "dilations": (2,), "groups": 1}),
    ((2, 6, 15), (6, 1, 4),
     {"strides": (1,), "padding": ((3, 0),), "dilations": (1,), "groups": 6}),
    ((1, 12, 15), (6, 4, 3),
     {"strides": (1,), "padding": ((1, 1),), "dilations": (1,), "groups": 3}),
    ((1, 3, 5, 6, 7), (4, 3, 2, 3, 3),
     {"strides": (1, 2, 1), "padding": ((1, 0), (1, 1), (0, 2)),
      "dilations": (2, 1, 1), "groups": 1}),
    ((1, 12, 4, 5, 6), (6, 12, 3, 1, 3),
     {"strides": (1, 1, 2), "padding": ((1, 1), (0, 0), (1, 1)),
      "dilations": (1, 1, 1), "groups": 1}),
    ((1, 4, 4, 5, 6), (4, 1, 3, 3, 3),
     {"strides": (1, 1, 1), "padding": ((1, 1),) * 3, "dilations": (1, 1, 1), "groups": 4}),
]  # fmt: skip


def _conv() -> Iterator[Case]:
    for number, (x, w, attributes) in enumerate(_CONVOLUTIONS):
        for dtype in FLOATS if number < 3 else (F32, BF16)[: 1 + (number % 3 == 0)]:
            operands = [numbers(dtype, *x), fixed(numbers(dtype, *w))]
            if number % 2:
                operands.append(fixed(numbers(F32 if dtype is BF16 else dtype, w[0])))
            yield _case("conv", tuple(operands), **attributes)
    x, w, attributes = _CONVOLUTIONS[0]
    for dtype in FLOATS:  # weights that are computed
        yield _case("conv", (numbers(dtype, *x), numbers(dtype, *w)), **attributes)
    for number, (x, w, attributes) in enumerate(_CONVOLUTIONS[::3]):
        dtype = (I32, U8, I64)[number % 3]
        weights = numbers(dtype, *w)
        given = (numbers(dtype, *x), fixed(weights) if number % 2 else weights)
        yield _case("conv", given, **attributes)
    x, w, attributes = _CONVOLUTIONS[14]
    given = (numbers(F32, *x), numbers(F32, *w), numbers(F32, w[0]))
    yield _case("conv", given, **attributes)


def _transposed(spatial: int, **changes: Any) -> dict[str, Any]:
    plain = {"strides": (1,) * spatial, "padding": ((0, 0),) * spatial, "groups": 1,
             "dilations": (1,) * spatial, "output_padding": (0,) * spatial}  # fmt: skip
    return {**plain, **changes}


_TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 6, 5, 4), (6, 5, 2, 2), _transposed(2, strides=(2, 2))),
    ((1, 6, 5, 4), (6, 9, 3, 3),
     _transposed(2, strides=(2, 2), padding=((1, 1), (1, 1)), output_padding=(1, 1))),
    ((1, 3, 5, 4), (3, 2, 4, 3),
     _transposed(2, strides=(3, 1), padding=((0, 2), (1, 0)), dilations=(1, 2))),
    ((1, 16, 5, 4), (16, 8, 3, 3), _transposed(2, strides=(3, 2), dilations=(2, 3))),
    ((1, 8, 5, 4), (8, 3, 3, 3), _transposed(2, groups=4, strides=(2, 1))),
    ((1, 8, 5, 4), (8, 1, 3, 3), _transposed(2, groups=8, strides=(2, 2), padding=((1, 1),) * 2)),
    ((1, 8, 5, 4), (8, 2, 3, 3), _transposed(2, groups=8)),
    ((2, 4, 7), (4, 3, 3), _transposed(1, strides=(2,), output_padding=(1,))),
    ((1, 4, 3, 3, 2), (4, 2, 2, 2, 3), _transposed(3, strides=(2, 1, 2))),
    ((1, 4, 3, 3), (4, 2, 1, 1), _transposed(2, strides=(2, 3))),
    ((0, 4, 3, 3), (4, 2, 3, 3), _transposed(2)),
]  # fmt: skip


def _conv_transpose() -> Iterator[Case]:
    for number, (x, w, attributes) in enumerate(_TRANSPOSED):
        for dtype in FLOATS if number < 2 else (F32, BF16):
            operands = [numbers(dtype, *x), fixed(numbers(dtype, *w))]
            if number % 2:
                operands.append(fixed(numbers(dtype, w[1] * attributes["groups"])))
            yield _case("conv_transpose", tuple(operands), **attributes)
    x, w, attributes = _TRANSPOSED[1]
    yield _case("conv_transpose", (numbers(F32, *x), numbers(F32, *w)), **attributes)


def _attention() -> Iterator[Case]:
    options = {"scale": 0.25, "causal": False}
    for dtype in FLOATS:
        q, k, v = (
            numbers(dtype, 2, 3, 7, 16),
            numbers(dtype, 2, 3, 9, 16),
            numbers(dtype, 2, 3, 9, 8),
        )
        yield _case("attention", (q, k, v), **options)
        yield _case("attention", (q, k, v), scale=0.1, causal=True)
        kept = numbers(BOOL, 2, 1, 1, 9)
        kept.array[..., 4] = True
        yield _case("attention", (q, k, v, kept), **options)
        yield _case("attention", (q, k, v, numbers(dtype, 7, 9)), **options)
    shared = (numbers(F32, 2, 4, 33, 20), numbers(F32, 1, 1, 40, 20), numbers(F32, 1, 40, 5))
    yield _case("attention", shared, **options)
    nothing = Operand(numbers(BOOL, 7, 9).array & (numbers(F32, 7, 1).array > 0), BOOL)
    q, k, v = numbers(F32, 1, 7, 8), numbers(F32, 1, 9, 8), numbers(F32, 1, 9, 8)
    yield _case("attention", (q, k, v, nothing), **options)
    yield _case("attention", (numbers(F32, 0, 7, 8), numbers(F32, 0, 9, 8), numbers(F32, 0, 9, 8)),
                **options)  # fmt: skip


# Pooling ------------------------------------------------------------------------------------------
_POOLS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 9), {"kernel": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}),
    ((2, 3, 8, 9), {"kernel": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}),
    ((1, 17, 7, 9), {"kernel": (3, 2), "strides": (1, 3), "padding": ((1, 0), (0, 1))}),
    ((2, 3, 11), {"kernel": (4,), "strides": (3,), "padding": ((2, 1),)}),
    ((1, 2, 5, 6, 7),
     {"kernel": (2, 3, 2), "strides": (2, 2, 1), "padding": ((1, 0), (1, 1), (0, 0))}),
    ((3, 7, 9), {"kernel": (2, 2), "strides": (2, 2), "padding": ((1, 1), (0, 0))}),
    ((7, 9), {"kernel": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}),
    ((0, 3, 7, 9), {"kernel": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}),
]  # fmt: skip


def pooling(op: str) -> Iterator[Case]:
    """Windows of odd sizes; ceil_mode; what counts at the edges; adaptive sizes."""
    if op.startswith("adaptive"):
        yield from _adaptive(op)
        return
    dtypes = FLOATS if op == "avg_pool" else (*FLOATS, U8, I64)
    for number, (shape, window) in enumerate(_POOLS):
        for dtype in dtypes if number < 2 else (F32, BF16):
            for flag in (False, True):
                extra: dict[str, Any] = {"count_include_pad": number % 3 == 0}
                if op == "max_pool":
                    dilated = all(size > 6 for size in shape[2:]) and number % 2
                    dilation = 2 if dilated else 1
                    extra = {"dilations": (dilation,) * len(window["kernel"])}
                case = _case(op, (numbers(dtype, *shape),), **window, **extra, ceil_mode=flag)
                yield case
                if op == "avg_pool":
                    other = {"count_include_pad": not extra["count_include_pad"]}
                    yield Case(op, case.operands, {**case.attributes, **other}, case.units, True)


def _adaptive(op: str) -> Iterator[Case]:
    for dtype in FLOATS:
        x = numbers(dtype, 2, 3, 7, 10)
        for size in ((1, 1), (7, 10), (3, 4), (7, 5), (9, 13), (2, 1)):
            yield _case(op, (x,), output_size=size)
    yield _case(op, (numbers(F32, 3, 5, 11),), output_size=(4,))
    yield _case(op, (numbers(F32, 1, 2, 5, 6, 7),), output_size=(2, 4, 3))
    yield _case(op, (numbers(F32, 5, 6),), output_size=(2, 4))


# Resize -------------------------------------------------------------------------------------------
def resizes(op: str) -> Iterator[Case]:
    """Both directions, all coordinate rules."""
    for coordinates in ("half_pixel", "align_corners", "asymmetric"):
        for mode in ("nearest", "linear", "cubic"):
            for size in ((5, 7), (10, 14), (3, 4), (13, 1), (1, 29), (1, 1)):
                given: dict[str, Any] = {"size": size, "mode": mode, "coordinates": coordinates}
                yield _case(op, (numbers(F32, 2, 3, 5, 7),), **given, antialias=False)
    for mode in ("linear", "cubic"):
        for size in ((3, 3), (11, 4), (2, 20), (5, 7)):
            given = {"size": size, "mode": mode, "coordinates": "half_pixel"}
            yield _case(op, (numbers(F32, 2, 3, 5, 7),), **given, antialias=True)
    for dtype in (BF16, F16, F64):
        for mode in ("nearest", "linear", "cubic"):
            given = {"size": (9, 4), "mode": mode, "coordinates": "half_pixel"}
            yield _case(op, (numbers(dtype, 2, 3, 5, 7),), **given, antialias=False)
    others: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((2, 3, 9), (4,)), ((1, 2, 3, 4, 5), (6, 4, 3)), ((0, 2, 3, 3), (6, 6)),
    ]  # fmt: skip
    for shape, other in others:
        given = {"size": other, "mode": "linear", "coordinates": "half_pixel"}
        yield _case(op, (numbers(F32, *shape),), **given, antialias=False)
    pixels = (integers(0, 255, 1, 2, 5, 7, dtype=U8),)
    yield _case(op, pixels, size=(9, 4), mode="nearest", coordinates="asymmetric", antialias=False)
