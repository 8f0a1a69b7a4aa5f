"""What callers may say about partners and deliveries, and what we say back; closed, camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from pipeline.schemas.channels import Way, Ways
from pipeline.schemas.plan import Closed, PartnerId, Text
from pipeline.schemas.profiles import BrokerProfile
from pipeline.states import DeliveryState, PartnerState

PartnerKind = Literal["customs_broker", "warehouse", "operator"]
HandoffPath = Literal["borderbuddy", "byob"]


class NewPartner(Closed):
    """A partner to be registered; without channels it is reached by its kind's default."""

    id: PartnerId
    kind: PartnerKind
    name: Text
    test: bool = Field(False, description="Whether test exports may reach it")
    path: HandoffPath | None = Field(None, description="Of a customs broker: by default byob")
    artifact_types: list[str] | None = Field(None, max_length=20, description="Which documents it is told of; all")
    profile: BrokerProfile | None = Field(None, description="Of a customs broker: the file that it imports")
    channels: Ways = Field(default_factory=list)


class PartnerChanges(Closed):
    """What is to change; what is left out stays."""

    name: Text | None = None
    test: bool | None = None
    path: HandoffPath | None = None
    artifact_types: list[str] | None = Field(None, max_length=20)
    profile: BrokerProfile | None = None
    channels: Ways | None = None


class PartnerView(Closed):
    """A partner as it is registered."""

    id: str
    kind: PartnerKind
    name: str
    state: PartnerState
    test: bool
    path: HandoffPath | None
    artifact_types: list[str] | None
    profile: BrokerProfile | None
    channels: list[Way] = Field(description="Without their credentials")
    created_at: datetime
    updated_at: datetime


class CreatedPartner(PartnerView):
    """A partner just registered, with its signing secret, which is never shown again."""

    secret: str = Field(description="Standard Webhooks secret: signs what we send and what the partner answers")


class PartnerList(Closed):
    """The partners of the account, by id."""

    items: list[PartnerView]


class AttemptView(Closed):
    """One try of a delivery."""

    number: int
    outcome: str
    status: str | None
    answer: str | None = Field(description="The beginning of what the endpoint said")
    error_class: str | None
    duration_ms: int
    at: datetime


class DeliveryView(Closed):
    """A delivery: one notification to one recipient by one channel."""

    id: str
    notification_id: str = Field(description="The CloudEvent id, the same on every try and channel")
    export_id: str
    event_type: str
    audience: str
    partner_id: str
    channel: str
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    delivered_at: datetime | None
    error: str | None
    created_at: datetime
    tries: list[AttemptView] = Field(description="The newest 20")


class DeliveryPage(Closed):
    """One page of a list, newest first; `nextCursor` is null on the last."""

    items: list[DeliveryView]
    next_cursor: str | None
