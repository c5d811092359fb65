"""A loaded model: the call path, from arguments to native code and back."""

from __future__ import annotations

import ctypes
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ranvier.artifact.expression import evaluate
from ranvier.artifact.format import DTYPES, Manifest, Program, Symbol, TensorSpec
from ranvier.artifact.metadata import read_metadata
from ranvier.artifact.reader import Artifact, Verify
from ranvier.errors import InputError, RanvierError
from ranvier.runtime import group as groups
from ranvier.runtime.arrays import Array, native_dtype
from ranvier.runtime.context import CallContext
from ranvier.runtime.cores import Cores, select_cores
from ranvier.runtime.cpu import choose_target, permit_tiles
from ranvier.runtime.mapping import Code, address_of
from ranvier.runtime.open_outputs import OpenOutputs
from ranvier.runtime.plan import Plan, Planner
from ranvier.runtime.pool import Pool
from ranvier.runtime.profile import Profile, order_ticks
from ranvier.runtime.results import ResultMemory
from ranvier.runtime.signature import Signature

if TYPE_CHECKING:
    from ranvier.runtime.foreign import ForeignSteps

PLANS_KEPT = 64
"""Shapes whose plans a model remembers; the least recently used is forgotten first."""

Shapes = tuple[tuple[int, ...], ...]

# The quickest way to the address of a writable C-order array, a quarter of `__array_interface__`.
_addressof = ctypes.addressof
_first_byte: Callable[[Any], ctypes.Array[ctypes.c_char]] = (ctypes.c_char * 0).from_buffer


def load(
    path: str | os.PathLike[str],
    cores: int | str | Iterable[int] | None = None,
    verify: Verify = "fast",
) -> Model:
    """Load an artifact.

    Args:
        path: the `.rvr` file. It stays mapped: replace it by renaming another over it, never by
            writing into it.
        cores: which CPUs: a count, a list such as "0-3,5", CPU numbers, or None for all that this
            process may use.
        verify: "fast" (default) checks everything but compares weights by a 64-bit sum; "full"
            compares all by SHA-256; "none" leaves the weights unchecked.

    Raises:
        ArtifactError: the file is not a valid artifact.
        TargetError: this CPU lacks what every program of the artifact needs, or `cores` cannot be
            had.
        FrameworkError: a framework runs a part of the model, and is missing or lacks an operator.
    """
    selected = select_cores(cores)
    with Artifact(path, verify) as artifact:
        index = choose_target(artifact.manifest.targets)
        program = artifact.program(index)
        permit_tiles(program.target)
        code = Code(artifact.fileno(), *artifact.extent(program.code), program.symbols)
        return Model(artifact, program, code, selected, verify)


class Model:
    """A model that is ready to run. Make one with `load`.

    Calls are thread-safe; calls on one core group run one after the other. A model survives `fork`
    (the child makes its own workers) and can be sent to a spawned process (which loads the file
    again).

    Attributes:
        name, precision: as compiled.
        inputs, outputs: names, dtypes and symbolic shapes, in order.
        symbols: the symbolic dimensions with their ranges.
        target: name of the target whose program runs.
        cores: the CPUs it runs on.
        manifest: what the artifact says of itself.
        metadata: texts that the model carries, by name.
    """

    def __init__(
        self, artifact: Artifact, program: Program, code: Code, cores: Cores, verify: Verify
    ) -> None:
        """Takes what `load` has checked; ArtifactError when no input determines a symbol."""
        manifest = artifact.manifest
        self.name, self.precision, self.target = (
            manifest.name,
            manifest.precision,
            program.target.name,
        )
        self.manifest: Manifest = manifest
        self.metadata: dict[str, str] = read_metadata(artifact)
        self.cores = cores
        self._verify: Verify = verify
        self._path = os.path.abspath(artifact.path)
        self._program, self._code = program, code
        self._signature = Signature(manifest)
        self._planner: Planner | None = None
        self._weights = {
            b.entry: artifact.entry(b.entry) for b in program.buffers if b.kind == "weight"
        }
        self._weight_addresses = {
            name: address_of(weight) for name, weight in self._weights.items()
        }
        self._input_types = [native_dtype(spec) for spec in manifest.inputs]
        self._output_types = [np.dtype(DTYPES[spec.dtype]) for spec in manifest.outputs]
        self._contexts: OrderedDict[Shapes, CallContext] = OrderedDict()
        self._call = groups.native_call(code)
        self._pool = Pool(len(program.reserved))
        self._results = ResultMemory(len(manifest.outputs))
        self._open = OpenOutputs(manifest, program) if program.computed else None
        self._foreign: ForeignSteps | None = None
        if any(step.foreign is not None for step in program.steps):
            from ranvier.runtime.foreign import ForeignSteps  # most models have no use for it

            self._foreign = ForeignSteps(artifact, program, cores.count)
        self._count = len(manifest.inputs)
        self._flat = self._signature.flat
        self._single = manifest.output_tree.kind == "leaf"
        self._closed = False
        self._group = groups.acquire(cores, code)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs in order."""
        return self._signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in order."""
        return self._signature.outputs

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbolic dimensions; `minimum` and `maximum` are inclusive."""
        return self.manifest.symbols

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Run the model on arguments as the original model takes them, and return what it returns.

        Arrays are contiguous C order in the dtypes of `inputs`; anything with `__array__` or
        `__dlpack__` is accepted, and copied where its layout, alignment or byte order differs.
        Results are NumPy arrays of their own (bf16: uint16 bits). The memory of large ones is
        used again once nothing refers to it.

        Raises:
            InputError: the arguments do not fit the signature.
        """
        if not (self._flat and not kwargs and len(args) == self._count):
            args = tuple(self._signature.bind(args, kwargs))
        outputs = self._execute(args)
        return outputs[0] if self._single else self._signature.nest(outputs)

    def run(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        """Run the model on arrays by input name and return its outputs by name.

        Raises:
            InputError: the inputs do not fit the signature.
        """
        outputs = self._execute(self._signature.bind_names(inputs))
        return {spec.name: output for spec, output in zip(self.outputs, outputs, strict=True)}

    def bind(self, *args: object, **kwargs: object) -> dict[str, object]:
        """The arguments of a call as inputs by name, as `run` and `profile` take them.

        Raises:
            InputError: the arguments do not fit the signature.
        """
        values = self._signature.bind(args, kwargs)
        return {spec.name: value for spec, value in zip(self.inputs, values, strict=True)}

    def sizes(self, inputs: Mapping[str, object]) -> dict[str, int]:
        """The value of every symbol for inputs by name.

        Raises:
            InputError: the inputs do not fit the signature.
        """
        return dict(self._signature.solve(self._convert(self._signature.bind_names(inputs))[1]))

    def intermediates(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        """Run with all temporaries kept and return each step's result by value name.

        Meant for comparing layer by layer: all intermediate values are in memory at once.

        Raises:
            InputError: the inputs do not fit the signature.
        """
        arrays, shapes = self._convert(self._signature.bind_names(inputs))
        symbols = self._signature.solve(shapes)
        context = self._new_context(self._plans().plan(symbols, self.cores.count, keep=True))
        arena, address = groups.aligned_words(context.plan.arena_bytes // 8 + 1)
        group = self._group
        with group.lock:
            self._prepare()
            outputs = self._empty_outputs(context)
            context.bind_arena(address)
            self._launch(context, [address_of(array) for array in arrays], outputs)
            context.check_faults(self._program)
        memory: dict[int, Array] = {
            number: arena.view(np.uint8)[offset : offset + context.plan.sizes[number]]
            for number, offset in context.temporaries
        }
        memory |= {number: _octets(arrays[index]) for number, index in context.inputs}
        for output, (_, _, numbers) in zip(outputs, context.outputs, strict=True):
            memory |= {number: _octets(output) for number in numbers}
        for number, buffer in enumerate(self._program.buffers):
            if buffer.kind == "weight":
                memory[number] = self._weights[buffer.entry][buffer.offset :][
                    : context.plan.sizes[number]
                ]
        results: dict[str, Array] = {}
        for view in context.plan.views:
            dtype = np.dtype(DTYPES[view.result.dtype])
            strides = tuple(stride * dtype.itemsize for stride in view.strides)
            source = np.ndarray(
                view.shape, dtype, memory[view.result.buffer], view.offset_bytes, strides
            )
            results[view.result.value] = source.copy()
        return results

    def profile(self, inputs: Mapping[str, object]) -> Profile:
        """Run the model once and return how long every step took.

        Raises:
            InputError: the inputs do not fit the signature.
        """
        values = self._signature.bind_names(inputs)
        steps = self._program.steps
        ticks = np.zeros((2, self.cores.count, len(steps) + 1), np.uint64)
        turns = np.zeros((self.cores.count, 2, len(steps)), np.uint64)
        start = time.perf_counter()
        found: dict[str, int] = {}
        self._execute(values, ticks, found, turns)
        seconds = time.perf_counter() - start
        known = self._signature.solve(self._convert(values)[1])
        scope = {**known, **found, "threads": self.cores.count}
        if self._foreign is not None:
            self._foreign.finish(ticks)
        if self._open is not None or self._program.loops:
            order_ticks(ticks, turns, self._program.loops)
        times = [max(int(count), 1) for count in turns[0, 1]]
        return Profile(
            steps=steps,
            buffers=self._program.buffers,
            ticks=ticks[0],
            finishes=ticks[1, :, :-1],
            started=start,
            seconds=seconds,
            flops=tuple(n * evaluate(s.flops, scope) for n, s in zip(times, steps, strict=True)),
            bytes=tuple(n * evaluate(s.bytes, scope) for n, s in zip(times, steps, strict=True)),
        )

    def arena_bytes(self, **symbols: int) -> int:
        """Return the memory that temporaries take for the symbols' values, in bytes."""
        return self._plans().plan(symbols, self.cores.count).arena_bytes

    def close(self) -> None:
        """Give back cores and weights, after a call that runs; later calls raise RanvierError."""
        with self._group.lock:
            already, self._closed = self._closed, True
            self._contexts.clear()
            self._weights = {}
            self._pool.release()
            self._results.release()
        if not already:
            groups.release(self._group)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Nobody can be in a call, so this takes no lock but the pool's: a collection may run while
        # this thread holds one.
        if not getattr(self, "_closed", True):
            self._closed = True
            self._pool.release()
            groups.release(self._group)

    def __reduce__(self) -> tuple[object, ...]:
        cores = self.cores.cpus if self.cores.pinned else self.cores.count
        return load, (self._path, cores, self._verify)

    def __repr__(self) -> str:
        where = f"{self.target}, {self.cores.count} cores"
        return f"<ranvier.Model {self.name!r}: {self.precision}, {where}>"

    def _execute(
        self,
        values: Sequence[object],
        ticks: Array | None = None,
        sizes: dict[str, int] | None = None,
        turns: Array | None = None,
    ) -> list[Array]:
        """Run one call; its parts are in this order for speed, a warm call takes microseconds.

        `ticks` and `turns` are filled with clock readings, `sizes` with what the call finds out.
        """
        pointers: list[int] = []
        shapes: list[tuple[int, ...]] = []
        alive: list[object] = []
        for dtype, value in zip(self._input_types, values, strict=True):
            if type(value) is np.ndarray and value.dtype is dtype and value.flags.carray:
                pointers.append(_addressof(_first_byte(value)))
                shapes.append(value.shape)
                continue
            array = self._signature.convert(len(pointers), value)
            alive.append(array)
            pointers.append(address_of(array))
            shapes.append(array.shape)
        key = tuple(shapes)
        group = self._group
        with group.lock:
            self._prepare()
            context = self._contexts.get(key)
            if context is None:
                context = self._remember(key)
            else:
                self._contexts.move_to_end(key)
            address = group.reserve(context.plan.arena_bytes)
            if context.arena != address:
                context.bind_arena(address)
            outputs = self._empty_outputs(context)
            if ticks is not None:
                context.watch(ticks, turns)
            try:
                self._launch(context, pointers, outputs)
            finally:
                if ticks is not None:
                    context.watch(None, None)
            if self._open is not None:
                outputs = self._finish(context, outputs, sizes)
        return outputs

    def _empty_outputs(self, context: CallContext) -> list[Array]:
        if self._open is not None:
            return self._open.memory(context.plan, context.outputs)
        if context.has_large_outputs:
            return [self._results.empty(shape, dtype) for shape, dtype, _ in context.outputs]
        return [np.empty(shape, dtype) for shape, dtype, _ in context.outputs]

    def _finish(
        self, context: CallContext, outputs: list[Array], sizes: dict[str, int] | None
    ) -> list[Array]:
        """Outputs in the sizes that the call found out, which are added to `sizes`."""
        assert self._open is not None
        context.check_faults(self._program)
        found = self._open.sizes(context.dims)
        if sizes is not None:
            sizes.update(found)
        return self._open.arrays(outputs, {**context.plan.symbols, **found}, self._pool)

    def _prepare(self) -> None:
        """Check that the model is open and its group has its workers; the group's lock is held."""
        if self._closed:
            raise RanvierError(f"the model {self.name!r} is closed; load it again")
        self._group.start()

    def _launch(
        self, context: CallContext, pointers: Sequence[int], outputs: Sequence[Array]
    ) -> None:
        table = context.table
        for number, index in context.inputs:
            table[number] = pointers[index]
        for output, (_, _, numbers) in zip(outputs, context.outputs, strict=True):
            pointer = _addressof(_first_byte(output))
            for number in numbers:
                table[number] = pointer
        if self._foreign is None:
            self._call(self._group.address, context.address)
            return
        part = context.part
        self._foreign.run(context.plan.foreign, table, part, lambda: self._run_part(context))

    def _run_part(self, context: CallContext) -> None:
        self._call(self._group.address, context.address)
        context.check_faults(self._program)

    def _convert(self, values: Sequence[object]) -> tuple[list[Array], Shapes]:
        if len(values) != self._count:
            raise InputError(f"{len(values)} inputs given, the model has {self._count}")
        arrays = [self._signature.convert(index, value) for index, value in enumerate(values)]
        return arrays, tuple(array.shape for array in arrays)

    def _plans(self) -> Planner:
        if self._planner is None:
            self._planner = Planner(self._program, self.manifest)
        return self._planner

    def _new_context(self, plan: Plan) -> CallContext:
        return CallContext(
            self._program, plan, self._weight_addresses, self._output_types, self._pool.address
        )

    def _remember(self, key: Shapes) -> CallContext:
        symbols = self._signature.solve(key)
        context = self._contexts[key] = self._new_context(
            self._plans().plan(symbols, self.cores.count)
        )
        if len(self._contexts) > PLANS_KEPT:
            self._contexts.popitem(last=False)
        return context


def _octets(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)
