"""Where the time of a call goes: kernel by kernel, against what the machine can do.

`profile_artifact` measures; `document` makes the figures JSON, `chrome_trace` a trace for Perfetto,
and `page` one HTML file with a roofline plot, a timeline and tables.
"""

from ranvier.profiling.document import document
from ranvier.profiling.measure import ArtifactProfile, KernelTime, profile_artifact
from ranvier.profiling.page import page
from ranvier.profiling.trace import chrome_trace

__all__ = [
    "ArtifactProfile",
    "KernelTime",
    "chrome_trace",
    "document",
    "page",
    "profile_artifact",
]
