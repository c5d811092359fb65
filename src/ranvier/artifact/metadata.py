"""Texts that belong to a model and travel with it: labels, an alphabet, a licence.

They are the entry `metadata.json` of an artifact, one JSON object of strings; without any there is
no such entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ranvier.artifact.reader import Artifact
from ranvier.errors import ArtifactError

METADATA = "metadata.json"


def metadata_entry(texts: Mapping[str, str]) -> bytes:
    """The content of the entry."""
    return json.dumps(dict(texts), ensure_ascii=False, indent=1).encode()


def read_metadata(artifact: Artifact) -> dict[str, str]:
    """The texts of an artifact by name; ArtifactError when the entry is no object of strings."""
    if METADATA not in artifact.entry_names:
        return {}
    try:
        found = json.loads(artifact.entry(METADATA).tobytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{artifact.path}: {METADATA} is not valid JSON ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ArtifactError(f"{artifact.path}: {METADATA} is not an object of strings")
    return found
