"""Segments of ONNX Runtime: a serialised model; its inputs are the operands, in order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ranvier.errors import FrameworkError
from ranvier.segments.segment import Tensor, framework_module

_TYPES = {
    "f32": 1, "u8": 2, "i8": 3, "u16": 4, "i16": 5, "i32": 6, "i64": 7, "bool": 9, "f16": 10,
    "f64": 11, "u32": 12, "u64": 13, "bf16": 16, "f8e4m3fn": 17, "f8e4m3fnuz": 18, "f8e5m2": 19,
    "f8e5m2fnuz": 20,
}  # fmt: skip
"""`onnx.TensorProto.DataType` by dtype name."""
_ERRORS_ONLY = 3
_abandoned: list[Any] = []
"""Sessions of the parent in a forked child: their threads are gone, and to end them would wait for
those for ever.
"""


class OnnxRuntimeSegment:
    """Runs a model on ONNX Runtime's CPU provider, on the memory of its operands and results."""

    def __init__(
        self,
        document: bytes,
        operands: Sequence[str],
        results: Sequence[str],
        sizes: int = 0,
        threads: int | None = None,
    ) -> None:
        """Raises FrameworkError when ONNX Runtime, an operator or a type is missing."""
        self._module = framework_module("onnxruntime")
        self._document, self._threads = document, threads
        self._operands = [_type(name) for name in operands]
        self._results = [_type(name) for name in results]
        self._open()

    def run(
        self, operands: Sequence[Tensor], sizes: Sequence[int], results: Sequence[Tensor]
    ) -> None:
        """Compute `results` in place; such a segment has no sizes."""
        if os.getpid() != self._process:
            _abandoned.append(self._session)
            self._open()
        binding = self._session.io_binding()
        for name, t, kind in zip(self._inputs, operands, self._operands, strict=True):
            binding.bind_input(name, "cpu", 0, kind, t.shape, t.address)
        for name, t, kind in zip(self._outputs, results, self._results, strict=True):
            binding.bind_output(name, "cpu", 0, kind, t.shape, t.address)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # its errors have no base class of their own
            raise FrameworkError(f"a segment failed in ONNX Runtime: {error}") from error

    def _open(self) -> None:
        module = self._module
        options = module.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self._threads or 0
        # Threads that spin after a segment would take the cores from native code.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session: Any = module.InferenceSession(
                self._document, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no base class of their own
            raise FrameworkError(
                f"ONNX Runtime {module.__version__} cannot run a segment of the model: {error}. "
                "Install the version that the model was compiled with"
            ) from error
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = [each.name for each in self._session.get_outputs()]
        if len(self._inputs) != len(self._operands) or len(self._outputs) != len(self._results):
            raise FrameworkError(
                f"a segment of ONNX Runtime has {len(self._inputs)} inputs and "
                f"{len(self._outputs)} outputs, for {len(self._operands)} and {len(self._results)}"
            )
        self._process = os.getpid()


def _type(name: str) -> int:
    if name not in _TYPES:
        raise FrameworkError(f"segments of ONNX Runtime have no element type {name}")
    return _TYPES[name]
