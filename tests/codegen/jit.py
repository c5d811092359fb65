"""Compiles a kernel for this machine and calls it on NumPy arrays, for tests."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence

import llvmlite.binding as llvm
import numpy as np

from ranvier.codegen.builder import ModuleWriter
from ranvier.target import TARGETS, Target

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def host_targets() -> list[Target]:
    """The targets whose features this CPU has."""
    features = llvm.get_host_cpu_features()
    return [t for t in TARGETS.values() if all(features.get(name, False) for name in t.features)]


class Compiled:
    """The functions of a module, callable on arrays and integers."""

    def __init__(self, writer: ModuleWriter, target: Target) -> None:
        module = llvm.parse_assembly(str(writer))
        module.verify()
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.feature_string, opt=3, reloc="pic", codemodel="small"
        )
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = False
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        self.assembly = machine.emit_assembly(module)
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
