"""An account's own leads: how long before an arrival the next status is due, by mode of transport."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import null, select, update
from sqlmodel import Session, col

from pipeline.accounts.schemas import LeadChanges, LeadsView, ModeLeads, OwnLeads
from pipeline.accounts.service import account_not_found, explain_live
from pipeline.core.errors import InsufficientRole
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account

MODES: Final = tuple(LeadChanges.model_fields)
STATUSES: Final = ("received", "answered", "filed", "released")


def show_leads(runtime: Runtime, account_id: str) -> LeadsView:
    """Return the account's own leads. Raises NotFound."""
    with runtime.db.read() as session:
        return _build_view(_read_leads(session, account_id))


def change_leads(
    runtime: Runtime, account_id: str, changes: LeadChanges, *, changed_by: str, test_only: bool = False
) -> LeadsView:
    """Replace the leads of each mode that the request names, and return all. Running deadlines stay.

    Raises NotFound, and InsufficientRole if `test_only`.
    """
    if test_only:
        raise InsufficientRole(explain_live("deadline leads"))
    named = {mode: _read_minutes(getattr(changes, mode)) for mode in MODES if mode in changes.model_fields_set}
    with runtime.db.write() as session:
        leads = _read_leads(session, account_id, lock=True) | named
        if named:
            kept = {mode: minutes for mode, minutes in leads.items() if minutes}
            changed_row = update(Account).where(col(Account.id) == account_id)
            session.execute(changed_row.values(deadline_leads=kept or null()))
            detail = {mode: _describe(minutes) for mode, minutes in named.items()}
            record_act(session, account_id, changed_by, Action.DEADLINE_LEADS_CHANGED, account_id, detail)
    return _build_view(leads)


def _read_minutes(leads: ModeLeads | None) -> dict[str, int]:
    """Return status -> minutes of the account's own leads."""
    given = {} if leads is None else {status: getattr(leads, f"{status}_minutes") for status in STATUSES}
    return {status: minutes for status, minutes in given.items() if minutes is not None}


def _describe(minutes: Mapping[str, int]) -> str:
    return ", ".join(f"{status} {count} min" for status, count in minutes.items()) or "default"


def _read_leads(session: Session, account_id: str, *, lock: bool = False) -> dict[str, dict[str, int]]:
    query = select(col(Account.deadline_leads)).where(col(Account.id) == account_id)
    row = session.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise account_not_found(account_id)
    return dict(row.deadline_leads or {})


def _build_view(leads: Mapping[str, Mapping[str, int]]) -> LeadsView:
    return LeadsView(
        **{
            mode: OwnLeads(**{f"{status}_minutes": leads.get(mode, {}).get(status) for status in STATUSES})
            for mode in MODES
        }
    )
