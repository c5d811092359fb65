from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from ranvier.errors import ArtifactError
from ranvier.runtime.plan import ALIGNMENT, Planner, place_greedily

lives = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda ends: (min(ends), max(ends)))
MANIFEST = Manifest(
    name="m",
    precision="f32",
    symbols=(Symbol("n", 0, 100),),
    inputs=(TensorSpec("x", "f32", ("n",)),),
    outputs=(TensorSpec("y", "f32", ("n",)),),
    input_tree=Tree("dict", (("x", Tree("leaf", 0)),)),
    output_tree=Tree("leaf", 0),
)


def program(sizes: list[int], steps: list[Step], **changes: object) -> Program:
    buffers = (
        Buffer("input", ("*", "n", 4), 0),
        Buffer("output", ("*", "n", 4), 0),
        *(Buffer("temporary", size) for size in sizes),
    )
    fields: dict[str, object] = {
        "target": Target("t", "x86_64", ()),
        "code": "code/t",
        "symbols": {},
        "dims": (),
        "buffers": buffers,
        "steps": tuple(steps),
    }
    return Program(**{**fields, **changes})  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 5000), lives), max_size=25))
def test_live_buffers_do_not_overlap(buffers: list[tuple[int, tuple[int, int]]]) -> None:
    sizes = {i: size for i, (size, _) in enumerate(buffers)}
    offsets, total = place_greedily(sizes, {i: life for i, (_, life) in enumerate(buffers)})
    for i, (size, (first, last)) in enumerate(buffers):
        assert offsets[i] % ALIGNMENT == 0
        assert 0 <= offsets[i] <= offsets[i] + size <= total
        for j, (other, (begin, end)) in enumerate(buffers[:i]):
            if size and other and first <= end and begin <= last:
                assert offsets[i] + size <= offsets[j] or offsets[j] + other <= offsets[i]
    assert total <= sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes.values())


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Steps over a few temporaries in any order, with barriers left out and pairs in place."""
    sizes = draw(st.lists(st.sampled_from([64, 100, 640]), min_size=1, max_size=8))
    numbers = st.integers(2, len(sizes) + 1)
    steps = []
    for _ in range(draw(st.integers(1, 10))):
        reads = tuple(draw(st.lists(numbers, max_size=3, unique=True)))
        writes = tuple(draw(st.lists(numbers, max_size=2, unique=True)))
        pairs = [(w, r) for w in writes for r in reads]
        in_place = tuple(draw(st.lists(st.sampled_from(pairs), max_size=3))) if pairs else ()
        steps.append(Step("k", "l", reads, writes, in_place, barrier=draw(st.booleans())))
    return program(sizes, steps)


@given(programs())
def test_only_in_place_pairs_share_memory_while_both_are_used(program: Program) -> None:
    plan = Planner(program, MANIFEST).plan({"n": 1}, threads=2)
    stages, stage = [], -1
    for number, step in enumerate(program.steps):
        stage += step.barrier or number == 0
        stages.append(stage)
    used: dict[int, list[int]] = {}
    for number, step in enumerate(program.steps):
        for buffer in {*step.reads, *step.writes}:
            used.setdefault(buffer, []).append(number)
    allowed = {pair for step in program.steps for pair in step.in_place}
    for a, first in used.items():
        for b, second in used.items():
            if a >= b:
                continue
            apart = (
                plan.offsets[a] + plan.sizes[a] <= plan.offsets[b]
                or plan.offsets[b] + plan.sizes[b] <= plan.offsets[a]
            )
            together = stages[first[0]] <= stages[second[-1]] and (
                stages[second[0]] <= stages[first[-1]]
            )
            if apart or not together:
                continue
            written, read = (b, a) if (b, a) in allowed else (a, b)
            assert (written, read) in allowed
            assert plan.sizes[a] == plan.sizes[b]
            assert used[read][-1] == used[written][0]
            assert stages.count(stages[used[written][0]]) == 1 or all(
                stages[user] < stages[used[written][0]] for user in used[read][:-1]
            )


def test_memory_is_reused_and_kept_when_asked() -> None:
    steps = [
        Step("k", "a", (0,), (2,)),
        Step("k", "b", (2,), (3,), in_place=((3, 2),)),
        Step("k", "c", (3,), (4,)),
        Step("k", "d", (4,), (1,)),
    ]
    planner = Planner(program([1000, 1000, 500], steps), MANIFEST)
    plan = planner.plan({"n": 5}, threads=1)
    assert plan.offsets[2] == plan.offsets[3]
    assert plan.arena_bytes == 1024 + 512
    kept = planner.plan({"n": 5}, threads=1, keep=True)
    assert kept.arena_bytes == 1024 + 1024 + 512


def test_memory_that_is_reserved_during_the_call_is_not_shared() -> None:
    """Sizes that depend on data have memory of their own, whatever a step may do in place."""
    steps = [
        Step("k", "a", (0,), (2,)),
        Step("k", "b", (2,), (3,), in_place=((3, 2),)),
        Step("k", "c", (3,), (4,), in_place=((4, 3),)),
    ]
    planner = Planner(program([640, 0, 0], steps, reserved=(2, 3)), MANIFEST)
    assert set(planner.plan({"n": 5}, threads=1).offsets) == {4}


def test_steps_without_a_barrier_share_no_memory() -> None:
    def arena(barrier: bool) -> int:
        steps = [
            Step("k", "a", (0,), (2,)),
            Step("k", "b", (2,), (3,)),
            Step("k", "c", (3,), (4,), barrier=barrier),
        ]
        return Planner(program([640] * 3, steps), MANIFEST).plan({"n": 1}, 2).arena_bytes

    assert arena(barrier=True) == 2 * 640
    assert arena(barrier=False) == 3 * 640


def test_dims_and_threads() -> None:
    dims = (("*", "threads", "n"), ("-", 0, "n"))
    plan = Planner(program([], [], dims=dims), MANIFEST).plan({"n": 7}, threads=3)
    assert plan.dims == (21, -7)
    assert plan.output_shapes == ((7,),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": (("*", "n", 1 << 62),)}, "does not fit into 64 bits"),
        ({"dims": (("//", 1, ("-", "n", 5)),)}, "divides by zero"),
        ({"buffers": (Buffer("temporary", ("-", 4, "n")),)}, "-1 bytes for n=5"),
        ({"buffers": (Buffer("temporary", 1 << 60),)}, "bytes for n=5"),
        ({"buffers": (Buffer("input", ("*", "n", 8), 0),)}, "uses 40 bytes"),
        ({"buffers": (Buffer("output", ("+", 1, ("*", "n", 4)), 0),)}, "uses 21 bytes"),
    ],
)
def test_sizes_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Planner(program([], [], **changes), MANIFEST).plan({"n": 5}, threads=1)


@pytest.mark.parametrize(
    ("strides", "offset"), [((4,), 0), ((1,), 8), ((-1,), 0), ((1,), -4), ((1 << 40,), 0)]
)
def test_results_stay_inside_their_buffer(strides: tuple[int, ...], offset: int) -> None:
    result = StepResult("v", "f32", ("n",), strides, 2, offset)
    planner = Planner(program([20], [Step("k", "a", (0,), (2,), result=result)]), MANIFEST)
    with pytest.raises(ArtifactError, match="reaches bytes"):
        planner.plan({"n": 5}, threads=1, keep=True)
