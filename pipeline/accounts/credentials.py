"""How a person proves who they are: password, time-based codes (TOTP), recovery codes."""

import hashlib
import hmac
import secrets
import string
import threading
import unicodedata
from base64 import b32decode, b32encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Final

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from sqlalchemy import delete, func, insert, select, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts.models import Credential, RecoveryCode
from pipeline.accounts.secrets import build_secret_box
from pipeline.core.db import database_now, row_count
from pipeline.core.errors import SecretUnreadable, ValidationFailed

log = structlog.get_logger(__name__)

MIN_PASSWORD_CHARACTERS: Final = 12
MAX_PASSWORD_CHARACTERS: Final = 256
_MIN_DIFFERENT_CHARACTERS: Final = 5

STEP_SECONDS: Final = 30
_CODE_DIGITS: Final = 6
_TOTP_SECRET_BYTES: Final = 20
#: A code of the step before or after is accepted too: clocks differ, and people type slowly.
_DRIFT_STEPS: Final = (0, -1, 1)

RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 10

# The second recommendation of OWASP: 19 MiB and two passes.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
#: Each hash holds 19 MiB: this many at a time, in one process.
_HASHING: Final = threading.BoundedSemaphore(4)
#: A password that nobody has. It is checked for unknown people, so that the time of the answer is the same.
_NOBODYS_HASH: Final = _HASHER.hash(secrets.token_urlsafe(32))


@dataclass(frozen=True)
class CredentialView:
    """How a person can sign in, and how many recovery codes are left."""

    has_password: bool
    has_provider: bool
    recovery_codes: int


def hash_password(password: str) -> str:
    """Return the argon2id hash of the password."""
    with _HASHING:
        return _HASHER.hash(_normalize(password))


def is_password(stored: str | None, password: str) -> bool:
    """Return whether `stored` is the hash of the password; without `stored` it takes as long to return false."""
    with _HASHING:
        try:
            # A longer one cannot be right; it must not cost more than others.
            _HASHER.verify(stored or _NOBODYS_HASH, _normalize(password[: MAX_PASSWORD_CHARACTERS + 1]))
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def check_password(password: str, *, known: Collection[str]) -> None:
    """Raise ValidationFailed if the password can be guessed; `known` are the person's e-mail address and name."""
    text = _normalize(password)
    if not MIN_PASSWORD_CHARACTERS <= len(text) <= MAX_PASSWORD_CHARACTERS:
        raise ValidationFailed(
            f"the password must have {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters; this one has {len(text)}",
            field="/password",
        )
    if len({*text}) < _MIN_DIFFERENT_CHARACTERS:
        raise ValidationFailed("the password repeats a few characters; choose one with more of them", field="/password")
    # A common word that is repeated, or stands between digits and signs, is guessed as soon as the word.
    core = text.casefold().strip(string.digits + string.punctuation + " ")
    half = core[: len(core) // 2]
    if not _load_common().isdisjoint({text.casefold(), core, half if half * 2 == core else core}):
        raise ValidationFailed("the password is one of the most common; choose another", field="/password")
    parts = {part for each in known for part in (each, each.partition("@")[0]) if len(part) > 3}
    if any(part.casefold() in text.casefold() for part in parts):
        raise ValidationFailed("the password contains your e-mail address or name; choose another", field="/password")


@cache
def _load_common() -> frozenset[str]:
    lines = (files(__package__) / "common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset({"exports", *(line for line in lines if not line.startswith("# "))} - {"#"})


def derive_totp_secret(settings: Settings, token_hash: str, browser: str) -> str:
    """Return the TOTP secret, in base 32, that a one-time link offers: the same each time a browser shows the page.

    `browser` is a random mark of that browser. Others who saw the link before, such as its sender, get another secret.
    """
    key = build_secret_box(settings).token("totp-of-a-one-time-link").encode()
    text = f"{token_hash}\n{browser}".encode(errors="replace")
    return b32encode(hmac.digest(key, text, "sha256")[:_TOTP_SECRET_BYTES]).decode()


def build_totp_uri(secret: str, email: str, installation: str) -> str:
    """Return the URI that an authenticator app reads from a QR code."""
    return _totp(secret).get_provisioning_uri(email, f"Exports {installation}")


def find_totp_step(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is, near `now`; None if no such step has it."""
    digits = "".join(code.split())
    found = None
    for drift in _DRIFT_STEPS:
        step = int(now.timestamp()) // STEP_SECONDS + drift
        if hmac.compare_digest(_totp(secret).generate(step * STEP_SECONDS), digits.encode(errors="replace")):
            found = step
    return found


def use_code(session: Session, settings: Settings, row: Credential, code: str, now: datetime) -> bool:
    """Accept a TOTP code or a recovery code once, in the caller's transaction; return whether it was accepted."""
    if row.totp_secret is None:
        return False
    spent = (
        update(RecoveryCode)
        .where(
            col(RecoveryCode.person_id) == row.person_id,
            col(RecoveryCode.code_hash) == _hash_recovery_code(row.person_id, code),
            col(RecoveryCode.used_at).is_(None),
        )
        .values(used_at=database_now())
    )
    if row_count(session.execute(spent)):
        return True
    try:
        secret = build_secret_box(settings).open(row.totp_secret, row.person_id)
    except SecretUnreadable:
        # Another answer than for a wrong code would say that the password is right.
        log.warning("totp_secret_unreadable", person_id=row.person_id)
        return False
    step = find_totp_step(secret, code, now)
    if step is None:
        return False
    used = (
        update(Credential)
        .where(col(Credential.person_id) == row.person_id, col(Credential.totp_step) < step)
        .values(totp_step=step)
    )
    return row_count(session.execute(used)) == 1


def store_password(
    session: Session, settings: Settings, person_id: str, password_hash: str, totp_secret: str, totp_step: int
) -> list[str]:
    """Store a password and a TOTP secret whose code of `totp_step` was used; return new recovery codes.

    They replace what the person had, also the connection to an OpenID provider: another person may have made it.
    """
    values = {
        "password_hash": password_hash,
        "totp_secret": build_secret_box(settings).seal(totp_secret, person_id),
        "totp_step": totp_step,
        "issuer": None,
        "subject": None,
        "changed_at": database_now(),
    }
    _write_credential(session, person_id, values)
    return replace_recovery_codes(session, person_id)


def connect_provider(session: Session, person_id: str, issuer: str, subject: str) -> None:
    """Let the person sign in by this subject of the OpenID provider, in place of an earlier one."""
    _write_credential(session, person_id, {"issuer": issuer, "subject": subject, "changed_at": database_now()})


def delete_credentials(session: Session, person_id: str) -> None:
    """Delete all by which the person signs in."""
    session.execute(delete(RecoveryCode).where(col(RecoveryCode.person_id) == person_id))
    session.execute(delete(Credential).where(col(Credential.person_id) == person_id))


def _write_credential(session: Session, person_id: str, values: dict[str, object]) -> None:
    written = session.execute(update(Credential).where(col(Credential.person_id) == person_id).values(**values))
    if not row_count(written):
        session.execute(insert(Credential).values(person_id=person_id, **values))


def replace_recovery_codes(session: Session, person_id: str) -> list[str]:
    """Store new recovery codes in place of all others, and return them; they are not stored in clear."""
    codes = [_format_recovery_code(secrets.token_bytes(_RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]
    session.execute(delete(RecoveryCode).where(col(RecoveryCode.person_id) == person_id))
    session.execute(
        insert(RecoveryCode),
        [{"person_id": person_id, "code_hash": _hash_recovery_code(person_id, code)} for code in codes],
    )
    return codes


def describe_credential(session: Session, person_id: str) -> CredentialView:
    """Return how the person can sign in, without any secret."""
    row = session.get(Credential, person_id)
    left = select(func.count()).where(col(RecoveryCode.person_id) == person_id, col(RecoveryCode.used_at).is_(None))
    return CredentialView(
        has_password=row is not None and row.password_hash is not None,
        has_provider=row is not None and row.subject is not None,
        recovery_codes=session.scalar(left) or 0,
    )


def _totp(secret: str) -> TOTP:
    # Authenticator apps know only SHA-1, which is safe in an HMAC.
    return TOTP(b32decode(secret), _CODE_DIGITS, SHA1(), STEP_SECONDS)  # noqa: S303


def _format_recovery_code(random: bytes) -> str:
    text = b32encode(random).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _hash_recovery_code(person_id: str, code: str) -> str:
    # A fast hash is enough for 80 random bits.
    text = "".join(character for character in code.lower() if character.isalnum())
    return hashlib.sha256(f"{person_id}\n{text}".encode(errors="replace")).hexdigest()


def _normalize(password: str) -> str:
    # The same password typed on another keyboard may come as other code points.
    return unicodedata.normalize("NFKC", password).encode(errors="replace").decode()
