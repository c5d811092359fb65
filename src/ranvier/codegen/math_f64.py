"""Vector mathematics in f64, also used for the rare functions of f32 (which are then correctly
rounded almost always).

Sources: fdlibm (Sun Microsystems) for the polynomials of log, sin, cos, asin; S. Moshier's Cephes
for atan; Taylor coefficients for exp. Special values follow C's Annex F.
"""

from __future__ import annotations

import math

from ranvier.codegen import logarithm_steps, trigonometry
from ranvier.codegen.builder import I64, Val, int_const, lanes_of, vector
from ranvier.codegen.math_context import (
    Context,
    clamp_keeping_nan,
    fma,
    intrinsic,
    like,
    negate,
    polynomial,
)

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_EXP = tuple(1 / math.factorial(k) for k in range(13, 1, -1))
_LOG = (
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
    2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
    6.666666666666735130e-01,
)  # fmt: skip
_INFINITY = math.inf


# Exponentials ------------------------------------------------------------------------------------
def _reduce(context: Context, x: Val) -> tuple[Val, Val]:
    f = context.builder
    n = intrinsic(f, "roundeven", f.binary("fmul", x, like(x, _LOG2E)))
    r = fma(f, n, like(x, -_LN2_HIGH), x)
    return n, fma(f, n, like(x, -_LN2_LOW), r)


def _tail(context: Context, r: Val) -> Val:
    """exp(r) - 1."""
    f = context.builder
    return fma(f, f.binary("fmul", r, r), polynomial(f, r, _EXP), r)


def _powers(context: Context, n: Val) -> tuple[Val, Val]:
    """2**(n/2) twice, so that their product may leave the normal range; n is integral."""
    f = context.builder
    magic = like(n, 1.5 * 2**52)
    bits = f.cast("bitcast", f.binary("fadd", n, magic), vector(lanes_of(n.type), I64))
    whole = f.binary("sub", bits, int_const(0x4338000000000000, bits.type))
    half = f.binary("ashr", whole, int_const(1, bits.type))
    rest = f.binary("sub", whole, half)
    return _power(context, half, n.type), _power(context, rest, n.type)


def _power(context: Context, n: Val, type: str) -> Val:
    f = context.builder
    biased = f.binary("add", n, int_const(1023, n.type))
    return f.cast("bitcast", f.binary("shl", biased, int_const(52, n.type)), type)


def exp(context: Context, x: Val) -> Val:
    """e**x."""
    f = context.builder
    n, r = _reduce(context, clamp_keeping_nan(f, x, -746.0, 710.0))
    value = f.binary("fadd", _tail(context, r), like(x, 1.0))
    a, b = _powers(context, n)
    return f.binary("fmul", f.binary("fmul", value, a), b)


def exp2(context: Context, x: Val) -> Val:
    """2**x."""
    f = context.builder
    x = clamp_keeping_nan(f, x, -1076.0, 1025.0)
    n = intrinsic(f, "roundeven", x)
    r = f.binary("fmul", f.binary("fsub", x, n), like(x, math.log(2)))
    value = f.binary("fadd", _tail(context, r), like(x, 1.0))
    a, b = _powers(context, n)
    return f.binary("fmul", f.binary("fmul", value, a), b)


def expm1(context: Context, x: Val) -> Val:
    """e**x - 1 = 2 (2**(n-1) (e**r - 1) + 2**(n-1) - 1/2)."""
    f = context.builder
    n, r = _reduce(context, clamp_keeping_nan(f, x, -45.0, 709.9))
    a, b = _powers(context, f.binary("fsub", n, like(x, 1.0)))
    half = f.binary("fmul", a, b)
    value = fma(f, _tail(context, r), half, f.binary("fsub", half, like(x, 0.5)))
    return intrinsic(f, "copysign", f.binary("fadd", value, value), x)


def sinh(context: Context, x: Val) -> Val:
    """(t + t / (t + 1)) / 2 with t = expm1(|x|); e**(|x| - ln 2) where that overflows."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    t = expm1(context, clamp_keeping_nan(f, size, 0.0, 700.0))
    ratio = f.binary("fdiv", t, f.binary("fadd", t, like(x, 1.0)))
    small = f.binary("fmul", f.binary("fadd", t, ratio), like(x, 0.5))
    value = f.select(f.compare("fcmp ogt", size, like(x, 22.0)), _half_exp(context, size), small)
    return intrinsic(f, "copysign", value, x)


def _half_exp(context: Context, size: Val) -> Val:
    """e**size / 2 without overflow in between."""
    f = context.builder
    root = exp(context, f.binary("fmul", size, like(size, 0.5)))
    return f.binary("fmul", f.binary("fmul", root, like(size, 0.5)), root)


def cosh(context: Context, x: Val) -> Val:
    """(e**|x| + e**-|x|) / 2."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    half = _half_exp(context, size)
    return f.binary("fadd", half, f.binary("fdiv", like(x, 0.25), half))


def tanh(context: Context, x: Val) -> Val:
    """-e / (e + 2) with e = expm1(-2 |x|)."""
    f = context.builder
    doubled = f.binary("fmul", intrinsic(f, "fabs", x), like(x, -2.0))
    e = expm1(context, doubled)
    return intrinsic(f, "copysign", f.binary("fdiv", e, f.binary("fadd", e, like(x, 2.0))), x)


def sigmoid(context: Context, x: Val) -> Val:
    """1 / (1 + e**-x), by e**-|x|."""
    f = context.builder
    e = exp(context, negate(context, intrinsic(f, "fabs", x)))
    above = f.select(f.compare("fcmp olt", x, like(x, 0.0)), e, like(x, 1.0))
    return f.binary("fdiv", above, f.binary("fadd", e, like(x, 1.0)))


def silu(context: Context, x: Val) -> Val:
    """x sigmoid(x)."""
    return context.builder.binary("fmul", x, sigmoid(context, x))


def gelu_tanh(context: Context, x: Val) -> Val:
    """x sigmoid(2 sqrt(2/pi) (x + 0.044715 x**3))."""
    f = context.builder
    factor = 2 * math.sqrt(2 / math.pi)
    square = f.binary("fmul", x, x)
    inner = fma(f, square, like(x, 0.044715 * factor), like(x, factor))
    return f.binary("fmul", x, sigmoid(context, f.binary("fmul", x, inner)))


def softplus(context: Context, x: Val) -> Val:
    """max(x, 0) + log1p(e**-|x|)."""
    f = context.builder
    e = exp(context, negate(context, intrinsic(f, "fabs", x)))
    above = f.select(f.compare("fcmp olt", x, like(x, 0.0)), like(x, 0.0), x)
    return f.binary("fadd", above, log1p(context, e))


def mish(context: Context, x: Val) -> Val:
    """x tanh(softplus(x))."""
    return context.builder.binary("fmul", x, tanh(context, softplus(context, x)))


# Logarithms --------------------------------------------------------------------------------------
def _log_of(context: Context, e: Val, fraction: Val) -> Val:
    """e ln 2 + log(1 + fraction), fdlibm's e_log.c."""
    f = context.builder
    s = f.binary("fdiv", fraction, f.binary("fadd", fraction, like(e, 2.0)))
    z = f.binary("fmul", s, s)
    rest = f.binary("fmul", z, polynomial(f, z, _LOG))
    half = f.binary("fmul", f.binary("fmul", fraction, fraction), like(e, 0.5))
    inner = fma(f, s, f.binary("fadd", half, rest), f.binary("fmul", e, like(e, _LN2_LOW)))
    low = f.binary("fsub", f.binary("fsub", half, inner), fraction)
    return fma(f, e, like(e, _LN2_HIGH), negate(context, low))


def log(context: Context, x: Val) -> Val:
    """Natural logarithm."""
    e, m = logarithm_steps.split(context, x)
    fraction = context.builder.binary("fsub", m, like(x, 1.0))
    return logarithm_steps.special(context, x, _log_of(context, e, fraction))


def _log_base(context: Context, x: Val, inverse: float, whole: float) -> Val:
    f = context.builder
    e, m = logarithm_steps.split(context, x)
    fraction = _log_of(context, like(x, 0.0), f.binary("fsub", m, like(x, 1.0)))
    value = fma(f, fraction, like(x, inverse), f.binary("fmul", e, like(x, whole)))
    return logarithm_steps.special(context, x, value)


def log2(context: Context, x: Val) -> Val:
    """Binary logarithm."""
    return _log_base(context, x, _LOG2E, 1.0)


def log10(context: Context, x: Val) -> Val:
    """Decimal logarithm."""
    return _log_base(context, x, 1 / math.log(10), math.log10(2))


def log1p(context: Context, x: Val) -> Val:
    """log(1 + x), with the rounding error of 1 + x carried into the fraction."""
    f = context.builder
    u, error = logarithm_steps.one_plus(context, x)
    e, m = logarithm_steps.split(context, u)
    bounded = clamp_keeping_nan(f, negate(context, e), -1000.0, 1000.0)
    a, b = _powers(context, bounded)
    fraction = fma(f, f.binary("fmul", error, a), b, f.binary("fsub", m, like(x, 1.0)))
    value = logarithm_steps.special(context, u, _log_of(context, e, fraction))
    small = f.compare("fcmp olt", intrinsic(f, "fabs", x), like(x, 1e-100))
    return f.select(small, x, value)


# Inverse hyperbolic ------------------------------------------------------------------------------
def asinh(context: Context, x: Val) -> Val:
    """log1p(|x| + x**2 / (1 + sqrt(x**2 + 1))); log|x| + ln 2 for large |x|."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    square = f.binary("fmul", x, x)
    root = intrinsic(f, "sqrt", f.binary("fadd", square, like(x, 1.0)))
    ratio = f.binary("fdiv", square, f.binary("fadd", root, like(x, 1.0)))
    value = _large(context, size, log1p(context, f.binary("fadd", size, ratio)))
    return intrinsic(f, "copysign", value, x)


def acosh(context: Context, x: Val) -> Val:
    """log1p(t + sqrt(2 t + t**2)), t = x - 1; log x + ln 2 for large x; NaN below 1."""
    f = context.builder
    t = f.binary("fsub", x, like(x, 1.0))
    root = intrinsic(f, "sqrt", fma(f, t, t, f.binary("fadd", t, t)))
    value = _large(context, x, log1p(context, f.binary("fadd", t, root)))
    return f.select(f.compare("fcmp oge", x, like(x, 1.0)), value, like(x, math.nan))


def _large(context: Context, x: Val, value: Val) -> Val:
    f = context.builder
    simple = f.binary("fadd", log(context, x), like(x, math.log(2)))
    return f.select(f.compare("fcmp ogt", x, like(x, 1e10)), simple, value)


def atanh(context: Context, x: Val) -> Val:
    """log1p(2 |x| / (1 - |x|)) / 2."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    doubled = f.binary("fadd", size, size)
    ratio = f.binary("fdiv", doubled, f.binary("fsub", like(x, 1.0), size))
    value = f.binary("fmul", log1p(context, ratio), like(x, 0.5))
    return intrinsic(f, "copysign", value, x)


# Error function ----------------------------------------------------------------------------------
# Least-squares fits in f64 against torch.special.erf and erfcx, relative error 2e-15
_ERF = (
    9.744005895365527e-11, -1.4858706366302956e-09, 1.5878082427411672e-08, -1.6576361223369856e-07,
    1.6486193865382196e-06, -1.4927369428774499e-05, 0.00012055410947045408, -0.0008548329230583663,
    0.005223977662401293, -0.026866170648489146, 0.11283791670972756, -0.3761263890318483,
    1.1283791670955123,
)  # fmt: skip
_ERFCX = (
    6.832793514638331e-11, -6.72664991721617e-11, -2.2104083916737606e-10, 6.977234368573551e-10,
    -1.3079343032614948e-09, -2.4438643162480143e-09, 1.8005562048071914e-08,
    -1.2308019948119773e-08, -1.2829694938222992e-07, 2.9511351560546184e-07, 7.33151786672543e-07,
    -3.5936614828644097e-06, -4.008324549968338e-06, 4.108710023701658e-05, 3.778051869271876e-05,
    -0.000526801202498912, -0.0011050187507902845, 0.0069656660067272036, 0.05230273245968175,
    0.18468822375957591, 0.4423438546149286,
)  # fmt: skip
_ERFCX_LOW, _ERFCX_HIGH = 0.06779661016949153, 0.7142857142857143


def _erf_parts(context: Context, t: Val) -> tuple[Val, Val]:
    """(erf(t) for t < 1, erfc(t) for 1 <= t), t >= 0."""
    f = context.builder
    small = f.binary("fmul", t, polynomial(f, f.binary("fmul", t, t), _ERF))
    t = clamp_keeping_nan(f, t, 0.8, 27.5)
    w = f.binary("fdiv", like(t, 1.0), fma(f, t, like(t, 0.5), like(t, 1.0)))
    middle, width = (_ERFCX_HIGH + _ERFCX_LOW) / 2, (_ERFCX_HIGH - _ERFCX_LOW) / 2
    k = f.binary("fmul", f.binary("fsub", w, like(t, middle)), like(t, 1 / width))
    scaled = f.binary("fmul", w, polynomial(f, k, _ERFCX))
    square = f.binary("fmul", t, t)
    low = fma(f, t, t, negate(context, square))
    decay = exp(context, negate(context, square))
    decay = f.binary("fmul", decay, f.binary("fsub", like(t, 1.0), low))
    return small, f.binary("fmul", decay, scaled)


def erf(context: Context, x: Val) -> Val:
    """The error function."""
    f = context.builder
    size = intrinsic(f, "fabs", x)
    small, rest = _erf_parts(context, size)
    near = f.compare("fcmp olt", size, like(x, 1.0))
    value = f.select(near, small, f.binary("fsub", like(x, 1.0), rest))
    return intrinsic(f, "copysign", value, x)


def gelu(context: Context, x: Val) -> Val:
    """x Q(-x) below 0 and x - x Q(x) above, Q(t) = erfc(t / sqrt 2) / 2."""
    f = context.builder
    t = f.binary("fmul", intrinsic(f, "fabs", x), like(x, math.sqrt(0.5)))
    small, rest = _erf_parts(context, t)
    near = f.compare("fcmp olt", t, like(x, 1.0))
    complement = f.select(near, f.binary("fsub", like(x, 1.0), small), rest)
    bounded = f.select(f.compare("fcmp ogt", x, like(x, 40.0)), like(x, 40.0), x)
    product = f.binary("fmul", bounded, f.binary("fmul", complement, like(x, 0.5)))
    negative = f.compare("fcmp olt", x, like(x, 0.0))
    return f.select(negative, product, f.binary("fsub", x, product))


# Power -------------------------------------------------------------------------------------------
def power(context: Context, x: Val, y: Val) -> Val:
    """x**y = e**(y log|x|) with C's special values; relative error up to 1e-13 for huge results in
    f64.
    """
    f = context.builder
    zero, one = like(x, 0.0), like(x, 1.0)
    size = intrinsic(f, "fabs", x)
    value = exp(context, f.binary("fmul", y, log(context, size)))
    integral = f.compare("fcmp oeq", intrinsic(f, "floor", y), y)
    half = f.binary("fmul", y, like(y, 0.5))
    halved = f.compare("fcmp une", intrinsic(f, "floor", half), half)
    odd = f.binary("and", integral, halved)
    value = f.select(odd, intrinsic(f, "copysign", value, x), value)
    negative = f.compare("fcmp olt", x, zero)
    finite = f.compare("fcmp olt", size, like(x, _INFINITY))
    not_integral = f.binary("xor", integral, int_const(-1, integral.type))
    undefined = f.binary("and", f.binary("and", negative, finite), not_integral)
    value = f.select(undefined, like(x, math.nan), value)
    endless = f.compare("fcmp oeq", intrinsic(f, "fabs", y), like(y, _INFINITY))
    unit = f.binary("and", endless, f.compare("fcmp oeq", size, one))
    always = f.binary("or", f.compare("fcmp oeq", y, zero), f.compare("fcmp oeq", x, one))
    return f.select(f.binary("or", unit, always), one, value)


FUNCTIONS = {
    "exp": exp, "exp2": exp2, "expm1": expm1, "log": log, "log2": log2, "log10": log10,
    "log1p": log1p, "sinh": sinh, "cosh": cosh, "tanh": tanh, "sigmoid": sigmoid, "silu": silu,
    "softplus": softplus, "mish": mish, "gelu_tanh": gelu_tanh, "asinh": asinh, "acosh": acosh,
    "atanh": atanh, "erf": erf, "gelu": gelu, **trigonometry.FUNCTIONS,
}  # fmt: skip
