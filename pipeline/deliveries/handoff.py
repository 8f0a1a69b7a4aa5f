"""The handoff of a finished export: the messages to customs broker, warehouse and operators, written at once."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any, Final

from sqlalchemy import BindParameter, Row, bindparam, case, func, insert, select
from sqlmodel import Session, col

from pipeline.accounts import recipients
from pipeline.accounts.recipients import Recipient
from pipeline.core import money, shutdown
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.columns import json_object_of
from pipeline.core.db import database_now, table
from pipeline.core.errors import StepFailed, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries import outbox, submissions
from pipeline.deliveries.email_content import build_handoff_subject
from pipeline.deliveries.held_streams import HeldStreams, hold_streams
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.outbox import BROKER, OPERATOR, WAREHOUSE, NewNotification
from pipeline.deliveries.schemas import messages
from pipeline.deliveries.schemas.messages import MAX_INLINE_LINES, MessageType
from pipeline.documents import repository
from pipeline.documents.formats import broker_profile as profiles
from pipeline.documents.invoice.repository import recorded_invoice
from pipeline.documents.repository import ArtifactRow
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Artifact, Export, ExportPackage, ExportUnit, LineTreatment
from pipeline.exports.schemas import plan
from pipeline.exports.states import SubmissionState
from pipeline.exports.step_context import StepContext, parse_unit

_SUBMISSIONS = uuid.UUID("0b6f4d3a-1c55-5e0a-8f27-6d92b1e7c413")
_INSERT_SUBMISSION: Final = insert(table(BrokerSubmission))


@dataclass(frozen=True)
class PreparedHandoff:
    """All rows of the handoff, ready to insert."""

    submission: Mapping[str, Any]
    rows: outbox.OutboxRows
    documents: Sequence[ArtifactRow]
    store: ArtifactStore  # has the documents
    due_seconds: float
    deadline_at: database_now | None
    held: HeldStreams


@dataclass(frozen=True)
class _ExportContents:
    """The export's results: units with their plans, documents and packages as recorded."""

    units: Sequence[tuple[Row[Any], plan.Unit]]
    artifacts: Mapping[int, Sequence[Artifact | Row[Any]]]
    packages: Sequence[tuple[int, str, str | None]]  # unit_no, package_ref, sscc; in the order of the plan
    digests: Mapping[tuple[int, str], str]  # by unit_no, line_ref; empty if the lines are not inline
    inline: bool
    supersedes: messages.SupersededHandoff | None
    first_position: int  # not 1 if operators were notified of a failure before
    read_at: datetime  # the database's time


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
        partner_ids = [context.broker_id, context.warehouse_id]
        partners, operators = recipients.find_audiences(session, context.account_id, partner_ids, test=context.test)
        contents = _load_contents(session, context, with_artifacts=unrecorded is None)
        queues = {
            each.partner_id: recipients.resolve_target(
                session, each.row, context.account_id, each.partner_id, recipients.QUEUE, test_export=context.test
            )
            for each in (*partners.values(), *operators)
        }
    for partner_id in partner_ids:
        if partner_id not in partners:
            raise StepFailed(f"the partner {partner_id} is not registered; register it, then retry the export")
    broker, warehouse = partners[context.broker_id], partners[context.warehouse_id]
    documents = _render_profile_files(runtime, context, contents, broker)
    contents = _add_documents(contents, [*sorted(unrecorded or (), key=itemgetter("artifact_type")), *documents])
    submission_id = f"sub_{uuid.uuid5(_SUBMISSIONS, f'{context.export_id}/{broker.partner_id}').hex}"
    settings = runtime.settings
    rows = outbox.build_rows(
        context.account_id,
        _build_notifications(context, contents, broker, submission_id, settings.public_url.rstrip("/")),
        {BROKER: [broker], WAREHOUSE: [warehouse], OPERATOR: operators},
        first=contents.first_position,
        created_at=contents.read_at,
    )
    held = hold_streams(settings, context, rows, queues, submission_id)
    status = SubmissionState.SENT if held.now else SubmissionState.PENDING
    return PreparedHandoff(
        submission={
            "id": submission_id,
            "export_id": context.export_id,
            "account_id": context.account_id,
            "partner_id": broker.partner_id,
            "submission_type": "handoff",
            "path": broker.path or "byob",
            "channel": broker.primary_channel,
            "state": status.value,
            "recipient": ", ".join(broker.mailboxes) or None,
            "subject": build_handoff_subject(context.batch_id, [unit.invoice.number for _, unit in contents.units]),
        },
        rows=rows,
        documents=documents,
        store=runtime.store,
        due_seconds=settings.lease_seconds if held.now else settings.stalled_seconds,
        deadline_at=submissions.status_deadline(settings, status),
        held=held,
    )


def write_handoff(session: Session, _: StepContext, prepared: PreparedHandoff) -> list[NewEvent]:
    """Write profile files, submission, notifications and deliveries, with one statement per table."""
    rows = prepared.rows
    session.execute(_INSERT_SUBMISSION.values(deadline_at=prepared.deadline_at), prepared.submission)
    outbox.insert_rows(session, rows, due_seconds=prepared.due_seconds, held=holds_streams(prepared))
    data = {
        "submissionId": prepared.submission["id"],
        "partnerId": prepared.submission["partner_id"],
        "path": prepared.submission["path"],
        "channel": prepared.submission["channel"],
        **rows.fact,
    }
    recorded = repository.record_documents(session, prepared.store, prepared.documents)
    return [*recorded, NewEvent(EventType.HANDED_OFF, data)]


def holds_streams(prepared: PreparedHandoff) -> bool:
    """Return whether the writer of the handoff holds all streams that are sent now."""
    return bool(prepared.held.now)


def _render_profile_files(
    runtime: Runtime, context: StepContext, contents: _ExportContents, broker: Recipient
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


def _add_documents(contents: _ExportContents, documents: Sequence[ArtifactRow]) -> _ExportContents:
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


def _load_contents(session: Session, context: StepContext, *, with_artifacts: bool) -> _ExportContents:
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
    return _ExportContents(
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
        supersedes=_find_superseded(session, context) if context.revision > 1 else None,
        first_position=(unit_rows[0].last_position or 0) + 1,
        read_at=unit_rows[0].read_at,
    )


def _find_superseded(session: Session, context: StepContext) -> messages.SupersededHandoff | None:
    """Return the newest handoff of an earlier revision to the same customs broker."""
    row = session.execute(
        select(col(Export.id), col(Export.revision), col(BrokerSubmission.id))
        .join(BrokerSubmission, col(BrokerSubmission.export_id) == col(Export.id))
        .where(
            col(Export.account_id) == context.account_id,
            col(Export.batch_id) == context.batch_id,
            col(Export.test) == context.test,
            col(Export.revision) < context.revision,
            col(BrokerSubmission.partner_id) == context.broker_id,
        )
        .order_by(col(Export.revision).desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    export_id, revision, submission_id = row
    return messages.SupersededHandoff(export_id=export_id, revision=revision, submission_id=submission_id)


def _build_notifications(
    context: StepContext, contents: _ExportContents, broker: Recipient, submission_id: str, base: str
) -> Iterator[NewNotification]:
    ready = messages.HandoffReady(
        **outbox.describe_export(context),
        submission_id=submission_id,
        supersedes=contents.supersedes,
        acknowledgement_url=f"{base}/api/broker-submissions/{submission_id}/acknowledgements",
        ruleset=plan.RulesetRef(id=context.ruleset_id, as_of=context.ruleset_as_of),
        units=[_build_unit(row, unit, contents, broker, base) for row, unit in contents.units],
    )
    yield NewNotification(BROKER, MessageType.HANDOFF_READY, submission_id, ready)
    yield from _build_package_notifications(context, contents)
    executed = messages.ExportExecuted(
        **outbox.describe_export(context),
        customs_packages=[
            messages.CustomsPackageRef(
                unit_ref=row.unit_ref,
                customs_package_id=row.customs_package_id,
                package_number=_package_number(row),
            )
            for row, _ in contents.units
        ],
        package_count=len(contents.packages),
        submission_id=submission_id,
        inspect=f"/api/exports/{context.export_id}",
    )
    yield NewNotification(OPERATOR, MessageType.EXPORT_EXECUTED, "executed", executed)


def _build_unit(
    row: Row[Any], unit: plan.Unit, contents: _ExportContents, broker: Recipient, base: str
) -> messages.HandedUnit:
    links = [_build_link(artifact, base) for artifact in contents.artifacts.get(row.unit_no, ())]
    wanted = broker.artifact_types
    return messages.HandedUnit(
        unit_ref=row.unit_ref,
        customs_package_id=row.customs_package_id,
        package_number=_package_number(row),
        treatment_digest=row.treatment_digest,
        entry=unit.entry,
        parties=unit.parties,
        invoice=unit.invoice,
        totals=messages.InvoiceTotals(
            line_count=len(unit.lines),
            package_count=len(unit.packages),
            goods_value=money.sum_exact(line.line_value for line in unit.lines),
            invoice_total=unit.invoice.total,
            net_weight_kg=money.sum_exact(line.net_weight_kg for line in unit.lines),
            gross_weight_kg=money.sum_exact(line.gross_weight_kg for line in unit.lines),
        ),
        usmca_certificates=unit.usmca_certificates if contents.inline else None,
        lines=[
            messages.HandedLine(**dict(line), treatment_digest=contents.digests[row.unit_no, line.line_ref])
            for line in unit.lines
        ]
        if contents.inline
        else None,
        invoice_data=next((link for link in links if link.artifact_type == "cci_json"), None),
        # A broker with a profile always gets its file.
        artifacts=[
            link
            for link in links
            if wanted is None or link.artifact_type in wanted or link.artifact_type == profiles.ARTIFACT_TYPE
        ],
    )


def _build_link(artifact: Artifact | Row[Any], base: str) -> messages.ArtifactLink:
    return messages.ArtifactLink(
        id=artifact.id,
        artifact_type=artifact.artifact_type,
        filename=artifact.filename,
        media_type=artifact.media_type,
        size=artifact.size,
        sha256=artifact.sha256,
        download_url=f"{base}/api/artifacts/{artifact.id}",
    )


def _build_package_notifications(context: StepContext, contents: _ExportContents) -> Iterator[NewNotification]:
    planned = {(row.unit_no, package.package_ref): package for row, unit in contents.units for package in unit.packages}
    skus = {(row.unit_no, line.line_ref): line.sku for row, unit in contents.units for line in unit.lines}
    rows = {row.unit_no: row for row, _ in contents.units}
    ship_to = {
        row.unit_no: messages.ShipTo(name=unit.parties.ship_to.name, address=unit.parties.ship_to.address)
        for row, unit in contents.units
    }
    for unit_no, package_ref, sscc in contents.packages:
        row, package = rows[unit_no], planned[unit_no, package_ref]
        message = messages.PackageRecorded(
            **outbox.describe_export(context),
            version=context.revision,
            unit_ref=row.unit_ref,
            customs_package_id=row.customs_package_id,
            customs_package_number=_package_number(row),
            package_ref=package_ref,
            sscc=sscc,
            lpn=package.lpn,
            parent_ref=package.parent_ref,
            type=package.type,
            length_cm=package.length_cm,
            width_cm=package.width_cm,
            height_cm=package.height_cm,
            gross_weight_kg=package.gross_weight_kg,
            tare_weight_kg=package.tare_weight_kg,
            order_id=package.order_id,
            tracking_number=package.tracking_number,
            contents=[
                messages.PackedContent(
                    line_ref=content.line_ref, sku=skus[unit_no, content.line_ref], quantity=content.quantity
                )
                for content in package.contents
            ],
            ship_to=ship_to[unit_no],
        )
        yield NewNotification(WAREHOUSE, MessageType.PACKAGE_RECORDED, f"{row.unit_ref}/{package_ref}", message)


def _package_number(row: Row[Any]) -> str:
    if row.package_number is None:
        raise StepFailed(
            f"the customs package of unit {row.unit_ref} has no number, because its packages were not recorded"
        )
    return str(row.package_number)
