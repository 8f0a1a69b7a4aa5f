"""The read model of an export: it builds from rows the one view that every response shows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, func, or_
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from pipeline.core.errors import NotFound
from pipeline.core.findings import Finding
from pipeline.deliveries.entries.entries import count_headlines
from pipeline.deliveries.entries.revisions import EarlierEntry, find_filed_entries, read_same
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.outcomes import is_quarantined, read_outcome
from pipeline.deliveries.submissions.conversation import EMPTY, read_newest
from pipeline.deliveries.submissions.submissions import build_submission_views
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export, ExportPackage, ExportUnit, LineTreatment, Step
from pipeline.exports.queries import build_acknowledged, event_view, find_export, find_request
from pipeline.exports.schemas.export import (
    MAX_EVENTS_SHOWN,
    MAX_LINES_SHOWN,
    ApprovalView,
    ArtifactView,
    CustomsPackageSummary,
    CustomsPackageView,
    ExportView,
    LineTreatmentView,
    Links,
    PackageState,
    PackageView,
    PersonsRequestView,
    RulesetView,
    StepView,
    TreatmentView,
    UnitView,
)
from pipeline.exports.schemas.submissions import ConversationPage, EarlierEntryView
from pipeline.exports.states import ExportState, Outcome, StepState
from pipeline.workflow.delivery_tallies import (
    DeliveryTally,
    build_notification_views,
    count_deliveries,
    list_retried_handoffs,
)
from pipeline.workflow.status_text import describe_export
from pipeline.workflow.steps import EXPORT_LEVEL, FIRST_UNIT


@dataclass(frozen=True)
class ExportRows:
    """The rows of a view; the units may come without their documents. The view shows the units `units_of`; None for all.

    `treatments` are the first of `treatment_count`, by default MAX_LINES_SHOWN; `events` are the newest ones, in order, by
    default MAX_EVENTS_SHOWN.
    """

    export: Export
    units: Sequence[ExportUnit]
    steps: Sequence[Step]
    events: Sequence[Event] = ()
    artifacts: Sequence[Artifact] = ()
    tallies: Sequence[DeliveryTally] = ()
    submissions: Sequence[BrokerSubmission] = ()
    acknowledgements: Sequence[Acknowledgement] = ()
    conversation: ConversationPage = EMPTY
    headlines: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by submission
    treatments: Sequence[LineTreatment] = ()
    treatment_count: int = 0
    earlier_entries: Sequence[EarlierEntry] = ()
    superseded_by: str | None = None
    acknowledged: Event | None = None
    hold: PersonsRequestView | None = None
    withdrawal: PersonsRequestView | None = None
    outcome: Outcome = Outcome.IN_PROGRESS
    units_of: range | None = None


def read_export(session: Session, account_id: str, export_or_batch_id: str, *, test: bool = False) -> ExportView:
    """Return the view of an export, by its id or as the newest revision of the account's batch.

    If a batch was executed both live and as a test, `test` selects one. The number of queries is fixed. Raises
    NotFound, also if the export belongs to another account.
    """
    return build_view(load_export_rows(session, find_export(session, account_id, export_or_batch_id, test=test)))


def load_export_rows(
    session: Session,
    export: Export,
    *,
    max_events: int = MAX_EVENTS_SHOWN,
    max_lines: int = MAX_LINES_SHOWN,
    units_of: range | None = None,
) -> ExportRows:
    """Return the rows that the view of `export` is made of; it shows the units `units_of`, or all if that is None."""
    export_id = export.id
    newest: Sequence[Event] = ()
    if max_events:
        newest = session.exec(
            select(Event).where(col(Event.export_id) == export_id).order_by(col(Event.seq).desc()).limit(max_events)
        ).all()
    steps = session.exec(
        select(Step)
        .where(col(Step.export_id) == export_id, *([] if units_of is None else [_is_shown(export_id, units_of)]))
        .order_by(col(Step.unit_no), col(Step.position))
    ).all()
    units, documents, lines = [], [], []
    if units_of is not None:
        units = [col(ExportUnit.unit_no).in_({FIRST_UNIT, *units_of, *(step.unit_no for step in steps)})]
        documents, lines = (
            [col(model.unit_no).between(units_of.start, units_of.stop - 1)] for model in (Artifact, LineTreatment)
        )
    submissions = session.exec(
        select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id).order_by(col(BrokerSubmission.id))
    ).all()
    return ExportRows(
        export=export,
        units=session.exec(
            select(ExportUnit)
            .where(col(ExportUnit.export_id) == export_id, *units)
            .order_by(col(ExportUnit.unit_no))
            .options(defer(ExportUnit.document))  # type: ignore[arg-type]  # SQLModel types a column as its value
        ).all(),
        steps=steps,
        events=newest[::-1],
        artifacts=session.exec(
            select(Artifact)
            .where(col(Artifact.export_id) == export_id, *documents)
            .order_by(col(Artifact.unit_no), col(Artifact.artifact_type))
        ).all(),
        tallies=count_deliveries(session, export_id),
        submissions=submissions,
        acknowledgements=session.exec(
            select(Acknowledgement)
            .where(col(Acknowledgement.submission_id).in_([submission.id for submission in submissions]))
            .order_by(col(Acknowledgement.received_at), col(Acknowledgement.id))
        ).all(),
        conversation=read_newest(session, export_id) if submissions else EMPTY,
        headlines=count_headlines(session, export_id),
        treatments=session.exec(
            select(LineTreatment)
            .where(col(LineTreatment.export_id) == export_id, *lines)
            .order_by(col(LineTreatment.unit_no), col(LineTreatment.position))
            .limit(max_lines)
        ).all()
        if max_lines
        else (),
        treatment_count=session.scalar(
            select(func.count()).select_from(LineTreatment).where(col(LineTreatment.export_id) == export_id)
        )
        or 0,
        earlier_entries=find_filed_entries(session, export, read_same(session, export_id), cancelled=True)
        if export.revision > 1
        else (),
        superseded_by=session.exec(select(Export.id).where(col(Export.supersedes_id) == export_id)).first()
        if export.state == ExportState.SUPERSEDED.value
        else None,
        acknowledged=None
        if export.acknowledged_seq is None
        else session.get_one(Event, (export_id, export.acknowledged_seq)),
        hold=find_request(session, export_id, export.hold_seq),
        withdrawal=find_request(session, export_id, export.withdrawal_seq),
        outcome=read_outcome(session, export_id),
        units_of=units_of,
    )


def _is_shown(export_id: str, units_of: range) -> ColumnElement[bool]:
    """Return the condition that a step is the export's, of one of these units, or one that the status text may name."""
    unit_no, state = col(Step.unit_no), col(Step.state)
    is_open = col(Step.export_id) == export_id, state == StepState.READY.value
    furthest_behind = select(unit_no).where(*is_open).order_by(col(Step.position), unit_no).limit(1).scalar_subquery()
    return or_(
        unit_no == EXPORT_LEVEL,
        unit_no.between(units_of.start, units_of.stop - 1),
        unit_no == furthest_behind,
        state == StepState.FAILED.value,
    )


def build_view(rows: ExportRows) -> ExportView:
    """Return the view of `rows`; a pure function."""
    export = rows.export
    packages = {unit.unit_no: unit for unit in rows.units}
    units = [unit for unit in rows.units if rows.units_of is None or unit.unit_no in rows.units_of]
    steps: defaultdict[int, list[Step]] = defaultdict(list)
    for step in rows.steps:
        steps[step.unit_no].append(step)
    numbers = [unit.package_number for unit in units if unit.package_number is not None]
    submissions = build_submission_views(rows.submissions, rows.acknowledgements, numbers)
    notifications = build_notification_views(rows.tallies)
    return ExportView(
        export_id=export.id,
        batch_id=export.batch_id,
        state=ExportState(export.state),
        outcome=rows.outcome,
        status=describe_export(
            export,
            unit_refs={unit.unit_no: unit.unit_ref for unit in rows.units},
            steps=rows.steps,
            submissions=rows.submissions,
            undelivered={n.partner_id: n.dead for n in notifications if n.dead},
            retried=list_retried_handoffs(rows.tallies),
            headlines=rows.headlines,
            hold=rows.hold,
        ),
        plan_hash=export.plan_hash,
        revision=export.revision,
        upstream=export.upstream_id,
        failure=export.failure,
        quarantined=is_quarantined(export),
        approval=ApprovalView.model_validate(export),
        acknowledged=None if rows.acknowledged is None else build_acknowledged(rows.acknowledged),
        handoff_hold=rows.hold,
        withdrawal=rows.withdrawal,
        purged_at=export.purged_at,
        supersedes=export.supersedes_id,
        superseded_by=rows.superseded_by,
        accepted_at=export.accepted_at,
        updated_at=export.updated_at,
        units=[
            UnitView(
                unit_ref=unit.unit_ref,
                customs_package_id=unit.customs_package_id,
                steps=[StepView.model_validate(step) for step in steps[unit.unit_no]],
            )
            for unit in units
        ],
        steps=[StepView.model_validate(step) for step in steps[0]],
        customs_package_id=rows.units[0].customs_package_id,
        customs_packages=[
            CustomsPackageSummary(
                id=unit.customs_package_id,
                export_batch_id=export.batch_id,
                package_number=unit.package_number,
                unit_ref=unit.unit_ref,
                state=_package_state(steps[unit.unit_no]),
                created_at=unit.created_at,
                link=f"/api/customs-packages/{unit.customs_package_id}",
            )
            for unit in units
        ],
        artifacts=[
            _artifact_view(artifact, packages[artifact.unit_no].customs_package_id) for artifact in rows.artifacts
        ],
        notifications=notifications,
        broker_submission=submissions[0] if submissions else None,
        broker_submissions=submissions,
        earlier_entries=[EarlierEntryView.model_validate(each) for each in rows.earlier_entries],
        conversation=rows.conversation.items,
        conversation_total=rows.conversation.total,
        events=[event_view(event) for event in rows.events],
        events_omitted=rows.events[0].seq - 1 if rows.events else 0,
        treatment=TreatmentView(
            digest=export.treatment_digest,
            ruleset=RulesetView(id=export.ruleset_id, as_of=export.ruleset_as_of),
            line_count=rows.treatment_count,
            lines=[_line_view(line, packages[line.unit_no].unit_ref) for line in rows.treatments],
        ),
        findings=[Finding.model_validate(finding) for finding in export.findings],
        links=Links(
            self=f"/api/exports/{export.id}",
            events=f"/api/exports/{export.id}/events",
            bundle=f"/api/exports/{export.id}/bundle",
            deliveries=f"/api/deliveries?exportId={export.id}",
            conversation=f"/api/exports/{export.id}/conversation",
        ),
    )


def read_customs_package(session: Session, account_id: str, customs_package_id: str) -> CustomsPackageView:
    """Return the whole customs package; raise NotFound, also if it belongs to another account."""
    found = session.execute(
        select(ExportUnit, Export.batch_id)
        .join(Export, col(Export.id) == col(ExportUnit.export_id))
        .where(col(ExportUnit.account_id) == account_id, col(ExportUnit.customs_package_id) == customs_package_id)
        .options(defer(ExportUnit.document))  # type: ignore[arg-type]  # SQLModel types a column as its value
    ).first()
    if found is None:
        raise NotFound(f"there is no customs package {customs_package_id} in this account")
    unit, batch_id = found
    here = {"export_id": unit.export_id, "unit_no": unit.unit_no}
    return CustomsPackageView(
        id=unit.customs_package_id,
        export_batch_id=batch_id,
        package_number=unit.package_number,
        state=_package_state(session.exec(select(Step).filter_by(**here)).all()),
        created_at=unit.created_at,
        artifacts=[
            _artifact_view(artifact, customs_package_id)
            for artifact in session.exec(select(Artifact).filter_by(**here).order_by(col(Artifact.artifact_type)))
        ],
        export_id=unit.export_id,
        unit_ref=unit.unit_ref,
        treatment_digest=unit.treatment_digest,
        packages=[
            PackageView.model_validate(package)
            for package in session.exec(select(ExportPackage).filter_by(**here).order_by(col(ExportPackage.position)))
        ],
        treatment=[
            _line_view(line, unit.unit_ref)
            for line in session.exec(select(LineTreatment).filter_by(**here).order_by(col(LineTreatment.position)))
        ],
    )


def _package_state(steps: Sequence[Step]) -> PackageState:
    states = {step.state for step in steps}
    if states == {StepState.DONE}:
        return "closed"
    if StepState.FAILED in states:
        return "failed"
    if StepState.CANCELLED in states:
        return "cancelled"
    return "preparing" if any(step.started_at for step in steps) else "waiting"


def _artifact_view(row: Artifact, customs_package_id: str) -> ArtifactView:
    return ArtifactView(
        id=row.id,
        customs_package_id=customs_package_id,
        artifact_type=row.artifact_type,
        filename=row.filename,
        media_type=row.media_type,
        size=row.size,
        sha256=row.sha256,
        template_version=row.template_version,
        generated_at=row.generated_at,
        download_url=f"/api/artifacts/{row.id}",
    )


def _line_view(row: LineTreatment, unit_ref: str) -> LineTreatmentView:
    return LineTreatmentView(
        unit_ref=unit_ref,
        line_ref=row.line_ref,
        hts_code=row.hts_code,
        country_of_origin=row.country_of_origin,
        chapter99=row.chapter99,
        section232=row.section232,
        pga=row.pga,
        digest=row.digest,
    )
