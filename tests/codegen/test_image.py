from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from ranvier.codegen.host import host_ir
from ranvier.codegen.image import Image, build_image, link_object
from ranvier.errors import CompileError, TargetError

RUN = "define void @ranvier_run(ptr %c, i64 %t, i64 %n) {\n  ret void\n}\n"
TABLE = """
@table = constant [4 x float] [float 1.0, float 2.0, float 3.0, float 4.0]
define float @lookup(i64 %i) {
  %p = getelementptr [4 x float], ptr @table, i64 0, i64 %i
  %v = load float, ptr %p
  ret float %v
}
define i64 @jump(i64 %i) {
entry:
  switch i64 %i, label %other [ i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %d
                                i64 4, label %e ]
a:
  ret i64 %i
b:
  %b1 = mul i64 %i, 77
  ret i64 %b1
c:
  %c1 = sub i64 5, %i
  ret i64 %c1
d:
  %d1 = call i64 @jump(i64 1)
  ret i64 %d1
e:
  %e1 = xor i64 %i, 1023
  ret i64 %e1
other:
  ret i64 -1
}
"""
FILL = """
define void @fill(ptr %p, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %q = getelementptr i8, ptr %p, i64 %i
  store i8 0, ptr %q
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


def function(image: Image, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Map an image and return one of its functions."""
    memory = mmap.mmap(-1, len(image.data), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(image.data)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    callable_ = ctypes.CFUNCTYPE(result, *arguments)(base + image.symbols[name])
    callable_.memory = memory  # type: ignore[attr-defined]
    return callable_


@pytest.mark.parametrize("optimized", [False, True])
def test_constants_calls_and_jump_tables(optimized: bool) -> None:
    image = build_image(TABLE, optimized=optimized)
    lookup = function(image, "lookup", ctypes.c_float, ctypes.c_int64)
    assert [lookup(i) for i in range(4)] == [1.0, 2.0, 3.0, 4.0]
    jump = function(image, "jump", ctypes.c_int64, ctypes.c_int64)
    assert [jump(i) for i in range(6)] == [0, 77, 3, 77, 1019, -1]


def test_several_modules_and_features() -> None:
    user = "declare float @lookup(i64)\ndefine float @second() {\n"
    user += "  %v = call float @lookup(i64 1)\n  ret float %v\n}\n"
    image = build_image([user, TABLE], cpu="x86-64-v3", features=("avx2", "fma"))
    assert function(image, "second", ctypes.c_float)() == 2.0


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 64, 100, 257])
def test_memory_functions(size: int) -> None:
    image = build_image([RUN, host_ir()])
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    source = np.random.default_rng(size).integers(0, 255, size + 32, np.uint8)
    target = np.full(size + 32, 7, np.uint8)
    memcpy = function(image, "memcpy", pointer, pointer, pointer, number)
    memcpy(target.ctypes.data, source.ctypes.data, size)
    np.testing.assert_array_equal(target[:size], source[:size])
    assert (target[size:] == 7).all()
    memset = function(image, "memset", pointer, pointer, ctypes.c_int32, number)
    memset(target.ctypes.data + 1, 300, size)
    assert (target[1 : size + 1] == 300 % 256).all()
    assert (target[size + 1 :] == 7).all()
    memmove = function(image, "memmove", pointer, pointer, pointer, number)
    for to, start in ((0, 3), (3, 0), (0, 32), (32, 0), (5, 5)):
        moved = source.copy()
        memmove(moved.ctypes.data + to, moved.ctypes.data + start, size)
        wanted = source.copy()
        wanted[to : to + size] = source[start : start + size]
        np.testing.assert_array_equal(moved, wanted)


@pytest.mark.parametrize(
    "head", ["(ptr %p, i64 %n) {", "(ptr %p,\n    i64 %n)\n  nounwind {", "(ptr %p, i64 %n) #0 {"]
)
def test_loops_do_not_become_calls(head: str) -> None:
    source = FILL.replace("(ptr %p, i64 %n) {", head) + "attributes #0 = { nounwind }\n"
    assert set(build_image([source]).symbols) == {"fill"}


def test_calls_that_llvm_forms_stay_inside() -> None:
    copy = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define void @copy(ptr %to, ptr %from, i64 %n) {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %n, i1 false)
  ret void
}
"""
    image = build_image([RUN, copy, host_ir()])
    source, target = np.arange(100, dtype=np.uint8), np.zeros(100, np.uint8)
    pointer = ctypes.c_void_p
    function(image, "copy", None, pointer, pointer, ctypes.c_int64)(
        target.ctypes.data, source.ctypes.data, 100
    )
    np.testing.assert_array_equal(source, target)
    with pytest.raises(CompileError, match="memcpy"):
        build_image(copy)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("define void @f() {\n  ret i32 1\n}", "cannot parse"),
        (
            "declare float @expf(float)\ndefine float @f(float %x) {\n"
            "  %y = call float @expf(float %x)\n  ret float %y\n}",
            "no module defines: expf",
        ),
        (
            "@g = global i32 4\ndefine void @f() {\n  store i32 7, ptr @g\n  ret void\n}",
            "'.data' .* is writable",
        ),
        (
            "@g = constant ptr @f\ndefine ptr @f() {\n  %p = load volatile ptr, ptr @g\n"
            "  ret ptr %p\n}",
            "holds addresses",
        ),
    ],
)
def test_refused(source: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        build_image(source)


def test_other_machines() -> None:
    with pytest.raises(CompileError, match="nonsense"):
        build_image(FILL, target_triple="nonsense-unknown-none")
    with pytest.raises(CompileError, match="ELF machine 183"):
        build_image(FILL, target_triple="aarch64-unknown-linux-gnu")
    with pytest.raises(CompileError, match="ELF machine"):
        link_object(b"\x7fELF\x02\x01" + bytes(100))
    with pytest.raises(TargetError, match="mips"):
        host_ir("mips")


def test_the_host_functions_are_valid_for_aarch64() -> None:
    llvm.parse_assembly(host_ir("aarch64")).verify()
