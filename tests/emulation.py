"""Code for AVX-512 on a CPU that has AVX2 alone: tests of what the machine at hand lacks.

LLVM splits vectors of 512 bits by itself; what it cannot do is the instructions that are called by
name. `emulated` gives them definitions in plain LLVM IR, as Intel's manual specifies them (Software
Developer's Manual, volume 2). It is slow, and says nothing about speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

from ranvier import compiler
from ranvier.codegen.image import Image, build_image
from ranvier.runtime import cpu
from ranvier.target import TARGETS, Target

_PRESENT = cpu.host_features()

BASE = TARGETS["x86-64-v3"]
"""What emulated code is compiled for."""

_FIXED = r"""
define linkonce_odr hidden <16 x float> @emulated.avx512.mask.scalef.ps.512(
    <16 x float> %x, <16 x float> %n, <16 x float> %s, i16 %mask, i32 %rounding) alwaysinline {
  %whole = call <16 x float> @llvm.floor.v16f32(<16 x float> %n)
  %low = call <16 x float> @llvm.maximum.v16f32(
    <16 x float> %whole, <16 x float> splat (float -300.0))
  %near = call <16 x float> @llvm.minimum.v16f32(
    <16 x float> %low, <16 x float> splat (float 300.0))
  %power = call <16 x i64> @llvm.fptosi.sat.v16i64.v16f32(<16 x float> %near)
  %biased = add <16 x i64> %power, splat (i64 1023)
  %bits = shl <16 x i64> %biased, splat (i64 52)
  %scale = bitcast <16 x i64> %bits to <16 x double>
  %wide = fpext <16 x float> %x to <16 x double>
  %product = fmul <16 x double> %wide, %scale
  %result = fptrunc <16 x double> %product to <16 x float>
  %size = call <16 x float> @llvm.fabs.v16f32(<16 x float> %x)
  %huge = fcmp oeq <16 x float> %size, splat (float 0x7FF0000000000000)
  %down = fcmp oeq <16 x float> %n, splat (float 0xFFF0000000000000)
  %none = fcmp oeq <16 x float> %x, zeroinitializer
  %up = fcmp oeq <16 x float> %n, splat (float 0x7FF0000000000000)
  %unknown = fcmp uno <16 x float> %n, %n
  %first = and <16 x i1> %huge, %down
  %second = and <16 x i1> %none, %up
  %either = or <16 x i1> %first, %second
  %nan = or <16 x i1> %either, %unknown
  %r = select <16 x i1> %nan, <16 x float> splat (float 0x7FF8000000000000), <16 x float> %result
  ret <16 x float> %r
}
define linkonce_odr hidden <16 x float> @emulated.avx512.mask.reduce.ps.512(
    <16 x float> %x, i32 %floor, <16 x float> %s, i16 %mask, i32 %rounding) alwaysinline {
  %whole = call <16 x float> @llvm.floor.v16f32(<16 x float> %x)
  %rest = fsub <16 x float> %x, %whole
  %size = call <16 x float> @llvm.fabs.v16f32(<16 x float> %x)
  %huge = fcmp oeq <16 x float> %size, splat (float 0x7FF0000000000000)
  %r = select <16 x i1> %huge, <16 x float> zeroinitializer, <16 x float> %rest
  ret <16 x float> %r
}
define linkonce_odr hidden <16 x float> @emulated.avx512.rcp14.ps.512(
    <16 x float> %x, <16 x float> %s, i16 %mask) alwaysinline {
  %exact = fdiv <16 x float> splat (float 1.0), %x
  %bits = bitcast <16 x float> %exact to <16 x i32>
  %up = add <16 x i32> %bits, splat (i32 256)
  %short = and <16 x i32> %up, splat (i32 -512)
  %rounded = bitcast <16 x i32> %short to <16 x float>
  %nan = fcmp uno <16 x float> %x, %x
  %r = select <16 x i1> %nan, <16 x float> %x, <16 x float> %rounded
  ret <16 x float> %r
}
define linkonce_odr hidden <16 x float> @emulated.avx512.mask.fixupimm.ps.512(
    <16 x float> %value, <16 x float> %x, <16 x i32> %table, i32 %flags, i16 %mask, i32 %rounding)
    alwaysinline {
  %shifted = lshr <16 x i32> %table, splat (i32 16)
  %response = and <16 x i32> %shifted, splat (i32 15)
  %asked = icmp eq <16 x i32> %response, splat (i32 3)
  %below = fcmp oeq <16 x float> %x, splat (float 0xFFF0000000000000)
  %both = and <16 x i1> %asked, %below
  %r = select <16 x i1> %both, <16 x float> splat (float 0xFFF8000000000000), <16 x float> %value
  ret <16 x float> %r
}
declare <16 x float> @llvm.floor.v16f32(<16 x float>)
declare <16 x float> @llvm.fabs.v16f32(<16 x float>)
declare <16 x float> @llvm.maximum.v16f32(<16 x float>, <16 x float>)
declare <16 x float> @llvm.minimum.v16f32(<16 x float>, <16 x float>)
declare <16 x i64> @llvm.fptosi.sat.v16i64.v16f32(<16 x float>)
"""
"""Of `fixupimm` only the response "indefinite NaN" (3) to minus infinity (class 4), which is what
the code generator asks for; `rcp14` is off by up to 2**-15, `reduce` rounds towards minus infinity.
"""

_DOT = """
define linkonce_odr hidden <N x float> @emulated.avx512bf16.dpbf16ps.BITS(
    <N x float> %sum, <M x bfloat> %a, <M x bfloat> %b) alwaysinline {
  %x = bitcast <M x bfloat> %a to <N x i32>
  %y = bitcast <M x bfloat> %b to <N x i32>
  %x.1.bits = and <N x i32> %x, splat (i32 -65536)
  %y.1.bits = and <N x i32> %y, splat (i32 -65536)
  %x.0.bits = shl <N x i32> %x, splat (i32 16)
  %y.0.bits = shl <N x i32> %y, splat (i32 16)
  %x.1 = call <N x float> @emulated.flush.N(<N x i32> %x.1.bits)
  %y.1 = call <N x float> @emulated.flush.N(<N x i32> %y.1.bits)
  %x.0 = call <N x float> @emulated.flush.N(<N x i32> %x.0.bits)
  %y.0 = call <N x float> @emulated.flush.N(<N x i32> %y.0.bits)
  %odd = call <N x float> @llvm.fma.vNf32(<N x float> %x.1, <N x float> %y.1, <N x float> %sum)
  %odd.bits = bitcast <N x float> %odd to <N x i32>
  %first = call <N x float> @emulated.flush.N(<N x i32> %odd.bits)
  %both = call <N x float> @llvm.fma.vNf32(<N x float> %x.0, <N x float> %y.0, <N x float> %first)
  %both.bits = bitcast <N x float> %both to <N x i32>
  %r = call <N x float> @emulated.flush.N(<N x i32> %both.bits)
  ret <N x float> %r
}
declare <N x float> @llvm.fma.vNf32(<N x float>, <N x float>, <N x float>)
"""

_ROUND = """
define linkonce_odr hidden <N x float> @emulated.flush.N(<N x i32> %bits) alwaysinline {
  %size = and <N x i32> %bits, splat (i32 2147483647)
  %denormal = icmp ult <N x i32> %size, splat (i32 8388608)
  %sign = and <N x i32> %bits, splat (i32 -2147483648)
  %flushed = select <N x i1> %denormal, <N x i32> %sign, <N x i32> %bits
  %r = bitcast <N x i32> %flushed to <N x float>
  ret <N x float> %r
}
define linkonce_odr hidden <N x bfloat> @emulated.round.N(<N x float> %value) alwaysinline {
  %given = bitcast <N x float> %value to <N x i32>
  %x = call <N x float> @emulated.flush.N(<N x i32> %given)
  %bits = bitcast <N x float> %x to <N x i32>
  %upper = lshr <N x i32> %bits, splat (i32 16)
  %odd = and <N x i32> %upper, splat (i32 1)
  %bias = add <N x i32> %odd, splat (i32 32767)
  %sum = add <N x i32> %bits, %bias
  %rounded = lshr <N x i32> %sum, splat (i32 16)
  %quiet = or <N x i32> %upper, splat (i32 64)
  %nan = fcmp uno <N x float> %x, %x
  %chosen = select <N x i1> %nan, <N x i32> %quiet, <N x i32> %rounded
  %short = trunc <N x i32> %chosen to <N x i16>
  %r = bitcast <N x i16> %short to <N x bfloat>
  ret <N x bfloat> %r
}
"""

_ROUND_TWO = """
define linkonce_odr hidden <32 x bfloat> @emulated.avx512bf16.cvtne2ps2bf16.512(
    <16 x float> %high, <16 x float> %low) alwaysinline {
  %x = shufflevector <16 x float> %low, <16 x float> %high, <32 x i32> <INDICES>
  %r = call <32 x bfloat> @emulated.round.32(<32 x float> %x)
  ret <32 x bfloat> %r
}
""".replace("INDICES", ", ".join(f"i32 {i}" for i in range(32)))


def _permute() -> str:
    """`permvar`: element `index % 16` of a table, for every element of an index."""
    lines = ["  %within = and <16 x i32> %index, splat (i32 15)"]
    for i in range(16):
        before = f"%r.{i}" if i else "poison"
        lines += [
            f"  %place.{i} = extractelement <16 x i32> %within, i32 {i}",
            f"  %value.{i} = extractelement <16 x float> %table, i32 %place.{i}",
            f"  %r.{i + 1} = insertelement <16 x float> {before}, float %value.{i}, i32 {i}",
        ]
    body = "\n".join(lines)
    return (
        "define linkonce_odr hidden <16 x float> @emulated.avx512.permvar.sf.512("
        f"<16 x float> %table, <16 x i32> %index) alwaysinline {{\n{body}\n"
        "  ret <16 x float> %r.16\n}\n"
    )


def _of_lanes(template: str, lanes: int) -> str:
    text = template.replace("<N x", f"<{lanes} x").replace("<M x", f"<{2 * lanes} x")
    text = re.sub(r"(flush|round)\.N", rf"\g<1>.{lanes}", text)
    return text.replace("vNf32", f"v{lanes}f32").replace("BITS", str(32 * lanes))


SUPPORT = "\n".join(
    (
        _FIXED,
        _permute(),
        *(_of_lanes(_ROUND, lanes) for lanes in (4, 8, 16, 32)),
        *(_of_lanes(_DOT, lanes) for lanes in (4, 8, 16)),
        _ROUND_TWO,
    )
)
"""The module to link with what `emulated` returns."""

_NARROWING = re.compile(r"fptrunc <(\d+) x float> (\S+) to <\1 x bfloat>")
_CALLED_BY_NAME = re.compile(r"@llvm\.x86\.(avx512)")


def emulated(llvm_ir: str) -> str:
    """The module with calls of `SUPPORT` instead of instructions that AVX2 lacks."""
    text = _CALLED_BY_NAME.sub(r"@emulated.\1", llvm_ir)
    declared = {
        f"declare <{lanes} x bfloat> @emulated.round.{lanes}(<{lanes} x float>)\n"
        for lanes, _ in _NARROWING.findall(text)
    }
    text = _NARROWING.sub(r"call <\1 x bfloat> @emulated.round.\1(<\1 x float> \2)", text)
    return text + "".join(sorted(declared))


def is_emulated(target: Target) -> bool:
    """Whether this CPU cannot run the target's code itself."""
    return not _needed(target) <= _PRESENT


def _needed(target: Target) -> set[str]:
    return {cpu.plain(feature) for feature in target.features}


@contextmanager
def emulation() -> Iterator[None]:
    """Within it the compiler emulates AVX-512, and the runtime believes that the CPU has it."""

    def build(modules: Sequence[str], triple: str, name: str, features: Sequence[str]) -> Image:
        given = [emulated(text) for text in modules]
        return build_image((*given, SUPPORT), BASE.triple, BASE.cpu, BASE.features)

    every = _PRESENT.union(*map(_needed, TARGETS.values()))
    with (
        mock.patch.object(compiler, "build_image", build),
        mock.patch.object(cpu, "host_features", return_value=every),
    ):
        yield
