"""The coming days on which a fixed date of a fixture could fail a test: `python -m tests.support.calendar_days`.

A rule compares some dates with the day of the clock: a certification's end, with a notice before it, and the age of the
customs rules. Between two of these days nothing changes.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pipeline.core.clock import utc_now
from pipeline.customs.certifications import NOTICE_DAYS
from pipeline.customs.reference.bundle import load_rules

#: How many days ahead the tests are run.
_AHEAD: Final = 60
#: A run stands for the days shortly before it: each takes minutes.
_TOGETHER: Final = timedelta(days=5)

_ROOT: Final = Path(__file__).parents[2]
_FIXTURES: Final = (
    "tests/support/factories.py", "tests/support/orders.py", "examples/**/*.json", "templates/plans/*.jsonc",
)  # fmt: skip
_DATE: Final = re.compile(r"\b20\d\d-\d\d-\d\d\b")


def list_fixed_days() -> Iterator[date]:
    """Yield each day that a fixture names, the day on which its notice begins, and when the rules need a review."""
    for path in (found for pattern in _FIXTURES for found in _ROOT.glob(pattern)):
        for written in _DATE.findall(path.read_text(encoding="utf-8")):
            with suppress(ValueError):
                yield (day := date.fromisoformat(written))
                yield day - timedelta(days=NOTICE_DAYS)
    rules, _ = load_rules()
    yield rules.as_of + timedelta(days=rules.review.within_days)


def choose_days(today: date) -> list[date]:
    """Return the days to run the tests on: each fixed day of the coming ones and the day after it, few days as one."""
    ends = today + timedelta(days=_AHEAD)
    changes = {after for day in list_fixed_days() for after in (day, day + timedelta(days=1)) if today < after <= ends}
    chosen: list[date] = []
    first = date.min
    for day in sorted(changes):
        if chosen and day - first <= _TOGETHER:
            chosen[-1] = day
        else:
            first = day
            chosen.append(day)
    return chosen


if __name__ == "__main__":
    print(*choose_days(utc_now().date()))  # noqa: T201 - the Makefile reads it
