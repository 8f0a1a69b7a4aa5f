"""The memberships that an OpenID provider gives and takes: at each sign-in they become what its claim says."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import structlog
from sqlalchemy import select
from sqlmodel import Session, col

from config.provider_roles import GivenRoles
from pipeline.accounts.models import Membership
from pipeline.accounts.one_time_links import Purpose, end_links
from pipeline.accounts.people import end_access
from pipeline.core.db import database_now
from pipeline.exports.audit_trail import PROVIDER, Action, record_act
from pipeline.exports.models import Account

log = structlog.get_logger(__name__)


def read_given_roles(mapped: Sequence[GivenRoles], values: Collection[str]) -> dict[str, list[str]]:
    """Return the roles on each account that these values of the claim give together. Empty if they give none."""
    given: defaultdict[str, set[str]] = defaultdict(set)
    for each in mapped:
        if each.value in values:
            given[each.account_id].update(each.roles)
    return {account_id: sorted(roles) for account_id, roles in given.items()}


def write_given_roles(
    session: Session, person_id: str, mapped: Sequence[GivenRoles], given: Mapping[str, Collection[str]]
) -> None:
    """Make the person's memberships of all accounts that the setting names those that were given, and record it.

    Also the last administrator loses the role: the provider decides who that is. Other accounts stay as they are.
    """
    for account_id in sorted({each.account_id for each in mapped}):
        # As where an administrator changes roles: one change of an account's people at a time.
        known = select(col(Account.id)).where(col(Account.id) == account_id).with_for_update()
        if session.execute(known).scalar_one_or_none() is None:
            log.error("provider_roles_unknown_account", setting="EXPORTS_OIDC_ROLES", account_id=account_id)
            continue
        _write_membership(session, account_id, person_id, sorted(given.get(account_id, ())))


def _write_membership(session: Session, account_id: str, person_id: str, roles: list[str]) -> None:
    membership = session.get(Membership, (account_id, person_id))
    if not roles:
        if membership is not None:
            end_access(session, membership)
            session.flush()
            record_act(session, account_id, PROVIDER, Action.PERSON_REMOVED, person_id)
        return
    before = None if membership is None or membership.joined_at is None else membership.roles
    if before == roles:
        return
    if membership is None:
        membership = Membership(
            account_id=account_id, person_id=person_id, mode="live", roles=roles, invited_by=PROVIDER
        )
        # As for an invitation: who holds such a link must not act on this account.
        end_links(session, person_id, purpose=Purpose.RESET)
    membership.roles = roles
    if before is None:
        membership.joined_at = session.execute(select(database_now())).scalar_one()
    session.add(membership)
    session.flush()
    action = Action.PERSON_JOINED if before is None else Action.ROLES_CHANGED
    record_act(session, account_id, PROVIDER, action, person_id, {"from": before or [], "to": roles})
