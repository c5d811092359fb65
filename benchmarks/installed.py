"""How much must be installed to run a model: the files of a package and of all that it needs."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SOURCE = {"ranvier": ("numpy",)}
"""Packages that may be installed as a link to their source, with what they need."""


def installed_bytes(packages: Iterable[str]) -> int:
    """The size on disk of these packages and of everything that they require."""
    found: set[str] = set()
    return sum(_with_needs(package, found) for package in packages)


def _with_needs(package: str, found: set[str]) -> int:
    name = package.lower().replace("_", "-")
    if name in found:
        return 0
    found.add(name)
    if name in _SOURCE:
        return _folder_bytes(name) + sum(_with_needs(need, found) for need in _SOURCE[name])
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return 0  # needed on other platforms only
    files = installed.files or []
    paths = [Path(str(installed.locate_file(file))) for file in files]
    size = sum(path.stat().st_size for path in paths if path.exists())
    for requirement in installed.requires or []:
        text, _, marker = requirement.partition(";")
        match = _NAME.match(text)
        if match and "extra" not in marker:
            size += _with_needs(match[0], found)
    return size


def _folder_bytes(package: str) -> int:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return 0
    return sum(path.stat().st_size for path in Path(spec.origin).parent.rglob("*.py"))
