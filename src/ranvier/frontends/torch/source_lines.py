"""The line of the user's model that a traced node comes from."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path
from types import TracebackType

import torch

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = str(Path(torch.__file__).parent) + os.sep  # torchvision is user code
_OWN = str(Path(__file__).parent) + os.sep
_STANDARD = sysconfig.get_path("stdlib") + os.sep


def line_of_node(node: torch.fx.Node) -> str:
    """`path/file.py:LINE` of the innermost frame outside PyTorch, or "" when there is none."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    for path, line in reversed(frames):
        if is_user_code(path):
            return f"{path}:{line}"
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else ""


def line_of_traceback(traceback: TracebackType | None) -> str:
    """The same for an exception: its innermost frame in the user's model."""
    found = ""
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if is_user_code(path):
            found = f"{path}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found


def is_user_code(path: str) -> bool:
    """Whether a file belongs to neither PyTorch, Ranvier's front end nor the standard library."""
    if path.startswith((_TORCH, _OWN, "<")):
        return False
    return not path.startswith(_STANDARD) or "site-packages" in path
