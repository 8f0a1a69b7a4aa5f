"""The units of config/deploy/systemd, and the filter of system calls that they ask for."""

import subprocess
from pathlib import Path
from typing import Final

from tests.support.compose import DEPLOY

UNITS: Final = DEPLOY / "systemd"
HARDENING: Final = UNITS / "exports-.service.d" / "hardening.conf"


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Return the options of a unit in their order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith(("#", "[")))
    return [(name, value) for name, _, value in pairs]


def read_options(path: Path) -> dict[str, str]:
    """Return the options of a unit; of several with one name, the last."""
    return dict(read_lines(path))


def list_calls(group: str) -> set[str]:
    """Return the system calls of a group such as `@system-service`, those of its groups included."""
    command = ["systemd-analyze", "--no-pager", "syscall-filter", group]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    words = {line.strip() for line in lines[1:] if line.startswith("    ") and not line.strip().startswith("#")}
    found = {word for word in words if not word.startswith("@")}
    return found.union(*(list_calls(word) for word in words - found))


def list_allowed_calls() -> set[str]:
    """Return the system calls that the units allow, as systemd does: its own defaults and then one filter after another."""
    allowed = list_calls("@default")
    for name, value in read_lines(HARDENING):
        if name == "SystemCallFilter":
            change = allowed.difference_update if value.startswith("~") else allowed.update
            change(list_calls(value.removeprefix("~")))
    return allowed
