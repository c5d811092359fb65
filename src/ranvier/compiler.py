"""The compiler: a straight list of stages from a model to the contents of an artifact."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import llvmlite
import numpy as np

from ranvier import __version__
from ranvier.artifact import format as rvr
from ranvier.artifact.checksum import sha256
from ranvier.artifact.expression import Expr
from ranvier.artifact.metadata import METADATA, metadata_entry
from ranvier.artifact.writer import Payload
from ranvier.codegen.emit import EmittedProgram, emit_program
from ranvier.codegen.host import host_ir
from ranvier.codegen.image import Image, build_image
from ranvier.compile_report import CompileReport, summarize
from ranvier.frontends.fallback import FallbackSummary
from ranvier.ir import dim as dims
from ranvier.ir.definitions import computed_symbols, map_inner_graphs
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Graph, Value
from ranvier.ir.printer import format_graph
from ranvier.ir.verifier import verify
from ranvier.lowering.kernels.control import LoopBegin, LoopEnd
from ranvier.lowering.kernels.foreign import Foreign
from ranvier.lowering.lower import lower
from ranvier.lowering.options import LoweringOptions
from ranvier.lowering.program import Buffer, Program, Step
from ranvier.passes.canonicalize import Canonicalize
from ranvier.passes.decompose import Decompose
from ranvier.passes.exact_products import ExactProducts
from ranvier.passes.fold_batch_norm import FoldBatchNorm
from ranvier.passes.fold_constants import FoldConstants
from ranvier.passes.fuse_attention import FuseAttention
from ranvier.passes.legalize import Legalize
from ranvier.passes.precision import Precision
from ranvier.passes.sink_constants import SinkConstants
from ranvier.target import Target

Pass = Callable[[Graph], Graph]
Progress = Callable[[str, float], None]  # (stage, fraction done)
UNBOUNDED = 2**31 - 1  # the largest size that a symbol without an upper bound may take


@dataclass
class Compiled:
    """What `compile_graph` produces: the parts of the artifact, and the report."""

    manifest: rvr.Manifest
    programs: list[rvr.Program]
    entries: dict[str, Payload]
    report: CompileReport
    stages: dict[str, str] = field(default_factory=dict)  # text of every stage, for `--emit`


def compile_graph(
    graph: Graph,
    targets: Sequence[Target],
    precision: str = "f32",
    progress: Progress | None = None,
    options: LoweringOptions | None = None,
    fallback: FallbackSummary | None = None,
) -> Compiled:
    """Graph -> artifact contents, one program per target.

    Raises UnsupportedOperatorError or CompileError; `progress` hears each stage as it starts, and
    `fallback` says for the report what a framework runs.
    """
    tell = progress or (lambda stage, fraction: None)
    options = options or LoweringOptions()
    clock = _Clock(tell)
    stages = {"graph": format_graph(graph)}
    optimized = graph
    for each in pipeline(precision):
        clock.stage(type(each).__name__, 0.02)
        optimized = everywhere(each, optimized)
        if os.environ.get("RANVIER_DEBUG", "0") not in ("", "0"):
            verify(optimized, after=type(each).__name__)
    stages["optimized"] = format_graph(optimized)
    packer, segments = WeightEntries(), SegmentEntries()
    programs: list[rvr.Program] = []
    entries: dict[str, Payload] = {}
    lowered: list[Program] = []
    emitted: list[EmittedProgram] = []
    for position, target in enumerate(targets):
        share = 1.0 / len(targets)
        clock.stage(f"lower for {target.name}", 0.1 + 0.9 * position * share)
        program = lower(optimized, target, options)
        clock.stage(f"generate code for {target.name}", 0.3 + 0.7 * position * share)
        code = emit_program(program, target)
        image = build_image((*code.modules, host_ir()), target.triple, target.cpu, target.features)
        name = f"code/{target.name}.img"
        entries[name] = image.data
        programs.append(_describe_program(program, code, image, target, name, packer, segments))
        stages[f"llvm.{target.name}"] = "\n".join(code.modules)
        lowered.append(program)
        emitted.append(code)
    entries.update(packer.entries)
    entries.update(segments.entries)
    clock.stage("done", 1.0)
    report = summarize(
        graph, optimized, lowered[0], emitted[0], precision, clock.seconds, options, fallback
    )
    entries["graph.txt"] = stages["optimized"].encode()
    entries["report.json"] = report.to_json().encode()
    if graph.metadata:
        entries[METADATA] = metadata_entry(graph.metadata)
    return Compiled(_manifest(optimized, precision), programs, entries, report, stages)


def pipeline(precision: str) -> Sequence[Pass]:
    """The target-independent passes, in order."""
    cleanup = (Canonicalize(), FoldConstants(), Canonicalize())
    sunk = (*cleanup, SinkConstants(), *cleanup)
    fused = (*sunk, FoldBatchNorm(), Decompose(), *cleanup, FuseAttention())
    passes = (*fused, Legalize(), *cleanup)
    stored = passes if precision == "f32" else (*passes, Precision(precision), *cleanup)
    return (*stored, ExactProducts())


def everywhere(change: Pass, graph: Graph) -> Graph:
    """A pass on a graph and on all graphs inside its nodes, the inner ones first."""
    return change(map_inner_graphs(graph, lambda inner: everywhere(change, inner)))


class _Clock:
    """Seconds per stage."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._name = ""
        self._since = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, fraction: float) -> None:
        now = time.perf_counter()
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._since
        self._name, self._since = name, now
        self._tell(name, fraction)


class WeightEntries:
    """Weights of all targets as artifact entries; equal bytes are stored once."""

    def __init__(self) -> None:
        self.entries: dict[str, Payload] = {}
        self._names: dict[str, str] = {}

    def name_of(self, buffer: Buffer) -> str:
        """The entry that holds the buffer's data."""
        assert buffer.data is not None
        digest = sha256(buffer.data.reshape(-1).view(np.uint8))
        if digest not in self._names:
            self._names[digest] = f"weights/{len(self._names)}"
            self.entries[self._names[digest]] = buffer.data
        return self._names[digest]


class SegmentEntries:
    """What frameworks run, of all targets, as artifact entries; equal documents are stored once."""

    def __init__(self) -> None:
        self.entries: dict[str, Payload] = {}
        self._names: dict[bytes, str] = {}

    def name_of(self, kernel: Foreign) -> str:
        """The entry that holds a segment's document."""
        if kernel.document not in self._names:
            suffix = "onnx" if kernel.framework == "onnxruntime" else "json"
            name = self._names[kernel.document] = f"segments/{len(self._names)}.{suffix}"
            self.entries[name] = kernel.document
        return self._names[kernel.document]


def _describe_program(
    program: Program,
    code: EmittedProgram,
    image: Image,
    target: Target,
    entry: str,
    weights: WeightEntries,
    segments: SegmentEntries,
) -> rvr.Program:
    offsets = {name: image.symbols[name] for name in rvr.CODE_SYMBOLS}
    steps = tuple(
        _describe_step(step, kernel, segments)
        for step, kernel in zip(program.steps, code.kernels, strict=True)
    )
    return rvr.Program(
        rvr.Target(target.name, "x86_64", target.features),
        entry,
        offsets,
        tuple(expression(dim) for dim in code.dims),
        tuple(_describe_buffer(buffer, weights) for buffer in program.buffers),
        steps,
        tuple(
            rvr.Computed(n, code.dims.index(dims.of_atom(s))) for n, s in program.computed.items()
        ),
        tuple(program.reserved),
        _loops(program),
    )


def _loops(program: Program) -> tuple[rvr.Loop, ...]:
    """The first and the last step of every loop, inner ones first."""
    open_loops: list[tuple[int, LoopBegin]] = []
    found: list[rvr.Loop] = []
    for index, step in enumerate(program.steps):
        if isinstance(step.kernel, LoopBegin):
            open_loops.append((index, step.kernel))
        elif isinstance(step.kernel, LoopEnd):
            first, mark = open_loops.pop()
            found.append(rvr.Loop(first, index, mark.pairs))
    return tuple(found)


def _describe_buffer(buffer: Buffer, weights: WeightEntries) -> rvr.Buffer:
    if buffer.kind == "weight":
        return rvr.Buffer("weight", expression(buffer.size_bytes), entry=weights.name_of(buffer))
    return rvr.Buffer(buffer.kind, expression(buffer.size_bytes), buffer.index)


def _describe_step(step: Step, kernel: str, segments: SegmentEntries) -> rvr.Step:
    result = None
    if step.result is not None:
        t = step.result
        result = rvr.StepResult(
            step.label, t.dtype.name, _shape(t.shape), _shape(t.strides), t.buffer,
            expression(t.offset * t.dtype.size),
        )  # fmt: skip
    return rvr.Step(
        kernel, step.label, step.reads, step.writes, step.in_place, expression(step.flops),
        expression(step.bytes), step.source, step.operators, result, step.barrier,
        _describe_foreign(step, segments),
    )  # fmt: skip


def _describe_foreign(step: Step, segments: SegmentEntries) -> rvr.Foreign | None:
    kernel = step.kernel
    if not isinstance(kernel, Foreign):
        return None
    types = (*kernel.operands, *kernel.results)
    tensors = tuple(
        rvr.ForeignTensor(t.dtype.name, _shape(t.shape), a.buffer, expression(a.offset_bytes))
        for t, a in zip(types, step.arguments, strict=True)
    )
    count = len(kernel.operands)
    return rvr.Foreign(
        kernel.framework, segments.name_of(kernel), tensors[:count], tensors[count:],
        _shape(kernel.sizes),
    )  # fmt: skip


def _manifest(graph: Graph, precision: str) -> rvr.Manifest:
    found: dict[str, dims.Symbol] = {}
    for value in graph.inputs:
        for dim in value.shape:
            found.update(dims.symbols(dim))
    symbols = tuple(rvr.Symbol(s.name, s.minimum, _upper(s)) for s in found.values())
    inputs = tuple(_spec(value.name, value) for value in graph.inputs)
    outputs = tuple(
        _spec(name, value) for name, value in zip(graph.output_names, graph.outputs, strict=True)
    )
    return rvr.Manifest(
        graph.name, precision, symbols, inputs, outputs,  # type: ignore[arg-type]
        tree(graph.input_tree, [spec.name for spec in inputs]),
        tree(graph.output_tree, None, len(outputs)),
        {"ranvier": __version__, "llvmlite": llvmlite.__version__},
        computed=tuple(computed_symbols(graph)),
    )  # fmt: skip


def _upper(symbol: dims.Symbol) -> int:
    high = symbol.bounds()[1]
    return UNBOUNDED if high is None else min(high, UNBOUNDED)


def _spec(name: str, value: Value) -> rvr.TensorSpec:
    return rvr.TensorSpec(name, value.dtype.name, _shape(value.shape))


def _shape(shape: Sequence[Dim]) -> tuple[Expr, ...]:
    return tuple(expression(dim) for dim in shape)


def expression(dim: Dim) -> Expr:
    """A dim as a manifest expression: the sum of its terms."""
    if isinstance(dim, int):
        return dim
    return reduce(lambda total, term: ("+", total, term), (_term(*each) for each in dim.terms))


def _term(atoms: dims.Term, factor: int) -> Expr:
    factors: list[Expr] = [] if factor == 1 and atoms else [factor]
    for atom in atoms:
        if isinstance(atom, dims.Symbol):
            factors.append(atom.name)
        else:
            factors.append((atom.op, expression(atom.left), expression(atom.right)))
    return reduce(lambda product, each: ("*", product, each), factors)


def tree(document: object, names: Sequence[str] | None, count: int = 0) -> rvr.Tree:
    """A front end's tree as the manifest's; without one, inputs by name or outputs as a tuple."""
    if isinstance(document, Mapping):
        if "parameters" in document:
            return rvr.Tree(
                "dict", tuple((name, _tree(child)) for name, child in document["parameters"])
            )
        return _tree(document)
    if names is not None:
        return rvr.Tree("dict", tuple((name, rvr.Tree("leaf", i)) for i, name in enumerate(names)))
    if count == 1:
        return rvr.Tree("leaf", 0)
    return rvr.Tree("tuple", tuple(rvr.Tree("leaf", i) for i in range(count)))


def _tree(document: Mapping[str, object]) -> rvr.Tree:
    ((kind, value),) = document.items()
    if kind in ("tuple", "list"):
        return rvr.Tree(kind, tuple(_tree(child) for child in value))  # type: ignore[arg-type, attr-defined]
    if kind == "dict":
        return rvr.Tree("dict", tuple((key, _tree(child)) for key, child in value.items()))  # type: ignore[attr-defined]
    return rvr.Tree(kind, None if kind == "none" else value)  # type: ignore[arg-type]
