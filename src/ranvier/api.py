"""The compile side of the public interface: `trace` and `analyze`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ranvier.artifact.writer import write_artifact
from ranvier.compile_report import CompileReport
from ranvier.compiler import Compiled, Progress, compile_graph
from ranvier.errors import (
    CompileError,
    InputError,
    RanvierError,
    TargetError,
    UnsupportedOperatorError,
)
from ranvier.frontends.detect import detect
from ranvier.frontends.fallback import (
    MAX_SEGMENTS,
    MIN_NATIVE_PERCENT,
    Fallback,
    FallbackSummary,
)
from ranvier.ir.graph import Graph
from ranvier.lowering.options import LoweringOptions
from ranvier.runtime.cpu import host_features, plain
from ranvier.runtime.model import Model
from ranvier.target import TARGETS, Target, target_named
from ranvier.tuning import Tuning
from ranvier.tuning import tune as tune_graph

PRECISIONS = ("f32", "bf16")


class CompiledModel:
    """A compiled model: save it, or read its report and the text of its stages."""

    def __init__(self, compiled: Compiled, tuning: Tuning | None = None) -> None:
        self._compiled = compiled
        self._tuning = tuning

    @property
    def report(self) -> CompileReport:
        """What became of the operators, and what compiling cost."""
        return self._compiled.report

    @property
    def tuning(self) -> Tuning | None:
        """What tuning found; None when it was not asked for."""
        return self._tuning

    @property
    def stages(self) -> Mapping[str, str]:
        """The text of every stage: `graph`, `optimized`, `llvm.<target>`."""
        return self._compiled.stages

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artifact; the file appears whole or not at all."""
        write_artifact(
            path, self._compiled.manifest, self._compiled.programs, self._compiled.entries
        )


def trace(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    precision: str = "f32",
    target: str | Sequence[str] = "native",
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    fallback: str | None = None,
    max_segments: int = MAX_SEGMENTS,
    min_native_percent: float = MIN_NATIVE_PERCENT,
    winograd: bool = True,
    tune: bool = False,
    progress: Progress | bool | None = None,
) -> CompiledModel:
    """Compile a model ahead of time.

    Args:
        model: an `nn.Module` with example inputs, a `torch.export.ExportedProgram`, an
            `onnx.ModelProto`, or the path of a `.pt2` or `.onnx` file.
        args, kwargs, dynamic_shapes: as for `torch.export.export`; a single tensor may stand for
            `(tensor,)`. For ONNX, `dynamic_shapes` maps names of dims to a range (low, high) or a
            fixed size, and example inputs are needed by `tune` alone.
        precision: "f32", or "bf16" (contractions and stored activations in bf16, sums in f32).
        target: "native", a target name, or several: one program each in the same artifact.
        name: of the model, for reports; its class by default.
        metadata: texts that the artifact shall carry (labels, an alphabet, a licence), beside those
            that an ONNX model has; `Model.metadata` gives them back.
        fallback: "torch" or "onnxruntime" runs the operators that have no native form, as part of
            the artifact: it is then needed where that runs. None (default) refuses such models.
        max_segments, min_native_percent: the most parts that the framework may run, and the least
            share of the operators that has to be native.
        winograd: convolutions take fewer multiplications where that is faster; their results are
            rounded differently.
        tune: measure schedules on this machine, with the example inputs, and keep the fastest;
            takes the time of several compilations. Without it a cost model chooses.
        progress: called with (stage, fraction done); True draws a progress bar.

    Raises:
        UnsupportedOperatorError: lists every operator that has no native lowering, with its source
            lines; with a fallback, what exceeds its limits or cannot be left to the framework.
        CompileError: the model cannot be traced or the options do not fit.
        TargetError: an unknown target.
    """
    if precision not in PRECISIONS:
        raise CompileError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    targets = resolve_targets(target)
    options = LoweringOptions(winograd)
    partly = _fallback(fallback, max_segments, min_native_percent)
    if tune:
        _require_runnable(targets)

    def compile_model(listener: Progress | None) -> CompiledModel:
        if listener is not None:
            listener("import", 0.0)
        graph, left = import_partly(model, args, kwargs, dynamic_shapes, name, partly)
        graph = replace(graph, metadata={**graph.metadata, **(metadata or {})})
        if not tune:
            return CompiledModel(compile_graph(graph, targets, precision, listener, options, left))
        compiled, tuning = tune_graph(
            lambda each: compile_graph(graph, targets, precision, None, each, left),
            options,
            lambda loaded: _example_inputs(loaded, model, args, kwargs),
            listener,
        )
        return CompiledModel(compiled, tuning)

    if progress is True:
        from ranvier.progress import progress_bar

        with progress_bar() as bar:
            return compile_model(bar)
    return compile_model(progress if callable(progress) else None)


def _require_runnable(targets: Sequence[Target]) -> None:
    features = host_features()
    if len(targets) != 1 or not {plain(f) for f in targets[0].features} <= features:
        raise TargetError(
            f"tuning measures on this machine; give one target that runs here, not "
            f"{', '.join(target.name for target in targets)}"
        )


def _example_inputs(
    loaded: Model, model: Any, args: Any, kwargs: Mapping[str, Any] | None
) -> Mapping[str, object]:
    """The example inputs by name; those of an exported program where none are given."""
    kept = getattr(model, "example_inputs", None)
    if not args and not kwargs and kept is not None:
        args, kwargs = kept
    positional = tuple(args) if isinstance(args, (list, tuple)) else (args,)
    try:
        return loaded.bind(*positional, **(kwargs or {}))
    except InputError as error:
        raise CompileError(
            f"tuning needs example inputs that the model accepts: {error}"
        ) from error


def _fallback(framework: str | None, segments: int, percent: float) -> Fallback | None:
    return None if framework is None else Fallback(framework, segments, percent)


def import_partly(
    model: Any,
    args: Any,
    kwargs: Any,
    dynamic_shapes: Any,
    name: str | None,
    fallback: Fallback | None,
) -> tuple[Graph, FallbackSummary | None]:
    """The graph of a model in which a framework may run a part, and what it runs."""
    if fallback is None:
        return import_model(model, args, kwargs, dynamic_shapes, name), None
    if detect(model) == "onnx":
        fallback.require_front_end("onnxruntime")
        require_front_end("onnx")
        from ranvier.frontends.onnx import import_onnx_partly

        return import_onnx_partly(model, fallback, dynamic_shapes, name)
    fallback.require_front_end("torch")
    require_front_end("torch")
    from ranvier.frontends.torch import import_torch_partly

    return import_torch_partly(model, fallback, args, kwargs, dynamic_shapes, name)


def import_model(
    model: Any, args: Any, kwargs: Any, dynamic_shapes: Any, name: str | None
) -> Graph:
    """The graph of a model, by whichever front end reads it."""
    if detect(model) == "onnx":
        require_front_end("onnx")
        from ranvier.frontends.onnx import import_onnx

        return import_onnx(model, dynamic_shapes, name)
    require_front_end("torch")
    from ranvier.frontends.torch import import_torch

    return import_torch(model, args, kwargs, dynamic_shapes, name)


def survey_model(model: Any, args: Any, kwargs: Any, dynamic_shapes: Any) -> Sequence[Any]:
    """Operators of a model in its framework's terms, with their support."""
    if detect(model) == "onnx":
        require_front_end("onnx")
        from ranvier.frontends import onnx

        return onnx.survey(model, dynamic_shapes)
    require_front_end("torch")
    from ranvier.frontends import torch

    return torch.survey(model, args, kwargs, dynamic_shapes)


def require_front_end(library: str) -> None:
    """Raise CompileError, with what to install, when a front end's library is missing."""
    if importlib.util.find_spec(library) is None:
        raise CompileError(
            f"this model needs {library}, which is not installed: pip install 'ranvier[{library}]'"
        )


def resolve_targets(target: str | Sequence[str]) -> tuple[Target, ...]:
    """Target names -> targets without duplicates; TargetError for an unknown name."""
    names = [target] if isinstance(target, str) else list(target)
    if not names:
        raise TargetError(f"no target given; known targets: native, {', '.join(TARGETS)}")
    found = [native_target() if name == "native" else target_named(name) for name in names]
    return tuple(dict.fromkeys(found))


def native_target() -> Target:
    """The best target that this machine's CPU supports; TargetError when there is none."""
    features = host_features()
    fitting = [t for t in TARGETS.values() if {plain(f) for f in t.features} <= features]
    if not fitting:
        raise TargetError(
            f"this CPU supports none of the targets {', '.join(TARGETS)}; it lacks AVX2 and FMA"
        )
    return max(fitting, key=lambda t: len(t.features))


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found: the use of every operator, and what lowering says of the whole.

    Attributes:
        operators: per operator its name, uses, whether it is supported, source lines, and reason.
        native_percent: share of the uses that run as native code.
        fallback: what a framework would run, if that was asked for.
        problem: why the model does not compile; empty if it does.
        report: the compile report, if it does.
    """

    operators: tuple[Any, ...]
    native_percent: float
    problem: str = ""
    report: CompileReport | None = None
    fallback: FallbackSummary | None = None

    def __str__(self) -> str:
        lines = [f"{self.native_percent:.1f} % native"]
        for use in self.operators:
            lacking = "MISSING" if self.fallback is None else "fallback"
            mark = "native" if use.supported else lacking
            lines.append(f"  {mark:8} {use.uses:5}  {use.operator}")
            if not use.supported:
                lines += [f"            at {source}" for source in use.sources]
                lines += [f"            {use.reason}"] if use.reason else []
        if self.fallback is not None and self.fallback.segments:
            lines.append(str(self.fallback))
        if self.problem:
            lines.append(self.problem)
        return "\n".join(lines)


def analyze(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    precision: str = "f32",
    target: str = "native",
    fallback: str | None = None,
    max_segments: int = MAX_SEGMENTS,
    min_native_percent: float = MIN_NATIVE_PERCENT,
) -> Analysis:
    """Lower every operator of a model for real and report how much of it is native.

    Arguments are those of `trace`. Only what torch.export itself refuses raises (CompileError).
    """
    uses = tuple(survey_model(model, args, kwargs, dynamic_shapes))
    total = sum(use.uses for use in uses)
    native = sum(use.uses for use in uses if use.supported)
    percent = 100.0 * native / total if total else 100.0
    partly = _fallback(fallback, max_segments, min_native_percent)
    if native < total and partly is None:
        return Analysis(uses, percent)
    try:
        graph, left = import_partly(model, args, kwargs, dynamic_shapes, None, partly)
        compiled = compile_graph(graph, resolve_targets(target), precision, fallback=left)
    except UnsupportedOperatorError as error:
        return Analysis(uses, min(percent, 99.9), str(error))
    except RanvierError as error:
        return Analysis(uses, 0.0, str(error))
    native_percent = percent if left is None else left.native_percent
    return Analysis(uses, native_percent, "", compiled.report, left)
