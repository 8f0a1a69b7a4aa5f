"""The endpoints of a partner: which fit it, and how they and their credentials are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import delete, insert, select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.accounts.models import PartnerChannel
from pipeline.accounts.recipients import BORDERBUDDY
from pipeline.accounts.schemas import BorderBuddyEndpoint, Endpoint, QueueEndpoint
from pipeline.core.errors import ValidationFailed
from pipeline.core.outbound import format_ports, is_public
from pipeline.core.text_safety import check_readable
from pipeline.exports.models import Account

#: Where an address names no port.
_PORTS: Final = {"https": 443, "sftp": 22}

#: What of an endpoint is encrypted and never shown.
CREDENTIAL_FIELDS: Final = {"password", "private_key"}


def check_endpoints(
    settings: Settings, kind: str, path: str | None, channels: Sequence[Endpoint], *, field: str
) -> None:
    """Raise ValidationFailed where the channels do not fit the partner, or one another, or lead where nothing may go."""
    names = [channel.channel for channel in channels]
    if len(set(names)) != len(names):
        raise ValidationFailed("a channel is named twice; a partner has each channel once", field=field)
    if path is not None and kind != "customs_broker":
        raise ValidationFailed("only a customs broker has a handoff path; leave path out", field="/path")
    if "email" in names and kind == "warehouse":
        raise ValidationFailed(
            "a warehouse is told of every package, which no mailbox wants; reach it by queue, webhook or sftp",
            field=field,
        )
    if "borderbuddy" in names and path != "borderbuddy":
        raise ValidationFailed(
            "the channel borderbuddy is for customs brokers on the path borderbuddy; set path too", field=field
        )
    if names and path == "borderbuddy" and "borderbuddy" not in names:
        raise ValidationFailed("the path borderbuddy needs the channel borderbuddy", field=field)
    for position, endpoint in enumerate(channels):
        if isinstance(address := getattr(endpoint, "address", None), str):
            _check_address(settings, address, f"{field}/{position}/address")


def check_mailboxes(session: Session, account_id: str, channels: Sequence[Endpoint], *, field: str) -> None:
    """Raise ValidationFailed where a mailbox is of a domain that the account may not send mail to."""
    allowed = session.scalar(
        select(col(Account.mail_domains)).where(col(Account.id) == account_id).with_for_update(read=True)
    )
    if allowed is None:
        return
    for position, endpoint in enumerate(channels):
        for index, address in enumerate(getattr(endpoint, "addresses", ())):
            if parse_mail_domain(address) not in allowed:
                raise ValidationFailed(
                    f"this account may send mail to {', '.join(allowed) or 'no domain'}; the installation's operator adds others",
                    field=f"{field}/{position}/addresses/{index}",
                )


def parse_mail_domain(mailbox: str) -> str:
    """Return the part of a mail address that says where it is, in small letters."""
    return mailbox.rpartition("@")[2].lower()


def _check_address(settings: Settings, address: str, field: str) -> None:
    """Refuse what the address itself shows; what its name leads to is judged at every connection."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ValidationFailed("no address: what stands in brackets is no IPv6 address", field=field) from error
    try:
        check_readable(address)
    except ValueError as error:
        raise ValidationFailed(f"the address {error}", field=field) from error
    if settings.allow_private_destinations:
        return
    if parts.scheme == "http":
        raise ValidationFailed("messages hold addresses of people, so a webhook is https://", field=field)
    try:
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError as error:
        raise ValidationFailed("the port is no number from 1 to 65535", field=field) from error
    if port not in settings.destination_ports:
        raise ValidationFailed(
            f"partners are not reached at port {port}; allowed are {format_ports(settings.destination_ports)}",
            field=field,
        )
    if _is_private(parts.hostname or ""):
        raise ValidationFailed("the address leads into a private network; give one on the internet", field=field)


def _is_private(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return False  # a name: it may lead elsewhere tomorrow


def replace_endpoints(
    session: Session,
    settings: Settings,
    account_id: str,
    partner_id: str,
    channels: Sequence[Endpoint],
    default: str,
) -> None:
    """Keep these endpoints instead of those that there are, in the caller's transaction; without any, the default one.

    An endpoint to the same address keeps its credential. Raises ValidationFailed where a new one comes without.
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
                "endpoint": endpoint.model_dump(mode="json", by_alias=True, exclude=CREDENTIAL_FIELDS),
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
    """Return the endpoint's credential as it is kept: what is given, else what is there for the same address."""
    holds = CREDENTIAL_FIELDS & type(endpoint).model_fields.keys()
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
