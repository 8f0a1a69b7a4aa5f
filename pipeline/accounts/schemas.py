"""What callers may say about partners and deliveries, and what we say back; closed, camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, SecretStr, StringConstraints, model_validator

from pipeline.accounts.states import PartnerState
from pipeline.documents.schemas.profile import BrokerProfile
from pipeline.exports.schemas.plan import PartnerId, ReadableText, StrictModel
from pipeline.exports.states import DeliveryState

Url = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s@/?#]+([/?][^\s#]*)?$")]
Mailbox = Annotated[
    str,
    StringConstraints(
        max_length=254, pattern=r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$"
    ),
]
SftpUrl = Annotated[
    str,
    StringConstraints(
        max_length=500,
        pattern=r"^sftp://[A-Za-z0-9._-]{1,64}@(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$",
    ),
]
HostKey = Annotated[
    str,
    StringConstraints(
        max_length=1000,
        pattern=r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|rsa-sha2-(256|512)|ssh-rsa) [A-Za-z0-9+/=]+( .*)?$",
    ),
]


class QueueEndpoint(StrictModel):
    """The queues of the contract; nothing to set."""

    channel: Literal["queue"] = "queue"


class WebhookEndpoint(StrictModel):
    """Signed webhooks (Standard Webhooks) to one URL."""

    channel: Literal["webhook"] = "webhook"
    address: Url = Field(description="Where messages are posted")


class EmailEndpoint(StrictModel):
    """E-mail with the documents attached, or linked where they are large; for customs brokers and operators."""

    channel: Literal["email"] = "email"
    addresses: list[Mailbox] = Field(min_length=1, max_length=10, description="Who gets each message, all on one mail")


class SftpEndpoint(StrictModel):
    """Files on the partner's SFTP server; its host key is pinned and one credential signs us in."""

    channel: Literal["sftp"] = "sftp"
    address: SftpUrl = Field(description="Such as sftp://user@host:22/folder; the folder holds out/ and in/")
    host_keys: list[HostKey] = Field(
        min_length=1, max_length=4, description="Public host keys in OpenSSH form; two while the server changes its own"
    )
    password: SecretStr | None = Field(None, max_length=1000, description="Kept encrypted; never shown")
    private_key: SecretStr | None = Field(
        None, max_length=10_000, description="OpenSSH or PEM, without a passphrase; kept encrypted; never shown"
    )

    @model_validator(mode="after")
    def _one_credential(self) -> SftpEndpoint:
        if self.password is not None and self.private_key is not None:
            raise ValueError("give a password or a private key, not both")
        return self


class BorderBuddyEndpoint(StrictModel):
    """Handoffs over HTTPS in our own published contract; the endpoint is the installation's."""

    channel: Literal["borderbuddy"] = "borderbuddy"


#: One row a channel; each is opened by the file of its name in pipeline/deliveries/channels.
_AnyEndpoint = QueueEndpoint | WebhookEndpoint | EmailEndpoint | SftpEndpoint | BorderBuddyEndpoint

Endpoint = Annotated[_AnyEndpoint, Field(discriminator="channel")]
Endpoints = Annotated[
    list[Endpoint], Field(max_length=5, description="The first is the primary one: its outcome is the handoff's")
]

#: The names of the channels.
CHANNELS: Final[tuple[str, ...]] = tuple(
    endpoint.model_fields["channel"].default for endpoint in get_args(_AnyEndpoint)
)

PartnerKind = Literal["customs_broker", "warehouse", "operator"]
HandoffPath = Literal["borderbuddy", "byob"]


class NewPartner(StrictModel):
    """A partner to be registered; without channels it is reached by its kind's default."""

    id: PartnerId
    kind: PartnerKind
    name: ReadableText
    test: bool = Field(False, description="Whether test exports may reach it")
    path: HandoffPath | None = Field(None, description="Of a customs broker: by default byob")
    artifact_types: list[str] | None = Field(None, max_length=20, description="Which documents it is told of; all")
    profile: BrokerProfile | None = Field(None, description="Of a customs broker: the file that it imports")
    channels: Endpoints = Field(default_factory=list)
    live: bool = Field(False, description="It is known to work: live exports reach it without a connection test")


class PartnerChanges(StrictModel):
    """What is to change; what is left out stays."""

    name: ReadableText | None = None
    test: bool | None = None
    path: HandoffPath | None = None
    artifact_types: list[str] | None = Field(None, max_length=20)
    profile: BrokerProfile | None = None
    channels: Endpoints | None = None


class StageView(StrictModel):
    """One stage of the connection test of one endpoint."""

    name: str
    passed: bool
    duration_ms: int
    found: str = Field(description="What there was to see, as one sentence")
    remedy: str | None = Field(description="What to do where it did not pass")


class EndpointTestView(StrictModel):
    """How one endpoint of a partner passed its connection test; nothing follows a stage that did not pass."""

    channel: str
    passed: bool
    stages: list[StageView]


class ConnectionTestView(StrictModel):
    """A staged test of every endpoint of a partner."""

    id: str
    partner_id: str
    passed: bool = Field(description="Whether every stage of every endpoint passed")
    outdated: bool = Field(description="Whether an endpoint was changed after it, so that it says nothing of today's")
    tested_by: str = Field(description="The key that asked for it, or cli")
    tested_at: datetime = Field(description="When it began")
    endpoints: list[EndpointTestView]


class PartnerTested(ConnectionTestView):
    """A connection test just made, and where the partner stands by it."""

    state: PartnerState


class PartnerView(StrictModel):
    """A partner as it is registered."""

    id: str
    kind: PartnerKind
    name: str
    state: PartnerState
    test: bool
    path: HandoffPath | None
    artifact_types: list[str] | None
    profile: BrokerProfile | None
    channels: list[Endpoint] = Field(description="Without their credentials")
    queue_binding: str = Field(
        description="What a queue of its own is bound with, so that it holds this partner's messages alone"
    )
    last_test: ConnectionTestView | None = Field(description="Its newest connection test")
    created_at: datetime
    updated_at: datetime


class CreatedPartner(PartnerView):
    """A partner just registered, with its signing secret, which is never shown again."""

    secret: str = Field(description="Standard Webhooks secret: signs what we send and what the partner answers")


class SecretRotation(StrictModel):
    """How a new signing secret takes the place of the one that there is."""

    overlap_hours: int = Field(
        24, ge=0, le=168, description="How long the older secrets still count; 0 ends one that has leaked at once"
    )


class RotatedSecret(StrictModel):
    """A new signing secret, which is never shown again."""

    partner_id: str
    secret: str = Field(description="Signs what we send from now on; until then the older ones sign it as well")
    previous_ends_at: datetime = Field(description="When the older secrets cease to count")


class PartnerList(StrictModel):
    """The partners of the account, by id."""

    items: list[PartnerView]


class AttemptView(StrictModel):
    """One try of a delivery."""

    number: int
    outcome: str
    status: str | None
    answer: str | None = Field(description="The beginning of what the endpoint said")
    error_class: str | None
    duration_ms: int
    at: datetime


class DeliveryView(StrictModel):
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
    error: str | None = Field(description="Why it was not taken at the last try")
    remedy: str | None = Field(None, description="What to do about that, before it is resent where it is dead")
    created_at: datetime
    tries: list[AttemptView] = Field(description="The newest 20")


class DeliveryPage(StrictModel):
    """One page of a list, newest first; `nextCursor` is null on the last."""

    items: list[DeliveryView]
    next_cursor: str | None
