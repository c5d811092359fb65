"""Writes a manifest and its programs as a JSON document; `parser.py` reads it back."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.artifact.expression import expr_to_json
from ranvier.artifact.format import (
    FIRST_DTYPES,
    FORMAT_VERSION,
    Buffer,
    Foreign,
    ForeignTensor,
    Manifest,
    Program,
    Step,
    StepResult,
    TensorSpec,
    Tree,
)


def to_document(manifest: Manifest, programs: Sequence[Program]) -> dict[str, object]:
    """Return the JSON document of a manifest and its programs, ready for `json.dumps`."""
    computed = {"computed": list(manifest.computed)} if manifest.computed else {}
    return {
        "format": needed_format(manifest, programs),
        "name": manifest.name,
        "precision": manifest.precision,
        "producer": dict(manifest.producer),
        "symbols": [{"name": s.name, "min": s.minimum, "max": s.maximum} for s in manifest.symbols],
        **computed,
        "inputs": [_tensor_to_json(spec) for spec in manifest.inputs],
        "outputs": [_tensor_to_json(spec) for spec in manifest.outputs],
        "input_tree": tree_to_json(manifest.input_tree),
        "output_tree": tree_to_json(manifest.output_tree),
        "entries": {
            name: {"size": entry.size, "sha256": entry.sha256, "sum64": entry.sum64}
            for name, entry in manifest.entries.items()
        },
        "programs": [_program_to_json(program) for program in programs],
    }


def needed_format(manifest: Manifest, programs: Sequence[Program]) -> int:
    """Return the oldest format that has what an artifact uses: older runtimes read it then."""
    results = [step.result for program in programs for step in program.steps]
    dtypes = {spec.dtype for spec in (*manifest.inputs, *manifest.outputs)}
    dtypes |= {result.dtype for result in results if result is not None}
    has_loops = any(program.loops for program in programs)
    has_foreign = any(step.foreign for program in programs for step in program.steps)
    is_new = manifest.computed or has_loops or has_foreign or not dtypes <= FIRST_DTYPES
    return FORMAT_VERSION if is_new else 1


def tree_to_json(tree: Tree) -> object:
    """Return the JSON form of a tree."""
    value: object = tree.value
    if tree.kind in ("tuple", "list"):
        return {tree.kind: [tree_to_json(child) for child in tree.value]}
    if tree.kind == "dict":
        return {"dict": {key: tree_to_json(child) for key, child in tree.value}}
    return {tree.kind: True if tree.kind == "none" else value}


def _tensor_to_json(spec: TensorSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": [expr_to_json(dim) for dim in spec.shape],
    }


def _buffer_to_json(buffer: Buffer) -> dict[str, object]:
    size = expr_to_json(buffer.size)
    if buffer.kind == "weight":
        return {"kind": "weight", "entry": buffer.entry, "offset": buffer.offset, "size": size}
    if buffer.kind == "temporary":
        return {"kind": "temporary", "size": size}
    return {"kind": buffer.kind, "index": buffer.index, "size": size}


def _step_to_json(step: Step) -> dict[str, object]:
    foreign = {} if step.foreign is None else {"foreign": _foreign_to_json(step.foreign)}
    return {
        "kernel": step.kernel,
        "label": step.label,
        "reads": list(step.reads),
        "writes": list(step.writes),
        "in_place": [list(pair) for pair in step.in_place],
        "flops": expr_to_json(step.flops),
        "bytes": expr_to_json(step.bytes),
        "source": step.source,
        "operators": list(step.operators),
        "result": None if step.result is None else _result_to_json(step.result),
        "barrier": step.barrier,
        **foreign,
    }


def _foreign_to_json(foreign: Foreign) -> dict[str, object]:
    return {
        "framework": foreign.framework,
        "entry": foreign.entry,
        "operands": [_foreign_tensor_to_json(tensor) for tensor in foreign.operands],
        "results": [_foreign_tensor_to_json(tensor) for tensor in foreign.results],
        "sizes": [expr_to_json(size) for size in foreign.sizes],
    }


def _foreign_tensor_to_json(tensor: ForeignTensor) -> dict[str, object]:
    return {
        "dtype": tensor.dtype,
        "shape": [expr_to_json(dim) for dim in tensor.shape],
        "buffer": tensor.buffer,
        "offset": expr_to_json(tensor.offset),
    }


def _result_to_json(result: StepResult) -> dict[str, object]:
    return {
        "value": result.value,
        "dtype": result.dtype,
        "shape": [expr_to_json(dim) for dim in result.shape],
        "strides": [expr_to_json(stride) for stride in result.strides],
        "buffer": result.buffer,
        "offset": expr_to_json(result.offset),
    }


def _program_to_json(program: Program) -> dict[str, object]:
    return {
        "target": program.target.name,
        "isa": program.target.isa,
        "features": list(program.target.features),
        "code": program.code,
        "symbols": dict(program.symbols),
        "dims": [expr_to_json(dim) for dim in program.dims],
        "buffers": [_buffer_to_json(buffer) for buffer in program.buffers],
        "steps": [_step_to_json(step) for step in program.steps],
        **_control_to_json(program),
    }


def _control_to_json(program: Program) -> dict[str, object]:
    """What only programs with sizes from data, branches or loops have."""
    found: dict[str, object] = {}
    if program.computed:
        found["computed"] = [{"name": each.name, "dim": each.dim} for each in program.computed]
    if program.reserved:
        found["reserved"] = list(program.reserved)
    if program.loops:
        found["loops"] = [
            {"first": each.first, "last": each.last, "pairs": [list(pair) for pair in each.pairs]}
            for each in program.loops
        ]
    return found
