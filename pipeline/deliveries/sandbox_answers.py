"""Answers of the sandbox broker that a person asks for: they come as a real broker's, by entry, with any status."""

from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from pipeline.accounts.api_keys import Caller
from pipeline.core.errors import InsufficientRole, InvalidState
from pipeline.core.runtime import Runtime
from pipeline.deliveries import sandbox_broker
from pipeline.deliveries.entries.entries import read_package_numbers
from pipeline.deliveries.models import Notification, SandboxHandoff
from pipeline.deliveries.sandbox_script import build_fields, get_message
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.views import AcknowledgementReceipt
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.models import Export

#: Without a message, answers with these statuses name a field themselves.
_NAMES_FIELDS: Final = ("rejected", "query")


def find_received(session: Session, export_id: str) -> SandboxHandoff | None:
    """Return the handoff of an export as the sandbox broker received it; None if it did not."""
    ready = (col(Notification.export_id) == export_id, col(Notification.event_type) == MessageType.HANDOFF_READY.value)
    of_export = select(SandboxHandoff).join(Notification, col(Notification.id) == col(SandboxHandoff.id)).where(*ready)
    return session.scalars(of_export.limit(1)).first()


def answer_handoff(
    runtime: Runtime, caller: Caller, export_id: str, answer: AcknowledgementBody
) -> AcknowledgementReceipt:
    """Let the sandbox broker answer the handoff of a test export now; a repeat with the same id changes nothing.

    The answer is checked and recorded as one of a real broker. If it lacks them, the sandbox broker adds a message, the
    fields of a question or rejection, and the number and the estimated amounts of one entry that is filed.

    Raises InsufficientRole for live mode, InvalidState for a live export and for one whose handoff the sandbox broker did
    not receive, and what `receive_answer` raises.
    """
    with runtime.db.read() as session:
        if not session.get_one(Export, export_id).test:
            raise InvalidState(
                f"export {export_id} is live, and the sandbox broker answers test exports only; execute its plan with a"
                " test key"
            )
        if not caller.may_change(test=True):
            raise InsufficientRole("the sandbox broker answers test exports only; use a test key")
        received = find_received(session, export_id)
        if received is None:
            raise InvalidState(
                f"the sandbox broker did not receive the handoff of export {export_id}; wait until it is delivered, or"
                " answer as its own customs broker"
            )
        packages = read_package_numbers(session, export_id)
    answer = _complete_answer(runtime, received, packages, answer)
    return broker_answers.receive_answer(runtime, received.submission_id, answer, caller.actor, by_person=True)


def _complete_answer(
    runtime: Runtime, received: SandboxHandoff, packages: list[str], answer: AcknowledgementBody
) -> AcknowledgementBody:
    named = answer.customs_package_numbers or packages
    unit_no = packages.index(named[0]) + 1 if len(named) == 1 and named[0] in packages else None
    added: dict[str, object] = {}
    if answer.status in _NAMES_FIELDS and answer.message is None and not answer.fields:
        at = unit_no or (packages.index(named[0]) + 1 if named[0] in packages else 1)
        added["fields"] = build_fields(answer.status, at)
    if answer.message is None:
        added["message"] = get_message(answer.status)
    if unit_no is not None and answer.entry_number is None:
        added["entry_number"] = sandbox_broker.load_handoff(runtime, received).find_entry_number(unit_no, answer.status)
    if unit_no is not None and answer.status == "filed" and answer.assessed is None:
        added["assessed"] = sandbox_broker.assess_entry(runtime, received.submission_id, [packages[unit_no - 1]])
    return answer.model_copy(update=added)
