"""What a front end found of a model's operators, and the message that lists what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """One use of an operator: `reason` says why it is not supported, and is empty when it is."""

    operator: str
    source: str
    reason: str = ""


class OperatorUse(NamedTuple):
    """One operator of a model: how often, whether all uses are supported, and where.

    `reason` says why the uses at `sources` are not supported; it is empty when they are.
    """

    operator: str
    uses: int
    supported: bool
    sources: tuple[str, ...]
    reason: str = ""


def operator_uses(findings: Iterable[Finding]) -> list[OperatorUse]:
    """Findings by operator and reason: what is missing first, then by number of uses."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        grouped.setdefault((finding.operator, finding.reason), []).append(finding.source)
    uses = [
        OperatorUse(operator, len(sources), not reason, tuple(dict.fromkeys(sources)), reason)
        for (operator, reason), sources in grouped.items()
    ]
    return sorted(uses, key=lambda use: (use.supported, -use.uses, use.operator))


def missing_message(missing: Sequence[OperatorUse]) -> str:
    """All that cannot be compiled, with counts, reasons and places."""
    total = sum(use.uses for use in missing)
    lines = [f"{total} operator use{'s' if total > 1 else ''} cannot be compiled:"]
    for use in missing:
        places = ", ".join(source or "unknown place" for source in use.sources)
        lines.append(f"  {use.operator} x {use.uses}: {use.reason} (at {places})")
    return "\n".join(lines)
