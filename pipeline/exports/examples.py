"""The example plans that ship with the service, dated so that their goods are always about to cross the border."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from config.settings import HOME
from pipeline.core.errors import NotFound

_INSTALLED: Final = HOME / "templates" / "plans" / "examples"
#: Where the plans lie: the wheel keeps them beside the templates.
PLANS: Final = _INSTALLED if _INSTALLED.is_dir() else HOME / "examples" / "plans"
#: One plan with a comment on every part.
COMMENTED_PLAN: Final = HOME / "templates" / "plans" / "plan.jsonc"

#: A day, or the day of an instant. A ruleset keeps its day, which names the rules that the plan was made by.
_DAY: Final = re.compile(r'(?<!"asOf": )"(\d{4}-\d{2}-\d{2})(?=["T])')
_APPROVED: Final = re.compile(r'"approvedAt": "(\d{4}-\d{2}-\d{2})')


def list_names() -> list[str]:
    """Return the names of the example plans, the smallest plan first."""
    return [path.stem for path in sorted(PLANS.glob("*.json"), key=lambda path: path.stat().st_size)]


def read_text(path: Path, today: date) -> str:
    """Return the text of an example plan that was approved on the day before `today` and is exported on the day after.

    All days move together, so that they fit each other as they were written. Raises NotFound.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"the example plan {path} cannot be read; install the service again, whole") from error
    approved = _APPROVED.search(text)
    if approved is None:
        raise ValueError(f"{path} has no approvedAt to be dated by")
    moved = today - timedelta(days=1) - date.fromisoformat(approved[1])
    return _DAY.sub(lambda found: f'"{date.fromisoformat(found[1]) + moved}', text)


def load_plan(name: str, today: date) -> dict[str, Any]:
    """Return the example plan of this name, dated by `today` and without label numbers of its own. Raises NotFound."""
    loaded: dict[str, Any] = json.loads(read_text(PLANS / f"{name}.json", today))
    for unit in loaded["units"]:
        for package in unit["packages"]:
            # A label number is never used twice: these come from the account's own range instead.
            package["sscc"] = None
    return loaded
