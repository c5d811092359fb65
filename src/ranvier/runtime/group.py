"""Core groups: native threads that run a program's shares, shared by all models on the same cores.

A group of n cores has n - 1 worker threads; the calling thread is thread 0. Workers are raw
pthreads that never touch Python: they run `ranvier_worker` of one image, spin for a short time
after a job and then sleep on a futex. The protocol is that of `docs/architecture.md`, section 4,
and a part of the format version, so any image can use any group.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from collections.abc import Callable

import numpy as np

from ranvier.errors import RanvierError
from ranvier.runtime.cores import Cores
from ranvier.runtime.mapping import Code, address_of
from ranvier.runtime.pool import function_address

SPIN_TURNS = 4000
"""Turns of a worker's wait loop before it sleeps: 90 microseconds on Zen 4, about 180 on Intel."""

_SEATS_AT = 32  # word of the first seat; a worker's seat is the group's address and its number
_ALL_SIGNALS = b"\xff" * 128
_SIG_SETMASK = 2

NativeCall = Callable[[int, int], None]
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_STOP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_libc = ctypes.CDLL(None)


def native_call(code: Code) -> NativeCall:
    """Return an image's `ranvier_call(group, context)`; it takes addresses, releases the GIL."""
    return _ENTRY(code.symbols["ranvier_call"])


def aligned_words(count: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], int]:
    """Return `count` zeroed 64-bit words on a 64-byte boundary, and their address."""
    raw = np.zeros(count + 8, np.uint64)
    skip = -(address_of(raw) // 8) % 8
    words = raw[skip : skip + count]
    return words, address_of(words)


class Group:
    """Threads on a set of cores.

    Hold `lock` around a call: one job runs at a time. `arena` is the memory of temporaries, shared
    by all models and shapes on the group, so resident memory is that of the largest.

    Attributes:
        cores: the CPUs.
        lock: held by the thread whose job runs.
        arena: memory for temporaries, uint8, 64-byte aligned at `arena_address`.
    """

    def __init__(self, cores: Cores, code: Code) -> None:
        self.cores = cores
        self.users = 0
        self._code = code
        self._reset()

    def _reset(self) -> None:
        """Start over without threads: a forked child has none of its parent's."""
        self.lock = threading.Lock()
        self._threads: list[ctypes.c_ulong] = []
        self._ready = False
        self.arena: np.ndarray[tuple[int], np.dtype[np.uint8]] = np.empty(0, np.uint8)
        self.arena_address = 0
        self._words, self.address = aligned_words(_SEATS_AT + 2 * self.cores.count)

    def reserve(self, size: int) -> int:
        """Return the address of an arena of at least `size` bytes; hold the lock."""
        if size > len(self.arena) or not self.arena_address:
            raw = np.empty(size + 64, np.uint8)
            skip = -address_of(raw) % 64
            self.arena = raw[skip : skip + size]
            self.arena_address = address_of(raw) + skip
        return self.arena_address

    def start(self) -> None:
        """Make the workers if they are not there; hold the lock.

        Raises:
            RanvierError: the system gives no more threads.
        """
        if self._ready:
            return
        words, cores = self._words, self.cores
        words[0] = cores.count
        words[1] = function_address("syscall")
        words[2] = SPIN_TURNS
        if cores.pinned:
            words[6], words[7] = function_address("sched_getcpu"), cores.cpus[0]
        previous = ctypes.create_string_buffer(128)
        _libc.pthread_sigmask(_SIG_SETMASK, _ALL_SIGNALS, previous)
        try:
            for thread in range(1, cores.count):
                self._threads.append(self._start_worker(thread))
        except RanvierError:
            self._join()
            raise
        finally:
            _libc.pthread_sigmask(_SIG_SETMASK, previous, None)
        self._ready = True

    def stop(self) -> None:
        """Make the workers return and wait for them; the next call makes new ones."""
        with self.lock:
            self._join()
            self.arena, self.arena_address = np.empty(0, np.uint8), 0

    def _join(self) -> None:
        if self._threads:
            _STOP(self._code.symbols["ranvier_stop"])(self.address)
        for thread in self._threads:
            _libc.pthread_join(thread, None)
        self._threads = []
        self._ready = False
        self._words, self.address = aligned_words(len(self._words))

    def after_fork(self) -> None:
        """Make the group usable in a child process."""
        self._reset()

    def _start_worker(self, thread: int) -> ctypes.c_ulong:
        seat = _SEATS_AT + 2 * thread
        self._words[seat], self._words[seat + 1] = self.address, thread
        handle = ctypes.c_ulong()
        status = _libc.pthread_create(
            ctypes.byref(handle),
            None,
            ctypes.c_void_p(self._code.symbols["ranvier_worker"]),
            ctypes.c_void_p(self.address + 8 * seat),
        )
        if status:
            raise RanvierError(
                f"cannot start worker {thread} of {self.cores.count}: {os.strerror(status)}"
            )
        cpus = self.cores.cpus[thread : thread + 1] if self.cores.pinned else self.cores.cpus
        mask = _cpu_mask(cpus)
        # Refused only where the cpuset shrank after the cores were chosen; the worker then runs
        # where it may.
        _libc.pthread_setaffinity_np(handle, ctypes.c_size_t(len(mask)), mask)
        _libc.pthread_setname_np(handle, f"ranvier-{thread}".encode())
        return handle


def _cpu_mask(cpus: tuple[int, ...]) -> bytes:
    mask = bytearray(max(128, max(cpus) // 64 * 8 + 8))
    for cpu in cpus:
        mask[cpu // 8] |= 1 << cpu % 8
    return bytes(mask)


_groups: dict[Cores, Group] = {}
_alone: list[Group] = []
_pool_lock = threading.RLock()  # a garbage collection inside it may release another model's group


def acquire(cores: Cores, code: Code) -> Group:
    """Return the group on these cores, a new one when there is none; give it back with `release`.

    A single thread that is not pinned shares nothing, so such models do not wait for each other.
    """
    with _pool_lock:
        if cores.count == 1 and not cores.pinned:
            group = Group(cores, code)
            group.users = 1
            _alone.append(group)
            return group
        found = _groups.get(cores)
        if found is not None:
            found.users += 1
            return found
        group = _groups[cores] = Group(cores, code)
        group.users = 1
        return group


def release(group: Group) -> None:
    """Give a group back; the last user's release stops its workers."""
    with _pool_lock:
        group.users -= 1
        if group.users:
            return
        if _groups.get(group.cores) is group:
            del _groups[group.cores]
        else:
            _alone.remove(group)
    group.stop()


def _after_fork_in_child() -> None:
    global _pool_lock
    _pool_lock = threading.RLock()
    for group in (*_groups.values(), *_alone):
        group.after_fork()


def _stop_all() -> None:
    """At exit, stop the workers of idle groups; a call that still runs ends with the process."""
    for group in (*_groups.values(), *_alone):
        if group.lock.acquire(timeout=1.0):
            group.lock.release()
            group.stop()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_stop_all)
