"""The audit trail of an account: what people and keys did, numbered without gaps and hash-chained like an export's log."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from pipeline.core.clock import midnight
from pipeline.core.db import database_now, table
from pipeline.exports.event_models import Act, AuditTrail
from pipeline.exports.hash_chain import hash_act
from pipeline.exports.schemas.export import ActPage, ActView

#: The actor of what the command line does on the database directly. The operating system knows who ran it.
COMMAND_LINE: Final = "cli"
#: The actor of what the claim of an OpenID provider changes.
PROVIDER: Final = "provider"
#: Before the id of a partner's link, the actor in the portal.
PORTAL_PREFIX: Final = "portal:"

#: A longer subject is cut: it may be what an attacker typed.
MAX_SUBJECT: Final = 256


class Action(StrEnum):
    """What a person or a key did; the subject is the id of the noun."""

    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGNED_OUT = "signed_out"
    SESSION_ENDED = "session_ended"
    ACCOUNT_ENTERED = "account_entered"
    CREDENTIALS_SET = "credentials_set"
    CREDENTIALS_ENDED = "credentials_ended"
    PROVIDER_CONNECTED = "provider_connected"
    RECOVERY_CODES_CREATED = "recovery_codes_created"
    PERSON_INVITED = "person_invited"
    PERSON_JOINED = "person_joined"
    PERSON_REMOVED = "person_removed"
    PERSON_DISABLED = "person_disabled"
    PERSON_ENABLED = "person_enabled"
    LINK_CREATED = "link_created"
    PORTAL_LINK_CREATED = "portal_link_created"
    PORTAL_LINK_REVOKED = "portal_link_revoked"
    REPLY_LINKS_REVOKED = "reply_links_revoked"
    CALENDAR_LINK_CREATED = "calendar_link_created"
    CALENDAR_LINKS_REVOKED = "calendar_links_revoked"
    PORTAL_OPENED = "portal_opened"
    HANDOFF_ANSWERED = "handoff_answered"
    MESSAGE_WRITTEN = "message_written"
    ROLES_CHANGED = "roles_changed"
    EXPORT_AMENDED = "export_amended"
    EXPORT_CANCELLED = "export_cancelled"
    EXPORT_RETRIED = "export_retried"
    HANDOFF_HELD = "handoff_held"
    HANDOFF_HOLD_RELEASED = "handoff_hold_released"
    WITHDRAWAL_REQUESTED = "withdrawal_requested"
    EXPORT_ACKNOWLEDGED = "export_acknowledged"
    EXPORT_REOPENED = "export_reopened"
    HOLD_PLACED = "hold_placed"
    HOLD_RELEASED = "hold_released"
    DOCUMENT_DOWNLOADED = "document_downloaded"
    DELIVERY_RESENT = "delivery_resent"
    DELIVERY_ACKNOWLEDGED = "delivery_acknowledged"
    DELIVERY_REOPENED = "delivery_reopened"
    ORDER_DELETED = "order_deleted"
    DELIVERIES_REPLAYED = "deliveries_replayed"
    PARTNER_CREATED = "partner_created"
    PARTNER_CHANGED = "partner_changed"
    PARTNER_TESTED = "partner_tested"
    PARTNER_ACTIVATED = "partner_activated"
    PARTNER_PAUSED = "partner_paused"
    PARTNER_RESUMED = "partner_resumed"
    SIGNING_SECRET_ROTATED = "signing_secret_rotated"  # noqa: S105 - not a secret
    ACCOUNT_CREATED = "account_created"
    MAIL_DOMAINS_CHANGED = "mail_domains_changed"
    PEOPLE_DOMAINS_CHANGED = "people_domains_changed"
    NUMBERS_SKIPPED = "numbers_skipped"
    KEY_CREATED = "key_created"
    KEY_ROTATED = "key_rotated"
    KEY_REVOKED = "key_revoked"
    WAIVER_GRANTED = "waiver_granted"
    WAIVER_REVOKED = "waiver_revoked"
    LANGUAGES_CHANGED = "languages_changed"
    LOGO_CHANGED = "logo_changed"
    LOGO_REMOVED = "logo_removed"
    DEADLINE_LEADS_CHANGED = "deadline_leads_changed"
    TEST_CLOCK_MOVED = "test_clock_moved"
    TEST_CLOCK_RESET = "test_clock_reset"


_trails, _acts = table(AuditTrail).c, table(Act).c
_HASH: Final = select(_acts.hash).where(_acts.account_id == bindparam("of_account"), _acts.seq == bindparam("at_seq"))
_WRITE: Final = insert(table(Act))


def record_act(
    session: Session, account_id: str, actor: str, action: Action, subject: str, detail: Mapping[str, Any] | None = None
) -> int:
    """Write one act to the account's audit trail, in the transaction of what it changed, and return its number.

    `actor` is the id of a person or a key, `portal:` and the id of a partner's link, or COMMAND_LINE, `subject` the id of what was acted on. `detail` is a flat JSON object without
    secrets. Call it last: it locks the trail until the transaction ends.
    """
    # The dialects have the same statement, each as a class of its own.
    kind = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    number = (
        kind(table(AuditTrail))
        .values(account_id=account_id, next_seq=2)
        .on_conflict_do_update(index_elements=["account_id"], set_={"next_seq": _trails.next_seq + 1})
        .returning(_trails.next_seq, database_now().label("at"))
    )
    numbered = session.execute(number).one()
    seq: int = numbered.next_seq - 1
    prev_hash = None
    if seq > 1:
        prev_hash = session.execute(_HASH, {"of_account": account_id, "at_seq": seq - 1}).scalar_one()
    act: dict[str, Any] = {
        "account_id": account_id,
        "seq": seq,
        "at": numbered.at,
        "actor": actor,
        "action": action.value,
        "subject": subject[:MAX_SUBJECT],
        "detail": dict(detail or {}),
        "prev_hash": prev_hash,
    }
    session.execute(_WRITE, act | {"hash": hash_act(act)})
    return seq


def name_decider(by: str, actor: str | None) -> dict[str, str]:
    """Return the detail of an act that names who decided it, if that is not the actor."""
    return {} if actor is None else {"decidedBy": by}


@dataclass(frozen=True)
class ActFilter:
    """Which acts a list has; None asks for all. Days are days of UTC, and both are included."""

    actor: str | None = None
    action: Action | None = None
    subject: str | None = None
    first_day: date | None = None
    last_day: date | None = None

    def build_conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions for the query."""
        equal = {_acts.actor: self.actor, _acts.action: self.action, _acts.subject: self.subject}
        wanted = [column == value for column, value in equal.items() if value is not None]
        if self.first_day is not None:
            wanted.append(_acts.at >= midnight(self.first_day))
        if self.last_day is not None:
            wanted.append(_acts.at < midnight(self.last_day) + timedelta(days=1))
        return wanted


def list_acts(
    session: Session, account_id: str, filters: ActFilter = ActFilter(), *, before: int | None = None, limit: int = 50
) -> ActPage:
    """Return a page of the account's acts, newest first: those with a number below `before`."""
    wanted = [_acts.account_id == account_id, *filters.build_conditions()]
    if before is not None:
        wanted.append(_acts.seq < before)
    found = session.scalars(select(Act).where(*wanted).order_by(_acts.seq.desc()).limit(limit + 1)).all()
    items = [ActView.model_validate(row) for row in found[:limit]]
    return ActPage(items=items, next_before=items[-1].seq if len(found) > limit else None)
