"""Steps that compute nothing but steer: sizes read from memory, branches and loops.

Every thread takes them for itself: the values of symbols live in its registers, all threads read
the same condition, and meet before they do. Steps of a branch or a body stand between the marks:

    BranchBegin  steps of `then`  BranchElse  steps of `otherwise`  BranchEnd
    LoopBegin    steps of the body  LoopEnd
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim, Symbol

Assignments = tuple[tuple[Symbol, Dim], ...]
"""Symbols and the dims whose values they get, all at once."""


@dataclass(frozen=True)
class BindDim:
    """Gives `symbol` the value of the i64 at argument 0; the call fails outside its range."""

    symbol: Symbol


@dataclass(frozen=True)
class BranchBegin:
    """Goes on with the next step if the bool at argument 0 is true, else after `BranchElse`."""


@dataclass(frozen=True)
class BranchElse:
    """The end of the first branch, with the sizes of its results."""

    sizes: Assignments


@dataclass(frozen=True)
class BranchEnd:
    """The end of the second branch, with the sizes of its results."""

    sizes: Assignments


@dataclass(frozen=True)
class LoopBegin:
    """The head of a loop, passed before every iteration.

    `initial` holds on entry; the loop goes on while `iteration` is below `limit` (None: no limit)
    and, if `conditional`, the bool at argument 0 is true. `pairs` are buffers (current, next) that
    change places after every iteration.
    """

    iteration: Symbol
    limit: Dim | None
    conditional: bool
    initial: Assignments
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LoopEnd:
    """The end of a body: `next` holds in the iteration that follows, `final` after the loop."""

    next: Assignments
    final: Assignments


@dataclass(frozen=True)
class Request:
    """At least `size_bytes` for `buffer`; what it holds already stays there if `keep`."""

    buffer: int
    size_bytes: Dim
    keep: bool = False


@dataclass(frozen=True)
class Reserve:
    """Memory for buffers whose sizes the plan cannot know; all threads meet after it.

    The call fails when the memory cannot be had.
    """

    requests: tuple[Request, ...]


Control = BindDim | BranchBegin | BranchElse | BranchEnd | LoopBegin | LoopEnd | Reserve
CONTROL = (BindDim, BranchBegin, BranchElse, BranchEnd, LoopBegin, LoopEnd, Reserve)
MARKS = (BranchBegin, BranchElse, BranchEnd, LoopBegin, LoopEnd)
