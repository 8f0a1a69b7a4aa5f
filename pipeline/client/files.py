"""Documents on a disk: names that stay in their folder, and files that are whole or not there."""

from __future__ import annotations

import re
from pathlib import Path


def safe_name(text: str) -> str:
    """Return `text` as the name of one file or folder: no name from outside leads out of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "_"


def write_file(path: Path, content: bytes) -> Path:
    """Write a file, its folders with it, and return where it is; nobody sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    return part.replace(path)
