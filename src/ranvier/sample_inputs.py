"""Inputs made up for an artifact: sizes for its symbols, and arrays of random numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ranvier.artifact.expression import evaluate
from ranvier.artifact.format import DTYPES, Manifest, Symbol
from ranvier.errors import InputError
from ranvier.ir.dtype import BY_NAME, encode
from ranvier.runtime.arrays import Array


def batch_symbol(manifest: Manifest) -> str | None:
    """The symbol that counts examples: `batch`, or else the first axis of the first input."""
    names = [symbol.name for symbol in manifest.symbols]
    if "batch" in names:
        return "batch"
    if manifest.inputs and manifest.inputs[0].shape:
        first = manifest.inputs[0].shape[0]
        return first if isinstance(first, str) else None
    return None


def complete_sizes(manifest: Manifest, given: Mapping[str, int]) -> dict[str, int]:
    """A size for every symbol: those given, and the smallest for a batch that is not.

    Raises:
        InputError: an unknown symbol, a size outside its range, or a symbol without a size.
    """
    known = {symbol.name: symbol for symbol in manifest.symbols}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(
            f"{manifest.name} has no symbol {', '.join(unknown)}; it has {_ranges(known.values())}"
        )
    sizes = dict(given)
    batch = batch_symbol(manifest)
    if batch is not None:
        sizes.setdefault(batch, max(1, known[batch].minimum))
    missing = [symbol for symbol in known.values() if symbol.name not in sizes]
    if missing:
        raise InputError(
            f"no size is given for {_ranges(missing)}; add --set {missing[0].name}=SIZE"
        )
    for name, size in sizes.items():
        if not known[name].minimum <= size <= known[name].maximum:
            raise InputError(f"{name} = {size} is outside the range {_ranges([known[name]])}")
    return {name: sizes[name] for name in known}


def random_inputs(manifest: Manifest, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Arrays by input name for the symbols' sizes.

    Floats are standard normal, those below 16 bits without a sign. Integers are 0 or 1, which is a
    valid index into any table of two rows and a valid mask. The same seed gives the same numbers.
    """
    generator = np.random.default_rng(seed)
    return {
        spec.name: _random(generator, spec.dtype, tuple(evaluate(d, sizes) for d in spec.shape))
        for spec in manifest.inputs
    }


def _random(generator: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "bf16":
        wide = generator.standard_normal(shape, np.float32)
        return np.asarray(wide.view(np.uint32) >> 16, np.uint16)
    if BY_NAME[dtype].is_narrow and dtype.startswith("f"):
        return encode(np.abs(generator.standard_normal(shape)), BY_NAME[dtype])
    numpy_dtype = np.dtype(DTYPES[dtype])
    if numpy_dtype.kind == "f":
        return np.asarray(generator.standard_normal(shape), numpy_dtype)
    return np.asarray(generator.integers(0, 2, shape), numpy_dtype)


def _ranges(symbols: Iterable[Symbol]) -> str:
    return ", ".join(f"{s.name} ({s.minimum} to {s.maximum})" for s in symbols) or "none"
