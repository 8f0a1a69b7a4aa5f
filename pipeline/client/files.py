"""Documents on disk: names that stay in their folder, and files that are complete or absent."""

import re
from pathlib import Path


def safe_name(text: str) -> str:
    """Return `text` as the name of one file or folder; the name cannot leave its folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "_"


def write_file(path: Path, content: bytes) -> Path:
    """Write a file with its folders, and return its path; readers never see a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    return part.replace(path)
