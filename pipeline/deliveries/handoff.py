"""The handoff of a finished export: the messages to customs broker, warehouse and operators, written at once."""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, Row, bindparam, case, func, insert, select
from sqlmodel import Session

from pipeline.accounts import recipients
from pipeline.accounts.recipients import Recipient
from pipeline.core import installation, shutdown
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.clock import format_utc
from pipeline.core.columns import json_object_of
from pipeline.core.db import database_now, table
from pipeline.core.errors import DatabaseBusy, StepFailed, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.customs.chapter99.facts import find_arrival
from pipeline.deliveries.email.content import build_handoff_subject
from pipeline.deliveries.entries.revisions import (
    EarlierEntry,
    find_earlier_handoff,
    find_filed_entries,
    find_kept_entries,
    lock_earlier,
    read_same,
)
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.entry_changes import describe_corrected, describe_kept
from pipeline.deliveries.outbox.entry_facts import recorded_invoice
from pipeline.deliveries.outbox.handoff_messages import ExportContents, build_notifications
from pipeline.deliveries.outbox.outbox import BROKER, OPERATOR, UPSTREAM, WAREHOUSE
from pipeline.deliveries.schemas.to_broker import MAX_INLINE_LINES, SupersededHandoff
from pipeline.deliveries.streams.held_streams import HeldStreams, hold_streams
from pipeline.deliveries.submissions import waits
from pipeline.deliveries.submissions.carried_answers import carry_answers
from pipeline.documents import broker_profile as profiles
from pipeline.documents import repository
from pipeline.documents.repository import ArtifactRow
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Artifact, ExportPackage, ExportUnit, LineTreatment
from pipeline.exports.states import SubmissionState
from pipeline.exports.step_context import StepContext, parse_unit

_SUBMISSIONS = uuid.UUID("0b6f4d3a-1c55-5e0a-8f27-6d92b1e7c413")
_INSERT_SUBMISSION: Final = insert(table(BrokerSubmission))

#: An arrival that lies further back says nothing of goods under way: the plan is old, or was executed after the fact.
_ARRIVED_AT_MOST: Final = timedelta(days=1)


@dataclass(frozen=True)
class EarlierEntries:
    """What the handoff says about the batch's earlier ones, and the entries that go on or are corrected."""

    supersedes: SupersededHandoff | None = None
    kept: Sequence[EarlierEntry] = ()
    filed: Sequence[EarlierEntry] = ()


@dataclass(frozen=True)
class PreparedHandoff:
    """All rows of the handoff, ready to insert."""

    submission: Mapping[str, Any]
    rows: outbox.OutboxRows
    documents: Sequence[ArtifactRow]
    store: ArtifactStore  # has the documents
    due_seconds: float
    deadline_at: ColumnElement[datetime] | None
    held: HeldStreams
    earlier: EarlierEntries


def prepare_handoff(
    runtime: Runtime, context: StepContext, unrecorded: Sequence[ArtifactRow] | None = None
) -> PreparedHandoff:
    """Read the export's results, choose path and channels, and prepare the messages.

    `unrecorded` are the documents of an export that the caller records together with the handoff; else they are read.
    The number of queries does not depend on the size of the export. The file of a broker's profile is rendered unit by
    unit. Raises StepFailed if a partner is not registered, or its profile names an unknown field. For such a file it
    also raises StoreUnavailable and Stopped.
    """
    with runtime.db.read() as session:
        partner_ids = [context.broker_id, context.warehouse_id, *context.upstream_ids]
        partners, operators = recipients.find_audiences(session, context.account_id, partner_ids, test=context.test)
        earlier = _find_earlier(session, context)
        contents = _load_contents(session, context, earlier, with_artifacts=unrecorded is None)
        queues = {
            each.partner_id: recipients.resolve_target(
                session, each.row, context.account_id, each.partner_id, recipients.QUEUE, test_export=context.test
            )
            for each in (*partners.values(), *operators)
        }
    for partner_id in partner_ids:
        if partner_id not in partners:
            raise StepFailed(f"the partner {partner_id} is not registered; register it, then retry the export")
    broker, warehouse, *upstream = (partners[each] for each in partner_ids)
    documents = _render_profile_files(runtime, context, contents, broker)
    contents = _add_documents(contents, [*sorted(unrecorded or (), key=itemgetter("artifact_type")), *documents])
    submission_id = f"sub_{uuid.uuid5(_SUBMISSIONS, f'{context.export_id}/{broker.partner_id}').hex}"
    settings = runtime.settings
    rows = outbox.build_rows(
        context.account_id,
        build_notifications(context, contents, broker, submission_id, settings.public_url),
        {BROKER: [broker], WAREHOUSE: [warehouse], OPERATOR: operators, UPSTREAM: upstream},
        first=contents.first_position,
        created_at=contents.read_at,
    )
    sends = installation.may_send(runtime)
    held = hold_streams(settings, context, rows, queues, submission_id) if sends else HeldStreams()
    status = SubmissionState.SENT if held.now else SubmissionState.PENDING
    ahead_seconds = contents.ahead_seconds if context.test else 0
    arrives_at, arrives_by = _find_arrival(contents, contents.read_at + timedelta(seconds=ahead_seconds))
    return PreparedHandoff(
        submission={
            "id": submission_id,
            "export_id": context.export_id,
            "account_id": context.account_id,
            "test_account_id": context.account_id if context.test else None,
            "partner_id": broker.partner_id,
            "submission_type": "handoff",
            "path": broker.path or "byob",
            "channel": broker.primary_channel,
            "state": status.value,
            "arrives_at": arrives_at,
            "arrives_by": arrives_by,
            "recipient": ", ".join(broker.mailboxes) or None,
            "subject": build_handoff_subject(context.batch_id, [unit.invoice.number for _, unit in contents.units]),
        },
        rows=rows,
        documents=documents,
        store=runtime.store,
        due_seconds=settings.lease_seconds if held.now else settings.stalled_seconds,
        deadline_at=waits.status_deadline(
            settings, status, context.account_id, arrives_at, arrives_by, test=context.test
        ),
        held=held,
        earlier=earlier,
    )


def write_handoff(session: Session, context: StepContext, prepared: PreparedHandoff) -> list[NewEvent]:
    """Write profile files, submission, notifications and deliveries, with one statement per table.

    Raises DatabaseBusy if an answer to an earlier revision came since the preparation; then the step is tried again.
    """
    if context.revision > 1:
        lock_earlier(session, context)
        if _find_earlier(session, context) != prepared.earlier:
            raise DatabaseBusy("an answer to an earlier revision came; the handoff is prepared again")
    rows, arrives_at = prepared.rows, prepared.submission["arrives_at"]
    arrives_by = prepared.submission["arrives_by"]
    session.execute(_INSERT_SUBMISSION.values(deadline_at=prepared.deadline_at), prepared.submission)
    outbox.insert_rows(session, rows, due_seconds=prepared.due_seconds, held=holds_streams(prepared))
    data = {
        "submissionId": prepared.submission["id"],
        "partnerId": prepared.submission["partner_id"],
        "path": prepared.submission["path"],
        "channel": prepared.submission["channel"],
        **({} if arrives_at is None else {"arrivesAt": format_utc(arrives_at), "arrivesBy": arrives_by}),
        **rows.fact,
    }
    recorded = repository.record_documents(session, prepared.store, prepared.documents)
    state = SubmissionState(prepared.submission["state"])
    submission_id, kept = prepared.submission["id"], prepared.earlier.kept
    carried = carry_answers(session, submission_id, context.export_id, state, kept)
    return [*recorded, NewEvent(EventType.HANDED_OFF, data), *carried]


def _find_arrival(contents: ExportContents, now: datetime) -> tuple[datetime, str] | tuple[None, None]:
    """Return when the first unit arrives and by which mode of transport, or None twice if that is unknown or long past.

    A day that has begun says nothing of the hour.
    """
    first = min((unit for _, unit in contents.units), key=find_arrival)
    arrives_at = find_arrival(first)
    earliest = now if first.entry.estimated_arrival_at is None else now - _ARRIVED_AT_MOST
    return (arrives_at, first.entry.mode_of_transport) if arrives_at > earliest else (None, None)


def holds_streams(prepared: PreparedHandoff) -> bool:
    """Return whether the writer of the handoff holds all streams that are sent now."""
    return bool(prepared.held.now)


def _render_profile_files(
    runtime: Runtime, context: StepContext, contents: ExportContents, broker: Recipient
) -> list[ArtifactRow]:
    """Render and store the profile file of each unit, if the broker has a profile."""
    if broker.profile is None:
        return []
    files = []
    for row, _ in contents.units:
        invoice = recorded_invoice(runtime, replace(context, unit_no=row.unit_no))
        try:
            document = profiles.profile_document(broker.profile, invoice)
        except ValidationFailed as error:
            # The profile was valid when it was set, but this version may have other fields.
            raise StepFailed(
                f"the profile of {broker.partner_id} does not fit: {error.message}; change it, then retry the export"
            ) from error
        files.append(repository.store_document(runtime, context, row.unit_no, document))
        shutdown.raise_if_requested()
    return files


def _add_documents(contents: ExportContents, documents: Sequence[ArtifactRow]) -> ExportContents:
    artifacts = defaultdict(list, {unit_no: [*those] for unit_no, those in contents.artifacts.items()})
    for row in documents:
        artifacts[row["unit_no"]].append(Artifact(**row))
    return replace(contents, artifacts=artifacts)


_units, _artifacts, _packages = table(ExportUnit).c, table(Artifact).c, table(ExportPackage).c
_treatments, _notifications = table(LineTreatment).c, table(Notification).c
_of_export: BindParameter[str] = bindparam("of_export")
_last_position = select(func.max(_notifications.position)).where(_notifications.export_id == _of_export)
_ssccs = select(json_object_of(_packages.package_ref, _packages.sscc)).where(
    _packages.export_id == _units.export_id, _packages.unit_no == _units.unit_no
)
_digests = select(json_object_of(_treatments.line_ref, _treatments.digest)).where(
    _treatments.export_id == _units.export_id, _treatments.unit_no == _units.unit_no
)
_count_lines = (
    select(func.count()).select_from(table(LineTreatment)).where(_treatments.export_id == _of_export).scalar_subquery()
)
_LOAD_UNITS: Final = (
    select(
        _units.unit_no,
        _units.unit_ref,
        _units.customs_package_id,
        _units.package_number,
        _units.treatment_digest,
        _units.document,
        _ssccs.scalar_subquery().label("ssccs"),
        # Large exports are handed off without their lines.
        case((_count_lines <= MAX_INLINE_LINES, _digests.scalar_subquery())).label("digests"),
        _last_position.scalar_subquery().label("last_position"),
        database_now().label("read_at"),
        waits.read_ahead(_units.account_id).label("ahead_seconds"),
    )
    .where(_units.export_id == _of_export)
    .order_by(_units.unit_no)
)
_LOAD_ARTIFACTS: Final = select(
    _artifacts.unit_no,
    _artifacts.id,
    _artifacts.artifact_type,
    _artifacts.filename,
    _artifacts.media_type,
    _artifacts.size,
    _artifacts.sha256,
).where(_artifacts.export_id == _of_export)


def _load_contents(
    session: Session, context: StepContext, earlier: EarlierEntries, *, with_artifacts: bool
) -> ExportContents:
    of_export = {"of_export": context.export_id}
    # No other step of the export writes notifications while this step is leased.
    unit_rows = session.execute(_LOAD_UNITS, of_export).all()
    units = [(row, parse_unit(row)) for row in unit_rows]
    artifacts: dict[int, list[Artifact | Row[Any]]] = defaultdict(list)
    recorded = session.execute(_LOAD_ARTIFACTS, of_export).all() if with_artifacts else []
    # Sorted here, because PostgreSQL sorts by the rules of a language.
    for artifact in sorted(recorded, key=attrgetter("artifact_type")):
        artifacts[artifact.unit_no].append(artifact)
    inline = sum(len(unit.lines) for _, unit in units) <= MAX_INLINE_LINES
    return ExportContents(
        units=units,
        artifacts=artifacts,
        packages=[
            (row.unit_no, package.package_ref, (row.ssccs or {})[package.package_ref])
            for row, unit in units
            for package in unit.packages
            if package.package_ref in (row.ssccs or {})
        ],
        digests={
            (row.unit_no, line_ref): digest for row, _ in units for line_ref, digest in (row.digests or {}).items()
        },
        inline=inline,
        supersedes=earlier.supersedes,
        corrects=describe_corrected(session, earlier.filed, {row.unit_ref: row.document for row in unit_rows}),
        kept=describe_kept(earlier.kept),
        first_position=(unit_rows[0].last_position or 0) + 1,
        read_at=unit_rows[0].read_at,
        ahead_seconds=unit_rows[0].ahead_seconds,
    )


def _find_earlier(session: Session, context: StepContext) -> EarlierEntries:
    if context.revision == 1:
        return EarlierEntries()
    handoff = find_earlier_handoff(session, context, context.broker_id)
    filed = find_filed_entries(session, context, read_same(session, context.export_id))
    if handoff is None:
        return EarlierEntries(filed=filed)
    superseded = SupersededHandoff(
        export_id=handoff.export_id, revision=handoff.revision, submission_id=handoff.submission_id
    )
    return EarlierEntries(superseded, find_kept_entries(session, context.export_id, handoff), filed)
