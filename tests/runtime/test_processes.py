"""The runtime in other processes: fork, spawn, exit, signals, what an import costs."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

import ranvier
from ranvier.runtime.model import Model
from tests.runtime.conftest import expected

SOURCE = str(Path(ranvier.__file__).resolve().parents[1])


def run_python(code: str, *args: object, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def in_child(work: Callable[[], bool]) -> int:
    """Run a function in a forked child; the exit status is 0 when it returns True."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


X = np.arange(40, dtype=np.float32).reshape(10, 4)


def right(model: Model) -> bool:
    return bool(np.array_equal(model(X), expected(X)))


def test_fork_before_and_after_the_first_call(tiny: Path) -> None:
    with ranvier.load(tiny) as model:
        assert in_child(lambda: right(model)) == 0
        assert right(model)
        assert in_child(lambda: right(model) and in_child(lambda: right(model)) == 0) == 0
        assert in_child(lambda: closes(model)) == 0
        assert right(model)


def test_fork_while_another_thread_calls(tiny: Path) -> None:
    with ranvier.load(tiny) as model:
        done = threading.Event()
        failures: list[int] = []

        def call() -> None:
            while not done.is_set():
                if not right(model):
                    failures.append(1)

        caller = threading.Thread(target=call)
        caller.start()
        try:
            for _ in range(10):
                assert in_child(lambda: right(model)) == 0
        finally:
            done.set()
            caller.join()
        assert not failures


def closes(model: Model) -> bool:
    model.close()
    return True


def work_in_spawned(model: Model) -> bool:
    return right(model)


def test_spawn(tiny: Path) -> None:
    with ranvier.load(tiny) as model:
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            assert pool.apply(work_in_spawned, (model,))


def test_exit_without_close(tiny: Path) -> None:
    code = """
import sys, numpy, ranvier
model = ranvier.load(sys.argv[1])
model(numpy.zeros((3, 4), "f4"))
print(ranvier.load(sys.argv[1])(numpy.zeros((1, 4), "f4")).tolist())
"""
    result = run_python(code, tiny)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "[[2.0, 4.0, 6.0, 8.0]]\n"


def test_exit_during_a_call_of_a_daemon_thread(
    make_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_tiny(tmp_path / "slow.rvr", repeat=1 << 40)
    code = """
import sys, threading, time, numpy, ranvier
model = ranvier.load(sys.argv[1])
x = numpy.zeros((3, 4), "f4")
threading.Thread(target=model, args=(x,), daemon=True).start()
while not model._contexts: time.sleep(0.001)
"""
    assert run_python(code, path).returncode == 0


def test_an_interrupt_is_honoured_after_the_call(
    make_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_tiny(tmp_path / "slow.rvr", repeat=500)
    code = """
import os, signal, sys, threading, numpy, ranvier
model = ranvier.load(sys.argv[1])
x = numpy.zeros((3, 4), "f4")
model(x[:0])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True: model(x)
except KeyboardInterrupt:
    print("interrupted", model(x).tolist()[0])
"""
    result = run_python(code, path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "interrupted [2.0, 4.0, 6.0, 8.0]\n"


def test_the_runtime_needs_numpy_alone(tiny: Path) -> None:
    code = """
import sys
for name in ("llvmlite", "torch", "onnx", "typer", "rich"):
    sys.modules[name] = None
import numpy, ranvier
assert not any(name.startswith("ranvier.") for name in sys.modules)
ranvier.load(sys.argv[1])(numpy.zeros((3, 4), "f4"))
names = [name.split(".") for name in sys.modules]
print(sorted({parts[1] for parts in names if parts[0] == "ranvier" and len(parts) > 1}))
print(sorted({"zipfile", "tempfile", "asyncio", "typing_extensions"} & set(sys.modules)))
"""
    result = run_python(code, tiny)
    assert result.stdout.splitlines() == ["['artifact', 'errors', 'runtime']", "[]"], result.stderr
