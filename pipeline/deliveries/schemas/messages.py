"""The messages that we send, by their CloudEvent type."""

from enum import StrEnum
from typing import Final, Self

from pipeline.deliveries.schemas.cloudevent import ExportMessage
from pipeline.deliveries.schemas.to_broker import HandoffReady, HandoffReplied, HandoffSuperseded, HandoffWithdrawn
from pipeline.deliveries.schemas.to_operator import (
    DeliveryDead,
    EntryProgressed,
    ExportCancelled,
    ExportExecuted,
    ExportFailed,
    ExportRechecked,
    ExportSettled,
    HandoffAnswered,
    HandoffOverdue,
    PlanRechecked,
)
from pipeline.deliveries.schemas.to_warehouse import PackageRecorded, PackageSuperseded, PackageWithdrawn
from pipeline.exports.schemas.plan import StrictModel

_BROKER: Final = "customs_broker"
_WAREHOUSE: Final = "warehouse"
_OPERATOR: Final = "operator"
_UPSTREAM: Final = "upstream"


class MessageType(StrEnum):
    """The CloudEvent types that we send."""

    #: Its name for people.
    label: str
    model: type[ExportMessage | PlanRechecked]
    #: The kinds of partners that get it.
    receivers: tuple[str, ...]
    #: Whether it may come after the regular messages of an export. Then it does not repeat that the partner was notified.
    follows_up: bool

    def __new__(
        cls,
        value: str,
        label: str = "",
        model: type[ExportMessage | PlanRechecked] = ExportMessage,
        receivers: tuple[str, ...] = (),
        follows_up: bool = False,  # noqa: FBT001, FBT002 - the last column of the table
    ) -> Self:
        """Return the type with what is known of it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.label, member.model, member.receivers, member.follows_up = label, model, receivers, follows_up
        return member

    HANDOFF_READY = "exports.handoff.ready.v1", "Handoff", HandoffReady, (_BROKER,)
    HANDOFF_SUPERSEDED = "exports.handoff.superseded.v1", "Handoff superseded", HandoffSuperseded, (_BROKER,)
    HANDOFF_REPLIED = "exports.handoff.replied.v1", "Message about a handoff", HandoffReplied, (_BROKER,), True
    HANDOFF_WITHDRAWN = (
        "exports.handoff.withdrawn.v1",
        "Handoff withdrawn",
        HandoffWithdrawn,
        (_BROKER, _OPERATOR, _UPSTREAM),
    )
    PACKAGE_RECORDED = "exports.package.recorded.v1", "Package", PackageRecorded, (_WAREHOUSE,)
    PACKAGE_SUPERSEDED = "exports.package.superseded.v1", "Package superseded", PackageSuperseded, (_WAREHOUSE,)
    PACKAGE_WITHDRAWN = "exports.package.withdrawn.v1", "Package withdrawn", PackageWithdrawn, (_WAREHOUSE,)
    EXPORT_EXECUTED = "exports.export.executed.v1", "Export executed", ExportExecuted, (_OPERATOR, _UPSTREAM)
    EXPORT_FAILED = "exports.export.failed.v1", "Export failed", ExportFailed, (_OPERATOR, _UPSTREAM)
    HANDOFF_OVERDUE = "exports.handoff.overdue.v1", "Handoff overdue", HandoffOverdue, (_OPERATOR,), True
    HANDOFF_ANSWERED = "exports.handoff.answered.v1", "Handoff answered", HandoffAnswered, (_OPERATOR,), True
    ENTRY_PROGRESSED = "exports.entry.progressed.v1", "Entry progressed", EntryProgressed, (_OPERATOR, _UPSTREAM), True
    EXPORT_SETTLED = "exports.export.settled.v1", "Export settled", ExportSettled, (_OPERATOR, _UPSTREAM), True
    EXPORT_CANCELLED = (
        "exports.export.cancelled.v1",
        "Export cancelled",
        ExportCancelled,
        (_OPERATOR, _UPSTREAM, _BROKER, _WAREHOUSE),
    )
    DELIVERY_DEAD = "exports.delivery.dead.v1", "Delivery dead", DeliveryDead, (_OPERATOR,), True
    EXPORT_RECHECKED = "exports.export.rechecked.v1", "Export rechecked", ExportRechecked, (_OPERATOR,), True
    PLAN_RECHECKED = "exports.plan.rechecked.v1", "Plan rechecked", PlanRechecked, (_OPERATOR,), True

    @property
    def purpose(self) -> str:
        """What the message says, in the first sentence of its schema."""
        text = (self.model.__doc__ or "").partition("\n")[0]
        sentence = text.partition(": ")[2] or text
        return sentence[:1].upper() + sentence[1:]


#: Messages that a newer revision replaces, and a withdrawal takes back. They must not be resent after that, because recipients would believe them.
HELD_UNTIL_SUPERSEDED: Final = (MessageType.HANDOFF_READY.value, MessageType.PACKAGE_RECORDED.value)


#: The CloudEvent type of a connection test's event.
CONNECTION_TEST: Final = "exports.connection.test.v1"


class ConnectionTested(StrictModel):
    """To the tested partner: this is a connection test. Take it and do nothing."""

    test_id: str
    partner_id: str


def describe_message_type(event_type: str) -> str:
    """Return the type of a message in words. A type that this version does not know is returned as it is."""
    if event_type == CONNECTION_TEST:
        return "Connection test"
    return next((each.label for each in MessageType if each == event_type), event_type)
