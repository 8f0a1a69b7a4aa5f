"""A pasted message is judged exactly: what is missing, altered, too old, or signed with another secret."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.accounts.secrets import generate_secret
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.deliveries.submissions.signature_checks import KnownSecret, SignatureCheck, check_message, parse_headers

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
BODY = json.dumps({"id": "m_1", "data": {"name": "Müller", "value": "1.50"}}, ensure_ascii=False, separators=(",", ":"))
OLD, NEW, ENDED = (generate_secret() for _ in range(3))
SECRETS = [
    KnownSecret(3, None, NEW),
    KnownSecret(2, NOW + timedelta(hours=1), OLD),
    KnownSecret(1, NOW - timedelta(hours=1), ENDED),
]


def sign(body: str = BODY, secret: str = NEW, at: datetime = NOW) -> dict[str, str]:
    return build_signature_headers("m_1", body.encode(), secret, at=at)


def check(
    headers: Mapping[str, str], body: str = BODY, *, sent: str | None = None, secrets: Sequence[KnownSecret] = SECRETS
) -> list[SignatureCheck]:
    return [*check_message(headers, body, secrets, None if sent is None else sent.encode(), NOW)]


def failed(checks: Sequence[SignatureCheck]) -> list[str]:
    return [each.name for each in checks if not each.passed]


@pytest.mark.parametrize(
    ("secret", "words"), [(NEW, "secret 3, the newest one"), (OLD, "secret 2, which is valid")], ids=["newest", "older"]
)
def test_right_message_passes_every_check(secret: str, words: str) -> None:
    checks = check(sign(secret=secret))
    assert [each.name for each in checks] == ["headers", "format", "signature", "time"]
    assert failed(checks) == []
    assert words in checks[2].found


@pytest.mark.parametrize("pasted", [BODY + "\n", f"\r\n{BODY}\r\n", f"  {BODY} "])
def test_space_around_a_pasted_body_does_not_count(pasted: str) -> None:
    assert failed(check(sign(), pasted)) == []


def test_line_breaks_that_a_browser_changed_do_not_count() -> None:
    body = json.dumps({"id": "m_1"}, indent=2)
    for original in (body, body.replace("\n", "\r\n")):
        assert failed(check(sign(original), body.replace("\n", "\r\n"))) == []


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (["webhook-timestamp"], "webhook-timestamp is missing"),
        (["webhook-id", "webhook-signature"], "webhook-id and webhook-signature are missing"),
    ],
)
def test_missing_headers_are_named(missing: list[str], words: str) -> None:
    (found,) = check({name: value for name, value in sign().items() if name not in missing})
    assert words in found.found
    assert not found.passed


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ("webhook-timestamp", "2026-11-24T15:00:00Z", "2026-11-24T15:00:00Z is not a whole number of seconds"),
        ("webhook-timestamp", "1764000000.5", "not a whole number"),
        ("webhook-timestamp", "9" * 400, "not a whole number"),
        ("webhook-signature", "v1,abc", "not v1, and 44 characters"),
        ("webhook-signature", "sha256=" + "0" * 64, "not v1, and 44 characters"),
    ],
)
def test_header_that_cannot_be_read_is_named(header: str, value: str, words: str) -> None:
    checks = check(sign() | {header: value})
    assert failed(checks) == ["format"]
    assert words in checks[-1].found
    assert len(checks[-1].found) < 200


@pytest.mark.parametrize(
    ("minutes", "words"), [(-7, "is 7 min before now"), (6, "is 6 min after now"), (-2943, "is 2 d 1 h before now")]
)
def test_message_of_another_time_fails_only_the_time(minutes: int, words: str) -> None:
    checks = check(sign(at=NOW + timedelta(minutes=minutes)))
    assert failed(checks) == ["time"]
    assert words in checks[-1].found


def test_timestamp_beyond_every_calendar_is_only_wrong() -> None:
    assert failed(check(sign() | {"webhook-timestamp": "999999999999"})) == ["signature", "time"]


def test_ended_secret_is_named_and_fails() -> None:
    checks = check(sign(secret=ENDED))
    assert failed(checks) == ["signature"]
    assert "secret 1, which ended 2026-11-24 14:00 UTC" in checks[2].found


def test_reformatted_json_is_recognised() -> None:
    for spelling in (json.dumps(json.loads(BODY), indent=2), json.dumps(json.loads(BODY))):
        checks = check(sign(), spelling)
        assert failed(checks) == ["signature"]
        assert "same JSON with other white space" in checks[2].found


def test_altered_body_of_a_known_message_is_shown_by_its_place() -> None:
    altered = BODY.replace("1.50", "1.60")
    checks = check(sign(), altered, sent=BODY)
    assert f"differs from the message that we sent at character {BODY.index('1.50') + 3}" in checks[2].found
    assert "the signature fits the message that we sent" in checks[2].found
    shortened = check(sign(), BODY[:-1], sent=BODY)
    assert f"at character {len(BODY)}" in shortened[2].found


def test_right_body_with_another_secret_blames_the_secret() -> None:
    checks = check(sign(secret=generate_secret()), sent=BODY)
    assert failed(checks) == ["signature"]
    assert "the body is the message that we sent, but none of your secrets" in checks[2].found


def test_unknown_message_with_another_secret_is_judged_without_a_guess() -> None:
    checks = check(sign(secret=generate_secret()))
    assert failed(checks) == ["signature"]
    assert "none of your secrets made this signature for this body" in checks[2].found
    assert failed(check(sign(), secrets=[])) == ["signature"]


@pytest.mark.parametrize("body", ["", "[" * 100_000, "9" * 10_000, '"\ud800"', "\x00"])
def test_hostile_bodies_are_only_wrong(body: str) -> None:
    assert failed(check(sign(), body)) == ["signature"]


def test_no_secret_is_shown() -> None:
    for headers in (sign(), sign(secret=OLD), sign(secret=ENDED), sign(secret=generate_secret()), {}):
        shown = repr([check(headers), SECRETS])
        assert not [secret for secret in (OLD, NEW, ENDED) if secret in shown]


def test_headers_are_read_as_tools_print_them() -> None:
    headers = sign()
    text = "\r\n".join(f"< {name.title()}: {value}  " for name, value in headers.items())
    assert parse_headers(f"POST / HTTP/1.1\n{text}\nHost: example\n:\nwebhook-id:") == headers
    assert "webhook-id" not in parse_headers(f"{text}\nwebhook-id: another")
    assert parse_headers("") == {}
