"""An ONNX model as the reference of its artifact: its results, and the values inside it.

ONNX Runtime computes them where it is installed, else ONNX's own reference evaluator.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from ranvier.errors import CompileError
from ranvier.frontends.onnx.dtypes import from_storage
from ranvier.frontends.onnx.reader import Source, read_model

Array = NDArray[Any]
Bind = Callable[[Sequence[object], Mapping[str, object]], Sequence[object]]


class Reference:
    """The original model beside an artifact.

    Args:
        model: a `ModelProto`, its bytes or the path of a `.onnx` file.
        args, kwargs: inputs in order or by name; may be given later, as `kwargs`.

    Raises:
        CompileError: the model is malformed.
    """

    def __init__(
        self, model: Source, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self._model = read_model(model)
        given = {tensor.name for tensor in self._model.graph.initializer}
        self._inputs = [value for value in self._model.graph.input if value.name not in given]
        self.args, self.kwargs = tuple(args), dict(kwargs or {})

    @property
    def needs_examples(self) -> bool:
        """Whether inputs have to be made up."""
        return not self.args and not self.kwargs and bool(self._inputs)

    def outputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[object]:
        """The model's outputs in order."""
        return list(_run(self._model, self._feeds(args, kwargs)))

    def values(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], names: Collection[str]
    ) -> dict[str, Array]:
        """The values inside the model that have one of `names`."""
        shown = ModelProto()
        shown.CopyFrom(self._model)
        made = [name for node in shown.graph.node for name in node.output if name in names]
        known = {value.name for value in shown.graph.output}
        shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in made if n not in known)
        found = _run(shown, self._feeds(args, kwargs))
        pairs = zip((value.name for value in shown.graph.output), found, strict=True)
        return {name: np.asarray(value) for name, value in pairs if name in names}

    def resampled(self, bind: Bind, shapes: Sequence[tuple[int, ...]], seed: int) -> Any:
        """Arguments of other sizes: every element is drawn from the example's elements."""
        generator = np.random.default_rng(seed)
        drawn = []
        for example, shape in zip(bind(self.args, self.kwargs), shapes, strict=True):
            flat = np.asarray(example).reshape(-1)
            if flat.size == 0:
                drawn.append(np.zeros(shape, flat.dtype))
            else:
                drawn.append(flat[generator.integers(0, flat.size, shape)])
        return tuple(drawn), {}

    def _feeds(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Array]:
        names = [value.name for value in self._inputs]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        missing = [name for name in names if name not in given]
        if missing:
            raise CompileError(f"no example input is given for {', '.join(missing)}")
        return {
            value.name: from_storage(
                np.asarray(given[value.name]), value.type.tensor_type.elem_type
            )
            for value in self._inputs
        }


def _run(model: ModelProto, feeds: Mapping[str, Array]) -> Sequence[Any]:
    if importlib.util.find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator

        return list(ReferenceEvaluator(model).run(None, dict(feeds)))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feeds)))
