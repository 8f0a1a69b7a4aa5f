"""The example plans that ship with the service, with dates around today."""

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from config.settings import HOME
from pipeline.core.errors import NotFound

_INSTALLED: Final = HOME / "templates" / "plans" / "examples"
#: The folder of the example plans; in the wheel they are beside the templates.
PLANS: Final = _INSTALLED if _INSTALLED.is_dir() else HOME / "examples" / "plans"
ENTRIES: Final = PLANS / "entries"
#: One plan with comments on every part.
COMMENTED_PLAN: Final = HOME / "templates" / "plans" / "plan.jsonc"

#: A day, or the day of an instant. The ruleset's `asOf` does not move: it names the rules of the plan.
_DAY: Final = re.compile(r'(?<!"asOf": )"(\d{4}-\d{2}-\d{2})(?=["T])')
_APPROVED: Final = re.compile(r'"approvedAt": "(\d{4}-\d{2}-\d{2})')


def list_names() -> list[str]:
    """Return the names of the example plans of the demo, the smallest plan first."""
    return [path.stem for path in sorted(PLANS.glob("*.json"), key=lambda path: path.stat().st_size)]


def list_all_names() -> list[str]:
    """Return the names of all example plans: those of the demo, then those of one entry each that shows one case."""
    return [*list_names(), *sorted(path.stem for path in ENTRIES.glob("*.json"))]


def read_text(path: Path, today: date) -> str:
    """Return the text of an example plan, approved on the day before `today` and exported on the day after.

    All days move by the same number of days. Raises NotFound.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"the example plan {path} cannot be read; install the service again") from error
    approved = _APPROVED.search(text)
    if approved is None:
        raise ValueError(f"{path} has no approvedAt, from which its days are moved")
    moved = today - timedelta(days=1) - date.fromisoformat(approved[1])
    return _DAY.sub(lambda found: f'"{date.fromisoformat(found[1]) + moved}', text)


def load_plan(name: str, today: date) -> dict[str, Any]:
    """Return the example plan of this name, with its days moved to `today` and without SSCCs. Raises NotFound."""
    path = PLANS / f"{name}.json"
    loaded: dict[str, Any] = json.loads(read_text(path if path.exists() else ENTRIES / path.name, today))
    for unit in loaded["units"]:
        for package in unit["packages"]:
            # An SSCC is never used twice: each account issues its own.
            package["sscc"] = None
    return loaded
