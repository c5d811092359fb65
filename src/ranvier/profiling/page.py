"""A profile as one HTML file that needs nothing else: roofline plot, timeline and tables.

Its parts are the files under `assets/`. Names of models, values and source lines are somebody
else's text: they travel as JSON in which no tag can begin, the script shows them as text only, and
the page's policy lets no other script run and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources

import numpy as np

from ranvier.profiling.document import document
from ranvier.profiling.measure import ArtifactProfile
from ranvier.profiling.timeline import Seconds, Timeline

_SCRIPTS = ("numbers", "elements", "selection", "roofline", "timeline", "tables", "page")
"""Files of the script, in the order in which they run."""


def page(profile: ArtifactProfile) -> str:
    """The page as HTML text."""
    style = _asset("page.css")
    script = "\n".join(['"use strict";', *(_asset(f"{name}.js") for name in _SCRIPTS)])
    parts = {
        "policy": (
            f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        "title": html.escape(f"{profile.name} ({profile.precision}) – Ranvier profile"),
        "style": style,
        "script": script,
        "data": _embedded({**document(profile), "timeline": _timeline(profile.typical)}),
    }
    # In one pass: what stands in for a mark may look like another mark.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (resources.files("ranvier.profiling") / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression of Content Security Policy that allows exactly this inline text."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _embedded(data: object) -> str:
    """JSON for a script element: neither `</script>` nor `<!--` can appear in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _timeline(call: Timeline) -> dict[str, object]:
    """Microseconds to the nanosecond, by thread and step."""

    def rounded(seconds: Seconds) -> object:
        return np.round(seconds * 1e6, 3).tolist()

    return {
        "begins": rounded(call.begins),
        "finishes": None if call.finishes is None else rounded(call.finishes),
        "ends": rounded(call.ends),
    }
