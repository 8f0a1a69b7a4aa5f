"""Secrets that are stored encrypted; those of partners are rotated with an overlap during which both are valid."""

import secrets
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, insert, inspect, or_, select, true, tuple_, update
from sqlmodel import Session, SQLModel, col

from config.settings import Settings
from pipeline.accounts.models import Credential, PartnerChannel, PartnerSecret
from pipeline.accounts.schemas import RotatedSecret
from pipeline.core.db import database_now, row_count
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import SecretUnreadable
from pipeline.core.runtime import Runtime

SECRET_BYTES: Final = 32
RESEAL_BATCH_SIZE: Final = 200
MAX_SECRETS_CHECKED: Final = 20

#: The columns that hold encrypted text.
_SEALED: Final[Sequence[tuple[type[SQLModel], Any]]] = (
    (PartnerSecret, col(PartnerSecret.sealed)),
    (PartnerChannel, col(PartnerChannel.credential)),
    (Credential, col(Credential.totp_secret)),
)


def generate_secret() -> str:
    """Return a new random Standard Webhooks secret."""
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def store_secret(session: Session, settings: Settings, account_id: str, partner_id: str, secret: str) -> None:
    """Store `secret` as the partner's newest, in the caller's transaction."""
    of_partner = (col(PartnerSecret.account_id) == account_id, col(PartnerSecret.partner_id) == partner_id)
    last = session.scalar(select(func.max(col(PartnerSecret.number))).where(*of_partner))
    session.execute(
        insert(PartnerSecret).values(
            account_id=account_id,
            partner_id=partner_id,
            number=(last or 0) + 1,
            sealed=seal_secret(settings, account_id, partner_id, secret),
        )
    )


def expire_secrets(session: Session, account_id: str, partner_id: str, overlap_seconds: float) -> datetime:
    """Expire the partner's current secrets when the overlap is over, unless they end sooner; return that instant."""
    ends_at: datetime = session.execute(select(database_now(overlap_seconds))).scalar_one()
    session.execute(
        update(PartnerSecret)
        .where(
            col(PartnerSecret.account_id) == account_id,
            col(PartnerSecret.partner_id) == partner_id,
            or_(col(PartnerSecret.ends_at).is_(None), col(PartnerSecret.ends_at) > ends_at),
        )
        .values(ends_at=ends_at)
    )
    return ends_at


def load_valid_secrets(session: Session, settings: Settings, account_id: str, partner_id: str) -> list[str]:
    """Return the valid secrets, the newest first. The list is empty if the partner does not exist.

    Raises SecretUnreadable if one cannot be decrypted.
    """
    return [
        unseal_secret(settings, account_id, partner_id, each)
        for each in load_sealed_secrets(session, account_id, partner_id)
    ]


@dataclass(frozen=True)
class SecretRecord:
    """A valid signing secret of a partner, without the secret. `ends_at` is None for the newest."""

    number: int
    created_at: datetime
    ends_at: datetime | None


def list_secrets(session: Session, account_id: str, partner_id: str) -> list[SecretRecord]:
    """Return the partner's valid secrets, the newest first."""
    rows = session.execute(
        select(col(PartnerSecret.number), col(PartnerSecret.created_at), col(PartnerSecret.ends_at))
        .where(col(PartnerSecret.account_id) == account_id, col(PartnerSecret.partner_id) == partner_id, _is_valid())
        .order_by(col(PartnerSecret.number).desc())
    )
    return [SecretRecord(*row) for row in rows]


@dataclass(frozen=True)
class OlderSecret:
    """A secret that signs until `ends_at`, beside the newest. `secret` is None if no key decrypts it."""

    number: int
    ends_at: datetime
    secret: str | None = field(repr=False)


@dataclass(frozen=True)
class Rotation:
    """A partner's new secret, and the older ones that are still valid, the newest first. Show each only once."""

    partner_id: str
    secret: str = field(repr=False)
    previous_ends_at: datetime
    older: Sequence[OlderSecret]

    def to_view(self) -> RotatedSecret:
        """Return the rotation as the contract has it: without the older secrets."""
        return RotatedSecret(partner_id=self.partner_id, secret=self.secret, previous_ends_at=self.previous_ends_at)


def load_older_secrets(session: Session, settings: Settings, account_id: str, partner_id: str) -> list[OlderSecret]:
    """Return the partner's valid secrets that have an end, decrypted, the newest first."""
    rows = session.execute(
        select(col(PartnerSecret.number), col(PartnerSecret.ends_at), col(PartnerSecret.sealed))
        .where(
            col(PartnerSecret.account_id) == account_id,
            col(PartnerSecret.partner_id) == partner_id,
            col(PartnerSecret.ends_at) > database_now(),
        )
        .order_by(col(PartnerSecret.number).desc())
    )
    return [
        OlderSecret(number, ends_at, _try_unseal(settings, account_id, partner_id, sealed))
        for number, ends_at, sealed in rows
    ]


def _try_unseal(settings: Settings, account_id: str, partner_id: str, sealed: str) -> str | None:
    try:
        return unseal_secret(settings, account_id, partner_id, sealed)
    except SecretUnreadable:
        return None


@dataclass(frozen=True)
class SecretsReport:
    """The number of valid secrets and credentials, and the owners of those that the keys cannot decrypt."""

    count: int
    unreadable: Sequence[str]


def check_secrets(session: Session, settings: Settings) -> SecretsReport:
    """Try to decrypt all valid secrets and credentials, one batch in memory at a time."""
    secret_box, count, unreadable = build_secret_box(settings), 0, []
    for model, text in _SEALED:
        is_valid = _is_valid() if model is PartnerSecret else true()
        wanted = select(*inspect(model).primary_key, text).where(text.is_not(None), is_valid)
        for *key, each in session.execute(wanted.execution_options(yield_per=RESEAL_BATCH_SIZE)):
            count += 1
            owner = _owner_of(key)
            try:
                secret_box.open(each, owner)
            except SecretUnreadable:
                unreadable.append(owner)
    return SecretsReport(count, unreadable)


def _is_valid() -> ColumnElement[bool]:
    return or_(col(PartnerSecret.ends_at).is_(None), col(PartnerSecret.ends_at) > database_now())


def load_sealed_secrets(session: Session, account_id: str, partner_id: str) -> list[str]:
    """Return the partner's valid secrets, still encrypted, the newest first."""
    found = session.scalars(
        select(col(PartnerSecret.sealed))
        .where(col(PartnerSecret.account_id) == account_id, col(PartnerSecret.partner_id) == partner_id, _is_valid())
        .order_by(col(PartnerSecret.number).desc())
    )
    return list(found)


@dataclass(frozen=True)
class SealedSecret:
    """A signing secret of a partner, still encrypted; `ends_at` is None for the newest one."""

    number: int
    ends_at: datetime | None
    sealed: str = field(repr=False)


def list_sealed_secrets(session: Session, account_id: str, partner_id: str) -> list[SealedSecret]:
    """Return the partner's newest secrets, the newest first, also those that have ended."""
    rows = session.execute(
        select(col(PartnerSecret.number), col(PartnerSecret.ends_at), col(PartnerSecret.sealed))
        .where(col(PartnerSecret.account_id) == account_id, col(PartnerSecret.partner_id) == partner_id)
        .order_by(col(PartnerSecret.number).desc())
        .limit(MAX_SECRETS_CHECKED)
    )
    return [SealedSecret(*row) for row in rows]


def build_secret_box(settings: Settings) -> SecretBox:
    """Return the box that encrypts with the current secret key and decrypts also with the previous ones."""
    return SecretBox(settings.secret_key, *settings.secret_keys_previous)


def seal_secret(settings: Settings, account_id: str, partner_id: str, secret: str) -> str:
    """Return a secret of the partner, encrypted."""
    return build_secret_box(settings).seal(secret, _format_owner(account_id, partner_id))


def unseal_secret(settings: Settings, account_id: str, partner_id: str, sealed: str) -> str:
    """Return a secret of the partner, decrypted. Raises SecretUnreadable if that fails."""
    return build_secret_box(settings).open(sealed, _format_owner(account_id, partner_id))


def _owner_of(key: Sequence[Any]) -> str:
    # The number of a secret, or the channel of a credential, is not part of its owner; a person is an owner alone.
    return "/".join(key[:2])


def _format_owner(account_id: str, partner_id: str) -> str:
    return f"{account_id}/{partner_id}"


@dataclass(frozen=True)
class ResealBatch:
    """The result of one batch: how many texts were encrypted again, and the owners of those that no key decrypts."""

    count: int
    unreadable: Sequence[str] = ()


def count_unsealed(runtime: Runtime) -> int:
    """Return how many texts `reseal_secrets` would encrypt."""
    prefix = build_secret_box(runtime.settings).prefix
    with runtime.db.read() as session:
        return sum(
            session.scalar(select(func.count()).select_from(model).where(_is_left(text, prefix))) or 0
            for model, text in _SEALED
        )


def _is_left(text: Any, prefix: str) -> Any:
    return text.is_not(None) & ~text.startswith(prefix, autoescape=True)


def reseal_secrets(runtime: Runtime, *, batch: int = RESEAL_BATCH_SIZE) -> Iterator[ResealBatch]:
    """Encrypt everything under the newest key, `batch` texts per transaction, and yield each result.

    Each batch is committed. After a crash, or if two runs overlap, the next run continues with the rest.
    """
    for model, text in _SEALED:
        yield from _reseal_table(runtime, model, text, batch)


def _reseal_table(runtime: Runtime, model: type[SQLModel], text: Any, batch: int) -> Iterator[ResealBatch]:
    secret_box = build_secret_box(runtime.settings)
    key_columns = tuple(inspect(model).primary_key)
    left = _is_left(text, secret_box.prefix)
    after: tuple[Any, ...] | None = None
    while True:
        wanted = select(*key_columns, text).where(left).order_by(*key_columns).limit(batch)
        count, unreadable = 0, []
        with runtime.db.write() as session:
            rows = session.execute(wanted if after is None else wanted.where(tuple_(*key_columns) > after)).all()
            for *key, sealed in rows:
                owner = _owner_of(key)
                try:
                    resealed = secret_box.seal(secret_box.open(sealed, owner), owner)
                except SecretUnreadable:
                    unreadable.append(owner)
                    continue
                # Another run or a change of the partner may have written it meanwhile.
                is_unchanged = (
                    text == sealed,
                    *(column == value for column, value in zip(key_columns, key, strict=True)),
                )
                count += row_count(session.execute(update(model).where(*is_unchanged).values({text.key: resealed})))
        if rows:
            yield ResealBatch(count, unreadable)
        if len(rows) < batch:
            return
        after = tuple(rows[-1])[:-1]
