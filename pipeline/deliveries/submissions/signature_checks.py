"""Checks of a signed message that a partner pastes: each says what is wrong with it, and no secret is shown."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlmodel import Session

from config.settings import Settings
from pipeline.accounts import secrets as account_secrets
from pipeline.core.errors import SecretUnreadable
from pipeline.deliveries.schemas.cloudevent import SIGNATURE_HEADERS
from pipeline.deliveries.submissions.signature import SECONDS, is_signed_by

#: A signature is valid this long before and after its timestamp.
TOLERANCE: Final = timedelta(minutes=5)

_SIGNATURES: Final = re.compile(r"v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=){0,9}")
_MAX_SHOWN: Final = 80


@dataclass(frozen=True)
class SignatureCheck:
    """One check: what it found, in one sentence, and what to do if it failed."""

    name: str
    passed: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class KnownSecret:
    """A signing secret of the partner. `ends_at` is None for the newest one."""

    number: int
    ends_at: datetime | None
    text: str = field(repr=False)

    def describe(self, now: datetime) -> str:
        """Return the secret's number and whether it is still valid, without the secret."""
        if self.ends_at is None:
            return f"secret {self.number}, the newest one"
        word = "ended" if self.ends_at <= now else "is valid until"
        return f"secret {self.number}, which {word} {self.ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def load_known_secrets(session: Session, settings: Settings, account_id: str, partner_id: str) -> list[KnownSecret]:
    """Return the partner's newest secrets, the newest first, with ended ones. Secrets that no key decrypts are left out."""
    known = []
    for row in account_secrets.list_sealed_secrets(session, account_id, partner_id):
        with suppress(SecretUnreadable):
            text = account_secrets.unseal_secret(settings, account_id, partner_id, row.sealed)
            known.append(KnownSecret(row.number, row.ends_at, text))
    return known


def parse_headers(text: str) -> dict[str, str]:
    """Return the signature's headers from lines `name: value`. A header that is given with two values is left out."""
    values: dict[str, set[str]] = {name: set() for name in SIGNATURE_HEADERS}
    for line in text.splitlines():
        name, _, value = line.strip().lstrip("<> ").partition(":")
        if (known := name.strip().lower()) in values and value.strip():
            values[known].add(value.strip())
    return {name: given.pop() for name, given in values.items() if len(given) == 1}


def check_message(
    headers: Mapping[str, str], body: str, secrets: Sequence[KnownSecret], sent: bytes | None, now: datetime
) -> Iterator[SignatureCheck]:
    """Yield the checks in order; the first one that fails is the last, except that the time is always checked.

    `sent` is the message of this id as the service sent it, None if it is unknown.
    """
    missing = [name for name in SIGNATURE_HEADERS if name not in headers]
    if missing:
        yield SignatureCheck(
            "headers",
            passed=False,
            found=f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, or given with two values",
            remedy="paste the three headers, each as name: value on its own line; a proxy must pass them on",
        )
        return
    yield SignatureCheck("headers", passed=True, found="all three are there")
    timestamp, signature = headers["webhook-timestamp"], headers["webhook-signature"]
    if not SECONDS.fullmatch(timestamp):
        yield SignatureCheck(
            "format",
            passed=False,
            found=f"webhook-timestamp {timestamp[:_MAX_SHOWN]} is not a whole number of seconds since 1970",
            remedy="paste the header as it arrived; do not reformat it",
        )
        return
    if not _SIGNATURES.fullmatch(signature):
        yield SignatureCheck(
            "format",
            passed=False,
            found="webhook-signature is not v1, and 44 characters of base64",
            remedy="paste the header whole, with all its signatures, separated by one space",
        )
        return
    yield SignatureCheck("format", passed=True, found="timestamp and signature can be read")
    yield _check_match(headers, body, secrets, sent, now)
    yield _check_time(int(timestamp), now)


def _check_match(
    headers: Mapping[str, str], body: str, secrets: Sequence[KnownSecret], sent: bytes | None, now: datetime
) -> SignatureCheck:
    # Browsers send each line break as CR LF, and a selection often ends with a line break: both are not the sender's.
    pasted = body.replace("\r\n", "\n")
    exact = [pasted, pasted.strip(), pasted.replace("\n", "\r\n")]
    signer = _find_signer(headers, exact, secrets)
    if signer is not None:
        is_valid = signer.ends_at is None or signer.ends_at > now
        return SignatureCheck(
            "signature",
            passed=is_valid,
            found=f"it fits the body; it was made with {signer.describe(now)}",
            remedy="" if is_valid else "use the newest secret: an ended one is not accepted any more",
        )
    if _find_signer(headers, _reformat(pasted), secrets) is not None:
        return SignatureCheck(
            "signature",
            passed=False,
            found="the body was altered: the signature fits the same JSON with other white space or escapes",
            remedy="verify the exact bytes of the body, before any program reads and writes the JSON again",
        )
    if sent is not None and pasted.strip() != sent.decode():
        fits = _find_signer(headers, [sent.decode()], secrets) is not None
        return SignatureCheck(
            "signature",
            passed=False,
            found=f"the body was altered: it differs from the message that we sent at character {_first_difference(pasted.strip(), sent.decode())}"
            + (", and the signature fits the message that we sent" if fits else ""),
            remedy="verify the exact bytes of the body, as they arrived",
        )
    if sent is not None:
        return SignatureCheck(
            "signature",
            passed=False,
            found="the body is the message that we sent, but none of your secrets made this signature for this id and time",
            remedy="take all three headers from the same attempt; if they are, the message was signed with another secret",
        )
    return SignatureCheck(
        "signature",
        passed=False,
        found="none of your secrets made this signature for this body, id and time",
        remedy="use the newest secret and the unaltered body and headers; sign id.timestamp.body with the secret's base64 after whsec_",
    )


def _check_time(timestamp: int, now: datetime) -> SignatureCheck:
    seconds = timestamp - int(now.timestamp())
    distance = f"{_describe_span(abs(seconds))} {'after' if seconds > 0 else 'before'} now"
    in_time = abs(seconds) <= TOLERANCE.total_seconds()
    return SignatureCheck(
        "time",
        passed=in_time,
        found=f"webhook-timestamp is {distance}",
        remedy=""
        if in_time
        else "a receiver must refuse a difference of more than five minutes; resend an old message, or correct the clock",
    )


def _describe_span(seconds: int) -> str:
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _find_signer(
    headers: Mapping[str, str], bodies: Sequence[str], secrets: Sequence[KnownSecret]
) -> KnownSecret | None:
    # Compare with all secrets, so that the time taken reveals nothing.
    fitting = [secret for secret in secrets for body in bodies if _fits(headers, body, secret.text)]
    return fitting[0] if fitting else None


def _fits(headers: Mapping[str, str], body: str, secret: str) -> bool:
    with suppress(Exception):  # a timestamp out of range, or a lone surrogate
        return is_signed_by(body.encode(), headers, secret)
    return False


def _reformat(body: str) -> list[str]:
    """Return other spellings of the same JSON; none if it is not JSON."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return [
        json.dumps(parsed, ensure_ascii=ascii_only, separators=separators, indent=indent)
        for ascii_only in (False, True)
        for separators, indent in (((",", ":"), None), ((", ", ": "), None), ((",", ": "), 2))
    ]


def _first_difference(body: str, sent: str) -> int:
    """Return the place of the first different character, counted from 1."""
    pairs = zip(body, sent, strict=False)
    return next(
        (place for place, (ours, theirs) in enumerate(pairs, 1) if ours != theirs), min(len(body), len(sent)) + 1
    )
