"""The exception tree. Every class has a stable code that `docs/errors.md` explains.

RanvierError
├── UnsupportedOperatorError   RVR-E101  the model uses operators that have no native lowering
├── CompileError               RVR-E102  the model or the options cannot be compiled
│   └── GraphError             RVR-E103  a graph is not well formed (a bug in a front end or a pass)
├── TargetError                RVR-E201  unknown target, or this CPU lacks what the code needs
│   └── FrameworkError         RVR-E202  a framework that runs a part of a model is missing
├── ArtifactError              RVR-E301  the file is not a valid artifact
├── InputError                 RVR-E401  a call's arguments do not fit the model's signature
└── ResourceError              RVR-E402  a call needs memory that the machine does not have
"""

from __future__ import annotations


class RanvierError(Exception):
    """Base of all errors that Ranvier raises on purpose."""

    code = "RVR-E000"

    def __str__(self) -> str:
        return f"[{self.code}] {super().__str__()}"


class UnsupportedOperatorError(RanvierError):
    """The model uses operators that Ranvier does not lower; lists all, with their source lines."""

    code = "RVR-E101"


class CompileError(RanvierError):
    """The model or the options cannot be compiled, for a reason other than a missing operator."""

    code = "RVR-E102"


class GraphError(CompileError):
    """A graph is not well formed: the verifier's findings, with the IR around the fault."""

    code = "RVR-E103"


class TargetError(RanvierError):
    """An unknown target, or a CPU without the features that every image of an artifact needs."""

    code = "RVR-E201"


class FrameworkError(TargetError):
    """A framework that runs a part of the model is not installed, lacks an operator, or fails."""

    code = "RVR-E202"


class ArtifactError(RanvierError):
    """The file is not a valid artifact: truncated, altered, malformed, or of a newer format."""

    code = "RVR-E301"


class InputError(RanvierError):
    """The arguments of a call do not fit the model's signature."""

    code = "RVR-E401"


class ResourceError(RanvierError):
    """A call needs memory that the machine does not have, for a size computed from its inputs."""

    code = "RVR-E402"
