"""One message over all of its channels, as it is shown; closed, camelCase."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from pipeline.accounts.schemas import DeliveryView
from pipeline.deliveries.schemas.cloudevent import CloudEventEnvelope
from pipeline.deliveries.schemas.sandbox import SandboxHandoffView
from pipeline.exports.schemas.export import BrokerSubmissionView
from pipeline.exports.schemas.plan import Closed


class NotificationTrace(Closed):
    """What became of one message: to whom it went by which channel, each try, and what came back."""

    id: str = Field(description="The CloudEvent id, the same on every try and channel")
    event_type: str
    audience: str
    export_id: str
    batch_id: str
    revision: int
    test: bool
    created_at: datetime
    event: CloudEventEnvelope = Field(description="What is said, as every channel carries it")
    deliveries: list[DeliveryView] = Field(description="By recipient and channel, each with its newest 200 tries")
    sandbox: SandboxHandoffView | None = Field(
        description="What the built-in sandbox broker made of it; null where it received none"
    )
    broker_submission: BrokerSubmissionView | None = Field(
        description="Of a handoff: the submission that it is, and the customs broker's answers"
    )
