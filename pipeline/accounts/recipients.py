"""Partners as a sender sees them: recipients, their channels, and the targets of messages."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, FromClause, Row, and_, bindparam, exists, func, or_, select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import secrets as account_secrets
from pipeline.accounts.channels import BorderBuddyEndpoint, Endpoint, QueueEndpoint
from pipeline.accounts.models import Partner, PartnerChannel
from pipeline.accounts.states import PartnerState
from pipeline.core.db import table
from pipeline.documents.schemas.profile import OwnFile, read_own_file

QUEUE: Final = "queue"
BORDERBUDDY: Final = "borderbuddy"


def no_lease_check() -> None:
    """Do nothing, for senders without a lease: no other worker can have taken the message."""


@dataclass(frozen=True)
class Target:
    """Where messages go. `test` keeps them away from live endpoints.

    `secrets` sign the messages, the newest first. `endpoint` says how the partner is reached, without its `credential`.
    `routing_name` is the partner's name in routing keys, None if that is its id. Links in its e-mails say how often they
    were revoked before, by `reply_links_revoked`. A channel calls `check_lease` when it
    is connected, just before a message is sent. It raises Fenced if another worker may have the message.
    """

    account_id: str
    partner_id: str
    test: bool
    endpoint: Endpoint | None = None
    secrets: Sequence[str] = field(default=(), repr=False)
    credential: str | None = field(default=None, repr=False)
    routing_name: str | None = None
    reply_links_revoked: int = 0
    check_lease: Callable[[], None] = field(default=no_lease_check, repr=False, compare=False)


#: The first word of a routing key, by kind of partner.
_KEY_PREFIXES: Final = {
    "customs_broker": "broker",
    "warehouse": "warehouse",
    "operator": "operator",
    "upstream": "upstream",
}

#: Replaces, in routing keys, a partner that a test export must not reach.
SANDBOX: Final = "sandbox"

_ENDPOINT: Final[TypeAdapter[Endpoint]] = TypeAdapter(Endpoint)


@dataclass(frozen=True)
class Recipient:
    """A partner as a sender sees it. The first of `channels` is the primary one."""

    partner_id: str
    kind: str
    test: bool
    path: str | None
    artifact_types: frozenset[str] | None
    channels: tuple[str, ...]
    profile: OwnFile | None = None
    mailboxes: tuple[str, ...] = ()  # its e-mail addresses
    row: Row[Any] | None = field(default=None, repr=False, compare=False)  # of its queue, else of another channel

    @property
    def primary_channel(self) -> str:
        """The channel whose outcome is the outcome of the handoff."""
        if self.path == "borderbuddy" and BORDERBUDDY in self.channels:
            return BORDERBUDDY
        return self.channels[0]


_partners, _channels = table(Partner).c, table(PartnerChannel).c
_of_partner = and_(_channels.account_id == _partners.account_id, _channels.partner_id == _partners.id)

#: The columns that `resolve_target` reads, of a partner and one of its channels.
TARGET_COLUMNS: Final = (
    _partners.id.label("partner_id"),
    _partners.state.label("partner_state"),
    _partners.test.label("partner_test"),
    _partners.routing_name,
    _partners.reply_links_revoked,
    _channels.endpoint,
    _channels.credential,
    _channels.failures,
)
_RECIPIENTS: Final = (
    select(
        _partners.kind, _partners.path, _partners.artifact_types, _partners.profile, _channels.channel, *TARGET_COLUMNS
    )
    .outerjoin_from(table(Partner), table(PartnerChannel), _of_partner)
    .where(_partners.account_id == bindparam("of_account"))
    .order_by(_partners.id, _channels.position)
)
_is_named = _partners.id.in_(bindparam("ids", expanding=True))
_is_operator = and_(
    _partners.kind == "operator", _partners.state.in_([PartnerState.LIVE.value, PartnerState.PAUSED.value])
)
_FIND_RECIPIENTS: Final = _RECIPIENTS.where(_is_named)
_FIND_OPERATORS: Final = _RECIPIENTS.where(_is_operator)
_FIND_BOTH: Final = _RECIPIENTS.where(or_(_is_named, _is_operator))
_is_channel = and_(_of_partner, _channels.channel == bindparam("of_channel"))


def join_target(source: FromClause, account_id: ColumnElement[str]) -> FromClause:
    """Return `source` joined with the partner `of_partner` of `account_id` and its channel `of_channel`, if they exist."""
    is_partner = and_(_partners.account_id == account_id, _partners.id == bindparam("of_partner"))
    return source.outerjoin(table(Partner), is_partner).outerjoin(table(PartnerChannel), _is_channel)


_FIND_TARGET: Final = (
    select(*TARGET_COLUMNS)
    .outerjoin_from(table(Partner), table(PartnerChannel), _is_channel)
    .where(_partners.account_id == bindparam("of_account"), _partners.id == bindparam("of_partner"))
)


def build_routing_key(account_id: str, kind: str, name: str, event: str) -> str:
    """Return the routing key of a message. With `#` as event, return the binding key of a queue.

    Operators share the account's key. Other partners use `name`, which is unique over all accounts.
    """
    return f"{_KEY_PREFIXES[kind]}.{account_id if kind == 'operator' else name}.{event}"


def find_recipients(session: Session, account_id: str, partner_ids: Sequence[str]) -> dict[str, Recipient]:
    """Return the partners that exist, with their channels, by id."""
    rows = session.execute(_FIND_RECIPIENTS, {"of_account": account_id, "ids": list(partner_ids)})
    return _build_recipients(rows)


def resolve_recipients(
    session: Session, account_id: str, partner_ids: Sequence[str], *, test: bool
) -> dict[str, Recipient]:
    """Return the recipients of an export, by id. For a test export, the sandbox replaces partners not marked test."""
    return _resolve_test(find_recipients(session, account_id, partner_ids), test=test)


def find_operators(session: Session, account_id: str) -> list[Recipient]:
    """Return the account's live and paused operators. If there are none, no operator is sent anything.

    Pending messages of a paused operator are kept.
    """
    return list(_build_recipients(session.execute(_FIND_OPERATORS, {"of_account": account_id})).values())


def find_audiences(
    session: Session, account_id: str, partner_ids: Sequence[str], *, test: bool
) -> tuple[dict[str, Recipient], list[Recipient]]:
    """Return the results of `resolve_recipients` and `find_operators`; `partner_ids` names no operator."""
    rows = session.execute(_FIND_BOTH, {"of_account": account_id, "ids": list(partner_ids)})
    found = _build_recipients(rows)
    named = {name: each for name, each in found.items() if name in partner_ids}
    return _resolve_test(named, test=test), [each for name, each in found.items() if name not in partner_ids]


def has_queue_recipients(session: Session) -> bool:
    """Return whether any live or paused partner, of all visible accounts, receives by queue."""
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
class SealedEndpoint:
    """A partner's endpoint as it was registered. Its credential is encrypted."""

    channel: str
    endpoint: Mapping[str, Any]
    credential: str | None = None

    def parse(self) -> Endpoint:
        """Return the endpoint without its credential."""
        endpoint: Endpoint = _ENDPOINT.validate_python(self.endpoint)
        return endpoint


@dataclass(frozen=True)
class SealedTarget:
    """Where to send, with encrypted secrets. `endpoint` is None if the partner does not have that endpoint.

    `default` is how a partner is reached that has no endpoint.
    """

    account_id: str
    partner_id: str
    test: bool
    endpoint: SealedEndpoint | None = None
    secrets: Sequence[str] = ()
    routing_name: str | None = None
    reply_links_revoked: int = 0
    default: Endpoint | None = None
    failures: int = 0  # attempts that failed in a row

    @property
    def channel(self) -> str:
        """The channel of the endpoint or the default."""
        found = self.endpoint or self.default
        return QUEUE if found is None else found.channel

    def unseal(self, settings: Settings) -> Target:
        """Return the target with decrypted secrets. Raises SecretUnreadable if a secret cannot be decrypted."""
        credential = None if self.endpoint is None else self.endpoint.credential

        def unsealed(text: str) -> str:
            return account_secrets.unseal_secret(settings, self.account_id, self.partner_id, text)

        return Target(
            account_id=self.account_id,
            partner_id=self.partner_id,
            test=self.test,
            endpoint=self.default if self.endpoint is None else self.endpoint.parse(),
            secrets=[unsealed(each) for each in self.secrets],
            credential=None if credential is None else unsealed(credential),
            routing_name=self.routing_name,
            reply_links_revoked=self.reply_links_revoked,
        )


def find_sealed_target(
    session: Session, account_id: str, partner_id: str, channel: str, *, test_export: bool
) -> SealedTarget | None:
    """Return where to send to the partner by the channel. Return None if it is paused.

    Databases may hold deliveries to the account's own id: they are never paused. If the partner no longer has the
    endpoint, the result has no address, and the channel refuses it.
    """
    row = session.execute(
        _FIND_TARGET, {"of_account": account_id, "of_partner": partner_id, "of_channel": channel}
    ).first()
    return resolve_target(session, row, account_id, partner_id, channel, test_export=test_export)


def resolve_target(
    session: Session, row: Row[Any] | None, account_id: str, partner_id: str, channel: str, *, test_export: bool
) -> SealedTarget | None:
    """Return what `find_sealed_target` returns, from a row with TARGET_COLUMNS."""
    if row is None or row.partner_id is None:
        return SealedTarget(account_id, partner_id, test_export)
    if row.partner_state == PartnerState.PAUSED.value:
        return None
    # A test export reaches a partner not marked test only by the shared queue and the sandbox broker.
    if test_export and not row.partner_test:
        return SealedTarget(account_id, SANDBOX, test=True)
    reached = None if row.endpoint is None else SealedEndpoint(channel, row.endpoint, row.credential)
    test = test_export or row.partner_test
    target = SealedTarget(
        account_id,
        partner_id,
        test,
        endpoint=reached,
        routing_name=row.routing_name,
        reply_links_revoked=row.reply_links_revoked,
        failures=row.failures or 0,
    )
    return _add_secrets(session, target, channel)


def list_sealed_targets(session: Session, account_id: str, partner_id: str) -> list[SealedTarget]:
    """Return the target of each endpoint of the partner, primary first, even if the partner is paused."""
    row = session.get_one(Partner, (account_id, partner_id))
    partner_channels = session.scalars(
        select(PartnerChannel)
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id)
        .order_by(col(PartnerChannel.position))
    )
    target = SealedTarget(account_id, partner_id, row.test, routing_name=row.routing_name)
    found = [
        replace(target, endpoint=SealedEndpoint(each.channel, each.endpoint, each.credential))
        for each in partner_channels
    ]
    default = BorderBuddyEndpoint() if default_channel(row.kind, row.path) == BORDERBUDDY else QueueEndpoint()
    return [_add_secrets(session, each, each.channel) for each in found or [replace(target, default=default)]]


def _add_secrets(session: Session, target: SealedTarget, channel: str) -> SealedTarget:
    # Queue messages are not signed, so an unreadable secret must not stop them.
    if channel == QUEUE:
        return target
    sealed = account_secrets.load_sealed_secrets(session, target.account_id, target.partner_id)
    return replace(target, secrets=sealed)


def _build_recipients(rows: Iterable[Row[Any]]) -> dict[str, Recipient]:
    """Return the recipients by id. Each row has a partner and one of its endpoints, in their order."""
    partners: dict[str, Row[Any]] = {}  # the row of its queue, else of another channel
    channels: dict[str, list[str]] = defaultdict(list)
    mailboxes: dict[str, tuple[str, ...]] = {}
    for row in rows:
        partner_id = row.partner_id
        if partner_id not in partners or row.channel == QUEUE:
            partners[partner_id] = row
        if row.channel is not None:
            channels[partner_id].append(row.channel)
        if row.channel == "email":
            mailboxes[partner_id] = tuple(row.endpoint["addresses"])
    return {
        partner_id: Recipient(
            partner_id=partner_id,
            kind=row.kind,
            test=row.partner_test,
            path=row.path,
            artifact_types=None if row.artifact_types is None else frozenset(row.artifact_types),
            channels=tuple(channels[partner_id]) or (default_channel(row.kind, row.path),),
            profile=None if row.profile is None else read_own_file(row.profile),
            mailboxes=mailboxes.get(partner_id, ()),
            row=row,
        )
        for partner_id, row in partners.items()
    }


def _resolve_test(found: Mapping[str, Recipient], *, test: bool) -> dict[str, Recipient]:
    return {name: _to_sandbox(each) if test else each for name, each in found.items()}


def _to_sandbox(recipient: Recipient) -> Recipient:
    """Return the recipient of a test export: a test partner itself, else the sandbox in place of the partner."""
    if recipient.test:
        return recipient
    to_broker = recipient.kind == "customs_broker"
    return replace(
        recipient,
        path="borderbuddy" if to_broker else None,
        channels=(BORDERBUDDY if to_broker else QUEUE,),
        mailboxes=(),
    )


def default_channel(kind: str, path: str | None) -> str:
    """Return the channel of a partner that has registered none."""
    return BORDERBUDDY if kind == "customs_broker" and path == "borderbuddy" else QUEUE
