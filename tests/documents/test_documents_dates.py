"""Clock changes, leap days, and days beyond 32 bits: the documents show the same days as the plan."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.customs.chapter99.facts import entry_date
from pipeline.documents.registry import render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import sample, unit_data
from tests.system.faults.matrix import mark_own_stack

#: New York sets clocks forward on the first of these days and back on the second, at two in the morning.
FORWARD, BACK = date(2027, 3, 14), date(2026, 11, 1)
DAYS = (FORWARD, BACK, date(2028, 2, 29), date(2038, 1, 19), date(2038, 1, 20), date(2099, 12, 31))
ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati")


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set the time zone of this process."""

    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def build_invoice_on(day: date, at: str = "23:59:59-05:00") -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["invoice"] |= {"date": str(day), "saleDate": str(day)}
        data["entry"] |= {"exportDate": str(day), "estimatedArrivalAt": f"{day}T{at}"}

    return change


def render_all(invoice: Invoice) -> dict[str, str]:
    return {document.artifact_type: document.digest for document in render_documents(invoice)}


@mark_own_stack("F27")
@pytest.mark.parametrize("day", DAYS, ids=str)
def test_documents_are_equal_in_every_time_zone(day: date, set_zone: Callable[[str], None]) -> None:
    found = []
    for zone in ZONES:
        set_zone(zone)
        found.append(render_all(sample(2, change=build_invoice_on(day))))
    assert found[0] == found[1] == found[2]


@mark_own_stack("F27")
@pytest.mark.parametrize("day", DAYS, ids=str)
def test_documents_show_day_of_plan(day: date) -> None:
    bodies = {
        document.artifact_type: document.body for document in render_documents(sample(2, change=build_invoice_on(day)))
    }
    data = json.loads(bodies["cci_json"])
    assert (data["header"]["invoiceDate"], data["transport"]["exportDate"]) == (str(day), str(day))
    for kind in ("cci_csv", "cci_human_readable", "cci_ubl"):
        assert str(day) in bodies[kind].decode(), kind


def read_entry_date(arrival: datetime) -> date:
    data = unit_data(1)
    data["entry"]["estimatedArrivalAt"] = arrival.isoformat()
    return entry_date(Unit.model_validate(data))


@mark_own_stack("F27")
@pytest.mark.parametrize(
    ("arrival", "day"),
    [
        ("2026-11-26T04:59:59+00:00", "2026-11-25"),  # five hours behind in winter
        ("2026-11-26T05:00:00+00:00", "2026-11-26"),
        ("2027-07-02T03:59:59+00:00", "2027-07-01"),  # four in summer
        ("2027-07-02T04:00:00+00:00", "2027-07-02"),
        ("2027-03-14T06:59:59+00:00", "2027-03-14"),  # the last second before two o'clock, and the first after it
        ("2027-03-14T07:00:00+00:00", "2027-03-14"),
        ("2027-03-15T03:59:59+00:00", "2027-03-14"),  # a day of 23 hours ends at four
        ("2027-03-15T04:00:00+00:00", "2027-03-15"),
        ("2026-11-01T04:00:00+00:00", "2026-11-01"),  # one of 25 begins at four and ends at five
        ("2026-11-02T04:59:59+00:00", "2026-11-01"),
        ("2026-11-02T05:00:00+00:00", "2026-11-02"),
        ("2028-02-29T23:30:00-05:00", "2028-02-29"),
        ("2038-01-20T04:30:00+00:00", "2038-01-19"),
    ],
)
def test_entry_day_uses_time_zone_of_rules(arrival: str, day: str) -> None:
    assert read_entry_date(datetime.fromisoformat(arrival)) == date.fromisoformat(day)


@mark_own_stack("F27")
@given(
    at=st.datetimes(datetime(2026, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - made aware by the next argument
    hours=st.integers(-12, 14),
)
def test_offset_of_arrival_keeps_entry_day(at: datetime, hours: int) -> None:
    assert read_entry_date(at.astimezone(tz=timezone(timedelta(hours=hours)))) == read_entry_date(at)
    assert abs(read_entry_date(at) - at.date()) <= timedelta(days=1)
