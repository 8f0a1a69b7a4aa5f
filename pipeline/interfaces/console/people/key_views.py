"""Views and forms of API keys: states, roles with a sentence each, and what a revocation does."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pipeline.accounts.api_keys import ADMIN, EXECUTE, OPERATE, READ, ApiKeyRecord, Caller, Mode
from pipeline.accounts.lists import PartnerName
from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.interfaces.pages.input import Choice, Input, read_whole_number
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.pages import Form

#: What each role allows, in one sentence.
ROLE_TEXTS: Final = {
    READ: "Sees exports, documents, deliveries and partners. Every other role of this list includes it.",
    EXECUTE: "Registers, executes and amends plans.",
    OPERATE: "Retries, cancels and amends exports, resends and replays messages, and records answers.",
    ADMIN: "Does all of the above, and changes partners, keys and waivers.",
}
_PARTNER: Final = "partner:"
_MAX_DAYS: Final = 3650
_MAX_OVERLAP_HOURS: Final = 720
#: A new key expires after them, unless the form says otherwise.
DEFAULT_DAYS: Final = 90
_DEFAULT_OVERLAP_HOURS: Final = 24


_DAYS: Final = Input("days", "Days until it expires", "number", help="Leave it empty for a key that does not expire.")
_MODES: Final = (
    Choice("test", "test", "Its exports never reach a live partner."),
    Choice("live", "live", "Its exports reach live partners."),
)
ROTATION: Final = (
    Input(
        "overlap",
        "Hours that the old key stays valid",
        "number",
        str(_DEFAULT_OVERLAP_HOURS),
        f"0 to {_MAX_OVERLAP_HOURS}. With 0, the old key ends at once: do that if it leaked.",
        required=True,
    ),
    Input(
        "days",
        "Days until the new key expires",
        "number",
        help="Leave it empty to keep the day on which the old key was to expire.",
    ),
)


@dataclass(frozen=True)
class ShownKey:
    """A key on a page. `changeable` if it is still valid, and the caller may change it."""

    key: ApiKeyRecord
    state: str
    mark: str
    changeable: bool


@dataclass(frozen=True)
class NewKey:
    """The key that a form asks for."""

    key_id: str
    name: str
    mode: Mode
    roles: Sequence[str]
    expires_at: datetime | None


@dataclass(frozen=True)
class KeyRotation:
    """The rotation that a form asks for."""

    key_id: str
    overlap_hours: int
    expires_at: datetime | None


def has_ended(key: ApiKeyRecord, now: datetime) -> bool:
    """Return whether the key expired or was revoked."""
    return key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)


def show_key(key: ApiKeyRecord, caller: Caller, now: datetime) -> ShownKey:
    """Return a key for a page."""
    state: str = "valid, does not expire"
    mark = "good"
    if key.revoked_at is not None:
        state, mark = format_instant(key.revoked_at, "revoked "), "bad"
    elif key.expires_at is not None:
        ended = key.expires_at <= now
        state = format_instant(key.expires_at, "expired " if ended else "valid until ")
        mark = "bad" if ended else "busy" if key.expires_at - now < timedelta(days=14) else "good"
    return ShownKey(key, state, mark, not has_ended(key, now) and not (caller.test and key.mode == "live"))


def describe_revocation(key: ApiKeyRecord, others: Sequence[ApiKeyRecord], now: datetime) -> Sequence[str]:
    """Return what happens when the key is revoked, one sentence each; `others` are the account's other keys."""
    effects = ["Every request with this key is refused at once, also in programs that run now. You cannot undo this."]
    if key.last_used_at is not None:
        effects.append(
            format_instant(key.last_used_at, "It was last used ", ". Rotate it instead to keep programs running.")
        )
    if ADMIN in key.roles and not any(ADMIN in each.roles and not has_ended(each, now) for each in others):
        effects.append(
            "It is the last valid key with the role admin. After that, only the command line of the server creates one."
        )
    return effects


def list_inputs(partners: Sequence[PartnerName]) -> list[Input]:
    """Return the inputs of a new key, which may answer for these partners."""
    for_partners = "A key for a partner records its answers and fetches its documents, and does nothing else."
    return [
        Input(
            "name",
            "Name",
            help="What the key is for, such as “warehouse system”. It is shown in logs and lists.",
            required=True,
        ),
        Input(
            "role",
            "Roles",
            "checkboxes",
            choices=[Choice(role, role, text) for role, text in ROLE_TEXTS.items()],
            at="/roles",
        ),
        Input(
            "partner",
            "Answers for partners",
            "checkboxes",
            help=for_partners if partners else "There is no partner yet.",
            choices=[Choice(each.id, each.id, each.name) for each in partners],
            at="/partners",
        ),
        Input("mode", "Mode", "radio", "test", choices=_MODES),
        _DAYS,
    ]


def read_new_key(fields: Form, now: datetime) -> NewKey:
    """Return the key that a form asks for. Raises ValidationFailed, which names each wrong input."""
    issues: list[Issue] = []
    roles = [*fields.get_all("role"), *(f"{_PARTNER}{each}" for each in fields.get_all("partner"))]
    if not roles:
        issues.append(Issue(path="/roles", message="choose at least one role, or a partner below", code="missing"))
    mode = fields.get("mode")
    if mode not in ("live", "test"):
        issues.append(Issue(path="/mode", message="choose live or test", code="missing"))
    days = _read_number(fields, "days", 1, _MAX_DAYS, issues)
    if issues:
        raise validation_failed(issues)
    expires_at = None if days is None else now + timedelta(days=days)
    name = fields.get("name")
    return NewKey(fields.get("id", "-"), name, "live" if mode == "live" else "test", roles, expires_at)


def read_rotation(fields: Form, now: datetime) -> KeyRotation:
    """Return the rotation that a form asks for. Raises ValidationFailed, which names each wrong input."""
    issues: list[Issue] = []
    overlap = _read_number(fields, "overlap", 0, _MAX_OVERLAP_HOURS, issues)
    days = _read_number(fields, "days", 1, _MAX_DAYS, issues)
    if overlap is None and not issues:
        issues.append(Issue(path="/overlap", message="give a number of hours, such as 24", code="missing"))
    if issues or overlap is None:
        raise validation_failed(issues)
    return KeyRotation(fields.get("id", "-"), overlap, None if days is None else now + timedelta(days=days))


def check_partner_roles(roles: Sequence[str], known: Collection[str]) -> None:
    """Raise ValidationFailed if a role names a partner that the account does not have."""
    for role in roles:
        if role.startswith(_PARTNER) and role.removeprefix(_PARTNER) not in known:
            raise ValidationFailed(
                f"there is no partner {role.removeprefix(_PARTNER)} in this account; choose one of the list",
                field="/partners",
            )


def _read_number(fields: Form, name: str, least: int, most: int, issues: list[Issue]) -> int | None:
    """Return the whole number of an input, None if it is empty or wrong; a wrong one is added to `issues`."""
    text = fields.get(name)
    number = read_whole_number(text, least, most)
    if text and number is None:
        issues.append(Issue(path=f"/{name}", message=f"must be a whole number from {least} to {most}", code="number"))
    return number
