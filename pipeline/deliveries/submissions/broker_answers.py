"""Records the customs broker's answers, and folds them into the entries and the status of the handoff."""

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.core.clock import CLOCKS_DIFFER, format_utc
from pipeline.core.errors import InvalidState, NotInHandoff, Purged, ValidationFailed
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.core.text_safety import make_legible
from pipeline.deliveries.entries import entries
from pipeline.deliveries.entries.assessment import AmountsSource, Tolerance, compare_amounts
from pipeline.deliveries.entries.estimates import read_estimate
from pipeline.deliveries.entries.facets import NEEDS_LOOK, AnswerStatus
from pipeline.deliveries.models import Acknowledgement, ConversationMessage
from pipeline.deliveries.outbox import answer_messages
from pipeline.deliveries.outcomes import read_outcome
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import AcknowledgementReceipt
from pipeline.deliveries.submissions import attachments, submissions
from pipeline.deliveries.submissions.answer_fold import AnsweredHandoff, find_handoff, write_answer
from pipeline.deliveries.submissions.carried_answers import relay_answer
from pipeline.deliveries.submissions.left_entries import judge_left, mark_left
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.plan_values import has_place
from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.schemas.plan import as_json
from pipeline.exports.states import SubmissionState

#: The events of the statuses that have one of their own.
_EVENTS: Final = {
    AnswerStatus.REJECTED: EventType.BROKER_REJECTED,
    AnswerStatus.QUERY: EventType.BROKER_QUERIED,
    AnswerStatus.RELEASED: EventType.BROKER_RELEASED,
}

#: What the remark about a field says that the plan lacks; a remark has at most 1,000 characters.
_STRAY: Final = " (The plan has no such place.)"


@dataclass(frozen=True)
class _Prepared:
    """The answer as it is recorded, and its amounts beside the estimate."""

    answer: AcknowledgementBody
    comparison: dict[str, Any] | None = None


def record_answer(
    session: Session, settings: Settings, submission_id: str, export_id: str, answer: AcknowledgementBody
) -> list[NewEvent]:
    """Record the broker's answer and advance the submission. Return no event if it was recorded before.

    Answers count in the order of the broker's own times, so it does not matter when they arrive. One that needs a person
    or moves an entry notifies the operators. The caller has locked the export's row.

    Unsafe characters are replaced before recording, and a field that the plan lacks says so. A refusal would lose the
    answer.
    """
    found = find_handoff(session, submission_id)
    prepared = _prepare_answer(session, export_id, answer, found)
    return _record_prepared(session, settings, _Prepared(prepared), found, f"partner:{found.partner_id}")


def _record_prepared(
    session: Session, settings: Settings, prepared: _Prepared, found: AnsweredHandoff, actor: str
) -> list[NewEvent]:
    answer, comparison = prepared.answer, prepared.comparison
    submission_id = found.submission_id
    row = _build_row(submission_id, answer) | {"received_at": found.arrival, "comparison": comparison}
    written = write_answer(session, settings, found, row)
    if written is None:
        return []
    outcome = read_outcome(session, found.export_id)
    said = {name: value for name, value in as_json(answer).items() if value not in (None, [])}
    if comparison is not None:
        said["comparison"] = comparison
    fact = written.fact | {"receivedAt": format_utc(found.arrival), **said, "outcome": outcome.value}
    status = AnswerStatus(answer.status)
    crosses = fact["moved"] and written.after.state is SubmissionState.NOT_WITHDRAWN
    later = relay_answer(session, settings, found, answer, row, actor) if found.superseded else None
    needs_person = None if later is None else judge_left(status, written.change.after, later)
    if needs_person is not None:
        fact |= mark_left(session, found.export_id, needs_person=needs_person)
    if later is None or later.concerns:  # else the messages of the newest revision say it
        fact |= answer_messages.enqueue_answer(
            session,
            submission_id,
            answer,
            found.arrival,
            written.change,
            outcome,
            needs_look=status in NEEDS_LOOK or crosses,
        ).fact
    return [NewEvent(_EVENTS.get(status, EventType.BROKER_ACKNOWLEDGED), {"submissionId": submission_id} | fact)]


def _build_row(submission_id: str, answer: AcknowledgementBody) -> dict[str, Any]:
    return {
        "submission_id": submission_id,
        "id": answer.id,
        "status": answer.status,
        "reference": answer.reference,
        "entry_number": answer.entry_number,
        "message": answer.message,
        "fields": [as_json(each) for each in answer.fields],
        "packages": answer.customs_package_numbers or None,
        "hold": None if answer.hold is None else answer.hold.name,
        "at": answer.at,
        "effective_at": answer.effective_at,
        "corrects": answer.corrects,
        "in_reply_to": answer.in_reply_to,
        "attachments": answer.attachments or None,
        "raw": None if answer.raw is None else as_json(answer.raw),
        "assessed": None if answer.assessed is None else as_json(answer.assessed),
    }


def _make_legible(answer: AcknowledgementBody) -> AcknowledgementBody:
    fields = [
        field.model_copy(
            update={"pointer": make_legible(field.pointer).replace("\n", " "), "message": make_legible(field.message)}
        )
        for field in answer.fields
    ]
    message = None if answer.message is None else make_legible(answer.message)
    raw = answer.raw
    if raw is not None and raw.text is not None:
        raw = raw.model_copy(update={"text": make_legible(raw.text)})
    return answer.model_copy(update={"message": message, "fields": fields, "raw": raw})


def receive_answer(
    runtime: Runtime,
    submission_id: str,
    body: AcknowledgementBody,
    actor: str,
    *,
    by_person: bool = False,
    fetched: bool = False,
    source: AmountsSource | None = None,
) -> AcknowledgementReceipt:
    """Record an answer from outside, in one transaction. Repeating it with the same id is harmless.

    An answer `by_person` is an act in the audit trail as well. Raises NotFound, Purged, ValidationFailed if its time lies
    ahead, NotInHandoff if it names a field, package or answer that the handoff lacks, and InvalidState if the id was
    recorded with other content; then nothing is recorded. A `fetched` answer is recorded all the same: its sender would
    not read the refusal. `source` says where a person read the amounts.
    """
    # The store is asked before the transaction, which must not wait for it.
    compared = compare_answer(runtime, submission_id, body, strict=not fetched, source=source)
    comparison = None if compared is None else as_json(compared)
    with runtime.db.write() as session:
        submission = submissions.find_submission(session, submission_id)
        # Lock the export first, as each writer does. It keeps the log without gaps and serializes repeated answers.
        events.lock_export(session, submission.export_id)
        found = find_handoff(session, submission_id)
        if found.purged_at is not None:
            raise Purged.for_export(submission.export_id, "the answer was not recorded")
        refused_for = None if fetched else submission_id
        answer = _prepare_answer(session, submission.export_id, body, found, refused_for=refused_for)
        prepared = _Prepared(answer, comparison)
        happened = _record_prepared(session, runtime.settings, prepared, found, actor)
        status = happened[-1].data["submissionStatus"] if happened else found.state.value
        if not happened:
            # In a test export, an answer without a time has the time of the test clock when it arrived first.
            _check_repeated(session, submission_id, answer, dated=body.at is not None or not found.test)
        if happened and found.state in submissions.UNDELIVERED:
            # The broker answers before the result of sending is recorded: the answer proves that it has the handoff.
            happened.insert(0, submissions.notified_event(submission.partner_id))
        if happened:
            events.append(session, submission.export_id, actor, happened)
        if happened and by_person:
            detail = {"status": body.status}
            record_act(session, submission.account_id, actor, Action.HANDOFF_ANSWERED, submission_id, detail)
        failpoint("answer.mid")
    failpoint("answer.after")
    return AcknowledgementReceipt(
        submission_id=submission_id, id=body.id, submission_status=status, recorded=bool(happened)
    )


def compare_answer(
    runtime: Runtime,
    submission_id: str,
    answer: AcknowledgementBody,
    *,
    strict: bool,
    source: AmountsSource | None = None,
) -> Assessment | None:
    """Return the answer's amounts beside the estimate; None if it has none, or is about no single entry.

    With `strict`, raises NotInHandoff if it is about several entries. Raises StoreUnavailable.
    """
    if answer.assessed is None:
        return None
    estimate = read_estimate(runtime, submission_id, answer.customs_package_numbers, strict=strict)
    if estimate is None:
        return None
    settings = runtime.settings
    tolerance = Tolerance(settings.assessed_tolerance_usd, settings.assessed_tolerance_percent)
    return compare_amounts(answer.id, estimate, answer.assessed, tolerance, source)


def _prepare_answer(
    session: Session,
    export_id: str,
    answer: AcknowledgementBody,
    found: AnsweredHandoff,
    *,
    refused_for: str | None = None,
) -> AcknowledgementBody:
    """Return the answer as it is recorded: a remark about a field that the plan lacks says so.

    If the test clock was moved, an answer without a time gets the time that it shows.

    If the service refuses wrong answers, `refused_for` is the submission. Then raises ValidationFailed or NotInHandoff.
    """
    answer = _make_legible(answer)
    is_ahead = answer.at is not None and answer.at > found.now + found.ahead + CLOCKS_DIFFER
    if refused_for is not None:
        _check_answer(session, found, answer, is_ahead=is_ahead)
    elif is_ahead:
        answer = answer.model_copy(update={"at": None})
    if answer.at is None and found.ahead:
        answer = answer.model_copy(update={"at": found.arrival + found.ahead})
    if not answer.fields:
        return answer
    of_export = select(col(Export.plan_id)).where(col(Export.id) == export_id).scalar_subquery()
    document = session.scalars(select(col(PlanSnapshot.document)).where(col(PlanSnapshot.id) == of_export)).one()
    plan, fields = json.loads(document), list(answer.fields)
    for row, each in enumerate(answer.fields):
        if has_place(plan, each.pointer):
            continue
        if refused_for is not None:
            raise NotInHandoff(
                f"{each.pointer} leads to no place of the plan; name a unit, line or field of the handoff, counted from"
                " 0, such as /units/0/lines/0/htsCode",
                field=f"/fields/{row}/pointer",
            )
        fields[row] = each.model_copy(update={"message": f"{each.message[: 1000 - len(_STRAY)]}{_STRAY}"})
    return answer.model_copy(update={"fields": fields})


def _check_answer(session: Session, found: AnsweredHandoff, answer: AcknowledgementBody, *, is_ahead: bool) -> None:
    if is_ahead:
        raise ValidationFailed(
            f"{answer.at} lies ahead; send when you decided, and in `effectiveAt` when it takes effect", field="/at"
        )
    entries.check_packages(session, found.export_id, answer.customs_package_numbers)
    attachments.check_named(session, found.export_id, found.partner_id, answer.attachments)
    if answer.corrects and session.get(Acknowledgement, (found.submission_id, answer.corrects)) is None:
        raise NotInHandoff(
            f"no answer to this handoff has the id {answer.corrects}; name the id of the answer that was wrong",
            field="/corrects",
        )
    if answer.in_reply_to and session.get(ConversationMessage, (found.submission_id, answer.in_reply_to)) is None:
        raise NotInHandoff(
            f"no message about this handoff has the id {answer.in_reply_to}; name the `messageId` of one, or leave it out",
            field="/inReplyTo",
        )


def _check_repeated(session: Session, submission_id: str, answer: AcknowledgementBody, *, dated: bool) -> None:
    row = session.get_one(Acknowledgement, (submission_id, answer.id))
    sent = _build_row(submission_id, answer)
    compared = sent if dated else {name: value for name, value in sent.items() if name != "at"}
    changed = [name for name, value in compared.items() if value != getattr(row, name)]
    if changed:
        raise InvalidState(
            f"the answer {answer.id} was recorded with another {', '.join(changed)}; send what is new with an id of its own",
            field="/id",
        )
