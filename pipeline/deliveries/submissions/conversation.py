"""The conversation about a handoff: the customs broker's answers that say something, and the messages to it."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, func, literal, null, or_, select, union_all
from sqlmodel import Session, col

from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, ConversationMessage
from pipeline.deliveries.submissions.attachments import read_attachments
from pipeline.exports.schemas.submissions import BrokerSubmissionView, ConversationItem, ConversationPage

#: The most items of a conversation in the view of an export, and on a page of the console or the portal.
MOST_SHOWN: Final = 20

EMPTY: Final = ConversationPage(items=[], total=0, next_after=None)

#: The statuses whose answers may name fields without a text.
_NAME_FIELDS: Final = ("query", "rejected")


def read_conversation(session: Session, export_id: str, *, after: int = 0, limit: int) -> ConversationPage:
    """Return the items of the conversation about the export's handoff, oldest first, without the first `after` ones."""
    query, items = _select_items(export_id)
    found = session.execute(query.order_by(items.at, items.side, items.id).offset(after).limit(limit + 1)).all()
    shown = _build_items(session, export_id, found[:limit])
    # Past the end, the total is not known from a row.
    total = found[0].total if found else after
    return ConversationPage(items=shown, total=total, next_after=after + limit if len(found) > limit else None)


def read_newest(session: Session, export_id: str) -> ConversationPage:
    """Return the newest items of the conversation, in order; `total` counts all of them."""
    query, items = _select_items(export_id)
    newest = query.order_by(items.at.desc(), items.side.desc(), items.id.desc()).limit(MOST_SHOWN)
    found = session.execute(newest).all()[::-1]
    if not found:
        return EMPTY
    shown = _build_items(session, export_id, found)
    return ConversationPage(items=shown, total=found[0].total, next_after=None)


def _build_items(session: Session, export_id: str, rows: Sequence[Row[Any]]) -> list[ConversationItem]:
    files = read_attachments(session, export_id, {each for row in rows for each in row.attachments or ()})
    items = []
    for row in rows:
        said = dict(row._mapping) | {"attachments": [files[each] for each in row.attachments or () if each in files]}  # noqa: SLF001 - public, to avoid names of columns
        del said["total"]
        items.append(ConversationItem.model_validate(said))
    return items


def merge_answers(handoff: BrokerSubmissionView, conversation: Sequence[ConversationItem]) -> list[ConversationItem]:
    """Return all answers to the handoff, also those without a text, and the messages of `conversation`, oldest first.

    Answers older than `conversation` are without their files.
    """
    shown = {each.id: each for each in conversation if each.side == "customs_broker"}
    answers = [
        shown.get(each.id)
        or ConversationItem(
            side="customs_broker",
            author=handoff.partner_id,
            at=each.received_at,
            text=each.message,
            **each.model_dump(
                include={"id", "status", "packages", "in_reply_to", "entry_number", "fields"}, by_alias=False
            ),
        )
        for each in handoff.acknowledgements
    ]
    messages = [each for each in conversation if each.side == "exporter"]
    return sorted([*answers, *messages], key=lambda each: (each.at, each.side, each.id))


def _select_items(export_id: str) -> tuple[Select[Any], Any]:
    """Return the query of all items, each with their number, and the columns to sort by."""
    of_export = col(BrokerSubmission.export_id) == export_id
    said: tuple[Any, ...] = (
        literal("customs_broker").label("side"),
        col(Acknowledgement.id).label("id"),
        col(BrokerSubmission.partner_id).label("author"),
        col(Acknowledgement.received_at).label("at"),
        col(Acknowledgement.status).label("status"),
        col(Acknowledgement.message).label("text"),
        col(Acknowledgement.packages).label("packages"),
        col(Acknowledgement.in_reply_to).label("in_reply_to"),
        col(Acknowledgement.entry_number).label("entry_number"),
        col(Acknowledgement.fields).label("fields"),
        col(Acknowledgement.attachments).label("attachments"),
    )
    written: tuple[Any, ...] = (
        literal("exporter"),
        col(ConversationMessage.id),
        col(ConversationMessage.author),
        col(ConversationMessage.written_at),
        null(),
        col(ConversationMessage.text),
        col(ConversationMessage.packages),
        col(ConversationMessage.in_reply_to),
        null(),
        null(),
        col(ConversationMessage.attachments),
    )
    says_something = (
        col(Acknowledgement.message).is_not(None),
        col(Acknowledgement.attachments).is_not(None),
        col(Acknowledgement.status).in_(_NAME_FIELDS),
    )
    answers = (
        select(*said)
        .join(BrokerSubmission, col(BrokerSubmission.id) == col(Acknowledgement.submission_id))
        .where(of_export, or_(*says_something))
    )
    messages = (
        select(*written)
        .join(BrokerSubmission, col(BrokerSubmission.id) == col(ConversationMessage.submission_id))
        .where(of_export)
    )
    items = union_all(answers, messages).subquery().c
    return select(*items, func.count().over().label("total")), items
