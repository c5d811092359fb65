"""Writes a manifest and its programs as a JSON document; `parser.py` reads it back."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.artifact.expression import expr_to_json
from ranvier.artifact.format import (
    FORMAT_VERSION,
    Buffer,
    Manifest,
    Program,
    Step,
    StepResult,
    TensorSpec,
    Tree,
)


def to_document(manifest: Manifest, programs: Sequence[Program]) -> dict[str, object]:
    """Return the JSON document of a manifest and its programs, ready for `json.dumps`."""
    return {
        "format": FORMAT_VERSION,
        "name": manifest.name,
        "precision": manifest.precision,
        "producer": dict(manifest.producer),
        "symbols": [{"name": s.name, "min": s.minimum, "max": s.maximum} for s in manifest.symbols],
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
    }
