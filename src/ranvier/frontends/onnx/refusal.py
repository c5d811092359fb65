"""The finding of a translation: a use of an operator that cannot be expressed."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818  (a finding, not an error: it is collected)
    """An operator, or a use of it, that cannot be expressed; collected over the whole model."""


class Expand(Refusal):
    """A use that is left to the standard's definition of the operator as a function."""
