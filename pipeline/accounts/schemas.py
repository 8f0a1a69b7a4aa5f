"""Requests and responses about partners and deliveries. Closed schemas, in camelCase."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from pipeline.accounts.channels import Endpoints, KnownEndpoints, PartnerKind
from pipeline.accounts.states import PartnerState
from pipeline.documents.schemas.profile import BrokerProfile, MessageProfile, OwnFile
from pipeline.exports.schemas.plan import PartnerId, ReadableText, StrictModel
from pipeline.exports.states import DeliveryState

HandoffPath = Literal["borderbuddy", "byob"]


class NewPartner(StrictModel):
    """A partner to register. Without channels it is reached by the default of its kind."""

    id: PartnerId
    kind: PartnerKind
    name: ReadableText
    test: bool = Field(False, description="Whether test exports may reach it")
    path: HandoffPath | None = Field(None, description="For a customs broker; default byob")
    artifact_types: list[str] | None = Field(
        None, max_length=20, description="Kinds of documents that it receives; default all but `truck_manifest`"
    )
    profile: BrokerProfile | None = Field(None, description="For a customs broker: its import template")
    message_profile: MessageProfile | None = Field(
        None, description="For a customs broker, instead of `profile`: its message, such as X12"
    )
    channels: Endpoints = Field(default_factory=list)
    live: bool = Field(False, description="Make it live without a connection test, if it is known to work")


class PartnerChanges(StrictModel):
    """Changes of a partner. Fields that are left out stay unchanged."""

    name: ReadableText | None = None
    test: bool | None = None
    path: HandoffPath | None = None
    artifact_types: list[str] | None = Field(None, max_length=20)
    profile: BrokerProfile | None = None
    message_profile: MessageProfile | None = Field(None, description="It replaces `profile`, and a profile replaces it")
    channels: Endpoints | None = None


#: What a stage finds that had nothing to test begins with it.
_SKIPPED: Final = "skipped: "


class StageView(StrictModel):
    """One stage of the connection test of one endpoint."""

    name: str
    passed: bool
    duration_ms: int
    found: str = Field(description="What the stage found, in one sentence")
    remedy: str | None = Field(description="What to do if it did not pass")

    @property
    def outcome(self) -> str:
        """Whether it passed, failed, or was skipped because there was nothing to test."""
        if not self.passed:
            return "failed"
        return "skipped" if self.found.startswith(_SKIPPED) else "passed"

    @property
    def result(self) -> str:
        """What it found, without the word that it was skipped."""
        return self.found.removeprefix(_SKIPPED)


class EndpointTestView(StrictModel):
    """The connection test of one endpoint. It ends with the first stage that fails."""

    channel: str
    passed: bool
    stages: list[StageView]


class ConnectionTestView(StrictModel):
    """A staged test of all endpoints of a partner."""

    id: str
    partner_id: str
    passed: bool = Field(description="Whether every stage of every endpoint passed")
    outdated: bool = Field(description="Whether the endpoints were changed after the test")
    tested_by: str = Field(description="The API key that requested it, or cli")
    tested_at: datetime = Field(description="When it began")
    endpoints: list[EndpointTestView]


class PartnerTested(ConnectionTestView):
    """A connection test that just ran, and the partner's state after it."""

    state: PartnerState


class PartnerView(StrictModel):
    """A partner as it is registered."""

    id: str
    kind: str = Field(description="`customs_broker`, `warehouse`, `operator` or `upstream`; more may be added")
    name: str
    state: PartnerState
    test: bool
    path: HandoffPath | None
    artifact_types: list[str] | None
    profile: BrokerProfile | None
    message_profile: MessageProfile | None
    channels: KnownEndpoints = Field(description="Without their credentials")
    queue_binding: str = Field(description="The binding key of a queue that holds only this partner's messages")
    last_test: ConnectionTestView | None = Field(description="Its newest connection test")
    created_at: datetime
    updated_at: datetime

    @property
    def own_file(self) -> OwnFile | None:
        """The profile of a customs broker's own file, None without one."""
        return self.profile or self.message_profile

    def list_stages(self, channel: str) -> list[StageView]:
        """Return the stages of a channel's last test; empty if it was not tested."""
        tested = () if self.last_test is None else self.last_test.endpoints
        return next((each.stages for each in tested if each.channel == channel), [])


class CreatedPartner(PartnerView):
    """A new partner with its signing secret, which is never shown again."""

    secret: str = Field(description="Standard Webhooks secret: signs our messages and the partner's answers")


class SecretRotation(StrictModel):
    """How to replace the signing secret."""

    overlap_hours: int = Field(
        24, ge=0, le=168, description="How long the older secrets stay valid; 0 ends a leaked secret at once"
    )


class RotatedSecret(StrictModel):
    """A new signing secret, which is never shown again."""

    partner_id: str
    secret: str = Field(description="Signs our messages from now on; the older ones also sign until they end")
    previous_ends_at: datetime = Field(description="When the older secrets end")


class NewPortalLink(StrictModel):
    """A portal link to create."""

    days: int = Field(7, ge=1, le=90, description="How long the link works")


class PortalLinkView(StrictModel):
    """A link by which a partner opens its portal, without the token."""

    id: str
    partner_id: str
    created_by: str = Field(description="The API key that created it, or cli")
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="Accurate to a minute")

    def is_valid(self, now: datetime) -> bool:
        """Return whether it still opens the portal."""
        return self.revoked_at is None and self.expires_at > now


class CreatedPortalLink(PortalLinkView):
    """A new portal link with its URL, which is never shown again."""

    url: str = Field(description="Opens the portal of this partner: anyone who has it can act as the partner")


class PortalLinkList(StrictModel):
    """The newest 100 portal links of a partner, newest first, including ended ones."""

    items: list[PortalLinkView]


class PartnerList(StrictModel):
    """One page of the account's partners, ordered by id. `nextCursor` is null on the last page."""

    items: list[PartnerView]
    next_cursor: str | None


class AttemptView(StrictModel):
    """One attempt of a delivery."""

    number: int
    outcome: str
    status: str | None
    answer: str | None = Field(description="The beginning of the endpoint's answer")
    error_class: str | None
    duration_ms: int
    at: datetime


class DeliveryView(StrictModel):
    """A delivery: one notification to one recipient over one channel."""

    id: str
    notification_id: str = Field(description="The CloudEvent id, the same on every attempt and channel")
    export_id: str = Field(description="Empty if the message is about a registered plan")
    plan_id: str | None = Field(None, description="The plan of a message about a registered plan")
    batch_id: str
    event_type: str
    audience: str
    partner_id: str
    channel: str
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    delivered_at: datetime | None
    error: str | None = Field(description="Why the last attempt failed")
    remedy: str | None = Field(None, description="What to do about the error; do it before resending a dead delivery")
    created_at: datetime
    tries: list[AttemptView] = Field(description="The newest 20")


def name_subject(export_id: str, plan_id: str | None) -> str:
    """Return what a message is about, an export or a registered plan, as errors and lists name it."""
    return f"export {export_id}" if plan_id is None else f"plan {plan_id}"


class DeliveryPage(StrictModel):
    """One page of a list, newest first. `nextCursor` is null on the last page."""

    items: list[DeliveryView]
    next_cursor: str | None


#: The base64 of the largest logo, with a margin: a longer one is refused with its size.
_LONGEST_LOGO: Final = 720_000


class OwnKey(StrictModel):
    """The key of a request: what it may do, and until when."""

    account_id: str
    account_name: str
    key_id: str = Field(description="The part of the key that is not secret, as lists and the audit trail show it")
    name: str = Field(description="What the key is for")
    mode: Literal["live", "test"] = Field(description="A test key reaches no live endpoint")
    roles: list[str] = Field(
        description="execute, read, operate, admin, or partner:ID for answers of that partner; admin has all but the last"
    )
    created_at: datetime
    expires_at: datetime | None = Field(description="Null if the key does not expire")


class PrintSettingsChanges(StrictModel):
    """Changed settings for the documents that new exports print; what is left out stays."""

    languages: list[Literal["en", "fr"]] | None = Field(
        None, min_length=1, max_length=2, description="en, or en and fr for French beside English"
    )
    logo: str | None = Field(
        None,
        max_length=_LONGEST_LOGO,
        description="A PNG or a JPEG in base64, of at most 512 KB and 4,096 pixels a side; null removes the logo",
    )


class LogoView(StrictModel):
    """The logo as it is printed: drawn small, without metadata and transparency."""

    sha256: str
    width: int = Field(description="In pixels")
    height: int = Field(description="In pixels")
    picture: str = Field(description="A PNG in base64")


class PrintSettingsView(StrictModel):
    """The settings for the documents that new exports print; an export keeps those of its acceptance."""

    languages: list[Literal["en", "fr"]]
    logo: LogoView | None


#: The longest lead: 30 days.
MAX_LEAD_MINUTES: Final = 43_200
LeadMinutes = Annotated[int, Field(ge=0, le=MAX_LEAD_MINUTES)]


class ModeLeads(StrictModel):
    """How many minutes before the arrival each status is due; null: as the installation's settings say."""

    received_minutes: LeadMinutes | None = Field(None, description="The customs broker can read the handoff")
    answered_minutes: LeadMinutes | None = Field(None, description="The customs broker answers it")
    filed_minutes: LeadMinutes | None = Field(None, description="The entry is filed")
    released_minutes: LeadMinutes | None = Field(None, description="Customs releases or holds")


class LeadChanges(StrictModel):
    """New leads by mode of transport. A mode that is left out stays; a named one has these leads alone, and with null none."""

    truck: ModeLeads | None = None
    rail: ModeLeads | None = None
    air: ModeLeads | None = None
    vessel: ModeLeads | None = None
    mail: ModeLeads | None = None
    other: ModeLeads | None = None


class OwnLeads(StrictModel):
    """The account's own minutes before the arrival; null: as the installation's settings say."""

    received_minutes: int | None
    answered_minutes: int | None
    filed_minutes: int | None
    released_minutes: int | None


class LeadsView(StrictModel):
    """The account's own leads by mode of transport: a deadline has them from the next status on."""

    truck: OwnLeads
    rail: OwnLeads
    air: OwnLeads
    vessel: OwnLeads
    mail: OwnLeads
    other: OwnLeads
