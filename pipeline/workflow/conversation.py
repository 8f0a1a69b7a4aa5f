"""Messages to the customs broker of a handoff, such as the reply to its question."""

from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from pipeline.accounts.recipients import Recipient, resolve_recipients
from pipeline.core.errors import InvalidState, NotInHandoff, ValidationFailed
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.core.text_safety import make_legible
from pipeline.deliveries.entries.entries import check_packages
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, ConversationMessage
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import BROKER, Enqueued, NewNotification
from pipeline.deliveries.outcomes import read_outcome
from pipeline.deliveries.schemas.answers import NewMessage
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReplied
from pipeline.deliveries.submissions.attachments import check_named, read_attachments, to_link
from pipeline.deliveries.submissions.submissions import UNDELIVERED, await_answer
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.schemas.submissions import ConversationItem
from pipeline.exports.states import ExportState, SubmissionState
from pipeline.workflow.interventions import lock_export
from pipeline.workflow.steps import TaskMessage, stream_tasks


def write_message(
    runtime: Runtime, account_id: str, export_id: str, new: NewMessage, actor: str
) -> tuple[ConversationItem, list[TaskMessage]]:
    """Record a message to the customs broker, enqueue it, and return it with the task messages; a repeat sends nothing.

    Files were sent before; the message names them. Unsafe characters are replaced before recording. About a question it
    acknowledges the export: it leaves the inbox until the customs broker's next answer, which has a deadline. Raises
    NotFound, Purged, ValidationFailed, NotInHandoff if it names a package, file or item that the conversation lacks, and
    InvalidState if the customs broker does not have the handoff, if a newer revision replaced it, or if the id was used
    for another message.
    """
    new = new.model_copy(update={"text": make_legible(new.text)})
    if not new.text.strip():
        raise ValidationFailed(
            "the text has no visible character; write what the customs broker should read", field="/text"
        )
    with runtime.db.write() as session:
        export = lock_export(session, account_id, export_id, None)
        submission = _find_handoff(session, export)
        written = session.get(ConversationMessage, (submission.id, new.id))
        if written is not None:
            _check_repeated(written, new)
            return _to_item(session, export_id, written), []
        recipient = _check_new(session, export, submission, new)
        enqueued = _enqueue(runtime, session, export, submission, recipient, new)
        fact = {
            "submissionId": submission.id,
            "messageId": new.id,
            **new.model_dump(mode="json", by_alias=True, exclude={"id"}, exclude_defaults=True),
            **enqueued.fact,
            "outcome": read_outcome(session, export_id).value,
            "deadlineReset": submission.state == SubmissionState.QUERY
            and await_answer(session, runtime.settings, submission.id),
        }
        at = events.append(session, export_id, actor, [NewEvent(EventType.MESSAGE_WRITTEN, fact)]).at
        record_act(session, account_id, actor, Action.MESSAGE_WRITTEN, export_id, {"messageId": new.id})
        row = ConversationMessage(submission_id=submission.id, author=actor, written_at=at, **_columns(new))
        session.add(row)
        item = _to_item(session, export_id, row)
        failpoint("reply.mid")
    failpoint("reply.after")
    return item, stream_tasks(enqueued.streams)


def _find_handoff(session: Session, export: Export) -> BrokerSubmission:
    of_export = col(BrokerSubmission.export_id) == export.id, col(BrokerSubmission.partner_id) == export.broker_id
    submission = session.scalars(select(BrokerSubmission).where(*of_export)).first()
    if submission is None:
        raise InvalidState(f"export {export.id} is not handed off yet; write when the customs broker has it")
    return submission


def _check_repeated(written: ConversationMessage, new: NewMessage) -> None:
    changed = [name for name, value in _columns(new).items() if value != getattr(written, name)]
    if changed:
        raise InvalidState(
            f"the message {new.id} was written with another {', '.join(changed)}; send what is new with an id of its own",
            field="/id",
        )


def _check_new(session: Session, export: Export, submission: BrokerSubmission, new: NewMessage) -> Recipient:
    if export.state == ExportState.SUPERSEDED.value:
        raise InvalidState(f"a newer revision replaced export {export.id}; write about that revision")
    if submission.state in UNDELIVERED:
        raise InvalidState(
            f"the customs broker does not have the handoff of export {export.id} yet; write when it is delivered"
        )
    check_packages(session, export.id, new.customs_package_numbers)
    check_named(session, export.id, None, new.attachments)
    if new.in_reply_to and not any(
        session.get(model, (submission.id, new.in_reply_to)) for model in (Acknowledgement, ConversationMessage)
    ):
        raise NotInHandoff(
            f"the conversation has no answer and no message with the id {new.in_reply_to}; name one of its ids",
            field="/inReplyTo",
        )
    partner_id = submission.partner_id
    found = resolve_recipients(session, export.account_id, [partner_id], test=export.test).get(partner_id)
    if found is None:
        raise InvalidState(f"nothing can be sent to {partner_id}; activate the partner, then write again")
    return found


def _enqueue(
    runtime: Runtime,
    session: Session,
    export: Export,
    submission: BrokerSubmission,
    recipient: Recipient,
    new: NewMessage,
) -> Enqueued:
    files = read_attachments(session, export.id, new.attachments)
    message = HandoffReplied(
        **outbox.describe_export(export),
        submission_id=submission.id,
        subject=submission.subject,
        message_id=new.id,
        text=new.text,
        in_reply_to=new.in_reply_to,
        customs_package_numbers=new.customs_package_numbers,
        attachments=[to_link(files[each], runtime.settings.public_url) for each in new.attachments],
        acknowledgement_url=outbox.build_answer_url(runtime.settings.public_url, submission.id),
    )
    notification = NewNotification(BROKER, MessageType.HANDOFF_REPLIED, f"{submission.id}/{new.id}", message)
    return outbox.enqueue(session, export.account_id, [notification], {BROKER: [recipient]})


def _columns(new: NewMessage) -> dict[str, Any]:
    return {
        "id": new.id,
        "text": new.text,
        "packages": new.customs_package_numbers or None,
        "in_reply_to": new.in_reply_to,
        "attachments": new.attachments or None,
    }


def _to_item(session: Session, export_id: str, row: ConversationMessage) -> ConversationItem:
    files = read_attachments(session, export_id, row.attachments or ())
    return ConversationItem(
        side="exporter",
        id=row.id,
        author=row.author,
        at=row.written_at,
        status=None,
        text=row.text,
        packages=row.packages,
        in_reply_to=row.in_reply_to,
        attachments=[files[each] for each in row.attachments or ()],
    )
