"""`ranvier run`: one call of an artifact on arrays from files, or on random ones."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ranvier.cli.options import ArtifactArgument, CoresOption, JsonOption, parse_cores, parse_sizes
from ranvier.cli.output import cores_text, print_json, print_table
from ranvier.errors import InputError
from ranvier.ir.dtype import BY_NAME, decode
from ranvier.runtime.model import Model, load
from ranvier.sample_inputs import complete_sizes, random_inputs

Array = NDArray[Any]


def run_command(
    artifact: ArtifactArgument,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE.npy", help="An input; once for each."),
    ] = None,
    random: Annotated[
        list[str] | None,
        typer.Option("--random", metavar="NAME=SIZE", help="Random inputs of these sizes."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="For random inputs.")] = 0,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Write every output there as NAME.npy.")
    ] = None,
    cores: CoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an artifact once and summarise its outputs."""
    with load(artifact, cores=parse_cores(cores)) as model:
        arrays = _inputs(model, inputs or (), random, seed)
        start = time.perf_counter()
        outputs = model.run(arrays)
        seconds = time.perf_counter() - start
    written = _write(outputs, output_dir)
    dtypes = {spec.name: spec.dtype for spec in (*model.inputs, *model.outputs)}
    summaries = [_summary("input", name, array, dtypes[name]) for name, array in arrays.items()]
    summaries += [_summary("output", name, array, dtypes[name]) for name, array in outputs.items()]
    if as_json:
        print_json({"artifact": artifact, "name": model.name, "target": model.target,
                    "milliseconds": seconds * 1000, "tensors": summaries,
                    "files": written})  # fmt: skip
        return
    where = cores_text(model.cores.count)
    print_table(
        f"{model.name}: {seconds * 1000:.3f} ms, the first call, on {where}",
        ("", "tensor", "dtype", "shape", ">minimum", ">maximum", ">mean"),
        [_row(summary) for summary in summaries],
    )
    for path in written:
        print(f"wrote {path}")


def _inputs(
    model: Model, files: Sequence[str], random: Sequence[str] | None, seed: int
) -> dict[str, Array]:
    if files and random:
        raise typer.BadParameter("give --input or --random, not both")
    if not files:
        sizes = complete_sizes(model.manifest, parse_sizes(random))
        return random_inputs(model.manifest, sizes, seed)
    arrays: dict[str, Array] = {}
    for text in files:
        name, equals, path = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not NAME=FILE.npy", param_hint="--input")
        arrays[name] = _read(path)
    return arrays


def _read(path: str) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a .npy file of numbers: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{path} holds several arrays; save each with numpy.save")
    return loaded


def _write(outputs: Mapping[str, Array], folder: Path | None) -> list[str]:
    if folder is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, array in outputs.items():
        path = folder / f"{name.replace('/', '_')}.npy"
        np.save(path, array, allow_pickle=False)
        paths.append(str(path))
    return paths


def _summary(kind: str, name: str, array: Array, dtype: str) -> dict[str, object]:
    is_stored = array.dtype == BY_NAME[dtype].storage
    wide = np.asarray(decode(array, BY_NAME[dtype]) if is_stored else array, np.float64)
    known = wide.size > 0
    return {
        "kind": kind, "name": name, "dtype": dtype, "shape": list(array.shape),
        "minimum": float(wide.min()) if known else None,
        "maximum": float(wide.max()) if known else None,
        "mean": float(wide.mean()) if known else None,
    }  # fmt: skip


def _row(summary: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (summary[key] for key in ("minimum", "maximum", "mean"))
    shape = "×".join(map(str, summary["shape"])) or "scalar"
    texts = ["-" if number is None else f"{number:.6g}" for number in numbers]
    return summary["kind"], summary["name"], summary["dtype"], shape, *texts
