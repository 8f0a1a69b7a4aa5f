"""The status of broker submissions. Deliveries and answers advance it; late answers never move it back."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import Session, col
from sqlmodel import select as sqlmodel_select

from config.settings import Settings
from pipeline.accounts import secrets as account_secrets
from pipeline.accounts.models import UsedSignature
from pipeline.accounts.recipients import BORDERBUDDY
from pipeline.core import tenancy
from pipeline.core.db import constants, database_now, table
from pipeline.core.errors import InvalidApiKey, InvalidState, NotFound, NotInHandoff, Purged
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.core.text_safety import make_legible
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outcomes import read_outcome
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import AcknowledgementReceipt
from pipeline.deliveries.submissions.signature import check_signature, digest_signed
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.plan_values import has_place
from pipeline.exports.schemas.plan import as_json
from pipeline.exports.schemas.submissions import AcknowledgementView, BrokerSubmissionView
from pipeline.exports.states import MILESTONES, SUBMISSION_TRANSITIONS, SubmissionState, source_states

_EVENTS: Final = {
    SubmissionState.RECEIVED: EventType.BROKER_ACKNOWLEDGED,
    SubmissionState.ACCEPTED: EventType.BROKER_ACKNOWLEDGED,
    SubmissionState.FILED: EventType.BROKER_ACKNOWLEDGED,
    SubmissionState.HELD: EventType.BROKER_ACKNOWLEDGED,
    SubmissionState.REJECTED: EventType.BROKER_REJECTED,
    SubmissionState.QUERY: EventType.BROKER_QUERIED,
    SubmissionState.RELEASED: EventType.BROKER_RELEASED,
}

_submissions = table(BrokerSubmission).c
#: The values of a submission that is delivered; its first time of sending stays.
DELIVERED_NOW: Final[Mapping[str, Any]] = {
    "sent_at": func.coalesce(_submissions.sent_at, database_now()),
    "error_message": None,
}

#: The statuses before the customs broker is known to have the handoff.
_UNDELIVERED: Final = frozenset(source_states(SUBMISSION_TRANSITIONS, SubmissionState.DELIVERED))

#: How long a signed request is remembered: longer than it is valid, plus any difference of clocks.
_SIGNATURE_SECONDS: Final = 3600

#: What the remark about a field says that the plan lacks; a remark has at most 1,000 characters.
_STRAY: Final = " (The plan has no such place.)"

#: Answers that notify the operators: a person must look.
_NOTIFIED: Final = frozenset({SubmissionState.REJECTED, SubmissionState.QUERY, SubmissionState.HELD})


@dataclass(frozen=True)
class SubmissionOwner:
    """A submission's export, account and partner."""

    id: str
    export_id: str
    account_id: str
    partner_id: str


def find_submission(session: Session, submission_id: str) -> SubmissionOwner:
    """Return the submission's owner. Raises NotFound."""
    row = session.get(BrokerSubmission, submission_id)
    if row is None:
        raise NotFound(f"there is no broker submission {submission_id}")
    return SubmissionOwner(row.id, row.export_id, row.account_id, row.partner_id)


def status_deadline(settings: Settings, status: SubmissionState) -> database_now | None:
    """Return the deadline of the status after `status`, or None if none is expected."""
    seconds = _status_seconds(settings, status)
    return None if seconds is None else database_now(seconds)


def _status_seconds(settings: Settings, status: SubmissionState) -> float | None:
    return {
        SubmissionState.PENDING: settings.deadline_delivered_seconds,
        SubmissionState.SENT: settings.deadline_delivered_seconds,
        SubmissionState.DELIVERED: settings.deadline_received_seconds,
        SubmissionState.RECEIVED: settings.deadline_answered_seconds,
        SubmissionState.ACCEPTED: settings.deadline_filed_seconds,
        SubmissionState.FILED: settings.deadline_released_seconds,
    }.get(status)


def advance_status(
    session: Session, settings: Settings, submission_id: str, status: SubmissionState, **values: Any
) -> bool:
    """Move the submission to `status`, with its deadline, if the transition is legal. Return whether it moved."""
    seconds = _status_seconds(settings, status)
    statement = _build_advance(status, expects=seconds is not None, columns=tuple(values))
    parameters = {f"new_{name}": value for name, value in values.items()}
    if seconds is not None:
        parameters["deadline_seconds"] = seconds
    return session.execute(statement, {"of_submission": submission_id} | parameters).first() is not None


@cache
def _build_advance(status: SubmissionState, *, expects: bool, columns: tuple[str, ...]) -> ReturningUpdate[Any]:
    """Return the guarded UPDATE to `status`; `expects` says that a next status has a deadline."""
    sent = DELIVERED_NOW if status is SubmissionState.DELIVERED else {}
    reached = f"first_{MILESTONES[status]}_at" if status in MILESTONES else None
    first = {} if reached is None else {reached: func.coalesce(_submissions[reached], database_now())}
    return (
        update(table(BrokerSubmission))
        .where(
            _submissions.id == bindparam("of_submission"),
            _submissions.state.in_(constants(source_states(SUBMISSION_TRANSITIONS, status))),
        )
        .values(
            state=status.value,
            updated_at=database_now(),
            deadline_at=database_now(bindparam("deadline_seconds")) if expects else None,
            overdue_at=None,
            **sent,
            **first,
            **{name: bindparam(f"new_{name}") for name in columns},
        )
        .returning(_submissions.id)
    )


def notified_event(partner_id: str, channel: str | None = None) -> NewEvent:
    """Return the event that the customs broker has the handoff, by this channel if it is known.

    It belongs to the transition from a status before `delivered`, which happens once.
    """
    by = {} if channel is None else {"channel": channel}
    return NewEvent(EventType.BROKER_NOTIFIED, {"partnerId": partner_id, **by, "messages": 1})


_INSERT_ANSWER: Final = {
    dialect: each.on_conflict_do_nothing().returning(table(Acknowledgement).c.id)
    for dialect, each in (
        ("postgresql", postgresql.insert(table(Acknowledgement))),
        ("sqlite", sqlite.insert(table(Acknowledgement))),
    )
}


def record_answer(
    session: Session, settings: Settings, submission_id: str, export_id: str, answer: AcknowledgementBody
) -> list[NewEvent]:
    """Record the broker's answer and advance the submission. Return no event if it was recorded before.

    An answer that comes late or out of order is recorded but does not move the status. A rejection, a query and a hold
    notify the operators. The caller has locked the export's row.

    Unsafe characters are replaced before recording, and a field that the plan lacks says so. A refusal would lose the
    answer.
    """
    return _record_prepared(session, settings, submission_id, export_id, _prepare_answer(session, export_id, answer))


def _record_prepared(
    session: Session, settings: Settings, submission_id: str, export_id: str, answer: AcknowledgementBody
) -> list[NewEvent]:
    new = _build_row(submission_id, answer)
    if session.execute(_INSERT_ANSWER[session.get_bind().dialect.name], new).first() is None:
        return []
    status = SubmissionState(answer.status)
    moved = advance_status(session, settings, submission_id, status)
    outcome = read_outcome(session, export_id)
    facts = {name: value for name, value in as_json(answer).items() if value not in (None, [])}
    facts["outcome"] = outcome.value
    if status in _NOTIFIED:
        row = session.get_one(BrokerSubmission, submission_id, populate_existing=True)
        facts |= operator_messages.enqueue_handoff_answered(session, row, answer, outcome).fact
    return [NewEvent(_EVENTS[status], {"submissionId": submission_id, "moved": moved} | facts)]


def _build_row(submission_id: str, answer: AcknowledgementBody) -> dict[str, Any]:
    return {
        "submission_id": submission_id,
        "id": answer.id,
        "status": answer.status,
        "reference": answer.reference,
        "entry_number": answer.entry_number,
        "message": answer.message,
        "fields": [as_json(each) for each in answer.fields],
    }


def _make_legible(answer: AcknowledgementBody) -> AcknowledgementBody:
    fields = [
        field.model_copy(
            update={"pointer": make_legible(field.pointer).replace("\n", " "), "message": make_legible(field.message)}
        )
        for field in answer.fields
    ]
    message = None if answer.message is None else make_legible(answer.message)
    return answer.model_copy(update={"message": message, "fields": fields})


def receive_answer(
    runtime: Runtime,
    submission_id: str,
    body: AcknowledgementBody,
    actor: str,
    *,
    by_person: bool = False,
    fetched: bool = False,
) -> AcknowledgementReceipt:
    """Record an answer from outside, in one transaction. Repeating it with the same id is harmless.

    An answer `by_person` is an act in the audit trail as well. Raises NotFound, Purged, NotInHandoff if a field is not
    in the plan, and InvalidState if the id was recorded with other content; then nothing is recorded. A `fetched` answer
    is recorded with such a field: its sender would not read the refusal.
    """
    with runtime.db.write() as session:
        submission = find_submission(session, submission_id)
        # Lock the export first, as each writer does. It keeps the log without gaps and serializes repeated answers.
        events.lock_export(session, submission.export_id)
        purged_at, before = session.execute(
            select(col(Export.purged_at), col(BrokerSubmission.state))
            .join_from(BrokerSubmission, Export, col(Export.id) == col(BrokerSubmission.export_id))
            .where(col(BrokerSubmission.id) == submission_id)
        ).one()
        if purged_at is not None:
            raise Purged.for_export(submission.export_id, "the answer was not recorded")
        answer = _prepare_answer(session, submission.export_id, body, refuses=not fetched)
        happened = _record_prepared(session, runtime.settings, submission_id, submission.export_id, answer)
        if not happened:
            _check_repeated(session, submission_id, answer)
        if happened and before in _UNDELIVERED:
            # The broker answers before the result of sending is recorded: the answer proves that it has the handoff.
            happened.insert(0, notified_event(submission.partner_id))
        if happened:
            events.append(session, submission.export_id, actor, happened)
        status = session.scalar(select(col(BrokerSubmission.state)).where(col(BrokerSubmission.id) == submission_id))
        if happened and by_person:
            detail = {"status": body.status}
            record_act(session, submission.account_id, actor, Action.HANDOFF_ANSWERED, submission_id, detail)
    return AcknowledgementReceipt(
        submission_id=submission_id, id=body.id, submission_status=status or body.status, recorded=bool(happened)
    )


def _prepare_answer(
    session: Session, export_id: str, answer: AcknowledgementBody, *, refuses: bool = False
) -> AcknowledgementBody:
    """Return the answer as it is recorded: a remark about a field that the plan lacks says so.

    If the service `refuses` such a field, raises NotInHandoff.
    """
    answer = _make_legible(answer)
    if not answer.fields:
        return answer
    of_export = select(col(Export.plan_id)).where(col(Export.id) == export_id).scalar_subquery()
    document = session.scalars(select(col(PlanSnapshot.document)).where(col(PlanSnapshot.id) == of_export)).one()
    plan, fields = json.loads(document), list(answer.fields)
    for row, each in enumerate(answer.fields):
        if has_place(plan, each.pointer):
            continue
        if refuses:
            raise NotInHandoff(
                f"{each.pointer} leads to no place of the plan; name a unit, line or field of the handoff, counted from"
                " 0, such as /units/0/lines/0/htsCode",
                field=f"/fields/{row}/pointer",
            )
        fields[row] = each.model_copy(update={"message": f"{each.message[: 1000 - len(_STRAY)]}{_STRAY}"})
    return answer.model_copy(update={"fields": fields})


def _check_repeated(session: Session, submission_id: str, answer: AcknowledgementBody) -> None:
    row = session.get_one(Acknowledgement, (submission_id, answer.id))
    sent = _build_row(submission_id, answer)
    changed = [name for name, value in sent.items() if value != getattr(row, name)]
    if changed:
        raise InvalidState(
            f"the answer {answer.id} was recorded with another {', '.join(changed)}; send what is new with an id of its own",
            field="/id",
        )


@dataclass(frozen=True)
class Signer:
    """The partner that signed an answer, and its account."""

    account_id: str
    partner_id: str

    @property
    def actor(self) -> str:
        """The signer's name in the log."""
        return f"partner:{self.partner_id}"


def verify_signer(
    runtime: Runtime, submission_id: str, body: bytes, headers: Mapping[str, str], *, timely: bool = True
) -> Signer:
    """Return the signer of `body`: the partner of the submission, verified by one of its secrets.

    A `timely` signature is valid for one submission only. Body and headers do not name the submission, so an
    eavesdropper could send a copied answer to another one. Raises InvalidApiKey, also if the submission does not exist,
    to reveal nothing to callers that cannot sign.
    """
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        row = session.get(BrokerSubmission, submission_id)
        account_id, partner_id = ("", "") if row is None else (row.account_id, row.partner_id)
        secrets = account_secrets.load_valid_secrets(session, runtime.settings, account_id, partner_id)
    check_signature(body, headers, secrets, timely=timely)
    signed = Signer(account_id, partner_id)
    if timely:
        with tenancy.account_scope(account_id):
            _bind_signature(runtime, signed, digest_signed(body, headers), submission_id)
    return signed


def _bind_signature(runtime: Runtime, signed: Signer, digest: str, submission_id: str) -> None:
    """Bind a signed request to its submission. Raises InvalidApiKey if it was used for another submission."""
    of_partner = (
        col(UsedSignature.account_id) == signed.account_id,
        col(UsedSignature.partner_id) == signed.partner_id,
    )
    same_digest = col(UsedSignature.digest) == digest
    try:
        with runtime.db.write() as session:
            session.execute(
                delete(UsedSignature).where(*of_partner, col(UsedSignature.used_at) < database_now(-_SIGNATURE_SECONDS))
            )
            session.add(
                UsedSignature(
                    account_id=signed.account_id,
                    partner_id=signed.partner_id,
                    digest=digest,
                    submission_id=submission_id,
                )
            )
    except IntegrityError:
        with runtime.db.read() as session:
            about = session.scalar(select(col(UsedSignature.submission_id)).where(*of_partner, same_digest))
        if about != submission_id:
            raise InvalidApiKey(
                "this signature was used for another submission; sign each request separately, with its own webhook-id"
            ) from None


_SENDING_STATUS: Final = {SubmissionState.PENDING: "pending", SubmissionState.FAILED: "failed"}


def read_submission(session: Session, account_id: str, submission_id: str) -> BrokerSubmissionView | None:
    """Return one of the account's submissions with its answers in order of receipt, or None if it does not exist."""
    row = session.get(BrokerSubmission, submission_id)
    if row is None or row.account_id != account_id:
        return None
    acknowledgements = sqlmodel_select(Acknowledgement).where(col(Acknowledgement.submission_id) == row.id)
    answers = session.exec(acknowledgements.order_by(col(Acknowledgement.received_at), col(Acknowledgement.id))).all()
    return build_submission_views([row], answers)[0]


def build_submission_views(
    submissions: Sequence[BrokerSubmission], acknowledgements: Sequence[Acknowledgement]
) -> list[BrokerSubmissionView]:
    """Return the views of the submissions, each with its answers."""
    answers: defaultdict[str, list[AcknowledgementView]] = defaultdict(list)
    for answer in acknowledgements:
        answers[answer.submission_id].append(AcknowledgementView.model_validate(answer))
    return [
        BrokerSubmissionView(
            id=row.id,
            submission_type="borderbuddy_direct" if row.channel == BORDERBUDDY else f"{row.path}_{row.channel}",
            status=_SENDING_STATUS.get(SubmissionState(row.state), "sent"),  # type: ignore[arg-type]  # literals of the view
            recipient_email=row.recipient if row.channel == "email" else None,
            subject=row.subject,
            sent_at=row.sent_at,
            error_message=row.error_message,
            partner_id=row.partner_id,
            path=row.path,
            channel=row.channel,
            submission_status=SubmissionState(row.state),
            deadline_at=row.deadline_at,
            overdue_at=row.overdue_at,
            acknowledgements=answers[row.id],
        )
        for row in submissions
    ]
