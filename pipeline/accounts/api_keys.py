"""API keys of accounts: creation, rotation, revocation, and the caller that a key identifies."""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, cast

import structlog
from sqlalchemy import or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from pipeline.accounts.models import ApiKey
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.db import database_now, row_count
from pipeline.core.errors import InsufficientRole, InvalidApiKey, InvalidState, NotFound, Retryable, ValidationFailed
from pipeline.core.field_types import check_printable
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.core.text_safety import check_readable
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account

log = structlog.get_logger(__name__)

Mode = Literal["live", "test"]

#: `last_used_at` is written at most this often.
LAST_USED_PRECISION_SECONDS: Final = 60.0

EXECUTE: Final = "execute"
READ: Final = "read"
OPERATE: Final = "operate"
ADMIN: Final = "admin"
ROLES: Final = (EXECUTE, READ, OPERATE, ADMIN)

#: The roles that a role implies: each role that may act may also read.
_IMPLIED: Final = {EXECUTE: {READ}, OPERATE: {READ}, ADMIN: {EXECUTE, READ, OPERATE}}

_PARTNER_ROLE = re.compile(r"^partner:[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
MAX_NAME: Final = 128

# Bitcoin's base 58: it leaves out characters that look alike.
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SHORT, _SECRET, _CHECK = 10, 44, 6
_KEY_ID = re.compile(rf"^[{_ALPHABET}]{{{_SHORT}}}$")
_KEY = re.compile(
    rf"^exp_(live|test)_([{_ALPHABET}]{{{_SHORT}}})_([{_ALPHABET}]{{{_SECRET}}})([{_ALPHABET}]{{{_CHECK}}})$"
)


def role_implies(held: str, role: str) -> bool:
    """Return whether a key with the role `held` implicitly has `role` too."""
    return role in _IMPLIED.get(held, ())


@dataclass(frozen=True)
class Identity:
    """The person behind a caller, and the session by which they act."""

    email: str
    name: str
    session_id: str


@dataclass(frozen=True)
class Caller:
    """The caller of a request: a key, or a person. The account comes only from the key, or from the person's session."""

    account_id: str
    actor: str  # the id of the key or the person, as every record names it
    mode: Mode
    roles: frozenset[str]
    person: Identity | None = None  # None for a key

    @property
    def test(self) -> bool:
        """Whether the caller's work must not reach live endpoints."""
        return self.mode == "test"

    def may_change(self, *, test: bool) -> bool:
        """Return whether the caller may change test or live exports: a person with access to live ones also test ones."""
        return self.test == test or (test and self.person is not None)

    def in_mode(self, *, test: bool) -> "Caller":
        """Return the caller as one who changes test or live exports; the same if they may not."""
        return replace(self, mode="test" if test else "live") if self.may_change(test=test) else self

    @property
    def partner_ids(self) -> frozenset[str]:
        """The partners for which the key may send answers."""
        return frozenset(role.removeprefix("partner:") for role in self.roles if role.startswith("partner:"))

    def has_role(self, role: str) -> bool:
        """Return whether the caller has the role, or a role that implies it."""
        return role in self.roles or any(role_implies(held, role) for held in self.roles)

    def require(self, *roles: str) -> None:
        """Raise InsufficientRole unless the caller has one of the roles."""
        if not any(self.has_role(role) for role in roles):
            if self.person is not None:
                raise InsufficientRole(
                    f"this needs the role {' or '.join(roles)}; you have {', '.join(sorted(self.roles)) or 'none'}."
                    f" An administrator of {self.account_id} can change your roles"
                )
            raise InsufficientRole(
                f"this call needs a key with the role {' or '.join(roles)};"
                f" this key has {', '.join(sorted(self.roles)) or 'none'}. {self.describe_key_creation(roles[0])}"
            )

    def describe_key_creation(self, role: str) -> str:
        """Return the command that creates a key with the role."""
        partner_id = role.removeprefix("partner:")
        command = f"exports keys create --account {self.account_id} --role {role}"
        if partner_id != role:
            command = f"exports keys create --account {self.account_id} --partner {partner_id}"
        return f"Create one: `{command}{' --test' if self.test else ''}`"


@dataclass(frozen=True)
class CreatedKey:
    """A new key. `bearer` is the only copy of its secret."""

    id: str
    bearer: str
    expires_at: datetime | None


@dataclass(frozen=True)
class ApiKeyRecord:
    """A stored key with its account, without its secret."""

    id: str
    account_id: str
    name: str
    mode: Mode
    roles: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # accurate to a minute


def create_key(
    runtime: Runtime,
    account_id: str,
    name: str,
    *,
    mode: Mode,
    roles: Collection[str],
    expires_at: datetime | None = None,
    key_id: str | None = None,
    actor: str | None = None,
) -> CreatedKey:
    """Create a key of the account and return it with its secret. The secret is not stored.

    The audit trail records the act of `actor`, the id of a person or a key, or COMMAND_LINE. A form names the new key by `key_id`, from `generate_key_id`, so that the same form cannot create two keys. Raises
    ValidationFailed if a role is unknown or the name is not readable, NotFound if the account does not exist, and
    InvalidState if the key `key_id` exists.
    """
    _check_name(name)
    for role in roles:
        if role not in ROLES and not _PARTNER_ROLE.fullmatch(role):
            known = ", ".join(ROLES)
            raise ValidationFailed(f"{role} is not a role; give {known} or partner:PARTNER_ID", field="/roles")
    row = _build_row(account_id, name, mode, roles, expires_at, key_id or generate_key_id())
    return _store_key(runtime, row, Action.KEY_CREATED, actor, {"mode": mode, "roles": ", ".join(sorted(roles))})


@dataclass(frozen=True)
class _NewRow:
    row: ApiKey
    bearer: str


def _build_row(
    account_id: str, name: str, mode: Mode, roles: Collection[str], expires_at: datetime | None, key_id: str
) -> _NewRow:
    if not _KEY_ID.fullmatch(key_id):
        raise ValidationFailed("the form does not name its new key; load the page again", field="/id")
    prefix = f"exp_{mode}_{key_id}_"
    secret = _encode_base58(int.from_bytes(secrets.token_bytes(32)), _SECRET)
    bearer = prefix + secret + _compute_checksum(prefix + secret)
    row = ApiKey(
        id=key_id,
        account_id=account_id,
        name=name,
        mode=mode,
        roles=sorted(set(roles)),
        secret_hash=_hash_bearer(bearer),
        expires_at=expires_at,
    )
    return _NewRow(row, bearer)


def _store_key(
    runtime: Runtime, new: _NewRow, action: Action, actor: str | None, detail: Mapping[str, str]
) -> CreatedKey:
    account_id, key_id, expires_at = new.row.account_id, new.row.id, new.row.expires_at
    try:
        with runtime.db.write() as session:
            if session.get(Account, account_id) is None:
                raise NotFound(f"there is no account {account_id}")
            session.add(new.row)
            session.flush()
            if actor is not None:
                record_act(session, account_id, actor, action, key_id, detail)
    except IntegrityError as error:
        raise InvalidState(
            f"key {key_id} was created already, and was shown only then; if you did not store it, revoke it and create"
            " another"
        ) from error
    return CreatedKey(key_id, new.bearer, expires_at)


def generate_key_id() -> str:
    """Return a new random id of a key."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_SHORT))


def _check_name(name: str) -> None:
    """Raise ValidationFailed if people would read the name differently than systems do."""
    if not 0 < len(name) <= MAX_NAME:
        raise ValidationFailed(f"the name must have 1 to {MAX_NAME} characters; say what the key is for", field="/name")
    try:
        check_readable(check_printable(name))
    except ValueError as error:
        raise ValidationFailed(f"the name {error}", field="/name") from error


def rotate_key(
    runtime: Runtime,
    account_id: str,
    key_id: str,
    *,
    overlap: timedelta,
    expires_at: datetime | None = None,
    new_id: str | None = None,
    actor: str | None = None,
) -> CreatedKey:
    """Create a key with the same roles, and expire the old key when `overlap` is over, unless it expires sooner.

    The new key expires at `expires_at`, by default when the old key was to expire: a rotation does not extend a key.
    `new_id` and `actor` are as in `create_key`. Raises NotFound if the account does not have the key, InvalidState if the key is
    expired or revoked, or the key `new_id` exists.
    """
    with runtime.db.read() as session:
        row = session.get(ApiKey, key_id)
        now = session.execute(select(database_now())).scalar_one()
    if row is None or row.account_id != account_id:
        raise NotFound(f"there is no key {key_id}")
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise InvalidState(f"key {key_id} has expired or was revoked; create a new one")
    ends_at = now + overlap
    mode, until = cast("Mode", row.mode), expires_at or row.expires_at
    new = _build_row(account_id, row.name, mode, row.roles, until, new_id or generate_key_id())
    created = _store_key(runtime, new, Action.KEY_ROTATED, actor, {"replaces": key_id})
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
    return [build_record(row) for row in rows]


def get_key(runtime: Runtime, account_id: str, key_id: str) -> ApiKeyRecord:
    """Return one key of the account. Raises NotFound."""
    with runtime.db.read() as session:
        row = session.get(ApiKey, key_id)
    if row is None or row.account_id != account_id:
        raise NotFound(f"there is no key {key_id}")
    return build_record(row)


def revoke_key(runtime: Runtime, account_id: str, key_id: str, *, actor: str | None = None) -> None:
    """Revoke the key now. Revoking it again changes nothing. `actor` is as in `create_key`.

    Raises NotFound if the account does not have the key.
    """
    with runtime.db.write() as session:
        row = session.get(ApiKey, key_id)
        if row is None or row.account_id != account_id:
            raise NotFound(f"there is no key {key_id}")
        revoked = session.execute(
            update(ApiKey)
            .where(col(ApiKey.id) == key_id, col(ApiKey.revoked_at).is_(None))
            .values(revoked_at=database_now())
        )
        if actor is not None and row_count(revoked):
            record_act(session, account_id, actor, Action.KEY_REVOKED, key_id)


def find_caller(runtime: Runtime, bearer: str, *, now: datetime | None = None) -> Caller:
    """Return the caller that holds the key `bearer`.

    Raises InvalidApiKey if it is malformed, unknown, expired or revoked. The error hides which of the last two it is.
    """
    key_id = parse_key_id(bearer)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        row = session.get(ApiKey, key_id)
        known = _hash_bearer("unknown") if row is None else row.secret_hash
    if not hmac.compare_digest(known, _hash_bearer(bearer)) or row is None:
        raise InvalidApiKey("the API key is not known; check that it was copied whole")
    return _to_caller(row, now or utc_now())


def find_caller_by_key_id(runtime: Runtime, key_id: str, *, now: datetime | None = None) -> Caller:
    """Return the caller that holds the key with this short id. Use it only if the full key was verified before.

    Raises InvalidApiKey if it is unknown, expired or revoked.
    """
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        row = session.get(ApiKey, key_id)
    if row is None:
        raise InvalidApiKey("the API key is not known")
    return _to_caller(row, now or utc_now())


def record_key_use(runtime: Runtime, caller: Caller) -> None:
    """Set the key's last use to now, unless that is less than a minute old. If the database is busy, only log it."""
    long_ago = or_(
        col(ApiKey.last_used_at).is_(None), col(ApiKey.last_used_at) <= database_now(-LAST_USED_PRECISION_SECONDS)
    )
    try:
        with tenancy.account_scope(caller.account_id), runtime.db.write() as session:
            session.execute(
                update(ApiKey).where(col(ApiKey.id) == caller.actor, long_ago).values(last_used_at=database_now())
            )
    except Retryable as error:
        log.warning("key_use_not_recorded", key_id=caller.actor, reason=str(error))


def parse_key_id(bearer: str) -> str:
    """Return the short id inside a key.

    Raises InvalidApiKey if the key is malformed or mistyped. The checksum shows that without a database query.
    """
    match = _KEY.fullmatch(bearer)
    if match is None or not hmac.compare_digest(_compute_checksum(bearer[:-_CHECK]), match[4]):
        raise InvalidApiKey("this is not an API key of this service; keys begin with exp_live_ or exp_test_")
    return match[2]


def _to_caller(row: ApiKey, moment: datetime) -> Caller:
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= moment):
        raise InvalidApiKey("the API key has expired or was revoked; ask for a new one")
    return Caller(row.account_id, row.id, cast("Mode", row.mode), frozenset(row.roles))


def build_record(row: ApiKey) -> ApiKeyRecord:
    """Return a key's row as its record."""
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
    # SHA-256 is enough for 256 random bits. A slow hash is for passwords that people choose.
    return hashlib.sha256(bearer.encode()).hexdigest()


def _compute_checksum(text: str) -> str:
    return _encode_base58(zlib.crc32(text.encode()), _CHECK)


def _encode_base58(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
