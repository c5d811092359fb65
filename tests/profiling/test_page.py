"""The page as text; `test_browser.py` looks at it in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace

from ranvier.profiling import document, page
from tests.profiling.made_up import profile

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>{{script}}"


def embedded(text: str) -> str:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_data_are_the_document_and_the_timeline() -> None:
    data = json.loads(embedded(page(profile(5))))
    timeline = data.pop("timeline")
    assert data == json.loads(json.dumps(document(profile(5))))
    assert timeline["begins"] == [[0, 10, 20, 30, 40]] * 2
    assert timeline["finishes"] == [[10, 20, 30, 40, 50], [8, 18, 28, 38, 48]]
    assert json.loads(embedded(page(profile(waits=False))))["timeline"]["finishes"] is None


def test_hostile_names_stay_data() -> None:
    kernels = profile().kernels
    bad = replace(kernels[0], label=HOSTILE, source=HOSTILE, operators=(HOSTILE,))
    text = page(replace(profile(name=HOSTILE), kernels=(bad, *kernels[1:])))
    data = embedded(text)
    assert "<" not in data
    assert json.loads(data)["steps"][0]["label"] == HOSTILE
    assert text.count("</script>") == page(profile()).count("</script>")
    assert "<img" not in text


def test_only_its_own_style_and_script_may_run() -> None:
    text = page(profile())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        inline = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inline is not None
        digest = base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_it_needs_nothing_from_elsewhere() -> None:
    text = page(profile())
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name space, never loaded
