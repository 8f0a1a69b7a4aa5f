"""The built-in sandbox broker: it takes handoffs and answers as the invoice number says."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final

import structlog
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError
from sqlalchemy import and_, literal, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from pipeline.accounts import secrets as account_secrets
from pipeline.core.db import Instant, database_now
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, InvalidRequest, NotFound, NotReady
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.http_client import open_http_session
from pipeline.deliveries.entries.assessment import assess_as_estimated
from pipeline.deliveries.entries.entries import read_package_numbers
from pipeline.deliveries.entries.estimates import read_estimate
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Notification, SandboxHandoff
from pipeline.deliveries.outbox.outbox import build_answer_url
from pipeline.deliveries.sandbox_script import (
    HANDOFF_PREFIX,
    PlannedAnswer,
    Script,
    ScriptedHandoff,
    Via,
    change_amounts,
    parse_script,
)
from pipeline.deliveries.schemas.answers import AcknowledgementBody, HandoffAnswer, HandoffStatus
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReady, HandoffWithdrawn
from pipeline.deliveries.schemas.views import SandboxHandoffView, SandboxPage
from pipeline.deliveries.submissions import submissions
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.deliveries.submissions.submissions import Signer
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from pipeline.exports.schemas.assessment import AssessedAmounts
from pipeline.exports.schemas.plan import as_json

log = structlog.get_logger(__name__)

_LATE_ANSWERS: Final = threading.BoundedSemaphore(200)
_MAX_ATTEMPTS: Final = 3
_TIMEOUT_SECONDS: Final = 5.0

#: The contract allows 100 answers and 64 kB. An answer has at most 1 kB, with amounts 6 kB.
_MAX_LISTED: Final = 50
_MAX_WITH_AMOUNTS: Final = 5
_MAX_LISTED_BYTES: Final = 56_000


def take_message(runtime: Runtime, body: bytes, via: Via, *, signer: Signer | None = None) -> HandoffAnswer | None:
    """Take a message and return its immediate answer, None if it gets none. A repeated handoff gets the same answer.

    `signer` is the partner that signed the message. It must be the handoff's partner, because the sandbox signs its
    answers with that partner's secret.

    Later answers are posted to the acknowledgement URL from a timer, signed with the partner's secret. They are lost if
    the process ends first, which is harmless in a sandbox. Raises InvalidRequest if the body is not one of our
    messages, NotFound if the submission is unknown, NotReady if a script asks to fail.
    """
    event_id, message = _parse_event(body)
    if message is None:
        return None
    scripts = [parse_script(unit.invoice.number) for unit in message.units] if isinstance(message, HandoffReady) else []
    if any(script.fails for script in scripts):
        raise NotReady("the sandbox broker fails this handoff, because its invoice number begins with F")
    secret, test = _find_secret(runtime, message.submission_id, signer)
    if isinstance(message, HandoffReady):
        handoff = _take_handoff(runtime, event_id, message, scripts, via)
    else:
        handoff = _take_withdrawal(runtime, message)
    handoff = _add_amounts(runtime, message.submission_id, handoff)
    if secret is not None:
        url = build_answer_url(runtime.settings.own_url, message.submission_id)
        _post_late_answers(runtime, url, secret, _date_answers(handoff.list_late_answers(via), test=test))
    return handoff.build_first_answer(via)


def _date_answers(answers: Sequence[PlannedAnswer], *, test: bool) -> list[PlannedAnswer]:
    """Return the answers; about a test export without their times, because they count by the account's test clock."""
    if not test:
        return [*answers]
    return [PlannedAnswer(each.due_at, each.answer.model_copy(update={"at": None})) for each in answers]


def _find_secret(runtime: Runtime, submission_id: str, signer: Signer | None) -> tuple[str | None, bool]:
    """Return the secret of the submission's partner, None without one, and whether its export is a test.

    Raises NotFound if the submission is unknown, or of another partner than `signer`.
    """
    with runtime.db.read() as session:
        submission = submissions.find_submission(session, submission_id)
        if signer is not None and signer != Signer(submission.account_id, submission.partner_id):
            raise NotFound(f"there is no broker submission {submission_id}")
        secrets = account_secrets.load_valid_secrets(
            session, runtime.settings, submission.account_id, submission.partner_id
        )
    return secrets[0] if secrets else None, submission.test


def _take_handoff(
    runtime: Runtime, event_id: str, ready: HandoffReady, scripts: Sequence[Script], via: Via
) -> ScriptedHandoff:
    """Return the handoff, and store it if it is new."""
    with runtime.db.read() as session:
        known, now = session.get(SandboxHandoff, event_id), session.scalars(select(database_now())).one()
        if known is not None:
            return _load_handoff(session, known)
    packages = [unit.package_number for unit in ready.units]
    handoff = _apply_earlier(ScriptedHandoff(event_id, now, scripts, packages), ready)
    answer = handoff.build_first_answer(via)
    row = SandboxHandoff(
        id=event_id,
        submission_id=ready.submission_id,
        path=via,
        invoice_numbers=[unit.invoice.number for unit in ready.units],
        outcome=handoff.outcome,
        answer={} if answer is None else as_json(answer),
        received_at=now,
    )
    try:
        with runtime.db.write() as session:
            session.add(row)
    except IntegrityError:
        log.info("sandbox_handoff_repeated")
        with runtime.db.read() as session:
            return _load_handoff(session, session.get_one(SandboxHandoff, event_id))
    return handoff


def _take_withdrawal(runtime: Runtime, message: HandoffWithdrawn) -> ScriptedHandoff:
    """Return the handoff as the sandbox answers its withdrawal.

    It answers by unit if it answered the handoff so. It withdraws no entry that it files, and stays silent if it was.
    """
    event_id = message.notification_ids[0]  # it answers the handoff
    with runtime.db.read() as session:
        known, now = session.get(SandboxHandoff, event_id), session.scalars(select(database_now())).one()
        handoff = None if known is None else _load_handoff(session, known)
    if handoff is None or (handoff.is_whole and not handoff.is_silent and not handoff.scripts[0].files):
        return ScriptedHandoff(event_id, now, [Script(("withdrawn",))])
    return handoff


def _load_handoff(session: Session, row: SandboxHandoff) -> ScriptedHandoff:
    scripts = [parse_script(number) for number in row.invoice_numbers]
    handoff = ScriptedHandoff(row.id, row.received_at, scripts)
    sent = session.get(Notification, row.id)
    if sent is not None:
        handoff = _apply_earlier(handoff, HandoffReady.model_validate_json(sent.data))
    if handoff.is_whole:
        return handoff
    requested = and_(col(Event.export_id) == col(Export.id), col(Event.seq) == col(Export.withdrawal_seq))
    found = session.execute(
        select(col(Export.id), col(Event.at))
        .join_from(BrokerSubmission, Export, col(Export.id) == col(BrokerSubmission.export_id))
        .join(Event, requested, isouter=True)
        .where(col(BrokerSubmission.id) == row.submission_id)
    ).one()
    return replace(handoff, packages=read_package_numbers(session, found[0]), withdrawn_at=found[1])


def _apply_earlier(handoff: ScriptedHandoff, ready: HandoffReady) -> ScriptedHandoff:
    """Return the handoff with the entries that go on, and the numbers of those that it corrects: no second one is filed."""
    numbers = {each.customs_package_number: each.entry_number for each in ready.corrects}
    units = [*enumerate(ready.units, start=1)]
    kept = frozenset(no for no, unit in units if unit.kept is not None)
    corrected = {no: number for no, unit in units if (number := numbers.get(unit.package_number)) is not None}
    return replace(handoff, kept=kept, corrected=corrected)


def _add_amounts(runtime: Runtime, submission_id: str, handoff: ScriptedHandoff) -> ScriptedHandoff:
    """Return the handoff with what customs assessed: what the estimate says, or more if a script asks for it."""
    amounts: dict[int, AssessedAmounts] = {}
    for unit_no, script in enumerate(handoff.scripts, start=1):
        if script.files:
            packages = () if handoff.is_whole else handoff.packages[unit_no - 1 : unit_no]
            assessed = assess_entry(runtime, submission_id, packages)
            if assessed is not None:
                amounts[unit_no] = change_amounts(assessed) if script.changes_amounts else assessed
    return replace(handoff, amounts=amounts)


def assess_entry(runtime: Runtime, submission_id: str, packages: Sequence[str]) -> AssessedAmounts | None:
    """Return the amounts that the estimate of the packages' entry has, None if it is not known."""
    estimate = read_estimate(runtime, submission_id, packages, strict=False)
    return None if estimate is None else assess_as_estimated(estimate)


def load_handoff(runtime: Runtime, row: SandboxHandoff) -> ScriptedHandoff:
    """Return the handoff that the sandbox received, with its scripts."""
    with runtime.db.read() as session:
        return _load_handoff(session, row)


def list_handoffs(runtime: Runtime, account_id: str, *, after: str | None = None, limit: int = 50) -> SandboxPage:
    """Return a page of the account's handoffs in the sandbox, newest first, starting after the handoff `after`."""
    wanted = [col(BrokerSubmission.account_id) == account_id]
    place = tuple_(col(SandboxHandoff.received_at), col(SandboxHandoff.id))
    with runtime.db.read() as session:
        if after is not None:
            last = session.get(SandboxHandoff, after)
            if last is None:
                return SandboxPage(items=[], next_cursor=None)
            wanted.append(place < tuple_(literal(last.received_at, Instant()), last.id))
        found = session.execute(
            select(SandboxHandoff, col(BrokerSubmission.export_id), col(BrokerSubmission.state))
            .join(BrokerSubmission, col(BrokerSubmission.id) == col(SandboxHandoff.submission_id))
            .where(*wanted)
            .order_by(col(SandboxHandoff.received_at).desc(), col(SandboxHandoff.id).desc())
            .limit(limit + 1)
        ).all()
    items = [_to_view(row, export_id, status) for row, export_id, status in found[:limit]]
    return SandboxPage(items=items, next_cursor=items[-1].id if len(found) > limit else None)


def find_handoff(session: Session, account_id: str, event_id: str) -> SandboxHandoffView | None:
    """Return the account's sandbox handoff with this CloudEvent id, or None if the sandbox did not receive it."""
    found = session.execute(
        select(SandboxHandoff, col(BrokerSubmission.export_id), col(BrokerSubmission.state))
        .join(BrokerSubmission, col(BrokerSubmission.id) == col(SandboxHandoff.submission_id))
        .where(col(SandboxHandoff.id) == event_id, col(BrokerSubmission.account_id) == account_id)
    ).first()
    return None if found is None else _to_view(*found)


def _to_view(row: SandboxHandoff, export_id: str, status: str) -> SandboxHandoffView:
    return SandboxHandoffView.model_validate(
        {
            "id": row.id,
            "export_id": export_id,
            "submission_id": row.submission_id,
            "path": row.path,
            "invoice_numbers": row.invoice_numbers,
            "outcome": row.outcome,
            "answer": row.answer or None,
            "submission_status": status,
            "received_at": row.received_at,
        }
    )


def list_answers(runtime: Runtime, handoff_id: str) -> HandoffStatus:
    """Return the sandbox's answers so far to a handoff over the borderbuddy contract.

    If they are too many for one response, those that the service recorded are left out. Raises NotFound.
    """
    event_id = handoff_id.removeprefix(HANDOFF_PREFIX)
    with runtime.db.read() as session:
        row, now = session.get(SandboxHandoff, event_id), session.scalars(select(database_now())).one()
        if row is None or row.path != "borderbuddy" or handoff_id != f"{HANDOFF_PREFIX}{event_id}":
            raise NotFound(f"the sandbox broker has not received handoff {handoff_id}")
        loaded, submission_id = _load_handoff(session, row), row.submission_id
    handoff = _add_amounts(runtime, submission_id, loaded)
    with runtime.db.read() as session:
        first = handoff.build_first_answer("borderbuddy")
        given = [] if first is None else [first.acknowledgement]
        submission = session.get(BrokerSubmission, submission_id)
        test = submission is not None and submission.test_account_id is not None
        late = _date_answers(handoff.list_late_answers("borderbuddy"), test=test)
        given += [each.answer for each in late if each.due_at <= now]
        if len(given) > _MAX_LISTED or sum(each.assessed is not None for each in given) > _MAX_WITH_AMOUNTS:
            recorded = select(col(Acknowledgement.id)).where(col(Acknowledgement.submission_id) == submission_id)
            known = {*session.scalars(recorded)}
            given = [each for each in given if each.id not in known][:_MAX_LISTED]
            sizes = accumulate(len(each.model_dump_json(by_alias=True)) for each in given)
            given = [each for each, size in zip(given, sizes, strict=True) if size <= _MAX_LISTED_BYTES]
    return HandoffStatus(handoff_id=handoff_id, answers=given)


_TAKEN: Final[dict[str, type[HandoffReady | HandoffWithdrawn]]] = {
    MessageType.HANDOFF_READY: HandoffReady,
    MessageType.HANDOFF_WITHDRAWN: HandoffWithdrawn,
}


def _parse_event(body: bytes) -> tuple[str, HandoffReady | HandoffWithdrawn | None]:
    try:
        event = JSONFormat().read(CloudEvent, body)
        model = _TAKEN.get(event.get_type())
        return event.get_id(), None if model is None else model.model_validate(event.get_data())
    except ValidationError as error:
        raise InvalidRequest(f"the handoff does not match its schema: {error.error_count()} invalid fields") from None
    except Exception as error:
        # The library raises any error on bad input.
        raise InvalidRequest(f"the body is not a CloudEvent in structured JSON: {type(error).__name__}") from error


def _post_late_answers(runtime: Runtime, url: str, secret: str, answers: Sequence[PlannedAnswer]) -> None:
    """Post each answer when it is due."""
    if answers:
        with runtime.db.read() as session:
            now = session.scalars(select(database_now())).one()
        _post_in_turn(url, secret, [((each.due_at - now).total_seconds(), each.answer) for each in answers])


def _post_in_turn(url: str, secret: str, answers: Sequence[tuple[float, AcknowledgementBody]]) -> None:
    """Post each answer after its seconds. One answer waits for the one before it, so a handoff has one thread."""
    if not answers:
        return
    (seconds, answer), *rest = answers
    wait = max(seconds, 0.0)

    def post() -> None:
        _post_answer(url, answer, secret)
        _post_in_turn(url, secret, [(after - wait, each) for after, each in rest])

    _schedule(wait, post)


def _schedule(seconds: float, action: Callable[[], None]) -> None:
    if not _LATE_ANSWERS.acquire(blocking=False):
        log.warning("sandbox_answer_dropped")
        return

    def run() -> None:
        try:
            action()
        finally:
            _LATE_ANSWERS.release()

    timer = threading.Timer(seconds, run)
    timer.daemon = True
    timer.start()


def _post_answer(url: str, answer: AcknowledgementBody, secret: str) -> None:
    body = answer.model_dump_json(by_alias=True).encode()
    for attempt in range(_MAX_ATTEMPTS):
        try:
            # This is our own address from the settings, so it may be private.
            with open_http_session(private=True, seconds=_TIMEOUT_SECONDS) as session:
                session.post(
                    url, body, {"content-type": "application/json"} | build_signature_headers(answer.id, body, secret)
                )
        except (ChannelUnavailable, ChannelRefused) as error:
            log.warning("sandbox_answer_not_taken", attempt=attempt + 1, reason=str(error))
            time.sleep(1)
        else:
            return
