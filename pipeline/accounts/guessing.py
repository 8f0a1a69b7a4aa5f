"""Bounds on guessing passwords and codes: failed sign-ins are counted, and slow down those that follow."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts.models import Guessing
from pipeline.accounts.secrets import build_secret_box
from pipeline.core.db import database_now
from pipeline.core.errors import RateLimited
from pipeline.core.signed_text import Signatures, sign_text

log = structlog.get_logger(__name__)

#: Failures without a pause, for one person and for one network.
FREE_OF_PERSON: Final = 5
FREE_OF_NETWORK: Final = 30
#: The first pause; it doubles with each failure up to the longest.
FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(minutes=15)
#: Failures count until the last one is so old.
FORGOTTEN_AFTER: Final = timedelta(hours=1)

_MOST_DOUBLINGS: Final = 5
_DEVICE_PURPOSE: Final = "devices-of-people"


@dataclass(frozen=True)
class Counter:
    """A place whose failures are counted, and how many are without a pause."""

    key: str
    free: int


def choose_counters(settings: Settings, email: str, network: str, device: str | None) -> Sequence[Counter]:
    """Return the counters of a sign-in.

    A browser in which the person has signed in before has a counter of its own. So others who guess cannot lock out the
    person, and neither can those who share the network or its proxy.
    """
    if device is not None and is_device_of(settings, device, email):
        return (Counter(_hash("device", device), FREE_OF_PERSON),)
    return Counter(_hash("email", email), FREE_OF_PERSON), Counter(_hash("network", network), FREE_OF_NETWORK)


def take_attempt(session: Session, counters: Sequence[Counter]) -> None:
    """Count one failure at each counter before the secrets are checked: so attempts at the same time count too.

    Raises RateLimited if one of them has to wait; then none counts.
    """
    now: datetime = session.execute(select(database_now())).scalar_one()
    session.execute(delete(Guessing).where(col(Guessing.last_at) < now - FORGOTTEN_AFTER))
    rows = [_lock(session, counter, now) for counter in sorted(counters, key=lambda each: each.key)]
    pauses = [row.locked_until - now for row in rows if row.locked_until is not None and row.locked_until > now]
    if pauses:
        seconds = ceil(max(pauses).total_seconds())
        log.warning("sign_in_paused", counters=[each.key for each in counters], seconds=seconds)
        raise RateLimited(
            f"there were too many attempts to sign in; try again in {_describe_pause(seconds)}",
            headers={"Retry-After": str(seconds)},
        )
    free = {counter.key: counter.free for counter in counters}
    for row in rows:
        row.failures += 1
        row.last_at = now
        excess = row.failures - free[row.key]
        row.locked_until = (
            now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(excess, _MOST_DOUBLINGS)) if excess >= 0 else None
        )
        session.add(row)
    session.flush()


def forget_attempts(session: Session, counters: Sequence[Counter]) -> None:
    """Forget the failures of the person after a success, and take back the one of the network."""
    for counter in counters:
        row = session.get(Guessing, counter.key)
        if row is None:
            continue
        if counter.free == FREE_OF_PERSON or row.failures <= 1:
            session.delete(row)
        else:
            row.failures -= 1
            row.locked_until = None if row.failures < counter.free else row.locked_until
            session.add(row)
    session.flush()


def touch(session: Session, counter: Counter) -> None:
    """Write the counter's row as it is."""
    session.execute(update(Guessing).where(col(Guessing.key) == counter.key).values(key=counter.key))


def create_device(settings: Settings, email: str) -> str:
    """Return a mark for the browser in which the person has signed in."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_sign_device(settings, nonce, email).newest}"


def is_device_of(settings: Settings, device: str, email: str) -> bool:
    """Return whether the mark was made for this person, with a current or previous secret key."""
    nonce, _, signature = device.partition(".")
    return _sign_device(settings, nonce, email).find_key(signature) is not None


def _sign_device(settings: Settings, nonce: str, email: str) -> Signatures:
    text = f"{nonce}\n{email}".encode(errors="replace")
    return sign_text(build_secret_box(settings), _DEVICE_PURPOSE, text)


def _lock(session: Session, counter: Counter, now: datetime) -> Guessing:
    kind = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    new = kind(Guessing).values(key=counter.key, failures=0, last_at=now)
    # The row stays locked until the transaction ends, so that two attempts do not both take the last free one.
    session.execute(new.on_conflict_do_update(index_elements=["key"], set_={"key": counter.key}))
    return session.get_one(Guessing, counter.key, populate_existing=True)


def _hash(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}\n{text}".encode(errors="replace")).hexdigest()


def _describe_pause(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{ceil(seconds / 60)} min"
