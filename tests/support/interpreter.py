"""Programs with an interpreter of their own: to fork, to hang, or to start without imports."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def run_interpreter(program: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return how the program ended and its output. It sees only this checkout and the variables of `environment`."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
