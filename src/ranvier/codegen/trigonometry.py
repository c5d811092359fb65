"""Trigonometric functions in f64 and their inverses.

Reduction modulo pi/2: Cody and Waite with fused steps for |x| < 2**20; beyond, lanes are reduced
one by one with the bits of 2/pi that matter (M. Payne, R. Hanek: Radian reduction for
trigonometric functions, SIGNUM 1983). Polynomials: fdlibm (k_sin.c, k_cos.c, e_asin.c) and Cephes
(atan.c).
"""

from __future__ import annotations

import math

from ranvier.codegen.builder import (
    DOUBLE,
    I1,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    float_const,
    int_const,
    lanes_of,
    vector,
)
from ranvier.codegen.math_context import (
    Context,
    clamp_keeping_nan,
    fma,
    intrinsic,
    like,
    polynomial,
)

_SIN = (
    1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
    -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01,
)  # fmt: skip
_COS = (
    -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
    2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02,
)  # fmt: skip
_ASIN_P = (
    3.47933107596021167570e-05, 7.91534994289814532176e-04, -4.00555345006794114027e-02,
    2.01212532134862925881e-01, -3.25565818622400915405e-01, 1.66666666666666657415e-01,
)  # fmt: skip
_ASIN_Q = (
    7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471e00,
    -2.40339491173441421878e00, 1.0,
)  # fmt: skip
_ATAN_P = (
    -8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1,
    -1.228866684490136173410e2, -6.485021904942025371773e1,
)  # fmt: skip
_ATAN_Q = (
    1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2,
    4.853903996359136964868e2, 1.945506571482613964425e2,
)  # fmt: skip
_FAST_LIMIT = 2.0**20
_TABLE = "ranvier_two_over_pi"
_TABLE_WORDS = 22
_LEAD = (
    128  # zero bits before the binary point of 2/pi, so that small exponents index the table too
)


def _pi_bits(bits: int) -> int:
    """floor(pi * 2**bits), by Machin's formula."""

    def arctan_of_inverse(n: int) -> int:
        total, term, k = 0, (1 << (bits + 16)) // n, 0
        while term:
            total += (-1) ** k * (term // (2 * k + 1))
            term //= n * n
            k += 1
        return total

    return (16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)) >> 16


def _half_pi_parts() -> tuple[float, float, float]:
    """pi/2 as a sum of three doubles."""
    rest, scale = _pi_bits(300), 301
    parts = []
    for _ in range(3):
        part = rest / (1 << scale)
        numerator, denominator = part.as_integer_ratio()
        rest -= numerator * ((1 << scale) // denominator)
        parts.append(part)
    return parts[0], parts[1], parts[2]


def _two_over_pi_words() -> list[int]:
    """2/pi after `_LEAD` zero bits, as 64-bit words, most significant first."""
    bits = _TABLE_WORDS * 64 - _LEAD
    value = (1 << (2 * bits + 1)) // _pi_bits(bits)
    whole = value & ((1 << bits) - 1)
    return [(whole >> (64 * (_TABLE_WORDS - 1 - k))) & (2**64 - 1) for k in range(_TABLE_WORDS)]


# Reduction ---------------------------------------------------------------------------------------
def _reduce(context: Context, x: Val) -> tuple[Val, Val]:
    """(r, q): x = r + q pi/2 modulo 2 pi, |r| <= pi/4; q is an integer modulo 4."""
    f, lanes = context.builder, lanes_of(x.type)
    integers = vector(lanes, I64)
    bounded = clamp_keeping_nan(f, x, -_FAST_LIMIT, _FAST_LIMIT)
    n = intrinsic(f, "roundeven", f.binary("fmul", bounded, like(x, 2 / math.pi)))
    r = bounded
    for part in _half_pi_parts():
        r = fma(f, n, like(x, -part), r)
    bits = f.cast("bitcast", f.binary("fadd", n, like(x, 1.5 * 2**52)), integers)
    big = f.compare("fcmp oge", intrinsic(f, "fabs", x), like(x, _FAST_LIMIT))
    any_big = big if lanes == 1 else f.call(f"llvm.vector.reduce.or.v{lanes}i1", I1, big)
    before, slow, after = f.block, f.label("slow"), f.label("reduced")
    f.branch(any_big, slow, after)
    f.begin(slow)
    r_slow, q_slow = _reduce_lanes(context, x, big, r, bits)
    f.jump(after)
    f.begin(after)
    r = f.phi(x.type, (r, before), (r_slow, slow))
    return r, f.phi(integers, (bits, before), (q_slow, slow))


def _reduce_lanes(context: Context, x: Val, big: Val, r: Val, q: Val) -> tuple[Val, Val]:
    f, lanes = context.builder, lanes_of(x.type)
    _define_slow_reduction(f.module)
    pair = f"{{ {DOUBLE}, {I64} }}"
    r_all, q_all = r, q
    for k in range(lanes):
        item = x if lanes == 1 else f.emit(f"extractelement {x}, i64 {k}", DOUBLE)
        both = f.call("ranvier.reduce.pi", pair, item)
        r_one = f.emit(f"extractvalue {both}, 0", DOUBLE)
        q_one = f.emit(f"extractvalue {both}, 1", I64)
        if lanes == 1:
            r_all, q_all = r_one, q_one
            continue
        r_all = f.emit(f"insertelement {r_all}, {r_one}, i64 {k}", x.type)
        q_all = f.emit(f"insertelement {q_all}, {q_one}, i64 {k}", q.type)
    return f.select(big, r_all, r), f.select(big, q_all, q)


def _define_slow_reduction(module: ModuleWriter) -> None:
    """{double r, i64 q} @ranvier.reduce.pi(double x): Payne-Hanek, a 192-bit window of 2/pi."""
    if module.has_function("ranvier.reduce.pi"):
        return
    words = ", ".join(f"i64 {w}" for w in _two_over_pi_words())
    module.add_global(_TABLE, f"internal constant [{_TABLE_WORDS} x i64] [{words}], align 64")
    pair = f"{{ {DOUBLE}, {I64} }}"
    f = FunctionBuilder(
        module, "ranvier.reduce.pi", [("x", DOUBLE)], pair, "nounwind noinline", "internal"
    )
    x = f.arg("x")
    bits = f.cast("bitcast", intrinsic(f, "fabs", x), I64)
    exponent = f.binary("lshr", bits, int_const(52))
    mantissa = f.binary("and", bits, int_const((1 << 52) - 1))
    mantissa = f.binary("or", mantissa, int_const(1 << 52))
    # x = mantissa * 2**e; bits of 2/pi of weight 2**-k with e - k >= 2 only add whole turns.
    first = f.binary("add", exponent, int_const(-1075 - 2 + _LEAD))
    first = intrinsic(f, "smax", first, int_const(0))
    first = intrinsic(f, "smin", first, int_const((_TABLE_WORDS - 4) * 64))
    window = _window(f, first)
    wide = "i128"
    m = f.cast("zext", mantissa, wide)
    high = _join(f, window[0], window[1])
    low = f.binary("mul", f.cast("zext", window[2], wide), m)
    product = f.binary("mul", high, m)
    product = f.binary("add", product, f.binary("lshr", low, int_const(64, wide)))
    quarter = f.binary("add", product, int_const(1 << 125, wide))
    q = f.cast("trunc", f.binary("lshr", quarter, int_const(126, wide)), I64)
    turns = f.binary("shl", f.cast("zext", q, wide), int_const(126, wide))
    rest = f.binary("sub", product, turns)
    top = f.cast("trunc", f.binary("ashr", rest, int_const(64, wide)), I64)
    bottom = f.cast("trunc", rest, I64)
    r = f.binary("fmul", f.cast("sitofp", top, DOUBLE), float_const(2.0**-62, DOUBLE))
    tail = f.binary("fmul", f.cast("uitofp", bottom, DOUBLE), float_const(2.0**-126, DOUBLE))
    r = f.binary("fmul", f.binary("fadd", r, tail), float_const(math.pi / 2, DOUBLE))
    negative = f.compare("fcmp olt", x, float_const(0.0, DOUBLE))
    r = f.select(negative, f.emit(f"fneg {r}", DOUBLE), r)
    q = f.select(negative, f.binary("sub", int_const(0), q), q)
    finite = f.compare("icmp ult", exponent, int_const(2047))
    r = f.select(finite, r, float_const(math.nan, DOUBLE))
    packed = f.emit(f"insertvalue {pair} poison, {r}, 0", pair)
    f.ret(f.emit(f"insertvalue {packed}, {q}, 1", pair))
    f.finish()


def _window(f: FunctionBuilder, first: Val) -> list[Val]:
    """Three words of the table from bit `first` on."""
    table = Val(f"@{_TABLE}", PTR)
    word = f.binary("lshr", first, int_const(6))
    shift = f.binary("and", first, int_const(63))
    words = []
    for k in range(4):
        pointer = f.element_pointer(table, I64, f.binary("add", word, int_const(k)))
        words.append(f.load(I64, pointer, 8))
    return [f.call("llvm.fshl.i64", I64, words[k], words[k + 1], shift) for k in range(3)]


def _join(f: FunctionBuilder, high: Val, low: Val) -> Val:
    wide = f.binary("shl", f.cast("zext", high, "i128"), int_const(64, "i128"))
    return f.binary("or", wide, f.cast("zext", low, "i128"))


# Functions ---------------------------------------------------------------------------------------
def _kernels(context: Context, r: Val) -> tuple[Val, Val]:
    """(sin r, cos r) for |r| <= pi/4."""
    f = context.builder
    z = f.binary("fmul", r, r)
    sine = fma(f, f.binary("fmul", z, r), polynomial(f, z, _SIN), r)
    quartic = f.binary("fmul", f.binary("fmul", z, z), polynomial(f, z, _COS))
    half = f.binary("fmul", z, like(r, 0.5))
    head = f.binary("fsub", like(r, 1.0), half)
    error = f.binary("fsub", f.binary("fsub", like(r, 1.0), head), half)
    return sine, f.binary("fadd", head, f.binary("fadd", error, quartic))


def _sine(context: Context, x: Val, quarter: int) -> Val:
    f = context.builder
    r, q = _reduce(context, x)
    if quarter:
        q = f.binary("add", q, int_const(quarter, q.type))
    sine, cosine = _kernels(context, r)
    zero = int_const(0, q.type)
    swap = f.compare("icmp ne", f.binary("and", q, int_const(1, q.type)), zero)
    flip = f.compare("icmp ne", f.binary("and", q, int_const(2, q.type)), zero)
    value = f.select(swap, cosine, sine)
    value = f.select(flip, f.emit(f"fneg {value}", x.type), value)
    if quarter:
        return value
    tiny = f.compare("fcmp oeq", x, like(x, 0.0))
    return f.select(tiny, x, value)


def sin(context: Context, x: Val) -> Val:
    """Sine."""
    return _sine(context, x, 0)


def cos(context: Context, x: Val) -> Val:
    """Cosine."""
    return _sine(context, x, 1)


def tan(context: Context, x: Val) -> Val:
    """sin / cos, or -cos / sin in the odd quarters."""
    f = context.builder
    r, q = _reduce(context, x)
    sine, cosine = _kernels(context, r)
    odd = f.binary("and", q, int_const(1, q.type))
    swap = f.compare("icmp ne", odd, int_const(0, q.type))
    above = f.select(swap, f.emit(f"fneg {cosine}", x.type), sine)
    value = f.binary("fdiv", above, f.select(swap, sine, cosine))
    return f.select(f.compare("fcmp oeq", x, like(x, 0.0)), x, value)


def _asin_ratio(context: Context, z: Val) -> Val:
    """(asin(s) - s) / s for z = s**2 <= 1/4."""
    f = context.builder
    above = f.binary("fmul", z, polynomial(f, z, _ASIN_P))
    return f.binary("fdiv", above, polynomial(f, z, _ASIN_Q))


def _asin_parts(context: Context, x: Val) -> tuple[Val, Val, Val]:
    """(small, s, asin(s)): s = |x| if small, i.e. |x| < 1/2, else sqrt((1 - |x|) / 2)."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    small = f.compare("fcmp olt", size, like(x, 0.5))
    far = f.binary("fmul", f.binary("fsub", like(x, 1.0), size), like(x, 0.5))
    z = f.select(small, f.binary("fmul", x, x), far)
    s = f.select(small, size, intrinsic(f, "sqrt", far))
    return small, s, fma(f, s, _asin_ratio(context, z), s)


def asin(context: Context, x: Val) -> Val:
    """Arc sine; NaN beyond [-1, 1]."""
    f = context.builder
    small, _, part = _asin_parts(context, x)
    far = fma(f, part, like(x, -2.0), like(x, math.pi / 2))
    return intrinsic(f, "copysign", f.select(small, part, far), x)


def acos(context: Context, x: Val) -> Val:
    """Arc cosine; NaN beyond [-1, 1]."""
    f = context.builder
    small, _, part = _asin_parts(context, x)
    near = f.binary("fsub", like(x, math.pi / 2), intrinsic(f, "copysign", part, x))
    twice = f.binary("fadd", part, part)
    negative = f.compare("fcmp olt", x, like(x, 0.0))
    far = f.select(negative, f.binary("fsub", like(x, math.pi), twice), twice)
    return f.select(small, near, far)


def atan(context: Context, x: Val) -> Val:
    """Arc tangent: three ranges brought to |t| <= 0.66."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    one = like(x, 1.0)
    large = f.compare("fcmp ogt", size, like(x, 1 + math.sqrt(2)))
    middle = f.compare("fcmp ogt", size, like(x, 0.66))
    above = f.select(large, like(x, -1.0), f.select(middle, f.binary("fsub", size, one), size))
    below = f.select(large, size, f.select(middle, f.binary("fadd", size, one), one))
    t = f.binary("fdiv", above, below)
    base = f.select(middle, like(x, math.pi / 4), like(x, 0.0))
    base = f.select(large, like(x, math.pi / 2), base)
    z = f.binary("fmul", t, t)
    ratio = f.binary("fdiv", polynomial(f, z, _ATAN_P), polynomial(f, z, _ATAN_Q))
    part = fma(f, f.binary("fmul", t, z), ratio, t)
    return intrinsic(f, "copysign", f.binary("fadd", base, part), x)


def atan2(context: Context, y: Val, x: Val) -> Val:
    """The angle of (x, y) with the signs of zeros and infinities of C's atan2."""
    f = context.builder
    a, b = intrinsic(f, "fabs", y), intrinsic(f, "fabs", x)
    steep = f.compare("fcmp ogt", a, b)
    low, high = f.select(steep, b, a), f.select(steep, a, b)
    t = f.binary("fdiv", low, high)
    t = f.select(f.compare("fcmp oeq", high, like(x, 0.0)), like(x, 0.0), t)
    infinite = f.compare("fcmp oeq", low, like(x, math.inf))
    t = f.select(infinite, like(x, 1.0), t)
    angle = atan(context, t)
    angle = f.select(steep, f.binary("fsub", like(x, math.pi / 2), angle), angle)
    bits = f.cast("bitcast", x, vector(lanes_of(x.type), I64))
    left = f.compare("icmp slt", bits, int_const(0, bits.type))
    angle = f.select(left, f.binary("fsub", like(x, math.pi), angle), angle)
    angle = intrinsic(f, "copysign", angle, y)
    unordered = f.compare("fcmp uno", x, y)
    return f.select(unordered, like(x, math.nan), angle)


FUNCTIONS = {"sin": sin, "cos": cos, "tan": tan, "asin": asin, "acos": acos, "atan": atan}
