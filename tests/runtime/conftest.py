"""A tiny hand-written model, so that the runtime's tests need no other stage of the compiler.

tmp[i, j] = x[i, j] + w[j]        rows split over the threads
barrier
y[i, j] = 2 * tmp[n - 1 - i, j]   so every thread reads what others wrote
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ranvier.artifact.format import (
    Buffer,
    Manifest,
    Program,
    Step,
    StepResult,
    Symbol,
    Target,
    TensorSpec,
    Tree,
)
from ranvier.artifact.writer import Payload, write_artifact
from ranvier.codegen.host import host_ir
from ranvier.codegen.image import Image, build_image

SOURCE = """
declare void @ranvier_barrier(ptr, i64)
declare i64 @ranvier_clock()

define internal void @rows(ptr %from, ptr %add, ptr %to, i64 %n, i64 %mirror, float %scale,
                           i64 %t, i64 %threads) {
entry:
  %a = mul i64 %n, %t
  %begin = udiv i64 %a, %threads
  %t1 = add i64 %t, 1
  %b = mul i64 %n, %t1
  %end = udiv i64 %b, %threads
  br label %rows
rows:
  %i = phi i64 [ %begin, %entry ], [ %i1, %row ]
  %more = icmp ult i64 %i, %end
  br i1 %more, label %row, label %done
row:
  %back = sub i64 %n, %i
  %last = sub i64 %back, 1
  %flip = icmp ne i64 %mirror, 0
  %source = select i1 %flip, i64 %last, i64 %i
  %p = getelementptr <4 x float>, ptr %from, i64 %source
  %v = load <4 x float>, ptr %p, align 4
  %w = load <4 x float>, ptr %add, align 4
  %s = fadd <4 x float> %v, %w
  %one = insertelement <4 x float> poison, float %scale, i64 0
  %all = shufflevector <4 x float> %one, <4 x float> poison, <4 x i32> zeroinitializer
  %r = fmul <4 x float> %s, %all
  %q = getelementptr <4 x float>, ptr %to, i64 %i
  store <4 x float> %r, ptr %q, align 4
  %i1 = add i64 %i, 1
  br label %rows
done:
  ret void
}

define internal void @tick(ptr %context, i64 %step, i64 %t) {
  %at = getelementptr i64, ptr %context, i64 2
  %ticks = load ptr, ptr %at
  %off = icmp eq ptr %ticks, null
  br i1 %off, label %done, label %on
on:
  %row = mul i64 %t, 3
  %place = add i64 %row, %step
  %word = getelementptr i64, ptr %ticks, i64 %place
  %now = call i64 @ranvier_clock()
  store i64 %now, ptr %word
  br label %done
done:
  ret void
}

define void @ranvier_run(ptr %context, i64 %t, i64 %threads) {
  %table = load ptr, ptr %context
  %dims.at = getelementptr i64, ptr %context, i64 1
  %dims = load ptr, ptr %dims.at
  %n = load i64, ptr %dims
  %repeat.at = getelementptr i64, ptr %dims, i64 1
  %repeat = load i64, ptr %repeat.at
  %x = load ptr, ptr %table
  %w.at = getelementptr ptr, ptr %table, i64 1
  %w = load ptr, ptr %w.at
  %tmp.at = getelementptr ptr, ptr %table, i64 2
  %tmp = load ptr, ptr %tmp.at
  %y.at = getelementptr ptr, ptr %table, i64 3
  %y = load ptr, ptr %y.at
  %zero = getelementptr i8, ptr %w, i64 64
  br label %again
again:
  %k = phi i64 [ 0, %0 ], [ %k1, %again ]
  call void @tick(ptr %context, i64 0, i64 %t)
  call void @rows(ptr %x, ptr %w, ptr %tmp, i64 %n, i64 0, float 1.0, i64 %t, i64 %threads)
  call void @ranvier_barrier(ptr %context, i64 %threads)
  call void @tick(ptr %context, i64 1, i64 %t)
  call void @rows(ptr %tmp, ptr %zero, ptr %y, i64 %n, i64 1, float 2.0, i64 %t, i64 %threads)
  call void @ranvier_barrier(ptr %context, i64 %threads)
  call void @tick(ptr %context, i64 2, i64 %t)
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, %repeat
  br i1 %more, label %again, label %done
done:
  ret void
}
"""
WEIGHTS = np.zeros(32, np.float32)
WEIGHTS[:4] = 1.0, 2.0, 3.0, 4.0


@pytest.fixture(scope="session")
def image() -> Image:
    return build_image([SOURCE, host_ir()])


def expected(x: np.ndarray) -> np.ndarray:
    return 2 * (x + WEIGHTS[:4])[::-1]


def tiny_manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "tiny",
        "precision": "f32",
        "symbols": (Symbol("n", 0, 1000),),
        "inputs": (TensorSpec("x", "f32", ("n", 4)),),
        "outputs": (TensorSpec("y", "f32", ("n", 4)),),
        "input_tree": Tree("dict", (("x", Tree("leaf", 0)),)),
        "output_tree": Tree("leaf", 0),
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def tiny_program(image: Image, repeat: int = 1, target: Target | None = None) -> Program:
    size = ("*", "n", 16)
    result = StepResult("tmp", "f32", ("n", 4), (4, 1), 2)
    return Program(
        target=target or Target("baseline", "x86_64", ("sse2",)),
        code="code/baseline.img",
        symbols=dict(image.symbols),
        dims=("n", repeat),
        buffers=(
            Buffer("input", size, 0),
            Buffer("weight", 128, entry="weights/0.bin"),
            Buffer("temporary", size),
            Buffer("output", size, 0),
        ),
        steps=(
            Step(
                "rows",
                "add",
                (0, 1),
                (2,),
                flops=("*", "n", 4),
                bytes=size,
                operators=("add",),
                result=result,
            ),
            Step("rows", "flip", (2, 1), (3,), operators=("flip", "mul")),
        ),
    )


@pytest.fixture(scope="session")
def make_tiny(image: Image) -> Callable[..., Path]:
    def make(path: Path, repeat: int = 1, target: Target | None = None, **changes: object) -> Path:
        program = tiny_program(image, repeat, target)
        entries: dict[str, Payload] = {
            "code/baseline.img": image.data,
            "weights/0.bin": WEIGHTS,
            "graph.txt": b"graph\n",
        }
        write_artifact(path, tiny_manifest(**changes), [program], entries)
        return path

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny") / "tiny.rvr")
