"""The status of broker submissions: deliveries advance it, and what the answers say together decides it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Float, bindparam, delete, exists, func, or_, select, update
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
from pipeline.core.errors import InvalidApiKey, NotFound
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.entries.entries import build_entry_views, read_package_numbers, to_answer
from pipeline.deliveries.entries.facets import EntriesStatus, fold_entries
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.submissions.signature import check_signature, digest_signed
from pipeline.deliveries.submissions.summaries import describe_due
from pipeline.deliveries.submissions.waits import build_deadline, find_deadline, find_wait
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.schemas.submissions import AcknowledgementView, BrokerSubmissionView
from pipeline.exports.states import MILESTONES, SUBMISSION_TRANSITIONS, SubmissionState, source_states

_submissions = table(BrokerSubmission).c
#: The values of a submission that is delivered; its first time of sending stays.
DELIVERED_NOW: Final[Mapping[str, Any]] = {
    "sent_at": func.coalesce(_submissions.sent_at, database_now()),
    "error_message": None,
}

#: The statuses before the customs broker is known to have the handoff.
UNDELIVERED: Final = frozenset(source_states(SUBMISSION_TRANSITIONS, SubmissionState.DELIVERED))

#: The parameters of a deadline: seconds after the previous status, and before the arrival.
_WAIT: Final = ("deadline_seconds", "lead_seconds")

#: Whether a handoff has answers. A handoff that is not delivered has only those of an earlier revision.
_HAS_ANSWERS: Final = exists().where(table(Acknowledgement).c.submission_id == bindparam("of_submission"))

#: How long a signed request is remembered: longer than it is valid, plus any difference of clocks.
_SIGNATURE_SECONDS: Final = 3600


@dataclass(frozen=True)
class SubmissionOwner:
    """A submission's export, account and partner."""

    id: str
    export_id: str
    account_id: str
    partner_id: str
    test: bool


def find_submission(session: Session, submission_id: str) -> SubmissionOwner:
    """Return the submission's owner. Raises NotFound."""
    row = session.get(BrokerSubmission, submission_id)
    if row is None:
        raise NotFound(f"there is no broker submission {submission_id}")
    return SubmissionOwner(row.id, row.export_id, row.account_id, row.partner_id, row.test_account_id is not None)


def advance_status(
    session: Session, settings: Settings, submission_id: str, status: SubmissionState, **values: Any
) -> bool:
    """Move the submission to `status`, with its deadline, if the transition is legal. Return whether it moved."""
    wait = find_wait(settings, status)
    statement = _build_advance(status, expects=wait is not None, columns=tuple(values))
    parameters = {f"new_{name}": value for name, value in values.items()}
    if wait is not None:
        parameters |= zip(_WAIT, wait, strict=True)
    return session.execute(statement, {"of_submission": submission_id} | parameters).first() is not None


def deliver_status(session: Session, settings: Settings, submission_id: str) -> tuple[bool, bool]:
    """Move the submission to `delivered`; return whether it moved, and whether answers were copied into it before."""
    wait = find_wait(settings, SubmissionState.DELIVERED)
    statement = _build_advance(SubmissionState.DELIVERED, expects=wait is not None, columns=())
    parameters = {} if wait is None else dict(zip(_WAIT, wait, strict=True))
    row = session.execute(statement, {"of_submission": submission_id} | parameters).first()
    return row is not None, row is not None and bool(row[1])


@cache
def _build_advance(status: SubmissionState, *, expects: bool, columns: tuple[str, ...]) -> ReturningUpdate[Any]:
    """Return the guarded UPDATE to `status`; `expects` says that a next status has a deadline."""
    sent = DELIVERED_NOW if status is SubmissionState.DELIVERED else {}
    after, lead = (bindparam(name, type_=Float()) for name in _WAIT)
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
            deadline_at=build_deadline(status, after, lead) if expects else None,
            overdue_at=None,
            **sent,
            **first,
            **{name: bindparam(f"new_{name}") for name in columns},
        )
        .returning(_submissions.id, _HAS_ANSWERS)
    )


def settle_status(
    session: Session,
    settings: Settings,
    submission_id: str,
    state: SubmissionState,
    before: EntriesStatus,
    after: EntriesStatus,
    *,
    elapsed: float = 0.0,
    due: Mapping[str, datetime | None] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write what the answers say together, `after` a new one, if that changes `state`. Return the facts for the event.

    `due` has the columns of the summary's deadline, if that changes. A new deadline starts only if another status is
    expected now; `elapsed` seconds of it are over already. The caller has locked the export's row.
    """
    new = after.state or SubmissionState.DELIVERED
    expected = state if state in UNDELIVERED else before.expected_after
    if state is SubmissionState.WITHDRAWN:
        expected = None
    moved = new is not state
    # A message to the customs broker gave its question a deadline, which ends with the next answer.
    resets = expected != after.expected_after or (state is SubmissionState.QUERY and after.expected_after is None)
    if moved or resets or due:
        reached = [f"first_{MILESTONES[new]}_at"] if moved and new in MILESTONES else []
        deadline = {"deadline_at": find_deadline(settings, after.expected_after, elapsed=elapsed), "overdue_at": None}
        session.execute(
            update(table(BrokerSubmission))
            .where(_submissions.id == submission_id)
            .values(
                state=new.value,
                updated_at=database_now(),
                **(deadline if resets else {}),
                **due,
                **{name: func.coalesce(_submissions[name], database_now()) for name in reached},
            )
        )
    return {"moved": moved, "deadlineReset": resets, "submissionStatus": new.value} | describe_due(due)


def await_answer(session: Session, settings: Settings, submission_id: str) -> bool:
    """Start a deadline for the answer to a message about a question, unless one runs; return whether it was started."""
    started = session.execute(
        update(table(BrokerSubmission))
        .where(
            _submissions.id == submission_id,
            or_(_submissions.deadline_at.is_(None), _submissions.overdue_at.is_not(None)),
        )
        .values(deadline_at=find_deadline(settings, SubmissionState.RECEIVED), overdue_at=None)
        .returning(_submissions.id)
    )
    return started.first() is not None


def notified_event(
    partner_id: str, channel: str | None = None, fact: Mapping[str, Any] = MappingProxyType({})
) -> NewEvent:
    """Return the event that the customs broker has the handoff, by this channel if it is known.

    `fact` has the status of one whose entries go on from an earlier revision. The event belongs to the transition from a
    status before `delivered`, which happens once.
    """
    by = {} if channel is None else {"channel": channel}
    return NewEvent(EventType.BROKER_NOTIFIED, {"partnerId": partner_id, **by, "messages": 1, **fact})


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


def read_submission(
    session: Session, account_id: str, submission_id: str, packages: Sequence[str] | None = None
) -> BrokerSubmissionView | None:
    """Return one of the account's submissions with its answers in order of receipt, or None if it does not exist.

    It has the entries of these customs packages, or of all.
    """
    row = session.get(BrokerSubmission, submission_id)
    if row is None or row.account_id != account_id:
        return None
    acknowledgements = sqlmodel_select(Acknowledgement).where(col(Acknowledgement.submission_id) == row.id)
    answers = session.exec(acknowledgements.order_by(col(Acknowledgement.received_at), col(Acknowledgement.id))).all()
    if packages is None:
        packages = read_package_numbers(session, row.export_id)
    return build_submission_views([row], answers, packages)[0]


def build_submission_views(
    submissions: Sequence[BrokerSubmission], acknowledgements: Sequence[Acknowledgement], packages: Sequence[str]
) -> list[BrokerSubmissionView]:
    """Return the views of an export's submissions, each with its answers and the entries of these customs packages."""
    answers: defaultdict[str, list[Acknowledgement]] = defaultdict(list)
    for answer in acknowledgements:
        answers[answer.submission_id].append(answer)
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
            arrives_at=row.arrives_at,
            deadline_at=row.deadline_at,
            overdue_at=row.overdue_at,
            summary_due_at=row.summary_due_at,
            summary_overdue_at=row.summary_overdue_at,
            acknowledgements=[AcknowledgementView.model_validate(answer) for answer in answers[row.id]],
            entries=build_entry_views(fold_entries(packages, map(to_answer, answers[row.id]))),
        )
        for row in submissions
    ]
