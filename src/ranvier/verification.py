"""Compares an artifact with the model it came from: every output, and layer by layer."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.expression import evaluate
from ranvier.artifact.format import Step, Tree
from ranvier.artifact.reader import Artifact
from ranvier.errors import InputError
from ranvier.frontends.detect import detect
from ranvier.inspection import program_of
from ranvier.ir.dtype import BY_NAME, decode
from ranvier.runtime.model import Model, load
from ranvier.runtime.signature import Signature
from ranvier.sample_inputs import complete_sizes, random_inputs

TOLERANCES = {"f32": 1e-4, "bf16": 3e-2}
"""Normwise relative error that an output may have, by the precision of the artifact."""

_STORED_FORMS = (".bf16", ".f32")  # ends of the names of values that are stored in both

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """How far an array is from its reference.

    Attributes:
        name, shape: of the value.
        relative_error: ||result - reference|| / ||reference||, in the 2-norm; infinite where one
            is NaN or infinite and the other is not the same.
        maximum_error: the largest absolute difference.
        cosine: cosine similarity.
        source: line of the model, for a layer.
        operators: what the kernel computes, for a layer.
    """

    name: str
    shape: tuple[int, ...]
    relative_error: float
    maximum_error: float
    cosine: float
    source: str = ""
    operators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """The comparison at one choice of sizes.

    Attributes:
        sizes: of every symbol.
        outputs: in the order of the artifact.
        layers: every written value that the model has too, in the order of execution; empty when
            layers were not asked for.
        unmatched: written values that the original does not have, such as a padded input.
    """

    sizes: Mapping[str, int]
    outputs: tuple[Difference, ...]
    layers: tuple[Difference, ...] = ()
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    artifact: str
    name: str
    precision: str
    target: str
    tolerance: float
    cases: tuple[Case, ...]

    @property
    def passed(self) -> bool:
        """Whether every output of every case is within the tolerance."""
        return all(self.within(each) for case in self.cases for each in case.outputs)

    @property
    def first_failing_layer(self) -> Difference | None:
        """The first layer, in the order of execution, that exceeds the tolerance."""
        layers = (layer for case in self.cases for layer in case.layers)
        return next((layer for layer in layers if not self.within(layer)), None)

    def within(self, difference: Difference) -> bool:
        """Whether a value is within the tolerance."""
        return difference.relative_error <= self.tolerance

    def __str__(self) -> str:
        lines = [
            f"{self.name} ({self.precision}, {self.target}) against the original, "
            f"tolerance {self.tolerance:g}"
        ]
        for case in self.cases:
            lines.append("  " + (", ".join(f"{n}={v}" for n, v in case.sizes.items()) or "inputs"))
            lines += [f"    {self._line(each)}" for each in (*case.outputs, *case.layers)]
        first = self.first_failing_layer
        if first is not None:
            lines.append(f"first layer beyond the tolerance: {first.name} at {first.source}")
        lines.append("passed" if self.passed else "FAILED")
        return "\n".join(lines)

    def _line(self, each: Difference) -> str:
        mark = "ok  " if self.within(each) else "FAIL"
        return (
            f"{mark} {each.name}: relative {each.relative_error:.2e}, "
            f"maximum {each.maximum_error:.2e}, cosine {each.cosine:.7f}  {each.source}".rstrip()
        )


def verify(
    model: Any,
    artifact: str | os.PathLike[str],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    sizes: Sequence[Mapping[str, int]] = (),
    layers: bool = False,
    tolerance: float | None = None,
    cores: int | str | Iterable[int] | None = None,
    seed: int = 0,
) -> Verification:
    """Run a model and its artifact on the same inputs and compare what they return.

    Args:
        model: what `ranvier.trace` took.
        artifact: path of the `.rvr` file.
        args, kwargs: inputs to compare on; a program or `.pt2` file brings its own when left out,
            and for an ONNX model random ones are made. A single tensor may stand for `(tensor,)`.
        dynamic_shapes: as given to `ranvier.trace`; used to find the layers of an `nn.Module`.
        sizes: further sizes of symbols to compare at, with elements drawn from the inputs.
        layers: compare also every value that the artifact writes to memory.
        tolerance: of the normwise relative error; 1e-4 for f32, 3e-2 for bf16.
        cores: as for `ranvier.load`.
        seed: for the inputs at further sizes.

    Raises:
        CompileError: the model cannot be traced, or there are no inputs.
        InputError: the inputs or the results do not fit the artifact.
        ArtifactError, TargetError: as `ranvier.load`.
    """
    reference = _reference(model, args, kwargs, dynamic_shapes)
    with load(artifact, cores=cores) as loaded:
        if reference.needs_examples:
            known = complete_sizes(loaded.manifest, sizes[0] if sizes else {})
            reference.kwargs = random_inputs(loaded.manifest, known, seed)
        comparison = _Comparison(reference, loaded, _steps(artifact, loaded) if layers else {})
        cases = [comparison.examples()]
        cases += [comparison.resampled(each, seed + i) for i, each in enumerate(sizes)]
        limit = TOLERANCES[loaded.precision] if tolerance is None else tolerance
        return Verification(
            os.fspath(artifact), loaded.name, loaded.precision, loaded.target, limit, tuple(cases)
        )


def _reference(model: Any, args: Any, kwargs: Any, dynamic_shapes: Any) -> Any:
    """The original model, by the front end that reads it."""
    if detect(model) == "onnx":
        from ranvier.frontends.onnx.reference import Reference as OnnxReference

        return OnnxReference(model, args, kwargs)
    from ranvier.frontends.torch.reference import Reference

    return Reference(model, args, kwargs, dynamic_shapes)


class _Comparison:
    """Model and artifact side by side; `steps` by the name of their result, empty for no layers."""

    def __init__(self, reference: Any, model: Model, steps: Mapping[str, Step]) -> None:
        self._reference, self._model, self._steps = reference, model, steps
        self._signature = Signature(model.manifest)

    def examples(self) -> Case:
        """The case of the example inputs."""
        return self._case(self._reference.args, self._reference.kwargs)

    def resampled(self, sizes: Mapping[str, int], seed: int) -> Case:
        """The case of other sizes; symbols that are not given have the examples' sizes."""
        values = self._bind(self._reference.args, self._reference.kwargs)
        found = self._signature.solve([value.shape for value in values])
        complete = complete_sizes(self._model.manifest, {**found, **sizes})
        shapes = [tuple(evaluate(d, complete) for d in spec.shape) for spec in self._model.inputs]
        return self._case(*self._reference.resampled(self._signature.bind, shapes, seed))

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        values = self._signature.bind(args, kwargs)
        return [self._signature.convert(index, value) for index, value in enumerate(values)]

    def _case(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Case:
        values = self._bind(args, kwargs)
        inputs = {spec.name: v for spec, v in zip(self._model.inputs, values, strict=True)}
        sizes = self._signature.solve([value.shape for value in values])
        outputs = self._outputs(inputs, self._reference.outputs(args, kwargs))
        if not self._steps:
            return Case(sizes, outputs)
        ours = self._model.intermediates(inputs)
        theirs = self._reference.values(args, kwargs, {original_name(name) for name in ours})
        return Case(sizes, outputs, *self._layers(ours, theirs))

    def _outputs(
        self, inputs: Mapping[str, Array], leaves: Sequence[object]
    ) -> tuple[Difference, ...]:
        expected = _leaves_of(self._model.manifest.output_tree, leaves)
        results = self._model.run(inputs)
        found = []
        for index, spec in enumerate(self._model.outputs):
            result, reference = widened(results[spec.name], spec.dtype), expected[index]
            if result.shape != reference.shape:
                raise InputError(
                    f"output {spec.name!r} has shape {result.shape}, the original's has "
                    f"{reference.shape}; is the artifact made from this model?"
                )
            found.append(difference(spec.name, result, reference))
        return tuple(found)

    def _layers(
        self, ours: Mapping[str, Array], theirs: Mapping[str, Array]
    ) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
        matched: list[Difference] = []
        unmatched: list[str] = []
        for name, value in ours.items():
            step = self._steps[name]
            expected = theirs.get(original_name(name))
            if expected is None or expected.shape != value.shape:
                unmatched.append(name)
                continue
            assert step.result is not None
            result = widened(value, step.result.dtype)
            matched.append(difference(name, result, expected, step.source, step.operators))
        return tuple(matched), tuple(unmatched)


def difference(
    name: str,
    result: Array,
    reference: Array,
    source: str = "",
    operators: tuple[str, ...] = (),
) -> Difference:
    """Compare two arrays of one shape; the arithmetic is in f64."""
    a, b = (np.asarray(x, np.float64).reshape(-1) for x in (result, reference))
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    special = alike & ~np.isfinite(b)
    a, b = np.where(special, 0.0, a), np.where(special, 0.0, b)
    shape = tuple(int(size) for size in np.shape(reference))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Difference(name, shape, math.inf, math.inf, 0.0, source, operators)
    error, norm = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    relative = error / norm if norm > 0 else (0.0 if error == 0 else math.inf)
    both = norm * float(np.linalg.norm(a))
    cosine = float(a @ b) / both if both > 0 else float(error == 0)
    largest = float(np.abs(a - b).max(initial=0.0))
    return Difference(name, shape, relative, largest, cosine, source, operators)


def widened(value: Array, dtype: str) -> Array:
    """The bits of bf16 and of narrow floats as f32; any other dtype as it is."""
    return decode(value, BY_NAME[dtype])


def original_name(name: str) -> str:
    """The model's name of a value: without what says in which precision it is stored."""
    for form in _STORED_FORMS:
        name = name.removesuffix(form)
    return name


def _steps(artifact: str | os.PathLike[str], model: Model) -> dict[str, Step]:
    """The steps of the program that runs, by the name of the value they write."""
    with Artifact(artifact, "none") as opened:
        steps = program_of(opened, model.target).steps
    return {step.result.value: step for step in steps if step.result is not None}


def _leaves_of(tree: Tree, leaves: Sequence[object]) -> dict[int, Array]:
    """The reference of every output: the artifact's tree and the original's leaves in parallel."""
    kinds = list(_flattened(tree))
    if len(kinds) != len(leaves):
        raise InputError(
            f"the original returns {len(leaves)} values, the artifact {len(kinds)}; "
            "is the artifact made from this model?"
        )
    pairs = zip(kinds, leaves, strict=True)
    return {kind.value: np.asarray(leaf) for kind, leaf in pairs if kind.kind == "leaf"}


def _flattened(tree: Tree) -> Iterator[Tree]:
    if tree.kind in ("tuple", "list"):
        for child in tree.value:
            yield from _flattened(child)
    elif tree.kind == "dict":
        for _, child in tree.value:
            yield from _flattened(child)
    else:
        yield tree
