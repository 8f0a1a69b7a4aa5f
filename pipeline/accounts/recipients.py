"""Partners as a sender sees them: who is told, by which channels, and where that leads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import and_, exists, func, or_, select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import secrets as account_secrets
from pipeline.accounts.models import Partner, PartnerChannel
from pipeline.accounts.schemas import BorderBuddyEndpoint, Endpoint, QueueEndpoint
from pipeline.accounts.states import PartnerState
from pipeline.documents.schemas.profile import BrokerProfile

QUEUE: Final = "queue"
BORDERBUDDY: Final = "borderbuddy"


def no_lease_check() -> None:
    """Find nothing in the way of a message: nobody else can have taken it."""


@dataclass(frozen=True)
class Target:
    """Whom the messages go to; `test` keeps them away from live endpoints.

    `secrets` sign what goes out, the newest first; `endpoint` is how the partner is reached, without its `credential`.
    `routing_name` is what routing keys call it where that is not its id. A channel calls `check_lease` just before a message
    leaves, once it is connected and all is ready; it raises Fenced where another worker may have the message by now.
    """

    account_id: str
    partner_id: str
    test: bool
    endpoint: Endpoint | None = None
    secrets: Sequence[str] = field(default=(), repr=False)
    credential: str | None = field(default=None, repr=False)
    routing_name: str | None = None
    check_lease: Callable[[], None] = field(default=no_lease_check, repr=False, compare=False)


#: The first word of a routing key, by who is told.
_KEY_PREFIXES: Final = {"customs_broker": "broker", "warehouse": "warehouse", "operator": "operator"}

#: Stands in routing keys for a partner that a test export must not reach.
SANDBOX: Final = "sandbox"

_ENDPOINT: Final[TypeAdapter[Endpoint]] = TypeAdapter(Endpoint)


@dataclass(frozen=True)
class Recipient:
    """A partner as a sender sees it; the first of `channels` is its primary one."""

    partner_id: str
    kind: str
    test: bool
    path: str | None
    artifact_types: frozenset[str] | None
    channels: tuple[str, ...]
    profile: BrokerProfile | None = None
    mailboxes: tuple[str, ...] = ()  # where it is reached by e-mail

    @property
    def primary_channel(self) -> str:
        """The channel whose outcome is that of the handoff."""
        if self.path == "borderbuddy" and BORDERBUDDY in self.channels:
            return BORDERBUDDY
        return self.channels[0]


def build_routing_key(account_id: str, kind: str, name: str, event: str) -> str:
    """Return the key that a message goes to the exchange with; with `#` for the event, what a queue is bound with.

    Operators read by account, whoever they are; the others by `name`, which no partner of another account has.
    """
    return f"{_KEY_PREFIXES[kind]}.{account_id if kind == 'operator' else name}.{event}"


def find_recipients(session: Session, account_id: str, partner_ids: Sequence[str]) -> dict[str, Recipient]:
    """Return those of the partners that exist, with their channels, by id; two queries."""
    where = (col(Partner.account_id) == account_id, col(Partner.id).in_(partner_ids))
    return _build_recipients(session, account_id, session.scalars(select(Partner).where(*where)).all())


def resolve_recipients(
    session: Session, account_id: str, partner_ids: Sequence[str], *, test: bool
) -> dict[str, Recipient]:
    """Return those of the partners that exist as an export reaches them: a test export has the sandbox in their place."""
    found = find_recipients(session, account_id, partner_ids)
    return {name: _to_sandbox(each) if test else each for name, each in found.items()}


def find_operators(session: Session, account_id: str) -> list[Recipient]:
    """Return the operators that the account has activated; none where it has none, and then no operator is sent anything.

    A paused one is among them: what it is owed stays owed.
    """
    rows = session.scalars(
        select(Partner)
        .where(
            col(Partner.account_id) == account_id,
            col(Partner.kind) == "operator",
            col(Partner.state).in_([PartnerState.LIVE.value, PartnerState.PAUSED.value]),
        )
        .order_by(col(Partner.id))
    ).all()
    return list(_build_recipients(session, account_id, rows).values()) if rows else []


def has_queue_recipients(session: Session) -> bool:
    """Tell whether any partner, of all accounts whose rows are seen, is told what it is told by queue."""
    of_partner = (
        col(PartnerChannel.account_id) == col(Partner.account_id),
        col(PartnerChannel.partner_id) == col(Partner.id),
    )
    has_default = and_(
        ~exists().where(*of_partner),
        or_(col(Partner.kind) != "customs_broker", func.coalesce(col(Partner.path), "") != BORDERBUDDY),
    )
    found = select(1).where(
        col(Partner.state).in_([PartnerState.LIVE.value, PartnerState.PAUSED.value]),
        or_(exists().where(*of_partner, col(PartnerChannel.channel) == QUEUE), has_default),
    )
    return session.scalar(found.limit(1)) is not None


@dataclass(frozen=True)
class SealedTarget:
    """Where to send, as it is kept: `endpoint` is none where the partner has no such endpoint, and what is secret is sealed.

    `default` is how a partner is reached that has no way at all.
    """

    account_id: str
    partner_id: str
    test: bool
    endpoint: PartnerChannel | None = None
    secrets: Sequence[str] = ()
    routing_name: str | None = None
    default: Endpoint | None = None

    @property
    def channel(self) -> str:
        """The channel of the endpoint, or of the default."""
        found = self.endpoint or self.default
        return QUEUE if found is None else found.channel

    def unseal(self, settings: Settings) -> Target:
        """Return where to send; raises SecretUnreadable where what is sealed does not open."""
        credential = None if self.endpoint is None else self.endpoint.credential

        def unsealed(text: str) -> str:
            return account_secrets.unseal_secret(settings, self.account_id, self.partner_id, text)

        return Target(
            account_id=self.account_id,
            partner_id=self.partner_id,
            test=self.test,
            endpoint=self.default if self.endpoint is None else parse_endpoint(self.endpoint),
            secrets=[unsealed(each) for each in self.secrets],
            credential=None if credential is None else unsealed(credential),
            routing_name=self.routing_name,
        )


def find_sealed_target(
    session: Session, account_id: str, partner_id: str, channel: str, *, test_export: bool
) -> SealedTarget | None:
    """Return where to send to the partner by the channel; None where nothing may be sent now.

    That is while it is paused. An older version owed messages to accounts without an operator, by the account's id: they
    are never paused. An endpoint that the partner no longer has is returned without its address, which the channel refuses.
    """
    row = session.get(Partner, (account_id, partner_id))
    if row is None:
        return SealedTarget(account_id, partner_id, test_export)
    if row.state == PartnerState.PAUSED.value:
        return None
    # A test export reaches a partner that is not marked test by nothing but the shared queue and the sandbox broker.
    if test_export and not row.test:
        return SealedTarget(account_id, SANDBOX, test=True)
    reached = session.get(PartnerChannel, (account_id, partner_id, channel))
    return _build_sealed_target(session, row, channel, reached, test=test_export or row.test)


def list_sealed_targets(session: Session, account_id: str, partner_id: str) -> list[SealedTarget]:
    """Return where every endpoint of the partner leads, the primary one first, whether or not it is paused."""
    row = session.get_one(Partner, (account_id, partner_id))
    partner_channels = session.scalars(
        select(PartnerChannel)
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id)
        .order_by(col(PartnerChannel.position))
    )
    found = [
        _build_sealed_target(session, row, partner_channel.channel, partner_channel, test=row.test)
        for partner_channel in partner_channels
    ]
    default = BorderBuddyEndpoint() if default_channel(row.kind, row.path) == BORDERBUDDY else QueueEndpoint()
    return found or [replace(_build_sealed_target(session, row, default.channel, None, test=row.test), default=default)]


def _build_sealed_target(
    session: Session, row: Partner, channel: str, endpoint: PartnerChannel | None, *, test: bool
) -> SealedTarget:
    return SealedTarget(
        account_id=row.account_id,
        partner_id=row.id,
        test=test,
        endpoint=endpoint,
        # What goes to a queue is signed by nobody: it must not wait for a secret that does not open.
        secrets=() if channel == QUEUE else account_secrets.load_sealed_secrets(session, row.account_id, row.id),
        routing_name=row.routing_name,
    )


def parse_endpoint(row: PartnerChannel) -> Endpoint:
    """Return the endpoint as it was registered, without its credential."""
    endpoint: Endpoint = _ENDPOINT.validate_python(row.endpoint)
    return endpoint


def _build_recipients(session: Session, account_id: str, rows: Sequence[Partner]) -> dict[str, Recipient]:
    channels: dict[str, list[str]] = {row.id: [] for row in rows}
    mailboxes: dict[str, tuple[str, ...]] = {}
    for partner_channel in session.scalars(
        select(PartnerChannel)
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id).in_(list(channels)))
        .order_by(col(PartnerChannel.position))
    ):
        channels[partner_channel.partner_id].append(partner_channel.channel)
        if partner_channel.channel == "email":
            mailboxes[partner_channel.partner_id] = tuple(partner_channel.endpoint["addresses"])
    return {
        row.id: Recipient(
            partner_id=row.id,
            kind=row.kind,
            test=row.test,
            path=row.path,
            artifact_types=None if row.artifact_types is None else frozenset(row.artifact_types),
            channels=tuple(channels[row.id]) or (default_channel(row.kind, row.path),),
            profile=None if row.profile is None else BrokerProfile.model_validate(row.profile),
            mailboxes=mailboxes.get(row.id, ()),
        )
        for row in rows
    }


def _to_sandbox(recipient: Recipient) -> Recipient:
    """Return who is told of a test export in the recipient's place: never a live endpoint of a partner."""
    if recipient.test:
        return recipient
    to_broker = recipient.kind == "customs_broker"
    return Recipient(
        partner_id=recipient.partner_id,
        kind=recipient.kind,
        test=False,
        path="borderbuddy" if to_broker else None,
        artifact_types=recipient.artifact_types,
        channels=(BORDERBUDDY if to_broker else QUEUE,),
        profile=recipient.profile,
    )


def default_channel(kind: str, path: str | None) -> str:
    """Return how a partner is reached for which no channel was registered."""
    return BORDERBUDDY if kind == "customs_broker" and path == "borderbuddy" else QUEUE
