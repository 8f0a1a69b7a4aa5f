"""The tests run on each coming day on which a fixed date of a fixture could fail one."""

from datetime import date, timedelta

import pytest

from tests.support import calendar_days


def test_each_fixed_day_and_the_day_after_it_are_close_before_a_chosen_day(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = date(2026, 12, 31)
    fixed = [ends, ends - timedelta(days=30), date(2026, 12, 20), date(2027, 2, 1), date(2026, 11, 30)]
    monkeypatch.setattr(calendar_days, "list_fixed_days", lambda: iter(fixed))
    today = date(2026, 11, 30)
    assert calendar_days.choose_days(today) == [date(2026, 12, 2), date(2026, 12, 21), date(2027, 1, 1)]
    assert calendar_days.choose_days(ends) == [date(2027, 1, 1), date(2027, 2, 2)]


def test_certifications_of_fixtures_are_fixed_days() -> None:
    assert {date(2026, 12, 31), date(2026, 12, 1)} <= set(calendar_days.list_fixed_days())
