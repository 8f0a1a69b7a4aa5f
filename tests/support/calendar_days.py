"""The coming days on which a fixed date of a fixture or of the rules could fail a test.

`python -m tests.support.calendar_days` counts from the day on which each run begins; with `now` from the clock's day,
which it names first.

A rule compares some dates with the day of the clock: a certification's end, with a notice before it, and the age of the
customs rules. Between two of these days nothing changes.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from pipeline.core.clock import utc_now
from pipeline.customs.certifications import NOTICE_DAYS
from pipeline.customs.reference.bundle import load_rules
from tests.support.on_day import STATED

#: How many days ahead the tests are run.
_AHEAD: Final = 60
#: A run stands for the days shortly before it: each takes minutes.
_TOGETHER: Final = timedelta(days=10)

_ROOT: Final = Path(__file__).parents[2]
_RULES: Final = "config/rules/**/*.yaml"
_FIXTURES: Final = (
    "tests/support/factories.py", "tests/support/orders.py", "examples/**/*.json", "templates/plans/*.jsonc",
)  # fmt: skip
_DATE: Final = re.compile(r"\b20\d\d-\d\d-\d\d\b")


def list_fixed_days() -> Iterator[date]:
    """Yield each day that a fixture or a rule names, when a fixture's notice begins, and when the rules need a review."""
    fixed = [*_find_days(*_FIXTURES)]
    yield from (*fixed, *(day - timedelta(days=NOTICE_DAYS) for day in fixed), *_find_days(_RULES))
    rules, _ = load_rules()
    yield rules.as_of + timedelta(days=rules.review.within_days)


def _find_days(*patterns: str) -> Iterator[date]:
    for path in (found for pattern in patterns for found in _ROOT.glob(pattern)):
        for written in _DATE.findall(path.read_text(encoding="utf-8")):
            with suppress(ValueError):
                yield date.fromisoformat(written)


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
    this_day = utc_now().date()
    stated = datetime.fromisoformat(STATED).date()
    print(*([this_day, *choose_days(this_day)] if "now" in sys.argv else choose_days(stated)))  # noqa: T201 - the Makefile reads it
