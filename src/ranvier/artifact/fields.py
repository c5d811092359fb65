"""The kinds of values in a manifest. Each function returns what it was given as a type that it has
checked, or raises ArtifactError with the place `where` as a path into the JSON document.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from ranvier.artifact.expression import Expr, parse_expr
from ranvier.artifact.format import DTYPES, Manifest
from ranvier.errors import ArtifactError

MAXIMUM_RANK = 32
MAXIMUM_ITEMS = 1 << 20
MAXIMUM_TEXT = 1 << 16

_T = TypeVar("_T")
_C = TypeVar("_C", bound=str)


def expect_object(
    value: object, where: str, keys: Collection[str], optional: Collection[str] = ()
) -> dict[str, object]:
    """An object with exactly these keys, and some of the optional ones."""
    if not isinstance(value, dict):
        raise ArtifactError(f"{where}: expected an object, got {value!r:.80}")
    for key in keys:
        if key not in value:
            raise ArtifactError(f"{where}: the key {key!r} is missing")
    if len(value) > len(keys):
        for key in value:
            if key not in keys and key not in optional:
                raise ArtifactError(f"{where}: unknown key {key!r:.80}")
    return value


def expect_list(value: object, where: str, item: Callable[[object, str], _T]) -> tuple[_T, ...]:
    """A list, each entry read by `item`."""
    if not isinstance(value, list):
        raise ArtifactError(f"{where}: expected a list, got {value!r:.80}")
    if len(value) > MAXIMUM_ITEMS:
        raise ArtifactError(f"{where}: {len(value)} items, at most {MAXIMUM_ITEMS} are allowed")
    return tuple([item(element, f"{where}[{i}]") for i, element in enumerate(value)])


def expect_map(value: object, where: str, item: Callable[[object, str], _T]) -> dict[str, _T]:
    """An object with any keys, each value read by `item`."""
    if not isinstance(value, dict):
        raise ArtifactError(f"{where}: expected an object, got {value!r:.80}")
    return {key: item(element, f"{where}.{key}") for key, element in value.items()}


def expect_string(value: object, where: str) -> str:
    """A string of at most `MAXIMUM_TEXT` characters."""
    if not isinstance(value, str) or len(value) > MAXIMUM_TEXT:
        raise ArtifactError(
            f"{where}: expected a string of at most {MAXIMUM_TEXT} characters, got {value!r:.80}"
        )
    return value


def expect_boolean(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ArtifactError(f"{where}: expected true or false, got {value!r:.80}")
    return value


def expect_integer(value: object, where: str, low: int, high: int) -> int:
    """An integer in `low` to `high`, inclusive."""
    if type(value) is not int or not low <= value <= high:
        raise ArtifactError(f"{where}: expected an integer in {low}..{high}, got {value!r:.80}")
    return value


def expect_choice(value: object, where: str, choices: tuple[_C, ...]) -> _C:
    """One of some strings."""
    for choice in choices:
        if value == choice:
            return choice
    raise ArtifactError(f"{where}: expected one of {', '.join(choices)}, got {value!r:.80}")


def expect_dtype(value: object, where: str) -> str:
    """The name of a dtype."""
    name = expect_string(value, where)
    if name not in DTYPES:
        raise ArtifactError(f"{where}: unknown dtype {name!r:.40}; known: {', '.join(DTYPES)}")
    return name


def expect_shape(value: object, where: str, names: Collection[str]) -> tuple[Expr, ...]:
    """A list of expressions over the symbols `names`."""
    shape = expect_list(value, where, lambda v, w: parse_expr(v, names, w))
    if len(shape) > MAXIMUM_RANK:
        raise ArtifactError(f"{where}: rank {len(shape)}, at most {MAXIMUM_RANK} is allowed")
    return shape


def expect_size(value: object, where: str, names: Collection[str]) -> Expr:
    """An expression that is not a negative number."""
    expr = parse_expr(value, names, where)
    if isinstance(expr, int) and expr < 0:
        raise ArtifactError(f"{where}: negative size {expr}")
    return expr


def expect_entry(value: object, where: str, manifest: Manifest) -> str:
    """The name of an entry of the artifact."""
    name = expect_string(value, where)
    if name not in manifest.entries:
        raise ArtifactError(f"{where}: the entry {name!r:.80} is not in manifest.entries")
    return name
