"""Compiles a kernel for this machine and calls it on NumPy arrays, for tests."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence

import llvmlite.binding as llvm
import numpy as np

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.optimize import optimize
from ranvier.target import Target
from tests.emulation import BASE, SUPPORT, emulated, is_emulated

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def assembly(writer: ModuleWriter, target: Target) -> str:
    """The target's assembly of a module, on any machine."""
    module = llvm.parse_assembly(str(writer))
    return _prepare(module, target).emit_assembly(module)


def _prepare(module: llvm.ModuleRef, target: Target) -> llvm.TargetMachine:
    module.verify()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.feature_string, opt=3, reloc="pic", codemodel="small"
    )
    optimize(module, machine)
    return machine


class Compiled:
    """The functions of a module, callable on arrays and integers.

    Code for a target that this machine lacks is emulated, and with `emulate` any.
    """

    def __init__(self, writer: ModuleWriter, target: Target, emulate: bool = False) -> None:
        module = llvm.parse_assembly(str(writer))
        if emulate or is_emulated(target):
            module = llvm.parse_assembly(emulated(str(writer)))
            module.link_in(llvm.parse_assembly(SUPPORT))
            target = BASE
        machine = _prepare(module, target)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()

    def __call__(
        self,
        name: str,
        arrays: Sequence[np.ndarray],
        scalars: Sequence[int] = (),
        threads: int = 1,
        concurrently: bool = False,
        own_bytes: Mapping[int, int] | None = None,
    ) -> None:
        """Run every thread's share of kernel `name`; arrays are written in place.

        Of an array in `own_bytes` every thread has so many bytes of its own.
        """
        count = len(arrays)
        kinds = [ctypes.c_void_p] * count + [ctypes.c_int64] * (len(scalars) + 2)
        function = ctypes.CFUNCTYPE(None, *kinds)(self._engine.get_function_address(name))
        own = own_bytes or {}

        def pointers(thread: int) -> list[int]:
            return [a.ctypes.data + thread * own.get(k, 0) for k, a in enumerate(arrays)]

        calls = [
            threading.Thread(target=function, args=(*pointers(t), *scalars, t, threads))
            for t in range(threads)
        ]
        for call in calls:
            if concurrently:
                call.start()
            else:
                call.run()
        for call in calls if concurrently else ():
            call.join()
