"""Partners of an account: customs brokers, warehouses and operators, and the ways to reach each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from config.settings import Settings
from pipeline import signing
from pipeline.channels.channel import ChannelName
from pipeline.db import database_now
from pipeline.documents import profile as profiles
from pipeline.documents.kinds import ARTIFACT_TYPES
from pipeline.errors import InvalidState, NotFound, ValidationFailed
from pipeline.models import Delivery, Partner, PartnerChannel
from pipeline.recipients import SANDBOX, default_way
from pipeline.runtime import Runtime
from pipeline.schemas.channels import BorderBuddyWay, QueueWay, SftpWay, Way
from pipeline.schemas.partners import (
    CreatedPartner,
    NewPartner,
    PartnerChanges,
    PartnerView,
)
from pipeline.schemas.plan import as_json
from pipeline.schemas.problems import Issue
from pipeline.schemas.profiles import BrokerProfile
from pipeline.schemas.reading import failed
from pipeline.states import DeliveryState, PartnerState

#: What of a change has another name in the table, and what may be taken away by saying null.
_COLUMNS = {"artifactTypes": "artifact_types"}
_EMPTIED = frozenset({"artifactTypes", "profile"})

#: What of a way is encrypted and never shown.
CREDENTIALS: Final = {"password", "private_key"}


def create(runtime: Runtime, account_id: str, new: NewPartner) -> CreatedPartner:
    """Register a partner and return it with its signing secret, which is shown this once.

    Raises ValidationFailed where the id is taken or the channels do not fit the partner.
    """
    _check(new.kind, new.path, new.channels, field="/channels")
    _check_documents(new.kind, new.artifact_types, new.profile)
    if new.id in (account_id, SANDBOX):
        raise ValidationFailed(f"{new.id} names something else already; choose another id", field="/id")
    secret = signing.new_secret()
    try:
        with runtime.db.write() as session:
            session.execute(
                insert(Partner).values(
                    account_id=account_id,
                    id=new.id,
                    kind=new.kind,
                    name=new.name,
                    state=PartnerState.LIVE.value,
                    test=new.test,
                    path=(new.path or "byob") if new.kind == "customs_broker" else None,
                    artifact_types=new.artifact_types,
                    profile=None if new.profile is None else as_json(new.profile),
                )
            )
            signing.keep(session, runtime.settings, account_id, new.id, secret)
            _write_ways(
                session, runtime.settings, account_id, new.id, new.channels or [_default(new.kind, new.path)], {}
            )
            view = _view(session, account_id, new.id)
    except IntegrityError as error:
        raise ValidationFailed(f"there is a partner {new.id} already; choose another id", field="/id") from error
    return CreatedPartner(**dict(view), secret=secret)


def listed(runtime: Runtime, account_id: str) -> list[PartnerView]:
    """Return the account's partners, by id."""
    with runtime.db.read() as session:
        rows = session.scalars(select(Partner).where(col(Partner.account_id) == account_id).order_by(col(Partner.id)))
        channels = session.scalars(
            select(PartnerChannel)
            .where(col(PartnerChannel.account_id) == account_id)
            .order_by(col(PartnerChannel.position))
        ).all()
        return [_shown(row, [way for way in channels if way.partner_id == row.id]) for row in rows]


def get(runtime: Runtime, account_id: str, partner_id: str) -> PartnerView:
    """Return one partner; raises NotFound."""
    with runtime.db.read() as session:
        return _view(session, account_id, partner_id)


def change(runtime: Runtime, account_id: str, partner_id: str, changes: PartnerChanges) -> PartnerView:
    """Change what `changes` name; the signing secret stays.

    Raises NotFound, and ValidationFailed where the channels do not fit the partner.
    """
    with runtime.db.write() as session:
        row = _locked(session, account_id, partner_id)
        path = changes.path or row.path
        if changes.channels is not None:
            _check(row.kind, path, changes.channels, field="/channels")
        _check_documents(row.kind, changes.artifact_types, changes.profile)
        wanted = changes.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"channels"})
        values = {
            _COLUMNS.get(name, name): value for name, value in wanted.items() if value is not None or name in _EMPTIED
        }
        session.execute(
            update(Partner)
            .where(col(Partner.account_id) == account_id, col(Partner.id) == partner_id)
            .values(updated_at=database_now(), **values)
        )
        if changes.channels is not None:
            before = session.scalars(
                delete(PartnerChannel)
                .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id)
                .returning(PartnerChannel)
            ).all()
            kept = {each.channel: each for each in before}
            ways = changes.channels or [_default(row.kind, path)]
            _write_ways(session, runtime.settings, account_id, partner_id, ways, kept)
        session.expire_all()
        return _view(session, account_id, partner_id)


def pause(runtime: Runtime, account_id: str, partner_id: str) -> PartnerView:
    """Send the partner nothing more until it is resumed; what it is owed stays owed. Raises NotFound."""
    with runtime.db.write() as session:
        _locked(session, account_id, partner_id)
        set_paused(session, account_id, partner_id)
        session.expire_all()
        return _view(session, account_id, partner_id)


def set_paused(session: Session, account_id: str, partner_id: str) -> None:
    """Mark the partner paused, in the caller's transaction."""
    session.execute(
        update(Partner)
        .where(col(Partner.account_id) == account_id, col(Partner.id) == partner_id)
        .values(state=PartnerState.PAUSED.value, updated_at=database_now())
    )


def resume(runtime: Runtime, account_id: str, partner_id: str) -> PartnerView:
    """Send the partner what it is owed, from now on. Raises NotFound, InvalidState where it is not paused."""
    with runtime.db.write() as session:
        row = _locked(session, account_id, partner_id)
        if row.state != PartnerState.PAUSED.value:
            raise InvalidState(f"{partner_id} is not paused")
        session.execute(
            update(Partner)
            .where(col(Partner.account_id) == account_id, col(Partner.id) == partner_id)
            .values(state=PartnerState.LIVE.value, updated_at=database_now())
        )
        session.execute(
            update(Delivery)
            .where(
                col(Delivery.account_id) == account_id,
                col(Delivery.partner_id) == partner_id,
                col(Delivery.state) == DeliveryState.PENDING.value,
            )
            .values(due_at=database_now())
        )
        session.expire_all()
        return _view(session, account_id, partner_id)


def _default(kind: str, path: str | None) -> Way:
    return BorderBuddyWay() if default_way(kind, path) is ChannelName.BORDERBUDDY else QueueWay()


def _check(kind: str, path: str | None, channels: Sequence[Way], *, field: str) -> None:
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


def _check_documents(kind: str, artifact_types: Sequence[str] | None, profile: BrokerProfile | None) -> None:
    known = (*ARTIFACT_TYPES, profiles.ARTIFACT_TYPE)
    unknown = [
        Issue(
            path=f"/artifactTypes/{place}",
            message=f"{name!r} is no kind of document; there are {', '.join(known)}",
            code="unknown_kind",
        )
        for place, name in enumerate(artifact_types or ())
        if name not in known
    ]
    if unknown:
        raise failed(unknown)
    if profile is None:
        return
    if kind != "customs_broker":
        raise ValidationFailed("only a customs broker has an import template; leave profile out", field="/profile")
    profiles.check(profile, "/profile")


def _write_ways(
    session: Session,
    settings: Settings,
    account_id: str,
    partner_id: str,
    ways: Sequence[Way],
    before: Mapping[str, PartnerChannel],
) -> None:
    session.execute(
        insert(PartnerChannel),
        [
            {
                "account_id": account_id,
                "partner_id": partner_id,
                "channel": way.channel,
                "way": way.model_dump(mode="json", by_alias=True, exclude=CREDENTIALS),
                "credential": _credential(settings, account_id, partner_id, way, before.get(way.channel), position),
                "position": position,
            }
            for position, way in enumerate(ways)
        ],
    )


def _credential(
    settings: Settings, account_id: str, partner_id: str, way: Way, before: PartnerChannel | None, position: int
) -> str | None:
    """Return the way's credential as it is kept: what is given, else what is there for the same address."""
    if not isinstance(way, SftpWay):
        return None
    given = way.private_key or way.password
    if given is not None:
        return signing.seal(settings, account_id, partner_id, given.get_secret_value())
    if before is not None and before.way.get("address") == way.address:
        return before.credential
    raise ValidationFailed(
        "a new address needs its own credential; give password or privateKey", field=f"/channels/{position}"
    )


def _locked(session: Session, account_id: str, partner_id: str) -> Partner:
    row = session.get(Partner, (account_id, partner_id), with_for_update=True)
    if row is None:
        raise NotFound(f"there is no partner {partner_id} in this account")
    return row


def _view(session: Session, account_id: str, partner_id: str) -> PartnerView:
    row = session.get(Partner, (account_id, partner_id))
    if row is None:
        raise NotFound(f"there is no partner {partner_id} in this account")
    ways = session.scalars(
        select(PartnerChannel)
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id)
        .order_by(col(PartnerChannel.position))
    ).all()
    return _shown(row, ways)


def _shown(row: Partner, ways: Sequence[PartnerChannel]) -> PartnerView:
    return PartnerView.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "name": row.name,
            "state": row.state,
            "test": row.test,
            "path": row.path,
            "artifact_types": row.artifact_types,
            "profile": row.profile,
            "channels": [way.way for way in ways],
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )
