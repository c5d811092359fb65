from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ranvier.runtime.arrays import Array
from ranvier.runtime.results import KEPT_FROM, ResultMemory

F32 = np.dtype(np.float32)
LARGE = (KEPT_FROM // 4096, 1024)


def place(array: Array) -> int:
    return array.ctypes.data


def overwrite_free_blocks(memory: ResultMemory) -> None:
    for _ in range(4):
        memory.empty(LARGE, F32)[:] = 0.0


def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    memory = ResultMemory(1)
    first = place(memory.empty(LARGE, F32))
    assert place(memory.empty(LARGE, F32)) == first
    assert first % 64 == 0
    assert memory.kept_bytes < 2 * KEPT_FROM


def test_results_in_a_loop_take_turns() -> None:
    memory = ResultMemory(1)
    places = []
    for _ in range(6):
        result = memory.empty(LARGE, F32)  # the one before is alive meanwhile
        places.append(place(result))
    assert places == places[:2] * 3
    assert places[0] != places[1]


@pytest.mark.parametrize(
    "derive",
    [
        lambda array: array,
        lambda array: array[3:, ::2],
        lambda array: array.T[5].reshape(2, -1),
        lambda array: array.view(np.uint32)[::7].view(np.float32),
        lambda array: memoryview(array),
        lambda array: np.asarray(memoryview(array))[1:],
        lambda array: array.ravel().data,
        lambda array: array.flat,
    ],
)
def test_whatever_refers_to_a_result_keeps_it(derive: Callable[[Array], object]) -> None:
    memory = ResultMemory(1)
    result = memory.empty(LARGE, F32)
    result[:] = 5.0
    kept = derive(result)
    del result
    overwrite_free_blocks(memory)
    assert np.unique(np.asarray(kept)).tolist() == [5.0]


def test_frameworks_that_take_a_result_keep_it() -> None:
    torch = pytest.importorskip("torch")
    memory = ResultMemory(1)
    tensor = torch.from_numpy(memory.empty(LARGE, F32))[2:]
    tensor.fill_(5.0)
    overwrite_free_blocks(memory)
    assert bool((tensor == 5.0).all())


def test_every_result_that_is_kept_has_memory_of_its_own() -> None:
    memory = ResultMemory(1)
    kept = []
    for number in range(6):
        result = memory.empty(LARGE, F32)
        result[:] = number
        kept.append(result)
    assert [np.unique(result).tolist() for result in kept] == [[float(n)] for n in range(6)]


def test_small_results_are_plain_arrays() -> None:
    memory = ResultMemory(1)
    assert memory.empty((16, 16), F32).flags.owndata
    assert memory.empty((0, 3), F32).shape == (0, 3)
    assert memory.kept_bytes == 0


def test_blocks_serve_results_of_similar_size() -> None:
    memory = ResultMemory(1)
    first = place(memory.empty((LARGE[0] * 3 // 2, LARGE[1]), F32))
    assert place(memory.empty(LARGE, F32)) == first
    assert place(memory.empty((LARGE[0] * 2, LARGE[1]), F32)) != first


def test_what_is_kept_is_bounded_and_can_be_released() -> None:
    memory = ResultMemory(1)
    results = [memory.empty(LARGE, F32) for _ in range(7)]
    assert memory.kept_bytes < 2 * KEPT_FROM + 1024
    memory.release()
    assert memory.kept_bytes == 0
    results[0][:] = 1.0
    assert float(results[0].min()) == 1.0
