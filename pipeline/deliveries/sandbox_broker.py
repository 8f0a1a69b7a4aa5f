"""The built-in sandbox broker: it takes handoffs and answers as the invoice number says."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import structlog
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError
from sqlalchemy import literal, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from pipeline.accounts import secrets as account_secrets
from pipeline.core.db import Instant, database_now
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, InvalidRequest, NotFound, NotReady
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.http_client import open_http_session
from pipeline.deliveries.models import BrokerSubmission, SandboxHandoff
from pipeline.deliveries.outbox.outbox import build_answer_url
from pipeline.deliveries.schemas.answers import AcknowledgementBody, FieldAnswer, HandoffAnswer, HandoffStatus
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReady, HandoffWithdrawn
from pipeline.deliveries.schemas.views import SandboxHandoffView, SandboxPage
from pipeline.deliveries.submissions import submissions
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.deliveries.submissions.submissions import Signer
from pipeline.exports.schemas.plan import as_json

log = structlog.get_logger(__name__)

Via = Literal["borderbuddy", "webhook"]

#: The prefix of the sandbox's handoff ids.
_HANDOFF_PREFIX: Final = "sbx-"

_LATE_ANSWERS: Final = threading.BoundedSemaphore(200)
_MAX_ATTEMPTS: Final = 3
#: The outcome of a handoff that the sandbox never answers.
_SILENT: Final = "none"
_TIMEOUT_SECONDS: Final = 5.0


SandboxStatus = Literal["accepted", "rejected", "query", "held", "withdrawn"]


@dataclass(frozen=True)
class Script:
    """How the sandbox answers. `status` is None if it never answers; `fails` if it does not take the handoff."""

    status: SandboxStatus | None
    delay_seconds: int = 0
    fails: bool = False


def parse_script(invoice_number: str) -> Script:
    """Return the outcome and the delay in seconds that the first two characters of the invoice number ask for.

    A accepts, R rejects with named fields, Q asks, P never answers. D accepts and H holds after a delay, by default of
    one second. F fails at transport. Any other letter accepts.
    """
    letter, digit = invoice_number[:1].upper(), invoice_number[1:2]
    delay = int(digit) if digit.isascii() and digit.isdigit() else 0
    match letter:
        case "R":
            return Script("rejected", delay)
        case "Q":
            return Script("query", delay)
        case "P":
            return Script(None)
        case "D":
            return Script("accepted", delay or 1)
        case "F":
            return Script(None, fails=True)
        case "H":
            return Script("held", delay or 1)
        case _:
            return Script("accepted", delay)


def take_message(runtime: Runtime, body: bytes, via: Via, *, signer: Signer | None = None) -> HandoffAnswer | None:
    """Take a message and return its immediate answer, None if it gets none. A repeated handoff gets the same answer.

    `signer` is the partner that signed the message. It must be the handoff's partner, because the sandbox signs its
    answers with that partner's secret.

    Later answers are posted to the acknowledgement URL from a timer, signed with the partner's secret. They are lost if
    the process ends first, which is harmless in a sandbox. Raises InvalidRequest if the body is not one of our
    messages, NotFound if the submission is unknown, NotReady if the script asks to fail.
    """
    event_id, message = _parse_event(body)
    if message is None:
        return None
    ready = message if isinstance(message, HandoffReady) else None
    numbers = [unit.invoice.number for unit in ready.units] if ready else []
    script = parse_script(numbers[0]) if ready else Script("withdrawn")
    if isinstance(message, HandoffWithdrawn):
        event_id = message.notification_ids[0]  # it answers the handoff
    if script.fails:
        raise NotReady("the sandbox broker fails this handoff, because its invoice number begins with F")
    at_once = _immediate_answer(event_id, script, via)
    with runtime.db.read() as session:
        submission = submissions.find_submission(session, message.submission_id)
        if signer is not None and signer != Signer(submission.account_id, submission.partner_id):
            raise NotFound(f"there is no broker submission {message.submission_id}")
        secrets = account_secrets.load_valid_secrets(
            session, runtime.settings, submission.account_id, submission.partner_id
        )
        known = session.get(SandboxHandoff, event_id)
    if ready is None and known is not None and known.outcome == _SILENT:
        return None
    if ready is not None and known is None:
        _store_handoff(runtime, event_id, ready, numbers, script, at_once, via)
    late = _delayed_answer(event_id, script, via)
    if late is not None and secrets:
        url = build_answer_url(runtime.settings.own_url, submission.id)
        answer = late
        _schedule(script.delay_seconds, lambda: _post_answer(url, answer, secrets[0]))
    return at_once


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

    Raises NotFound.
    """
    event_id = handoff_id.removeprefix(_HANDOFF_PREFIX)
    with runtime.db.read() as session:
        row = session.get(SandboxHandoff, event_id)
        now = session.scalar(select(database_now()))
    if row is None or now is None or row.path != "borderbuddy" or handoff_id != _build_handoff_id(event_id):
        raise NotFound(f"the sandbox broker has not received handoff {handoff_id}")
    script = parse_script(row.invoice_numbers[0])
    at_once, late = _immediate_answer(event_id, script, "borderbuddy"), _delayed_answer(event_id, script, "borderbuddy")
    given = [] if at_once is None else [at_once.acknowledgement]
    if late is not None and now >= row.received_at + timedelta(seconds=script.delay_seconds):
        given.append(late)
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


def _immediate_answer(event_id: str, script: Script, via: Via) -> HandoffAnswer | None:
    if via == "webhook" or script.status is None:
        return None
    if script.delay_seconds or script.status == "held":
        return HandoffAnswer(handoff_id=_build_handoff_id(event_id), status="received")
    answer = _build_answer(event_id, script.status)
    return HandoffAnswer(
        handoff_id=_build_handoff_id(event_id),
        status=script.status,
        reference=answer.reference,
        message=answer.message,
        fields=answer.fields,
    )


def _delayed_answer(event_id: str, script: Script, via: Via) -> AcknowledgementBody | None:
    if script.status is None or (via == "borderbuddy" and not script.delay_seconds):
        return None
    return _build_answer(event_id, script.status)


def _build_answer(event_id: str, status: SandboxStatus) -> AcknowledgementBody:
    handoff_id = _build_handoff_id(event_id)
    fields: list[FieldAnswer] = []
    message = {
        "accepted": "Accepted by the sandbox broker.",
        "rejected": "Rejected by the sandbox broker: two fields need a correction.",
        "query": "The sandbox broker asks about one field.",
        "held": "Held by the sandbox broker.",
        "withdrawn": "The sandbox broker files no entry.",
    }[status]
    if status == "rejected":
        fields = [
            FieldAnswer(pointer="/units/0/lines/0/htsCode", message="The code does not fit the description."),
            FieldAnswer(pointer="/units/0/parties/importerOfRecord/importerNumber", message="The number is not known."),
        ]
    if status == "query":
        fields = [FieldAnswer(pointer="/units/0/lines/0/description", message="What is it made of?")]
    return AcknowledgementBody(
        id=f"{handoff_id}:{status}",
        status=status,
        reference=f"SBX-{handoff_id[-8:].upper()}",
        message=message,
        fields=fields,
    )


def _build_handoff_id(event_id: str) -> str:
    return f"{_HANDOFF_PREFIX}{event_id}"


def _store_handoff(
    runtime: Runtime,
    event_id: str,
    ready: HandoffReady,
    numbers: list[str],
    script: Script,
    at_once: HandoffAnswer | None,
    via: Via,
) -> None:
    row = SandboxHandoff(
        id=event_id,
        submission_id=ready.submission_id,
        path=via,
        invoice_numbers=numbers,
        outcome=script.status or _SILENT,
        answer={} if at_once is None else as_json(at_once),
    )
    try:
        with runtime.db.write() as session:
            session.add(row)
    except IntegrityError:
        log.info("sandbox_handoff_repeated")


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
