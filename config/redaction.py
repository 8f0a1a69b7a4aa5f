"""Redaction of logs: it hides secrets, found by their names and by their form, at any depth."""

import re
from collections.abc import Callable, Collection, Mapping, MutableMapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final

HIDDEN: Final = "[hidden]"

#: A value is hidden if its name contains one of these in any spelling: `db_password`, `X-Api-Key`, `dateOfBirth`.
NAMES: Final = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "api_key",
    "private_key",
    "cookie",
    "credential",
    "signature",
    "date_of_birth",
)

#: How many levels of a value are searched, and how many items of each; the rest is left out of the log.
_DEEPEST: Final = 5
_WIDEST: Final = 100

_ANY_NAME: Final = "(?:" + "|".join(name.replace("_", "[_-]?") for name in NAMES) + ")"
_NAMED: Final = re.compile(_ANY_NAME, re.IGNORECASE)
#: Facts about a secret that are not secret: `secret_id`, `tokenHash`, `password_changed_at`.
_FACT: Final = re.compile(r"(?:[_-](?:id|hash|at)|[a-z](?:Id|Hash|At))$")

_NO_FACT: Final = r"(?<![_-]id)(?<![_-]at)(?<!hash)"
# `name=value`, `"name": value`, and `name: value`; the last not if the name is the end of a word, as in `InvalidToken: ...`.
_BEFORE_A_VALUE: Final = (
    rf"""(?:{_ANY_NAME}[\w-]{{0,30}}{_NO_FACT}(?:[\\"']*+\s*+=|[\\"']++\s*+:)"""
    rf"""|(?<![a-z]){_ANY_NAME}s?(?:[_-][\w-]{{1,30}})?{_NO_FACT}\s*+:)\s*+"""
)
# A value ends at its closing quotes, or at a blank if it has none. Quotes may be escaped, up to six levels of nested texts.
_VALUE: Final = r"""(?:\[hidden\]|[bru]{0,2}(?:"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?)|(?P<quotes>\\{1,64}+["']).*?(?:(?P=quotes)|\Z)|\S++)"""


def _hide_credentials(found: re.Match[str]) -> str:
    return f"{HIDDEN}@" if found[0].endswith("@") else found[0]


def _hide_value(found: re.Match[str]) -> str:
    return found["name"] + HIDDEN


#: Hints, patterns and replacements. A pattern is searched only if the text in lower case contains one of its hints, which
#: most texts do not. The time of each pattern is linear in the length of the text, for every text.
_PATTERNS: Final[tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    # Credentials in an address end at the last @ of the word: a password may contain / ? # : and @.
    (("://",), re.compile(r"(?<=://)[^\s/:]*+:(?:\S*@|\S*+)"), _hide_credentials),
    (("http",), re.compile(r"(?<=://)[^\s/?#:@]++(?=@)"), HIDDEN),
    (("exp_live_", "exp_test_"), re.compile(r"exp_(?:live|test)_\w+", re.IGNORECASE), HIDDEN),
    (("whsec_",), re.compile(r"whsec_[\w+/=%-]+", re.IGNORECASE), HIDDEN),
    (("bearer",), re.compile(r"\bbearer\s++\S++", re.IGNORECASE), HIDDEN),
    # Links that grant access: of the service and of object stores.
    (("/documents/",), re.compile(r"(?<=/documents/)[\w.-]{40,}"), HIDDEN),
    (("/answers/",), re.compile(r"(?<=/answers/)[\w-]{40,}"), HIDDEN),
    (("/calendar/",), re.compile(r"(?<=/calendar/)[\w-]{20,}"), HIDDEN),
    (("/console/links/",), re.compile(r"(?<=/console/links/)[\w-]{40,}"), HIDDEN),
    # The id before the dot is that of the link's row.
    (("lnk_",), re.compile(r"(?<=lnk_[0-9a-z]{26}\.)[\w-]{40,}"), HIDDEN),
    (
        ("private key-----",),
        re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,20}-----|\Z)", re.DOTALL),
        HIDDEN,
    ),
    (("sig=",), re.compile(r"(?P<name>[?&]sig=)[^\s&]+", re.IGNORECASE), _hide_value),
    # Headers up to the end of the line: their values contain blanks.
    (
        ("authorization", "cookie"),
        re.compile(r"""(?P<name>(?:authorization|cookie)\s*+[:=]\s*+)[^\s"'\\][^\r\n]*+""", re.IGNORECASE),
        _hide_value,
    ),
    (
        ("passw", "passp", "secret", "token", "authoriz", "key", "cookie", "credential", "signature", "birth"),
        re.compile(f"(?P<name>{_BEFORE_A_VALUE}){_VALUE}", re.IGNORECASE | re.DOTALL),
        _hide_value,
    ),
)

_HINTS: Final = tuple(hint for hints, _, _ in _PATTERNS for hint in hints)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return the log record without secrets, at any depth: in texts, tracebacks and the `repr` of other values."""
    return _redact_mapping(event, 0)


def hide_secrets(text: str) -> str:
    """Return `text` with each secret in it hidden."""
    lowered = text.lower()
    for hint in _HINTS:
        if hint in lowered:
            break
    else:
        return text  # the usual case
    for hints, pattern, replacement in _PATTERNS:
        if any(hint in lowered for hint in hints):
            text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=1024)
def _key(name: str) -> tuple[str, bool]:
    """Return the key as it may be logged, and whether its value is secret."""
    return hide_secrets(name), _NAMED.search(name) is not None and _FACT.search(name) is None


def _redact_mapping(values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in islice(values.items(), _WIDEST):
        key, secret = _key(_name(name))
        # None and booleans are logged: whether there is a secret is not secret.
        found[key] = (
            HIDDEN if secret and value is not None and not isinstance(value, bool) else _redact_value(value, depth)
        )
    return found


def _redact_value(value: object, depth: int) -> object:
    if isinstance(value, str):
        return hide_secrets(value)
    if value is None or isinstance(value, int | float):
        return value
    if depth == _DEEPEST:
        return "[too deep]"
    try:
        if isinstance(value, Mapping):
            return _redact_mapping(value, depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            return _redact_items(value, depth + 1)
        return hide_secrets(repr(value))
    except Exception:  # noqa: BLE001 - logging would print a record that raises without redaction
        return f"[{type(value).__name__}]"


def _redact_items(items: Collection[object], depth: int) -> list[object]:
    found = list(islice(items, _WIDEST))
    if len(found) == 2 and isinstance(found[0], str | bytes):
        # Headers come as pairs.
        key, secret = _key(_name(found[0]))
        return [key, HIDDEN if secret else _redact_value(found[1], depth)]
    return [_redact_value(item, depth) for item in found]


def _name(given: object) -> str:
    return given.decode("latin-1") if isinstance(given, bytes) else str(given)
