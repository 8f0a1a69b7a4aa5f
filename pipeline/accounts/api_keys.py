"""Accounts and their bearer keys: who calls, for which account, and what the key allows."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, cast

import structlog
from sqlalchemy import or_, update
from sqlmodel import col, select

from pipeline.accounts.models import ApiKey
from pipeline.core import tenancy
from pipeline.core.db import database_now, utc_now
from pipeline.core.errors import InsufficientRole, InvalidApiKey, InvalidState, NotFound, Retryable, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.models import Account

log = structlog.get_logger(__name__)

Mode = Literal["live", "test"]

#: How exact `last_used_at` is.
LAST_USED_PRECISION_SECONDS: Final = 60.0

EXECUTE: Final = "execute"
READ: Final = "read"
OPERATE: Final = "operate"
ADMIN: Final = "admin"
ROLES: Final = (EXECUTE, READ, OPERATE, ADMIN)

#: What a role brings along: whoever may act may also look.
_IMPLIED: Final = {EXECUTE: {READ}, OPERATE: {READ}, ADMIN: {EXECUTE, READ, OPERATE}}

_PARTNER_ROLE = re.compile(r"^partner:[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")

# Bitcoin's base 58: no character that is read as another.
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SHORT, _SECRET, _CHECK = 10, 44, 6
_KEY = re.compile(
    rf"^exp_(live|test)_([{_ALPHABET}]{{{_SHORT}}})_([{_ALPHABET}]{{{_SECRET}}})([{_ALPHABET}]{{{_CHECK}}})$"
)


def role_implies(held: str, role: str) -> bool:
    """Tell whether a key that has the role `held` has `role` as well, though nobody gave it."""
    return role in _IMPLIED.get(held, ())


@dataclass(frozen=True)
class Caller:
    """Who makes a request: the account comes from the key alone."""

    account_id: str
    key_id: str
    mode: Mode
    roles: frozenset[str]

    @property
    def test(self) -> bool:
        """Whether what the caller starts must stay away from live endpoints."""
        return self.mode == "test"

    @property
    def partner_ids(self) -> frozenset[str]:
        """The partners that the key may answer for."""
        return frozenset(role.removeprefix("partner:") for role in self.roles if role.startswith("partner:"))

    def has_role(self, role: str) -> bool:
        """Whether the key has the role, or one that brings it along."""
        return role in self.roles or any(role_implies(held, role) for held in self.roles)

    def require(self, *roles: str) -> None:
        """Raise InsufficientRole unless the key has one of the roles."""
        if not any(self.has_role(role) for role in roles):
            raise InsufficientRole(
                f"this call needs a key with the role {' or '.join(roles)};"
                f" this key has {', '.join(sorted(self.roles)) or 'none'}. {self.describe_key_creation(roles[0])}"
            )

    def describe_key_creation(self, role: str) -> str:
        """Return how a key with the role is made."""
        partner_id = role.removeprefix("partner:")
        command = f"exports keys create --account {self.account_id} --role {role}"
        if partner_id != role:
            command = f"exports keys create --account {self.account_id} --partner {partner_id}"
        return f"Make one: `{command}{' --test' if self.test else ''}`"


@dataclass(frozen=True)
class CreatedKey:
    """A key just made: `bearer` is the only copy of its secret."""

    id: str
    bearer: str
    expires_at: datetime | None


@dataclass(frozen=True)
class ApiKeyRecord:
    """A key as it is kept, with the account it belongs to; what `find_caller` and a listing go by."""

    id: str
    account_id: str
    name: str
    mode: Mode
    roles: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute


def create_key(
    runtime: Runtime,
    account_id: str,
    name: str,
    *,
    mode: Mode,
    roles: Collection[str],
    expires_at: datetime | None = None,
) -> CreatedKey:
    """Make a key of the account and return it with its secret, which is kept nowhere.

    Raises ValidationFailed where a role is unknown, NotFound where there is no such account.
    """
    for role in roles:
        if role not in ROLES and not _PARTNER_ROLE.fullmatch(role):
            known = ", ".join(ROLES)
            raise ValidationFailed(f"{role} is no role; give {known} or partner:PARTNER_ID", field="/roles")
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_SHORT))
    prefix = f"exp_{mode}_{key_id}_"
    secret = _encode_base58(int.from_bytes(secrets.token_bytes(32)), _SECRET)
    bearer = prefix + secret + _compute_checksum(prefix + secret)
    with runtime.db.write() as session:
        if session.get(Account, account_id) is None:
            raise NotFound(f"there is no account {account_id}")
        session.add(
            ApiKey(
                id=key_id,
                account_id=account_id,
                name=name,
                mode=mode,
                roles=sorted(set(roles)),
                secret_hash=_hash_bearer(bearer),
                expires_at=expires_at,
            )
        )
    return CreatedKey(key_id, bearer, expires_at)


def rotate_key(
    runtime: Runtime, account_id: str, key_id: str, *, overlap: timedelta, expires_at: datetime | None = None
) -> CreatedKey:
    """Make a key that may what this one may, and let the older one end when the overlap is over, if not sooner.

    The new key ends when the older one was to end, or at `expires_at`: a key for a month does not become one for ever.
    Raises NotFound where the account has no such key, InvalidState where it has ended.
    """
    with runtime.db.read() as session:
        row = session.get(ApiKey, key_id)
        now = session.execute(select(database_now())).scalar_one()
    if row is None or row.account_id != account_id:
        raise NotFound(f"there is no key {key_id}")
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise InvalidState(f"key {key_id} has ended; make a new one")
    ends_at = now + overlap
    created = create_key(
        runtime,
        account_id,
        row.name,
        mode=cast("Mode", row.mode),
        roles=row.roles,
        expires_at=expires_at or row.expires_at,
    )
    with runtime.db.write() as session:
        session.execute(
            update(ApiKey)
            .where(col(ApiKey.id) == key_id, or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > ends_at))
            .values(expires_at=ends_at)
        )
    return created


def list_keys(runtime: Runtime, account_id: str) -> Sequence[ApiKeyRecord]:
    """Return the account's keys, oldest first."""
    with runtime.db.read() as session:
        rows = session.exec(
            select(ApiKey).where(col(ApiKey.account_id) == account_id).order_by(col(ApiKey.created_at), col(ApiKey.id))
        ).all()
    return [_to_record(row) for row in rows]


def revoke_key(runtime: Runtime, account_id: str, key_id: str) -> None:
    """End the key now; revoking it again changes nothing.

    Raises NotFound where the account has no such key.
    """
    with runtime.db.write() as session:
        row = session.get(ApiKey, key_id)
        if row is None or row.account_id != account_id:
            raise NotFound(f"there is no key {key_id}")
        session.execute(
            update(ApiKey)
            .where(col(ApiKey.id) == key_id, col(ApiKey.revoked_at).is_(None))
            .values(revoked_at=database_now())
        )


def find_caller(runtime: Runtime, bearer: str, *, now: datetime | None = None) -> Caller:
    """Return who holds the key `bearer`.

    Raises InvalidApiKey where it is malformed, unknown, expired or revoked; the answer does not tell which of the last.
    """
    key_id = parse_key_id(bearer)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        row = session.get(ApiKey, key_id)
        known = _hash_bearer("unknown") if row is None else row.secret_hash
    if not hmac.compare_digest(known, _hash_bearer(bearer)) or row is None:
        raise InvalidApiKey("the API key is not known; check that it was copied whole")
    return _to_caller(row, now or utc_now())


def find_caller_by_key_id(runtime: Runtime, key_id: str, *, now: datetime | None = None) -> Caller:
    """Return who holds the key with this short id, for those who have shown the key itself before.

    Raises InvalidApiKey where it is unknown, expired or revoked.
    """
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        row = session.get(ApiKey, key_id)
    if row is None:
        raise InvalidApiKey("the API key is not known")
    return _to_caller(row, now or utc_now())


def record_key_use(runtime: Runtime, caller: Caller) -> None:
    """Write down that the key is used now, unless it was within the last minute; where that cannot be, it is left."""
    long_ago = or_(
        col(ApiKey.last_used_at).is_(None), col(ApiKey.last_used_at) <= database_now(-LAST_USED_PRECISION_SECONDS)
    )
    try:
        with tenancy.account_scope(caller.account_id), runtime.db.write() as session:
            session.execute(
                update(ApiKey).where(col(ApiKey.id) == caller.key_id, long_ago).values(last_used_at=database_now())
            )
    except Retryable as error:
        log.warning("key_use_not_recorded", key_id=caller.key_id, reason=str(error))


def parse_key_id(bearer: str) -> str:
    """Return the short id inside a key.

    Raises InvalidApiKey where it is not shaped like a key, or mistyped: the checksum tells without a database.
    """
    match = _KEY.fullmatch(bearer)
    if match is None or not hmac.compare_digest(_compute_checksum(bearer[:-_CHECK]), match[4]):
        raise InvalidApiKey("this is not an API key of this service; keys begin with exp_live_ or exp_test_")
    return match[2]


def _to_caller(row: ApiKey, moment: datetime) -> Caller:
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= moment):
        raise InvalidApiKey("the API key has expired or was revoked; ask for a new one")
    return Caller(row.account_id, row.id, cast("Mode", row.mode), frozenset(row.roles))


def _to_record(row: ApiKey) -> ApiKeyRecord:
    return ApiKeyRecord(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        mode=cast("Mode", row.mode),
        roles=frozenset(row.roles),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _hash_bearer(bearer: str) -> str:
    # Enough for 256 random bits; a slow hash is for passwords, which people choose.
    return hashlib.sha256(bearer.encode()).hexdigest()


def _compute_checksum(text: str) -> str:
    return _encode_base58(zlib.crc32(text.encode()), _CHECK)


def _encode_base58(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
