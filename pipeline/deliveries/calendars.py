"""The calendar of an account: what is due next, as RFC 5545, and the link by which calendar programs read it."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Row, update
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.core import tenancy
from pipeline.core.errors import ASK_FOR_LIVE, NO_LINK, InsufficientRole, NotFound
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import decode_token, encode_token
from pipeline.deliveries.deadlines import DeadlineFilter, find_deadlines
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account
from pipeline.exports.schemas.deadlines import CalendarLink, DeadlineKind

MAX_EVENTS: Final = 500

_PURPOSE: Final = "calendar-links"


@dataclass(frozen=True)
class CalendarToken:
    """What a link names. It ends when the account's links are `revoked` once more."""

    account_id: str
    revoked: int


def create_calendar_link(runtime: Runtime, account_id: str, *, created_by: str, test_only: bool) -> CalendarLink:
    """Return the account's link, the same until it is revoked. Raises InsufficientRole if `test_only`."""
    _check_live(test_only=test_only)
    with runtime.db.write() as session:
        account = session.get_one(Account, account_id)
        token = build_token(runtime.settings, CalendarToken(account_id, account.calendar_links_revoked))
        record_act(session, account_id, created_by, Action.CALENDAR_LINK_CREATED, account_id)
        failpoint("calendar.mid")
    failpoint("calendar.after")
    return CalendarLink(url=f"{runtime.settings.public_url}/calendar/{token}.ics")


def revoke_calendar_links(runtime: Runtime, account_id: str, *, revoked_by: str, test_only: bool) -> None:
    """Revoke each calendar link of the account. Raises InsufficientRole if `test_only`."""
    _check_live(test_only=test_only)
    count = col(Account.calendar_links_revoked)
    with runtime.db.write() as session:
        session.execute(update(Account).where(col(Account.id) == account_id).values(calendar_links_revoked=count + 1))
        record_act(session, account_id, revoked_by, Action.CALENDAR_LINKS_REVOKED, account_id)
        failpoint("calendar_end.mid")
    failpoint("calendar_end.after")


def build_token(settings: Settings, named: CalendarToken) -> str:
    """Return the token of a link."""
    payload = named.revoked.to_bytes(4, "big") + named.account_id.encode()
    return encode_token(secrets.build_secret_box(settings), _PURPOSE, payload)


def parse_token(settings: Settings, token: str) -> CalendarToken:
    """Return what the token names. Raises NotFound if the token is not ours. It may be revoked."""
    payload = decode_token(secrets.build_secret_box(settings), _PURPOSE, token)
    if payload is None:
        raise NotFound(NO_LINK)
    return CalendarToken(payload[4:].decode(), int.from_bytes(payload[:4], "big"))


def write_calendar(runtime: Runtime, named: CalendarToken) -> bytes:
    """Return the account's calendar: at most MAX_EVENTS, the earliest first. Raises NotFound if the link was revoked."""
    with tenancy.account_scope(named.account_id), runtime.db.read() as session:
        account = session.get(Account, named.account_id)
        # A calendar program shows no page, so a revoked link gets the answer of all invalid links.
        if account is None or account.calendar_links_revoked != named.revoked:
            raise NotFound(NO_LINK)
        rows = find_deadlines(session, named.account_id, DeadlineFilter(), MAX_EVENTS)
    return build_calendar(runtime.settings.public_url, rows)


def build_calendar(public_url: str, rows: Any) -> bytes:
    """Return the rows of `find_deadlines` as a calendar, which is valid without rows, too."""
    from icalendar import Calendar, Event  # noqa: PLC0415 - few processes write a calendar

    calendar = Calendar()
    for name, value in (("prodid", "-//exports//deadlines//EN"), ("version", "2.0"), ("x-wr-calname", "Exports")):
        calendar.add(name, value)
    for row in rows:
        event = Event()
        for name, value in _describe(public_url, row).items():
            event.add(name, value)
        calendar.add_component(event)
    return bytes(calendar.to_ical())


def _describe(public_url: str, row: Row[Any]) -> dict[str, Any]:
    submission = row.BrokerSubmission
    mark = "[test] " if row.test else ""
    is_summary = row.kind == DeadlineKind.SUMMARY
    task = "must file the entry summary" if is_summary else "must answer"
    return {
        "uid": f"{submission.id}.{'summary' if is_summary else submission.state}",
        "dtstamp": submission.updated_at,
        # Grows with each change, without a count of its own.
        "sequence": int(submission.updated_at.timestamp()) // 60,
        "dtstart": row.due_at,
        "summary": f"{mark}{submission.partner_id} {task}: {row.batch_id}",
        "description": f"{public_url}/console/exports/{quote(submission.export_id)}",
        "status": "CONFIRMED",
        "transp": "TRANSPARENT",
    }


def _check_live(*, test_only: bool) -> None:
    if test_only:
        raise InsufficientRole(f"the calendar shows live exports, too; {ASK_FOR_LIVE}")
