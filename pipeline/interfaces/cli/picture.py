"""What a terminal showed, as an SVG file that fetches nothing from anywhere."""

from __future__ import annotations

import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

#: Rich's own format names fonts at an address on the web; every system has a monospaced one.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "monospace"
)


def save_picture(console: Console, path: Path) -> None:
    """Write what `console` recorded to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(console.export_svg(title="make demo", code_format=FORMAT, unique_id="demo"), encoding="utf-8")
