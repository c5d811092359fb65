"""The targets whose code the tests run: those of this CPU, with `--emulate` all."""

from __future__ import annotations

from ranvier.runtime.cpu import host_features, plain
from ranvier.target import TARGETS

HOST = [t for t in TARGETS.values() if {plain(name) for name in t.features} <= host_features()]
NATIVE = HOST[-1] if HOST else TARGETS["x86-64-v3"]
