from __future__ import annotations

from pathlib import Path

import pytest

from ranvier.artifact.format import Target
from ranvier.errors import TargetError
from ranvier.runtime.cpu import choose_target, host_features, plain

V3 = Target("v3", "x86_64", ("avx2", "fma", "lzcnt", "bmi", "sse4.2"))
BF16 = Target("bf16", "x86_64", (*V3.features, "avx512f", "avx512bf16"))
ARM = Target("arm", "aarch64", ("neon",))
AVX2_FLAGS = "avx2 fma abm bmi1 sse4_2"


def features(flags: str) -> frozenset[str]:
    return frozenset(plain(flag) for flag in flags.split())


def choose(flags: str, **environment: str) -> str:
    targets = [ARM, V3, BF16]
    return targets[choose_target(targets, environment, features(flags), "x86_64")].name


def test_the_best_that_fits() -> None:
    assert choose(AVX2_FLAGS) == "v3"
    assert choose(AVX2_FLAGS + " avx512f avx512_bf16") == "bf16"


def test_one_can_be_forced() -> None:
    assert choose(AVX2_FLAGS + " avx512f avx512_bf16", RANVIER_TARGET="v3") == "v3"
    with pytest.raises(TargetError, match="no such target; it has arm, v3, bf16"):
        choose(AVX2_FLAGS, RANVIER_TARGET="v9")
    with pytest.raises(TargetError, match="bf16 needs avx512f, avx512bf16"):
        choose(AVX2_FLAGS, RANVIER_TARGET="bf16")


def test_what_is_missing_is_listed() -> None:
    with pytest.raises(TargetError, match=r"arm needs a machine of type aarch64; v3 needs fma"):
        choose("avx2 abm bmi1 sse4_2")


def test_features_are_read_from_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 amx_tile sse4_1\n\nflags : x\n")
    assert host_features(str(path)) == {"fpu", "avx512bf16", "amxtile", "sse41"}
    path.with_name("empty").write_text("")
    assert host_features(str(path.with_name("empty"))) == frozenset()
