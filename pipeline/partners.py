"""Partners of an account: customs brokers, warehouses and operators, and the ways to reach each."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.channels.channel import ChannelName, Target
from pipeline.db import database_now
from pipeline.documents import profile as profiles
from pipeline.documents.kinds import ARTIFACT_TYPES
from pipeline.errors import InvalidState, NotFound, ValidationFailed
from pipeline.models import Delivery, Partner, PartnerChannel
from pipeline.runtime import Runtime
from pipeline.schemas.partners import (
    ChannelSpec,
    CreatedPartner,
    NewPartner,
    PartnerChanges,
    PartnerView,
)
from pipeline.schemas.plan import as_json
from pipeline.schemas.problems import Issue
from pipeline.schemas.profiles import BrokerProfile
from pipeline.schemas.reading import failed
from pipeline.secretbox import SecretBox
from pipeline.states import DeliveryState, PartnerState

#: Stands in routing keys for a partner that a test export must not reach.
SANDBOX = "sandbox"

SECRET_BYTES = 32

#: What of a change has another name in the table, and what may be taken away by saying null.
_COLUMNS = {"artifactTypes": "artifact_types"}
_EMPTIED = frozenset({"artifactTypes", "profile"})


@dataclass(frozen=True)
class Recipient:
    """A partner as a sender sees it; the first of `channels` is its primary one."""

    partner_id: str
    kind: str
    test: bool
    path: str | None
    artifact_types: frozenset[str] | None
    channels: tuple[ChannelName, ...]
    profile: BrokerProfile | None = None

    @property
    def primary(self) -> ChannelName:
        """The channel whose outcome is that of the handoff."""
        if self.path == "borderbuddy" and ChannelName.BORDERBUDDY in self.channels:
            return ChannelName.BORDERBUDDY
        return self.channels[0]


def create(runtime: Runtime, account_id: str, new: NewPartner) -> CreatedPartner:
    """Register a partner and return it with its signing secret, which is shown this once.

    Raises ValidationFailed where the id is taken or the channels do not fit the partner.
    """
    _check(new.kind, new.path, new.channels, field="/channels")
    _check_documents(new.kind, new.artifact_types, new.profile)
    if new.id in (account_id, SANDBOX):
        raise ValidationFailed(f"{new.id} names something else already; choose another id", field="/id")
    secret = new_secret()
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
            channels = new.channels or [_default(new.kind, new.path)]
            _write_channels(session, account_id, new.id, channels, _seal(runtime.settings, account_id, new.id, secret))
            view = _view(session, account_id, new.id)
    except IntegrityError as error:
        raise ValidationFailed(f"there is a partner {new.id} already; choose another id", field="/id") from error
    return CreatedPartner(**dict(view), secret=secret)


def new_secret() -> str:
    """Return a Standard Webhooks secret that nobody has seen."""
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


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
            sealed = _sealed(session, account_id, partner_id)
            session.execute(
                delete(PartnerChannel).where(
                    col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id
                )
            )
            _write_channels(session, account_id, partner_id, changes.channels or [_default(row.kind, path)], sealed)
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


def recipients(session: Session, account_id: str, partner_ids: Sequence[str]) -> dict[str, Recipient]:
    """Return those of the partners that exist, with their channels, by id; two queries."""
    where = (col(Partner.account_id) == account_id, col(Partner.id).in_(partner_ids))
    return _recipients(session, account_id, session.scalars(select(Partner).where(*where)).all())


def operators(session: Session, account_id: str) -> list[Recipient]:
    """Return the account's live operators; an account without one is its own operator, at the queue."""
    rows = session.scalars(
        select(Partner)
        .where(
            col(Partner.account_id) == account_id,
            col(Partner.kind) == "operator",
            col(Partner.state) == PartnerState.LIVE.value,
        )
        .order_by(col(Partner.id))
    ).all()
    if rows:
        return list(_recipients(session, account_id, rows).values())
    return [Recipient(account_id, "operator", False, None, None, (ChannelName.QUEUE,))]


def target(
    session: Session, settings: Settings, account_id: str, partner_id: str, channel: str, *, test_export: bool
) -> Target | None:
    """Return where to send to the partner by the channel; None where it is paused.

    The account's own operator, which is no registered partner, is never paused. A webhook that the partner no longer
    has is returned without its address, which the channel refuses.
    """
    row = session.get(Partner, (account_id, partner_id))
    if row is None:
        return Target(account_id, partner_id, test_export)
    if row.state != PartnerState.LIVE.value:
        return None
    way = session.get(PartnerChannel, (account_id, partner_id, channel))
    # A test export reaches a partner that is not marked test by nothing but the shared queue and the sandbox broker.
    foreign = test_export and not row.test
    return Target(
        account_id=account_id,
        partner_id=SANDBOX if foreign else partner_id,
        test=test_export or row.test,
        address=None if way is None or foreign else way.address,
        secret=None if way is None or way.secret is None else _open(settings, account_id, partner_id, way.secret),
    )


def signing_secret(session: Session, settings: Settings, account_id: str, partner_id: str) -> str | None:
    """Return the secret that the partner signs its answers with; None where there is no such partner."""
    sealed = _sealed(session, account_id, partner_id)
    return None if sealed is None else _open(settings, account_id, partner_id, sealed)


def _recipients(session: Session, account_id: str, rows: Sequence[Partner]) -> dict[str, Recipient]:
    ways: dict[str, list[ChannelName]] = {row.id: [] for row in rows}
    for way in session.scalars(
        select(PartnerChannel)
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id).in_(list(ways)))
        .order_by(col(PartnerChannel.position))
    ):
        ways[way.partner_id].append(ChannelName(way.channel))
    return {
        row.id: Recipient(
            partner_id=row.id,
            kind=row.kind,
            test=row.test,
            path=row.path,
            artifact_types=None if row.artifact_types is None else frozenset(row.artifact_types),
            channels=tuple(ways[row.id]) or (ChannelName(_default(row.kind, row.path).channel),),
            profile=None if row.profile is None else BrokerProfile.model_validate(row.profile),
        )
        for row in rows
    }


def _default(kind: str, path: str | None) -> ChannelSpec:
    by_path = kind == "customs_broker" and path == "borderbuddy"
    return ChannelSpec(channel="borderbuddy" if by_path else "queue", address=None)


def _check(kind: str, path: str | None, channels: Sequence[ChannelSpec], *, field: str) -> None:
    names = [channel.channel for channel in channels]
    if len(set(names)) != len(names):
        raise ValidationFailed("a channel is named twice; a partner has each channel once", field=field)
    if path is not None and kind != "customs_broker":
        raise ValidationFailed("only a customs broker has a handoff path; leave path out", field="/path")
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


def _write_channels(
    session: Session, account_id: str, partner_id: str, channels: Sequence[ChannelSpec], sealed: str | None
) -> None:
    session.execute(
        insert(PartnerChannel),
        [
            {
                "account_id": account_id,
                "partner_id": partner_id,
                "channel": spec.channel,
                "address": spec.address,
                "secret": sealed,
                "position": position,
            }
            for position, spec in enumerate(channels)
        ],
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
            "channels": [{"channel": way.channel, "address": way.address} for way in ways],
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )


def _sealed(session: Session, account_id: str, partner_id: str) -> str | None:
    # A partner has one secret, which lies with each of its channels.
    return session.scalar(
        select(col(PartnerChannel.secret))
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id)
        .limit(1)
    )


def _seal(settings: Settings, account_id: str, partner_id: str, secret: str) -> str:
    return SecretBox(settings.secret_key).seal(secret, f"{account_id}/{partner_id}")


def _open(settings: Settings, account_id: str, partner_id: str, sealed: str) -> str:
    return SecretBox(settings.secret_key).open(sealed, f"{account_id}/{partner_id}")
