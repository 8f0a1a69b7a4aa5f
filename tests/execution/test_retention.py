"""Records go when their time is over, not a day before, never under a hold; what was proven stays provable."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel, col

from pipeline import audit, bundle, delivery, inspection, rebuilding, retention
from pipeline.amendments import amend
from pipeline.errors import InvalidState, NotFound
from pipeline.execution import Wake
from pipeline.interventions import cancel
from pipeline.models import (
    Artifact,
    Event,
    Export,
    IdempotencyRecord,
    LineTreatment,
    Notification,
    Package,
    PlanSnapshot,
)
from pipeline.schemas.execution import ExecuteRequest
from tests import builders
from tests.builders import Json
from tests.execution.conftest import House
from tests.faults.matrix import alone

#: What stands in a plan and must be found nowhere once it is purged.
CANARY = "Canary Orchard Holdings"


def plan(name: str, *, arrival: str | None = "2026-11-26T18:00:00Z", export_country: str = "CA") -> Json:
    """Return a plan that is entered on the day given, from the country given, with a name that is easily found."""
    made = builders.plan(batch=name, invoice=name.upper(), exportCountry=export_country)
    made["units"][0]["entry"]["estimatedArrivalAt"] = arrival
    made["units"][0]["parties"]["buyer"]["name"] = CANARY
    return made


def executed(house: House, made: Json) -> str:
    """Have the plan executed, its messages sent."""
    export_id = house.accept(made, key=f"key-{made['batchId']}").export_id
    house.run([Wake(export_id, 1, "record_packages")])
    house.run([Wake(export_id, 1, "render_documents")])
    assert house.state(export_id) == "executed"
    return export_id


def due(house: House, on: date) -> dict[str, tuple[str, str | None]]:
    return {each.export_id: (each.jurisdiction, each.held_by) for each in retention.due(house.runtime, on)}


def rows(house: House, table: type[SQLModel], export_id: str) -> Sequence[SQLModel]:
    with house.runtime.db.read() as session:
        found = session.scalars(select(table).where(col(table.export_id) == export_id)).all()  # type: ignore[attr-defined]
        session.expunge_all()
    return found


@pytest.fixture
def today(house: House) -> date:
    """The day on which everything is accepted."""
    house.clock.now = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
    return house.clock.now.date()


def test_exactly_what_is_due_is_purged_as_the_years_go_by(house: House, today: date) -> None:
    exports = {
        name: executed(house, plan(name, arrival=arrival, export_country=country))
        for name, arrival, country in (
            ("us5", "2026-11-26T18:00:00Z", "MX"),
            ("us5later", "2026-11-28T18:00:00Z", "MX"),
            ("ca6", "2026-11-26T18:00:00Z", "CA"),
        )
    }
    open_still = house.accept(plan("open", export_country="MX")).export_id
    purged: set[str] = set()
    for day, names in (
        (date(2031, 11, 26), set()),  # the last day that it is kept
        (date(2031, 11, 27), {"us5"}),
        (date(2031, 11, 29), {"us5later"}),
        (date(2032, 11, 26), set()),
        (date(2032, 11, 27), {"ca6"}),
        (date(2040, 1, 1), set()),  # what has not ended is kept
    ):
        expected = {exports[name] for name in names}
        assert set(due(house, day)) == expected
        assert retention.purge(house.runtime, day).exports == len(expected)
        purged |= expected
        for export_id in (*exports.values(), open_still):
            packages = len(rows(house, Package, export_id))
            assert packages == (0 if export_id in purged or export_id == open_still else 2)
    assert house.state(open_still) == "accepted"
    assert retention.purge(house.runtime, date(2040, 1, 1)) == retention.Purge(0, 0)


@alone("F27")
def test_leap_day_is_kept_to_the_last_of_february_and_no_day_less() -> None:
    assert retention._years_after(date(2028, 2, 29), 5) == date(2033, 3, 1)
    assert retention._years_after(date(2026, 11, 26), 6) == date(2032, 11, 26)


def test_payload_is_gone_from_tables_and_store_and_hashes_and_log_are_as_before(
    make_house: Callable[[str], House], database_url: str, tmp_path: Path
) -> None:
    house = make_house(database_url)
    export_id, kept_id = executed(house, plan("gone")), executed(house, plan("kept", arrival="2026-12-20T12:00:00Z"))
    before = [(row.artifact_type, row.sha256, row.size) for row in rows(house, Artifact, export_id)]  # type: ignore[attr-defined]
    log = house.events(export_id)
    made = retention.purge(house.runtime, date(2032, 11, 27))
    assert (made.exports, made.documents) == (1, len(before))

    assert house.events(export_id) == [*log, "EXPORT_PURGED"]
    assert audit.survey(house.runtime).intact
    assert rebuilding.survey(house.runtime, export_id=export_id).intact
    assert [(row.artifact_type, row.sha256, row.size) for row in rows(house, Artifact, export_id)] == before  # type: ignore[attr-defined]
    for table in (Package, LineTreatment, IdempotencyRecord):
        assert (len(rows(house, table, export_id)), len(rows(house, table, kept_id)) > 0) == (0, True)
    assert {row.data for row in rows(house, Notification, export_id)} == {"{}"}  # type: ignore[attr-defined]
    with house.runtime.db.read() as session:
        assert {row.batch_id: row.document == "{}" for row in session.scalars(select(PlanSnapshot))} == {
            "gone": True,
            "kept": False,
        }
        facts = session.scalars(select(Event).where(col(Event.type) == "EXPORT_PURGED")).one().data
        export = session.get_one(Export, export_id)
    assert facts == {"planHash": export.plan_hash, "entryOn": "2026-11-26", "jurisdiction": "CA", "years": 6}
    # The other's documents, and nothing of the purged one's, lie in the store.
    with house.runtime.db.read() as session:
        kept = set(session.scalars(select(col(Artifact.sha256)).where(col(Artifact.export_id) == kept_id)))
    assert {path.name for path in (tmp_path / "artifacts" / "sha256").rglob("*") if path.is_file()} == kept


def test_no_table_holds_a_name_of_a_purged_plan(house: House, today: date) -> None:
    executed(house, plan("gone"))
    assert found_in(house, CANARY)
    retention.purge(house.runtime, date(2032, 11, 27))
    assert found_in(house, CANARY) == set()


def found_in(house: House, text: str) -> set[str]:
    """Return the tables in which a text stands anywhere."""
    with sqlite3.connect(str(house.runtime.db.url.database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name for name in names if text in str(connection.execute(f"SELECT * FROM {name}").fetchall())}  # noqa: S608


def test_what_is_purged_can_be_looked_at_and_nothing_else(house: House, today: date) -> None:
    export_id = executed(house, plan("gone"))
    (artifact, *_) = rows(house, Artifact, export_id)
    with house.runtime.db.read() as session:
        delivery_id = delivery.listed(house.runtime, builders.ACCOUNT, export_id=export_id).items[0].id
    retention.purge(house.runtime, date(2032, 11, 27))
    with house.runtime.db.read() as session:
        view = inspection.read(session, builders.ACCOUNT, export_id)
        assert (view.state, view.purged_at is not None, view.treatment.lines, view.findings) == (
            "executed",
            True,
            [],
            [],
        )
        assert len(view.artifacts) > 0
        with pytest.raises(NotFound, match=f"its SHA-256 was {artifact.sha256}"):  # type: ignore[attr-defined]
            inspection.find_artifact(session, builders.ACCOUNT, artifact.id)  # type: ignore[attr-defined]
        with pytest.raises(InvalidState, match="was purged"):
            bundle.gathered(session, house.runtime.settings, session.get_one(Export, export_id))
    with pytest.raises(InvalidState, match="was purged"):
        cancel(house.runtime, builders.ACCOUNT, export_id, "key_test")
    with pytest.raises(InvalidState, match="was purged"):
        delivery.resend(house.runtime, builders.ACCOUNT, delivery_id, "key_test")
    changed = plan("gone")
    changed["units"][0]["parties"]["buyer"]["name"] = "Another buyer"
    request = ExecuteRequest.model_validate({"accountId": builders.ACCOUNT, "batchId": "gone", "plan": changed})
    with pytest.raises(InvalidState, match="was purged"):
        amend(house.runtime, house.caller, export_id, request, raw_plan=changed, idempotency_key=None)
    assert house.accept(plan("gone"), key="another").export_id == export_id, "the same plan is still the same export"


def test_legal_hold_keeps_an_export_or_a_whole_account_and_is_on_record(house: House, today: date) -> None:
    one, other = executed(house, plan("one")), executed(house, plan("two"))
    day = date(2032, 11, 27)
    held = retention.hold(house.runtime, builders.ACCOUNT, export_id=one, reason="audit of 2026", placed_by="Legal")
    assert due(house, day) == {one: ("CA", held.id), other: ("CA", None)}
    assert retention.purge(house.runtime, day).exports == 1
    assert rows(house, Package, one)
    with pytest.raises(InvalidState, match="nothing is left"):
        retention.hold(house.runtime, builders.ACCOUNT, export_id=other, reason="too late", placed_by="Legal")

    whole = retention.hold(house.runtime, builders.ACCOUNT, export_id=None, reason="a dispute", placed_by="Legal")
    retention.release(house.runtime, held.id, released_by="Counsel")
    assert due(house, day) == {one: ("CA", whole.id)}
    assert retention.purge(house.runtime, day).exports == 0
    with pytest.raises(InvalidState, match="was released by Counsel already"):
        retention.release(house.runtime, held.id, released_by="Somebody")
    retention.release(house.runtime, whole.id, released_by="Counsel")
    assert retention.purge(house.runtime, day).exports == 1
    assert [(row.reason, row.placed_by, row.released_by) for row in retention.holds(house.runtime)] == [
        ("audit of 2026", "Legal", "Counsel"),
        ("a dispute", "Legal", "Counsel"),
    ]
    for unknown in ({"account_id": "acc_none", "export_id": None}, {"account_id": "acc_none", "export_id": one}):
        with pytest.raises(NotFound):
            retention.hold(house.runtime, reason="r", placed_by="p", **unknown)


def test_purge_that_was_broken_off_deletes_its_documents_the_next_time(
    house: House, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = executed(house, plan("gone"))
    day = date(2032, 11, 27)
    with monkeypatch.context() as patched:
        patched.setattr(type(house.store), "delete", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        with pytest.raises(RuntimeError):
            retention.purge(house.runtime, day)
    assert rows(house, Package, export_id) == []
    assert retention.purge(house.runtime, day) == retention.Purge(0, len(rows(house, Artifact, export_id)))
