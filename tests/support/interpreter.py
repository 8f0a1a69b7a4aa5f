"""Programs that have an interpreter of their own: to fork, to hang, or to have imported nothing yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def run_interpreter(program: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return how the program ended and what it said; it knows of this checkout, and of nothing else but `environment`."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
