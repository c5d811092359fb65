"""Vector mathematics in f32: branch-free, a few ulp over the whole range, denormals included.

Sources: the polynomials of log after S. Moshier's Cephes (logf.c); erf after N. Juffa's erff; those
of exp and gelu interpolate at Chebyshev nodes; everything else is derived from those as its
docstring says.
"""

from __future__ import annotations

import math

from ranvier.codegen import avx512, logarithm_steps
from ranvier.codegen.builder import Val, int_const, lanes_of, vector
from ranvier.codegen.interpolation import interpolate, shifted
from ranvier.codegen.math_context import (
    Context,
    clamp_keeping_nan,
    fma,
    integer_type,
    intrinsic,
    like,
    negate,
    polynomial,
)

_LOG2E = 1.4426950408889634
_LOG2E_HIGH, _LOG2E_LOW = 1.44269502162933349609375, 1.925963033500011e-08  # the first is an f32
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_LN2 = 0.6931471805599453
# (2**f - 1) / f on |f| <= 1/2, relative error of 2**f 5e-9; highest power first
_EXP2 = interpolate(lambda f: math.expm1(f * _LN2) / f, -0.5, 0.5, 5)[::-1]
# (log(1 + f) - f + f**2 / 2) / f**3 on sqrt(1/2) - 1 <= f <= sqrt(2) - 1
_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip


_MAGIC, _MAGIC_BITS = (
    12582912.0,
    0x4B400000,
)  # 1.5 * 2**23: adding it puts an integer in the low bits
_GUARD = 32  # powers of two that keep a product out of the denormal range
_BIAS = 127  # of an exponent
_NEGLIGIBLE = 65.0  # 1 + e**-65 is 1, and e**-65 2**-32 not denormal
_OVERFLOW = -160 * 0.6931471805599453  # e**-x 2**-32 is infinite from here down, but not NaN


# Exponentials ------------------------------------------------------------------------------------
def scale(context: Context, x: Val, n: Val) -> Val:
    """x * 2**n for an integral n in [-250, 250], rounded once into the denormal range."""
    if avx512.usable(context, x):
        return avx512.scale(context, x, n)
    f = context.builder
    whole = _integer(context, n)
    half = f.binary("ashr", whole, int_const(1, whole.type))
    rest = f.binary("sub", whole, half)
    first = f.binary("fmul", x, _power_of_two(context, half))
    return f.binary("fmul", first, _power_of_two(context, rest))


def _integer(context: Context, n: Val) -> Val:
    """An integral float as integer; defined, if meaningless, for NaN."""
    f = context.builder
    bits = f.cast("bitcast", f.binary("fadd", n, like(n, _MAGIC)), integer_type(n))
    return f.binary("sub", bits, int_const(_MAGIC_BITS, bits.type))


def _power_of_two(context: Context, n: Val) -> Val:
    f = context.builder
    biased = f.binary("add", n, int_const(127, n.type))
    bits = f.binary("shl", biased, int_const(23, n.type))
    return f.cast("bitcast", bits, vector(lanes_of(n.type), "float"))


def _reduce(context: Context, x: Val, sign: int = 1) -> tuple[Val, Val]:
    """(n, f) with sign x = (n + f) ln 2, |f| <= 1/2."""
    b = context.builder
    n = intrinsic(b, "roundeven", b.binary("fmul", x, like(x, sign * _LOG2E)))
    f = fma(b, x, like(x, sign * _LOG2E_HIGH), negate(context, n))
    return n, fma(b, x, like(x, sign * _LOG2E_LOW), f)


def _power_tail(context: Context, f: Val) -> Val:
    """2**f - 1 for |f| <= 1/2."""
    b = context.builder
    return b.binary("fmul", f, polynomial(b, f, _EXP2))


def _power(context: Context, f: Val) -> Val:
    """2**f for |f| <= 1/2."""
    return polynomial(context.builder, f, (*_EXP2, 1.0))


def _exp_parts(context: Context, x: Val, low: Val | None = None, sign: int = 1) -> tuple[Val, Val]:
    """(p, n) with e**(sign (x + low)) = p 2**n, for a bounded x and a tiny `low`."""
    b = context.builder
    n, f = _reduce(context, x, sign)
    if low is not None:
        f = fma(b, low, like(x, sign * _LOG2E), f)
    return _power(context, f), n


def _guarded_exp_parts(
    context: Context, x: Val, low: Val | None, sign: int, guard: int
) -> tuple[Val, Val]:
    """Two factors of e**(sign (x + low)) 2**guard where that is not denormal.

    Adding a constant to the product with log2(e) leaves the biased exponent in the low bits: one
    shift makes the second factor, a power of two, infinity for 2**128. The first is NaN for NaN.
    `low` is tiny.
    """
    b = context.builder
    magic = like(x, _MAGIC + _BIAS + guard)
    placed = fma(b, x, like(x, sign * _LOG2E_HIGH), magic)
    n = b.binary("fsub", placed, magic)
    f = fma(b, x, like(x, sign * _LOG2E_HIGH), negate(context, n))
    f = fma(b, x, like(x, sign * _LOG2E_LOW), f)
    if low is not None:
        f = fma(b, low, like(x, sign * _LOG2E), f)
    bits = b.cast("bitcast", placed, integer_type(x))
    power = b.cast("bitcast", b.binary("shl", bits, int_const(23, bits.type)), x.type)
    return _power(context, f), power


def exp(context: Context, x: Val) -> Val:
    """e**x."""
    p, n = _exp_parts(context, clamp_keeping_nan(context.builder, x, -105.0, 90.0))
    return scale(context, p, n)


def _guarded_exp_of_minus(context: Context, size: Val) -> tuple[Val, Val]:
    """(e**-size, e**-size * 2**32): the second keeps its digits where the first is denormal."""
    f = context.builder
    p, n = _exp_parts(context, clamp_keeping_nan(f, negate(context, size), -140.0, 0.0))
    guarded = scale(context, p, f.binary("fadd", n, like(n, float(_GUARD))))
    return f.binary("fmul", guarded, like(size, 2.0**-_GUARD)), guarded


def _unguard(context: Context, guarded: Val, condition: Val) -> Val:
    f = context.builder
    factor = f.select(condition, like(guarded, 2.0**-_GUARD), like(guarded, 1.0))
    return f.binary("fmul", guarded, factor)


def exp2(context: Context, x: Val) -> Val:
    """2**x: the integral part goes to the exponent."""
    f = context.builder
    x = clamp_keeping_nan(f, x, -151.0, 129.0)
    n = intrinsic(f, "roundeven", x)
    return scale(context, _power(context, f.binary("fsub", x, n)), n)


def expm1(context: Context, x: Val) -> Val:
    """e**x - 1 = 2**n (2**f - 1) + (2**n - 1); computed with 2**(n-1) so that 2**128 does not
    overflow early.
    """
    f = context.builder
    value = _expm1_core(context, clamp_keeping_nan(f, x, -20.0, 88.8))
    return intrinsic(f, "copysign", value, x)


def _expm1_core(context: Context, x: Val) -> Val:
    f = context.builder
    n, fraction = _reduce(context, x)
    tail = _power_tail(context, fraction)
    half = scale(context, like(x, 0.5), n)
    doubled = fma(f, tail, half, f.binary("fsub", half, like(x, 0.5)))
    return f.binary("fadd", doubled, doubled)


def tanh(context: Context, x: Val) -> Val:
    """-e / (e + 2) with e = expm1(-2 |x|), and the sign of x."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    argument = clamp_keeping_nan(f, f.binary("fmul", size, like(x, -2.0)), -40.0, 0.0)
    n, fraction = _reduce(context, argument)
    tail = _power_tail(context, fraction)
    power = _power_of_two(context, _integer(context, n))
    e = fma(f, tail, power, f.binary("fsub", power, like(x, 1.0)))
    ratio = f.binary("fdiv", e, f.binary("fadd", e, like(x, 2.0)))
    return intrinsic(f, "copysign", ratio, x)


def sigmoid(context: Context, x: Val) -> Val:
    """1 / (1 + e**-x)."""
    f = context.builder
    if avx512.usable(context, x):
        q, n = _logistic_parts(context, _bounded_below(context, x), None)
        return avx512.scale(context, q, n)
    return f.binary("fdiv", like(x, 2.0**-_GUARD), _guarded_below(context, x, None)[1])


def silu(context: Context, x: Val) -> Val:
    """x sigmoid(x)."""
    return _times_sigmoid(context, x, x, None)


def _times_sigmoid(context: Context, x: Val, z: Val, low: Val | None) -> Val:
    """x sigmoid(z + low), x and z of one sign; precise where the result is denormal."""
    f = context.builder
    if avx512.usable(context, x):
        bounded = _bounded_below(context, x)
        q, n = _logistic_parts(context, bounded if z is x else z, low)
        product = avx512.scale(context, f.binary("fmul", bounded, q), n)
        return avx512.nan_at_minus_infinity(context, product, x)
    upper, below = _guarded_below(context, z, low)
    if z is not x:
        product = f.binary("fmul", f.binary("fdiv", x, below), like(x, 2.0**-_GUARD))
        return f.select(f.compare("fcmp ogt", x, like(x, 25.0)), x, product)
    over = f.binary("fsub", upper, x)  # 0, or what x has above the bound; keeps the sign of -0
    quotient = f.binary("fdiv", upper, below)
    return fma(f, quotient, like(x, 2.0**-_GUARD), negate(context, over))


def _guarded_below(context: Context, z: Val, low: Val | None) -> tuple[Val, Val]:
    """min(z, 65) and (1 + e**-(z + low)) 2**-32, which is infinite where its inverse is 0."""
    f = context.builder
    end = like(z, _NEGLIGIBLE)
    upper = f.select(f.compare("fcmp ogt", z, end), end, z)
    end = like(z, _OVERFLOW)
    bounded = f.select(f.compare("fcmp olt", upper, end), end, upper)
    p, power = _guarded_exp_parts(context, bounded, low, sign=-1, guard=-_GUARD)
    return upper, fma(f, p, power, like(z, 2.0**-_GUARD))


def _bounded_below(context: Context, x: Val) -> Val:
    """max(x, -300), where functions that end like x e**x are 0 long since; NaN stays."""
    f = context.builder
    return f.select(f.compare("fcmp olt", x, like(x, -300.0)), like(x, -300.0), x)


def _logistic_parts(context: Context, z: Val, low: Val | None) -> tuple[Val, Val]:
    """(q, n) with sigmoid(z + low) = q 2**n, for z from -300 on.

    With e**-z = p 2**-n it is 2**n / (2**n + p); z above 25 gives 1 as 25 does.
    """
    f = context.builder
    z = f.select(f.compare("fcmp ogt", z, like(z, 25.0)), like(z, 25.0), z)
    p, minus_n = _exp_parts(context, z, low, sign=-1)
    n = negate(context, minus_n)
    below = f.binary("fadd", avx512.scale(context, like(z, 1.0), n), p)
    return f.binary("fdiv", like(z, 1.0), below), n


# Logarithms --------------------------------------------------------------------------------------
def _log_tail(context: Context, m: Val) -> Val:
    """(log(1 + m) - m)."""
    f = context.builder
    square = f.binary("fmul", m, m)
    cubic = f.binary("fmul", f.binary("fmul", square, m), polynomial(f, m, _LOG))
    return fma(f, square, like(m, -0.5), cubic)


def log(context: Context, x: Val) -> Val:
    """Natural logarithm: e ln 2 + log(m)."""
    f = context.builder
    e, m = logarithm_steps.split(context, x)
    fraction = f.binary("fsub", m, like(x, 1.0))
    return logarithm_steps.special(context, x, _log_sum(context, e, fraction))


def _log_sum(context: Context, e: Val, fraction: Val) -> Val:
    f = context.builder
    tail = fma(f, e, like(e, _LN2_LOW), _log_tail(context, fraction))
    return fma(f, e, like(e, _LN2_HIGH), f.binary("fadd", fraction, tail))


def log1p(context: Context, x: Val) -> Val:
    """log(1 + x): the rounding error of u = 1 + x is added to the fraction of u."""
    f = context.builder
    u, error = logarithm_steps.one_plus(context, x)
    e, m = logarithm_steps.split(context, u)
    shrink = intrinsic(f, "smin", _integer(context, e), int_const(126, integer_type(x)))
    inverse = _power_of_two(context, f.binary("sub", int_const(0, shrink.type), shrink))
    fraction = fma(f, error, inverse, f.binary("fsub", m, like(x, 1.0)))
    value = logarithm_steps.special(context, u, _log_sum(context, e, fraction))
    small = f.compare("fcmp olt", intrinsic(f, "fabs", x), like(x, 1e-30))
    return f.select(small, x, value)


def _log_base(context: Context, x: Val, inverse: float, whole: float) -> Val:
    """e * whole + log(m) * inverse, the product log(m) * inverse in two parts."""
    f = context.builder
    e, m = logarithm_steps.split(context, x)
    fraction = f.binary("fsub", m, like(x, 1.0))
    tail = _log_tail(context, fraction)
    high = _round_f32(inverse)
    product = f.binary("fmul", fraction, like(x, high))
    error = fma(f, fraction, like(x, high), negate(context, product))
    error = fma(f, fraction, like(x, inverse - high), error)
    rest = fma(f, tail, like(x, high), error)
    whole_high = _round_f32(whole, 12)
    rest = fma(f, e, like(x, whole - whole_high), rest)
    value = fma(f, e, like(x, whole_high), f.binary("fadd", product, rest))
    return logarithm_steps.special(context, x, value)


def _round_f32(value: float, bits: int = 24) -> float:
    """`value` rounded to a mantissa of `bits`."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2**bits) / 2**bits, exponent)


def log2(context: Context, x: Val) -> Val:
    """Binary logarithm."""
    return _log_base(context, x, _LOG2E, 1.0)


def log10(context: Context, x: Val) -> Val:
    """Decimal logarithm."""
    return _log_base(context, x, 0.4342944819032518, 0.3010299956639812)


# Error function and what is built on it ----------------------------------------------------------
_ERF_SMALL = (
    -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1,
)  # fmt: skip
_ERF_LARGE = (
    -1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1,
    -1.28717512e-1,
)  # fmt: skip
_ERF_SPLIT = 0.927734375


def erf(context: Context, x: Val) -> Val:
    """The error function: a polynomial below 0.93, 1 - exp(polynomial) above (N. Juffa)."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    square = f.binary("fmul", x, x)
    small = fma(f, polynomial(f, square, _ERF_SMALL), x, x)
    bounded = clamp_keeping_nan(f, size, 0.0, 10.0)
    exponent = fma(f, polynomial(f, bounded, _ERF_LARGE), bounded, negate(context, bounded))
    large = f.binary("fsub", like(x, 1.0), exp(context, exponent))
    large = intrinsic(f, "copysign", large, x)
    return f.select(f.compare("fcmp ogt", size, like(x, _ERF_SPLIT)), large, small)


# erfc(t / sqrt 2) exp(t**2 / 2) / 2 as a polynomial in 1 / (1 + 0.35 t), 0 <= t <= 17,
# minimax fit in f64 against torch.special.erfcx: relative error 3.1e-8
_TAIL = (
    -2.900024581e-02, 1.432199261e-01, -2.540461236e-01, 1.570917143e-01, -2.150341057e-02,
    1.047166068e-01, 1.200810298e-01, 1.398142456e-01, 1.396264691e-01, -2.272400302e-07,
)  # fmt: skip
_TAIL_STEP, _TAIL_END = 0.35, 14.7
_TAIL_SLOPE = 1.7  # d log(polynomial) / d log(w), which falls from 2.3 at t = 0 to 1.2 at 14


def gelu(context: Context, x: Val) -> Val:
    """x times the normal distribution: max(x, 0) - |x| Q(|x|).

    Q(t) = erfc(t / sqrt 2) / 2 = exp(-t**2 / 2) R(t) with a polynomial for R; the rounding error
    of t**2 is carried along. x times 0 or 1 stands for the maximum, as it gives NaN for minus
    infinity.
    """
    if avx512.usable(context, x):
        return _gelu_by_table(context, x)
    f = context.builder
    t = intrinsic(f, "fabs", x)
    t = f.select(f.compare("fcmp ogt", t, like(x, _TAIL_END)), like(x, _TAIL_END), t)
    below = fma(f, t, like(x, _TAIL_STEP), like(x, 1.0))
    w = f.binary("fdiv", like(x, 1.0), below)
    half = f.binary("fmul", t, like(x, -0.5))
    square = f.binary("fmul", half, t)
    low = fma(f, half, t, negate(context, square))
    low = fma(f, _quotient_error(context, t, below, w), like(x, _TAIL_SLOPE), low)
    p, power = _guarded_exp_parts(context, square, low, sign=1, guard=_GUARD)
    tail = f.binary("fmul", f.binary("fmul", t, polynomial(f, w, _TAIL)), p)
    tail = f.binary("fmul", f.binary("fmul", tail, power), like(x, 2.0**-_GUARD))
    positive = f.compare("fcmp ogt", x, like(x, 0.0))
    one = f.select(positive, like(x, 1.0), like(x, 0.0))
    return fma(f, x, one, negate(context, tail))


# erfc(t / sqrt 2) exp(t**2 / 2) / 2 in powers of the distance from the start of an interval:
# t + 1 in [1, 16), four intervals per power of two, relative error 9e-8. Row k holds the
# coefficients of power k; the interval's number is the low 4 bits of the f32's upper 11 bits.
_INTERVAL_BITS = 21
_INTERVAL_START = -(1 << _INTERVAL_BITS)
_RATIO_END = 14.9


def _ratio(t: float) -> float:
    return math.erfc(t / math.sqrt(2)) * math.exp(t * t / 2) / 2


def _ratio_table() -> tuple[tuple[float, ...], ...]:
    columns: list[tuple[float, ...]] = [()] * 16
    for k in range(16):
        width = 2.0 ** (k // 4) / 4
        start = (4 + k % 4) * width - 1
        moved = shifted(_ratio, start)
        columns[(k + 12) % 16] = interpolate(moved, 0.0, width, 5)
    return tuple(zip(*columns, strict=True))


_RATIO = _ratio_table()


def _gelu_by_table(context: Context, x: Val) -> Val:
    """As `gelu`, with a polynomial in t for each interval."""
    f = context.builder
    t = intrinsic(f, "fabs", x)
    t = f.select(f.compare("fcmp ogt", t, like(x, _RATIO_END)), like(x, _RATIO_END), t)
    place = f.binary("fadd", t, like(x, 1.0))
    bits = f.cast("bitcast", place, integer_type(x))
    start = f.binary("and", bits, int_const(_INTERVAL_START, bits.type))
    start = f.binary("fsub", f.cast("bitcast", start, x.type), like(x, 1.0))
    distance = f.binary("fsub", t, start)  # exact, while t + 1 is not
    index = f.binary("lshr", bits, int_const(_INTERVAL_BITS, bits.type))
    rows = [avx512.look_up(context, row, index) for row in _RATIO[::-1]]
    ratio = rows[0]
    for row in rows[1:]:
        ratio = fma(f, ratio, distance, row)
    half = f.binary("fmul", t, like(x, -0.5))
    square = f.binary("fmul", half, t)
    p, n = _exp_parts(context, square, fma(f, half, t, negate(context, square)))
    tail = avx512.scale(context, f.binary("fmul", f.binary("fmul", t, ratio), p), n)
    positive = f.compare("fcmp ogt", x, like(x, 0.0))
    one = f.select(positive, like(x, 1.0), like(x, 0.0))
    return fma(f, x, one, negate(context, tail))


def _quotient_error(context: Context, t: Val, below: Val, w: Val) -> Val:
    """The relative error of w = 1 / (1 + step t)."""
    f = context.builder
    lost = fma(f, t, like(t, _TAIL_STEP), f.binary("fsub", like(t, 1.0), below))
    minus = negate(context, w)
    return fma(f, minus, lost, fma(f, minus, below, like(t, 1.0)))


_GELU_LINEAR = 1.5957691216057308  # 2 sqrt(2 / pi)
_GELU_CUBIC = 0.044715 * _GELU_LINEAR


def gelu_tanh(context: Context, x: Val) -> Val:
    """x sigmoid(2 sqrt(2/pi) (x + 0.044715 x**3)), which equals x / 2 (1 + tanh(...)).

    The argument is computed in two parts, because exp turns its absolute error into a relative one.
    """
    f = context.builder
    a = clamp_keeping_nan(f, x, -13.0, 13.0)
    cubic, linear = _round_f32(_GELU_CUBIC), _round_f32(_GELU_LINEAR)
    square = f.binary("fmul", a, a)
    square_low = fma(f, a, a, negate(context, square))
    product = f.binary("fmul", square, like(x, cubic))
    low = fma(f, square, like(x, cubic), negate(context, product))
    low = fma(f, square, like(x, _GELU_CUBIC - cubic), low)
    low = fma(f, square_low, like(x, cubic), low)
    total = f.binary("fadd", product, like(x, linear))
    taken = f.binary("fsub", total, product)  # two-sum: the exact error of `total`
    error = f.binary("fsub", product, f.binary("fsub", total, taken))
    error = f.binary("fadd", error, f.binary("fsub", like(x, linear), taken))
    low = f.binary("fadd", f.binary("fadd", low, like(x, _GELU_LINEAR - linear)), error)
    z = f.binary("fmul", a, total)
    z_low = fma(f, a, low, fma(f, a, total, negate(context, z)))
    return _times_sigmoid(context, x, z, z_low)


def softplus(context: Context, x: Val) -> Val:
    """log(1 + e**x) = max(x, 0) + log1p(e**-|x|)."""
    f = context.builder
    e = exp(context, f.binary("fsub", like(x, -0.0), intrinsic(f, "fabs", x)))
    above = f.select(f.compare("fcmp olt", x, like(x, 0.0)), like(x, 0.0), x)
    return f.binary("fadd", above, log1p(context, e))


def mish(context: Context, x: Val) -> Val:
    """x tanh(softplus(x)) = x w / (w + 2), w = e**2x + 2 e**x; above 0 with e**-x."""
    f = context.builder
    e, guarded = _guarded_exp_of_minus(context, intrinsic(f, "fabs", x))
    negative = f.compare("fcmp olt", x, like(x, 0.0))
    two_e = f.binary("fadd", e, e)
    low = f.binary("fmul", guarded, f.binary("fadd", e, like(x, 2.0)))
    high = f.binary("fadd", two_e, like(x, 1.0))  # 1 + 2 e**-x
    above = f.select(negative, low, high)
    square = f.binary("fmul", e, e)
    rest = f.select(negative, like(x, 2.0), f.binary("fadd", square, square))
    below = f.binary("fadd", f.select(negative, fma(f, e, e, two_e), high), rest)
    value = f.binary("fdiv", f.binary("fmul", x, above), below)
    return _unguard(context, value, negative)
