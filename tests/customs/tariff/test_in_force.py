"""The editions that are read once for many plans are those that one query finds for a day."""

from datetime import date, timedelta

import pytest

from pipeline.core.runtime import Runtime
from pipeline.customs.models import TariffEdition
from pipeline.customs.tariff.editions import find_editions
from pipeline.customs.tariff.in_force import StoredEditions

#: kind, first day, last day: a gap, an edition that ends before the next begins, one in the future.
PERIODS = (
    ("tariff", "2026-01-01", None), ("tariff", "2026-07-01", "2026-07-31"), ("tariff", "2026-09-01", None),
    ("agency-flags", "2026-07-15", None), ("duty-cases", "2026-03-01", "2026-12-31"),
    ("duty-cases", "2026-06-01", "2026-06-30"), ("duty-cases", "2027-01-01", "2027-01-01"),
)  # fmt: skip


@pytest.fixture
def stored(runtime: Runtime) -> Runtime:
    """A runtime whose database has an edition for each period."""
    with runtime.db.write() as session:
        for number, (kind, first, last) in enumerate(PERIODS):
            session.add(
                TariffEdition(
                    id=f"ed_{number}", kind=kind, name=f"edition {number}", effective_from=date.fromisoformat(first),
                    effective_to=None if last is None else date.fromisoformat(last), content_hash=f"sha256:{number}",
                    source="a test", rows=0, numbers=0, chapters=[],
                )
            )  # fmt: skip
    return runtime


def test_both_ways_find_the_same_editions(stored: Runtime) -> None:
    days = {date.fromisoformat(day) for _, *period in PERIODS for day in period if day is not None}
    with stored.db.read() as session:
        read = StoredEditions.load(session)
        found = {
            on: {kind: each.id for kind, each in find_editions(session, on).items()}
            for day in days
            for on in (day - timedelta(days=1), day, day + timedelta(days=1))
        }
    assert found == {on: {kind: each.id for kind, each in read.find_on(on).items()} for on in found}
    # Of the newest that has begun: one that has ended is not replaced by an older one.
    assert found[date(2026, 7, 31)] == {"tariff": "ed_1", "agency-flags": "ed_3"}
    assert found[date(2026, 8, 1)] == {"agency-flags": "ed_3"}
    assert found[date(2025, 12, 31)] == {}
