"""The endpoints of a partner: validation and storage, with encrypted credentials."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import delete, insert, select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.accounts.channels import (
    CHANNEL_KINDS,
    CHANNELS,
    BorderBuddyEndpoint,
    ChannelKind,
    Endpoint,
    QueueEndpoint,
    is_credential,
)
from pipeline.accounts.domains import MAIL, check_domain
from pipeline.accounts.models import PartnerChannel
from pipeline.accounts.recipients import BORDERBUDDY
from pipeline.core.errors import ValidationFailed
from pipeline.core.outbound import format_ports, is_public
from pipeline.core.text_safety import check_readable
from pipeline.exports.models import Account

#: The fields of an endpoint that are encrypted and never shown.
_CREDENTIALS: Final = {
    name for kind in CHANNEL_KINDS.values() for name, info in kind.schema.model_fields.items() if is_credential(info)
}


def check_endpoints(
    settings: Settings, kind: str, path: str | None, channels: Sequence[Endpoint], *, field: str
) -> None:
    """Raise ValidationFailed if a channel is repeated, does not fit the partner, or has a forbidden address."""
    names = [channel.channel for channel in channels]
    if len(set(names)) != len(names):
        raise ValidationFailed("a channel is repeated; give each channel once", field=field)
    if path is not None and kind != "customs_broker":
        raise ValidationFailed("only a customs broker has a handoff path; leave path out", field="/path")
    if "borderbuddy" in names and path != "borderbuddy":
        raise ValidationFailed(
            "channel borderbuddy is only for customs brokers on path borderbuddy; set path too", field=field
        )
    if names and path == "borderbuddy" and "borderbuddy" not in names:
        raise ValidationFailed("path borderbuddy needs channel borderbuddy; add it", field=field)
    for name in names:
        _check_partner_kind(CHANNEL_KINDS[name], kind, field)
    for position, endpoint in enumerate(channels):
        if isinstance(address := getattr(endpoint, "address", None), str):
            _check_address(settings, CHANNEL_KINDS[endpoint.channel], address, f"{field}/{position}/address")


def _check_partner_kind(channel: ChannelKind, kind: str, field: str) -> None:
    if kind in channel.partner_kinds:
        return
    others = [name for name in CHANNELS if kind in CHANNEL_KINDS[name].partner_kinds]
    reason = f" ({channel.why_not})" if channel.why_not else ""
    raise ValidationFailed(
        f"channel {channel.name} is not supported for {kind.replace('_', ' ')}s{reason}; use {', '.join(others[:-1])} or {others[-1]}",
        field=field,
    )


def check_mailboxes(session: Session, account_id: str, channels: Sequence[Endpoint], *, field: str) -> None:
    """Raise ValidationFailed if the account may not send mail to the domain of a mailbox."""
    allowed = session.scalar(
        select(col(Account.mail_domains)).where(col(Account.id) == account_id).with_for_update(read=True)
    )
    for position, endpoint in enumerate(channels):
        for index, address in enumerate(getattr(endpoint, "addresses", ())):
            check_domain(MAIL, allowed, address, field=f"{field}/{position}/addresses/{index}")


def _check_address(settings: Settings, channel: ChannelKind, address: str, field: str) -> None:
    """Check the address itself. The addresses behind its host name are checked at every connection."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ValidationFailed(
            "the address has brackets around text that is not an IPv6 address; correct it", field=field
        ) from error
    try:
        check_readable(address)
    except ValueError as error:
        raise ValidationFailed(f"the address {error}", field=field) from error
    if settings.allow_private_destinations:
        return
    if parts.scheme == "http":
        raise ValidationFailed("a webhook must be https://, because messages hold personal data", field=field)
    try:
        port = channel.ports.get(parts.scheme) if parts.port is None else parts.port
    except ValueError as error:
        raise ValidationFailed("the port must be a number from 1 to 65535", field=field) from error
    if port is None:
        raise ValidationFailed(
            f"the address has no port, and channel {channel.name} has no default one for it; add the port", field=field
        )
    if port not in settings.destination_ports:
        raise ValidationFailed(
            f"port {port} is not allowed; use one of {format_ports(settings.destination_ports)}", field=field
        )
    if _is_private(parts.hostname or ""):
        raise ValidationFailed("the address is in a private network; give a public one", field=field)


def _is_private(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return False  # a host name: it may resolve to another address later


def replace_endpoints(
    session: Session, settings: Settings, account_id: str, partner_id: str, channels: Sequence[Endpoint], default: str
) -> None:
    """Replace the partner's endpoints by these, in the caller's transaction. An empty list means the default endpoint.

    An endpoint with the same address keeps its credential. Raises ValidationFailed if a new address has no credential.
    """
    before = session.scalars(
        delete(PartnerChannel)
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id)
        .returning(PartnerChannel)
    ).all()
    kept = {each.channel: each for each in before}
    given = channels or [BorderBuddyEndpoint() if default == BORDERBUDDY else QueueEndpoint()]
    session.execute(
        insert(PartnerChannel),
        [
            {
                "account_id": account_id,
                "partner_id": partner_id,
                "channel": endpoint.channel,
                "endpoint": endpoint.model_dump(mode="json", by_alias=True, exclude=_CREDENTIALS),
                "credential": _seal_credential(settings, account_id, partner_id, endpoint, kept, position),
                "position": position,
            }
            for position, endpoint in enumerate(given)
        ],
    )


def _seal_credential(
    settings: Settings,
    account_id: str,
    partner_id: str,
    endpoint: Endpoint,
    before: Mapping[str, PartnerChannel],
    position: int,
) -> str | None:
    """Return the encrypted credential: the given one, else the stored one if the address is the same."""
    holds = _CREDENTIALS & type(endpoint).model_fields.keys()
    if not holds:
        return None
    given = next((secret for name in holds if (secret := getattr(endpoint, name)) is not None), None)
    if given is not None:
        return secrets.seal_secret(settings, account_id, partner_id, given.get_secret_value())
    known = before.get(endpoint.channel)
    if known is not None and known.endpoint.get("address") == getattr(endpoint, "address", None):
        return known.credential
    raise ValidationFailed(
        "a new address needs its own credential; give password or privateKey", field=f"/channels/{position}"
    )
