"""Records are purged when their retention period is over, never earlier and never under a hold; proofs remain."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from sqlmodel import SQLModel, col

from pipeline.accounts import partners
from pipeline.core.clock import add_years
from pipeline.core.errors import InvalidState, NotFound
from pipeline.deliveries import handoff_bundle, queries, resend
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import recovery, sender, streams
from pipeline.documents import repository
from pipeline.exports import models
from pipeline.exports import plans as export_plans
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export, IdempotencyRecord, LegalHold, LineTreatment, PlanSnapshot
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from pipeline.ops import audit, legal_holds, retention
from pipeline.ops.rebuild import service
from pipeline.workflow import preflight, read_model
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.amendments import amend_export
from pipeline.workflow.interventions import cancel_export
from pipeline.workflow.steps import TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.support import factories
from tests.support.factories import Json
from tests.system.faults.matrix import mark_own_stack
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import make_amendment

#: A text in a plan that must not be found anywhere after the purge.
CANARY = "Canary Orchard Holdings"


def plan(name: str, *, arrival: str | None = "2026-11-26T18:00:00Z", export_country: str = "CA") -> Json:
    """Return a plan with the given day of arrival and country of export, and an easily found name."""
    plan_json = factories.plan(batch=name, invoice=name.upper(), exportCountry=export_country)
    plan_json["units"][0]["entry"]["estimatedArrivalAt"] = arrival
    plan_json["units"][0]["parties"]["buyer"]["name"] = CANARY
    return plan_json


def execute_export(workflow: WorkflowHarness, plan_json: Json) -> str:
    """Execute the plan and send its messages."""
    return end_export(workflow, workflow.accept(plan_json, key=f"key-{plan_json['batchId']}").export_id)


def end_export(workflow: WorkflowHarness, export_id: str) -> str:
    workflow.run([TaskMessage(export_id, 1, "record_packages")])
    workflow.run([TaskMessage(export_id, 1, "render_documents")])
    assert workflow.state(export_id) == "executed"
    return export_id


def list_due(workflow: WorkflowHarness, on: date) -> dict[str, tuple[str, str | None]]:
    """Return the expired records by the id of the export, or of the plan if there is none."""
    found = list(retention.find_expired(workflow.runtime, on))
    return {
        each.export_id or each.plan_id: (each.jurisdiction, each.held_by)
        for each in found
        if isinstance(each, retention.ExpiredRecord)
    }


def place_hold(workflow: WorkflowHarness, export_id: str | None, reason: str) -> LegalHold:
    """Place a hold on the export and its batch, or on the whole account."""
    return legal_holds.place_hold(
        workflow.runtime, factories.ACCOUNT, export_id=export_id, reason=reason, placed_by="Legal"
    )


def rows(workflow: WorkflowHarness, table: type[SQLModel], export_id: str) -> Sequence[SQLModel]:
    with workflow.runtime.db.read() as session:
        owner = Delivery.subject_id if table is Delivery else table.export_id  # type: ignore[attr-defined]
        found = session.scalars(select(table).where(col(owner) == export_id)).all()
        session.expunge_all()
    return found


@pytest.fixture
def today(workflow: WorkflowHarness) -> date:
    """Return the day on which everything is accepted."""
    workflow.clock.now = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
    return workflow.clock.now.date()


def test_purge_removes_exactly_the_expired_exports_of_each_day(workflow: WorkflowHarness, today: date) -> None:
    exports = {
        name: execute_export(workflow, plan(name, arrival=arrival, export_country=country))
        for name, arrival, country in (
            ("us5", "2026-11-26T18:00:00Z", "MX"),
            ("us5later", "2026-11-28T18:00:00Z", "MX"),
            ("ca6", "2026-11-26T18:00:00Z", "CA"),
        )
    }
    open_still = workflow.accept(plan("open", export_country="MX")).export_id
    purged: set[str] = set()
    for day, names in (
        (date(2031, 11, 26), set()),  # the last day of its retention period
        (date(2031, 11, 27), {"us5"}),
        (date(2031, 11, 29), {"us5later"}),
        (date(2032, 11, 26), set()),
        (date(2032, 11, 27), {"ca6"}),
        (date(2040, 1, 1), set()),  # exports that have not ended are kept
    ):
        expected = {exports[name] for name in names}
        assert set(list_due(workflow, day)) == expected
        assert retention.purge_expired(workflow.runtime, day).exports == len(expected)
        purged |= expected
        for export_id in (*exports.values(), open_still):
            packages = len(rows(workflow, models.ExportPackage, export_id))
            assert packages == (0 if export_id in purged or export_id == open_still else 2)
    assert workflow.state(open_still) == "accepted"
    assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)) == retention.PurgeResult(0, 0, 0)


@mark_own_stack("F27")
def test_retention_of_leap_day_ends_after_the_last_of_february() -> None:
    assert add_years(date(2028, 2, 29), 5) == date(2033, 3, 1)
    assert add_years(date(2026, 11, 26), 6) == date(2032, 11, 26)


@pytest.mark.parametrize("status", ["filed", "released", "held"])
def test_retention_of_late_shipment_starts_on_the_day_of_its_entry(
    workflow: WorkflowHarness, database_url: str, status: str
) -> None:
    late, other = execute_export(workflow, plan("late")), execute_export(workflow, plan("other"))
    record_answer(
        workflow, late, status, datetime(2027, 4, 6, 3, 0, tzinfo=UTC)
    )  # the evening of the 5th, by the rules' clock
    record_answer(workflow, other, "query", datetime(2027, 4, 6, 3, 0, tzinfo=UTC))
    assert set(list_due(workflow, date(2033, 4, 5))) == {other}
    (found,) = (each for each in retention.find_expired(workflow.runtime, date(2033, 4, 6)) if each.export_id == late)
    assert isinstance(found, retention.ExpiredRecord)
    assert (found.entry_on, found.kept_until) == (date(2027, 4, 5), date(2033, 4, 5))
    assert retention.purge_expired(workflow.runtime, date(2033, 4, 5)).exports == 1
    assert retention.purge_expired(workflow.runtime, date(2033, 4, 6)).exports == 1


@pytest.mark.parametrize("known", [True, False])
def test_retention_of_old_entry_ends_by_its_day_of_entry(
    workflow: WorkflowHarness, database_url: str, *, known: bool
) -> None:
    old = register_plan(workflow, plan("old", arrival="2020-02-29T18:00:00Z", export_country="MX"))
    register_plan(workflow, plan("new", export_country="MX"))
    export_id = execute_export(workflow, plan("executed", export_country="MX"))
    # As if it had been accepted long after its entry, which is refused today.
    with workflow.runtime.db.write() as session:
        kept = session.scalars(select(PlanSnapshot).where(col(PlanSnapshot.batch_id) == "executed")).one()
        kept.document = kept.document.replace("2026-11-26T18", "2020-02-28T18")
        kept.entry_on = date(2020, 2, 28)
        if not known:  # as an older version stored it
            session.execute(update(PlanSnapshot).values(entry_on=None))
    assert list_due(workflow, date(2025, 2, 28)) == {}
    assert list_due(workflow, date(2025, 3, 1)) == {export_id: ("US", None)}
    assert list_due(workflow, date(2025, 3, 2)) == {export_id: ("US", None), old: ("US", None)}
    assert retention.purge_expired(workflow.runtime, date(2025, 3, 2)) == retention.PurgeResult(
        1, 1, len(rows(workflow, Artifact, export_id))
    )


def test_find_expired_reads_only_plans_that_can_be_expired(workflow: WorkflowHarness) -> None:
    for name in ("one", "two"):
        register_plan(workflow, plan(name))
    workflow.change(update(PlanSnapshot).values(document="garbage"))
    assert list(retention.find_expired(workflow.runtime, date(2031, 11, 25))) == []
    assert len(list(retention.find_expired(workflow.runtime, date(2031, 11, 26)))) == 2


def record_answer(workflow: WorkflowHarness, export_id: str, status: str, at: datetime) -> None:
    """Record an answer of the customs broker with this status and time."""
    with workflow.runtime.db.write() as session:
        submission = session.scalars(
            select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        ).one()
        session.add(Acknowledgement(submission_id=submission, id="1", status=status, fields=[], received_at=at))


def test_purge_removes_payload_and_keeps_hashes_and_log(
    workflow: WorkflowHarness, database_url: str, tmp_path: Path
) -> None:
    export_id, kept_id = (
        execute_export(workflow, plan("gone")),
        execute_export(workflow, plan("kept", arrival="2026-12-20T12:00:00Z")),
    )
    before = [(row.artifact_type, row.sha256, row.size) for row in rows(workflow, Artifact, export_id)]  # type: ignore[attr-defined]
    log = workflow.events(export_id)
    purged = retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    assert (purged.exports, purged.documents) == (1, len(before))

    assert workflow.events(export_id) == [*log, "EXPORT_PURGED"]
    assert audit.verify_chains(workflow.runtime).intact
    assert service.rebuild_exports(workflow.runtime, export_id=export_id).intact
    assert [(row.artifact_type, row.sha256, row.size) for row in rows(workflow, Artifact, export_id)] == before  # type: ignore[attr-defined]
    for table in (models.ExportPackage, LineTreatment, IdempotencyRecord):
        assert (len(rows(workflow, table, export_id)), len(rows(workflow, table, kept_id)) > 0) == (0, True)
    assert {row.data for row in rows(workflow, Notification, export_id)} == {"{}"}  # type: ignore[attr-defined]
    with workflow.runtime.db.read() as session:
        assert {row.batch_id: row.document == "{}" for row in session.scalars(select(PlanSnapshot))} == {
            "gone": True,
            "kept": False,
        }
        facts = session.scalars(select(Event).where(col(Event.type) == "EXPORT_PURGED")).one().data
        export = session.get_one(Export, export_id)
    assert facts == {"planHash": export.plan_hash, "entryOn": "2026-11-26", "jurisdiction": "CA", "years": 6}
    # The store holds the documents of the kept export and none of the purged one.
    kept = set(workflow.rows(select(col(Artifact.sha256)).where(col(Artifact.export_id) == kept_id)))
    assert {path.name for path in (tmp_path / "artifacts" / "sha256").rglob("*") if path.is_file()} == kept


def register_plan(workflow: WorkflowHarness, plan_json: Json) -> str:
    """Register the plan for a later execution."""
    read = export_plans.hash_plan(Plan.model_validate(plan_json), plan_json)
    return preflight.register_plan(workflow.runtime, workflow.caller, read).plan_id


def documents(workflow: WorkflowHarness) -> dict[str, bool]:
    """Return for each plan id whether its payload is there."""
    return {row.id: row.document != "{}" for row in workflow.rows(select(PlanSnapshot))}


def test_purge_of_registered_plan_follows_its_entry_unless_executed_or_held(
    workflow: WorkflowHarness, database_url: str
) -> None:
    us5, later = register_plan(workflow, plan("us5", export_country="MX")), register_plan(workflow, plan("ca6"))
    # Another plan of an executed batch is kept while the batch is held.
    beside = register_plan(workflow, plan("batch", arrival="2026-11-26T19:00:00Z", export_country="MX"))
    export_id = execute_export(workflow, plan("batch"))
    held = place_hold(workflow, export_id, "an audit")
    day = date(2031, 11, 27)
    assert list_due(workflow, date(2031, 11, 26)) == {}
    assert list_due(workflow, day) == {us5: ("US", None), beside: ("US", held.id)}
    assert retention.purge_expired(workflow.runtime, day) == retention.PurgeResult(0, 1, 0)
    kept = documents(workflow)
    assert (kept.pop(us5), all(kept.values())) == (False, True)

    whole = place_hold(workflow, None, "claim")
    legal_holds.release_hold(workflow.runtime, held.id, released_by="Counsel")
    assert list_due(workflow, date(2033, 1, 1)) == {each: (law, whole.id) for each, law in (
        (export_id, "CA"), (later, "CA"), (beside, "US"),
    )}  # fmt: skip
    assert retention.purge_expired(workflow.runtime, date(2033, 1, 1)) == retention.PurgeResult(0, 0, 0)
    legal_holds.release_hold(workflow.runtime, whole.id, released_by="Counsel")
    purged = retention.purge_expired(workflow.runtime, date(2033, 1, 1))
    assert (purged.exports, purged.plans) == (1, 2)
    assert not any(documents(workflow).values())
    assert list_due(workflow, date(2040, 1, 1)) == {}


def test_purged_plan_is_refused_and_stored_again_if_sent_again(workflow: WorkflowHarness, today: date) -> None:
    one = register_plan(workflow, plan("one"))
    retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    request = ExecuteRequest.model_validate({"accountId": factories.ACCOUNT, "batchId": "one"})
    with pytest.raises(InvalidState, match="was purged"):
        accept_plan(workflow.runtime, workflow.caller, request, raw_plan=None, idempotency_key=None)
    assert register_plan(workflow, plan("one")) == one
    assert documents(workflow) == {one: True}
    export_id = accept_plan(workflow.runtime, workflow.caller, request, raw_plan=None, idempotency_key=None).export_id
    workflow.finish(export_id)
    retention.purge_expired(workflow.runtime, date(2032, 11, 27))

    # After its export was purged, the response names the export and the payload is not stored again.
    again = accept_plan(workflow.runtime, workflow.caller, request, raw_plan=None, idempotency_key=None)
    assert (again.export_id, again.created) == (export_id, False)
    assert amend_export(
        workflow.runtime, workflow.caller, export_id, request, raw_plan=None, idempotency_key=None
    ).export_id == (export_id)
    assert register_plan(workflow, plan("one")) == one
    assert documents(workflow) == {one: False}


def test_revision_with_plan_of_purged_revision_has_its_payload(workflow: WorkflowHarness, today: date) -> None:
    first = execute_export(workflow, plan("one"))
    second = make_amendment(workflow, first, plan("one", arrival="2026-12-20T12:00:00Z")).export_id
    workflow.finish(second)
    assert retention.purge_expired(workflow.runtime, date(2032, 11, 27)).exports == 1
    third = make_amendment(workflow, second, plan("one")).export_id
    with workflow.runtime.db.read() as session:
        kept = session.get_one(PlanSnapshot, session.get_one(Export, third).plan_id).document
    assert kept == export_plans.canonical_json(plan("one"))


def test_purge_cancels_unsent_deliveries(workflow: WorkflowHarness, today: date) -> None:
    export_id = workflow.accept(plan("gone")).export_id
    partners.pause_partner(workflow.runtime, factories.ACCOUNT, factories.BROKER)
    workflow.finish(export_id)
    stream = DeliveryStream(export_id, factories.BROKER, "queue")
    assert sender.deliver_stream(workflow.runtime, export_id, factories.BROKER, "queue").delivered == 0
    retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    recovery.resume_partner(workflow.runtime, factories.ACCOUNT, factories.BROKER)
    states = {row.state for row in rows(workflow, Delivery, export_id) if row.partner_id == factories.BROKER}  # type: ignore[attr-defined]
    assert states == {"cancelled"}
    workflow.clock.pass_seconds(86_400)
    assert [task for task in find_due(workflow.runtime) if task.export_id == export_id] == []
    # Not even if a row is pending, as after a purge by an older version.
    workflow.change(update(Delivery).values(state="pending"))
    assert streams.claim_stream(workflow.runtime, stream) is None


def test_purged_export_can_only_be_inspected(workflow: WorkflowHarness, today: date) -> None:
    export_id = execute_export(workflow, plan("gone"))
    (artifact, *_) = rows(workflow, Artifact, export_id)
    with workflow.runtime.db.read() as session:
        delivery_id = queries.list_deliveries(workflow.runtime, factories.ACCOUNT, export_id=export_id).items[0].id
    retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    with workflow.runtime.db.read() as session:
        view = read_model.read_export(session, factories.ACCOUNT, export_id)
        assert (view.state, view.treatment.lines, view.findings) == ("executed", [], [])
        assert view.purged_at is not None
        assert len(view.artifacts) > 0
        with pytest.raises(NotFound, match=f"its SHA-256 was {artifact.sha256}"):  # type: ignore[attr-defined]
            repository.find_artifact(session, factories.ACCOUNT, artifact.id)  # type: ignore[attr-defined]
        with pytest.raises(InvalidState, match="was purged"):
            handoff_bundle.gather_bundle(session, workflow.runtime.settings, session.get_one(Export, export_id))
    with pytest.raises(InvalidState, match="was purged"):
        cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    with pytest.raises(InvalidState, match="was purged"):
        resend.resend_delivery(workflow.runtime, factories.ACCOUNT, delivery_id, "key_test")
    changed = plan("gone")
    changed["units"][0]["parties"]["buyer"]["name"] = "Another buyer"
    with pytest.raises(InvalidState, match="was purged"):
        make_amendment(workflow, export_id, changed)
    assert workflow.accept(plan("gone"), key="another").export_id == export_id, (
        "the same plan still returns the same export"
    )


def test_unreadable_plan_is_reported_and_kept_while_others_are_purged(workflow: WorkflowHarness, today: date) -> None:
    exports = [execute_export(workflow, plan(name)) for name in ("one", "two", "three")]
    with workflow.runtime.db.write() as session:
        ids = [session.get_one(Export, export_id).plan_id for export_id in exports]
        for plan_id, document in zip(ids, (text("CAST(x'ff' AS TEXT)"), '{"units": []}'), strict=False):
            session.execute(update(PlanSnapshot).where(col(PlanSnapshot.id) == plan_id).values(document=document))
    day = date(2032, 11, 27)
    found = list(retention.find_expired(workflow.runtime, day))
    assert [(type(each).__name__, each.export_id) for each in found] == [
        ("UnreadablePlan", exports[0]),
        ("UnreadablePlan", exports[1]),
        ("ExpiredRecord", exports[2]),
    ]
    purged = retention.purge_expired(workflow.runtime, day)
    assert (purged.exports, purged.unreadable) == (1, tuple(ids[:2]))
    assert [len(rows(workflow, models.ExportPackage, export_id)) for export_id in exports] == [2, 2, 0]


def test_interrupted_purge_deletes_its_documents_the_next_time(
    workflow: WorkflowHarness, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = execute_export(workflow, plan("gone"))
    day = date(2032, 11, 27)
    with monkeypatch.context() as patched:
        patched.setattr(type(workflow.store), "delete", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        with pytest.raises(RuntimeError):
            retention.purge_expired(workflow.runtime, day)
    assert rows(workflow, models.ExportPackage, export_id) == []
    assert retention.purge_expired(workflow.runtime, day) == retention.PurgeResult(
        0, 0, len(rows(workflow, Artifact, export_id))
    )
