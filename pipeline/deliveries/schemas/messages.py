"""The messages that we send, by their CloudEvent type."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pipeline.deliveries.schemas.cloudevent import ExportMessage
from pipeline.deliveries.schemas.to_broker import HandoffReady, HandoffSuperseded
from pipeline.deliveries.schemas.to_operator import (
    DeliveryDead,
    ExportCancelled,
    ExportExecuted,
    ExportFailed,
    ExportRechecked,
    HandoffAnswered,
    HandoffOverdue,
    PlanRechecked,
)
from pipeline.deliveries.schemas.to_warehouse import PackageRecorded, PackageSuperseded
from pipeline.exports.schemas.plan import StrictModel


class MessageType(StrEnum):
    """The CloudEvent types that we send."""

    HANDOFF_READY = "exports.handoff.ready.v1"
    HANDOFF_SUPERSEDED = "exports.handoff.superseded.v1"
    PACKAGE_RECORDED = "exports.package.recorded.v1"
    PACKAGE_SUPERSEDED = "exports.package.superseded.v1"
    EXPORT_EXECUTED = "exports.export.executed.v1"
    EXPORT_FAILED = "exports.export.failed.v1"
    HANDOFF_OVERDUE = "exports.handoff.overdue.v1"
    HANDOFF_ANSWERED = "exports.handoff.answered.v1"
    EXPORT_CANCELLED = "exports.export.cancelled.v1"
    DELIVERY_DEAD = "exports.delivery.dead.v1"
    EXPORT_RECHECKED = "exports.export.rechecked.v1"
    PLAN_RECHECKED = "exports.plan.rechecked.v1"


MESSAGES: Final[dict[MessageType, type[ExportMessage | PlanRechecked]]] = {
    MessageType.HANDOFF_READY: HandoffReady,
    MessageType.HANDOFF_SUPERSEDED: HandoffSuperseded,
    MessageType.PACKAGE_RECORDED: PackageRecorded,
    MessageType.PACKAGE_SUPERSEDED: PackageSuperseded,
    MessageType.EXPORT_EXECUTED: ExportExecuted,
    MessageType.EXPORT_FAILED: ExportFailed,
    MessageType.HANDOFF_OVERDUE: HandoffOverdue,
    MessageType.HANDOFF_ANSWERED: HandoffAnswered,
    MessageType.EXPORT_CANCELLED: ExportCancelled,
    MessageType.DELIVERY_DEAD: DeliveryDead,
    MessageType.EXPORT_RECHECKED: ExportRechecked,
    MessageType.PLAN_RECHECKED: PlanRechecked,
}


#: Messages that a newer revision replaces. They must not be resent after that, because recipients would believe them.
HELD_UNTIL_SUPERSEDED: Final = (MessageType.HANDOFF_READY.value, MessageType.PACKAGE_RECORDED.value)


#: The CloudEvent type of a connection test's event.
CONNECTION_TEST: Final = "exports.connection.test.v1"


class ConnectionTested(StrictModel):
    """To the tested partner: this is a connection test. Take it and do nothing."""

    test_id: str
    partner_id: str
