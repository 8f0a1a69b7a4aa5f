"""Waivers: recorded acceptances of warnings by an account. A finding that blocks cannot be waived."""

from collections.abc import Sequence
from datetime import date
from typing import Final, cast

from sqlalchemy import bindparam, or_, select, update
from sqlmodel import Session, col

from pipeline.core.db import database_now, row_count, table
from pipeline.core.errors import ASK_FOR_LIVE, InsufficientRole, NotFound
from pipeline.core.findings import Finding
from pipeline.core.ids import new_id
from pipeline.core.pages import Page, read_page
from pipeline.core.runtime import Runtime
from pipeline.customs.models import Waiver
from pipeline.customs.schemas import NewWaiver, WaiverView
from pipeline.exports.audit_trail import Action, name_decider, record_act
from pipeline.exports.models import Account
from pipeline.exports.schemas.plan import Plan

_waivers = table(Waiver).c
_IN_FORCE: Final = (
    select(table(Waiver))
    .where(
        _waivers.account_id == bindparam("of_account"),
        _waivers.revoked_at.is_(None),
        or_(_waivers.ends_on.is_(None), _waivers.ends_on >= bindparam("on")),
    )
    .order_by(_waivers.id)
)


def grant_waiver(
    runtime: Runtime,
    account_id: str,
    new: NewWaiver,
    *,
    waived_by: str,
    test_only: bool = False,
    actor: str | None = None,
) -> WaiverView:
    """Record a waiver and return it. The audit trail names the `actor`, by default the one who waives.

    Raises InsufficientRole if `test_only`, and NotFound for an unknown account.
    """
    _refuse_test_keys(test_only=test_only)
    waiver_id = new_id("wvr")
    with runtime.db.write() as session:
        if session.get(Account, account_id) is None:
            raise NotFound(f"account {account_id} does not exist")
        session.add(
            Waiver(
                id=waiver_id,
                account_id=account_id,
                rule=new.rule,
                pointer=new.pointer,
                partner_id=new.partner_id,
                reason=new.reason,
                waived_by=waived_by,
                ends_on=new.ends_on,
            )
        )
        session.flush()
        detail = {"rule": new.rule} | name_decider(waived_by, actor)
        record_act(session, account_id, actor or waived_by, Action.WAIVER_GRANTED, waiver_id, detail)
        return _load_view(session, account_id, waiver_id)


def list_waivers(runtime: Runtime, account_id: str) -> list[WaiverView]:
    """Return the account's waivers, oldest first, with the revoked and the ended ones."""
    with runtime.db.read() as session:
        rows = session.scalars(select(Waiver).where(col(Waiver.account_id) == account_id).order_by(col(Waiver.id)))
        return [_to_view(row) for row in rows]


def list_waiver_page(
    runtime: Runtime, account_id: str, *, ended: bool, on: date, after: str | None, limit: int
) -> Page[WaiverView]:
    """Return a page of the waivers in force on a day, or of those that `ended`, newest first, after the one with the id `after`.

    Raises ValidationFailed if the account has no waiver `after`.
    """
    over = or_(col(Waiver.revoked_at).is_not(None), col(Waiver.ends_on) < on)
    wanted = over.is_(True) if ended else over.is_not(True)
    query = select(Waiver).where(col(Waiver.account_id) == account_id)
    with runtime.db.read() as session:
        return read_page(session, query, [col(Waiver.id)], _to_view, after=after, limit=limit, wanted=wanted)


def get_waiver(runtime: Runtime, account_id: str, waiver_id: str) -> WaiverView:
    """Return one waiver. Raises NotFound."""
    with runtime.db.read() as session:
        return _load_view(session, account_id, waiver_id)


def revoke_waiver(
    runtime: Runtime,
    account_id: str,
    waiver_id: str,
    *,
    revoked_by: str,
    test_only: bool = False,
    actor: str | None = None,
) -> WaiverView:
    """Revoke a waiver now and return it; revoking it again changes nothing. `actor` is as in `grant_waiver`.

    Raises InsufficientRole if `test_only`, and NotFound for an unknown waiver.
    """
    _refuse_test_keys(test_only=test_only)
    with runtime.db.write() as session:
        revoked = session.execute(
            update(Waiver)
            .where(col(Waiver.id) == waiver_id, col(Waiver.account_id) == account_id, col(Waiver.revoked_at).is_(None))
            .values(revoked_at=database_now(), revoked_by=revoked_by)
        )
        if row_count(revoked):
            detail = name_decider(revoked_by, actor)
            record_act(session, account_id, actor or revoked_by, Action.WAIVER_REVOKED, waiver_id, detail)
        return _load_view(session, account_id, waiver_id)


def apply_waivers(
    session: Session, account_id: str, plan: Plan, findings: Sequence[Finding], *, on: date
) -> tuple[list[Finding], list[Waiver]]:
    """Return the findings, with each waived finding marked by its waiver, and the waivers that were used.

    A finding that blocks is never marked.
    """
    if all(finding.severity == "block" for finding in findings):
        return list(findings), []
    partners = {plan.broker.id, plan.warehouse.id}
    # A row of all columns has the attributes of the model.
    in_force = [
        cast("Waiver", waiver)
        for waiver in session.execute(_IN_FORCE, {"of_account": account_id, "on": on})
        if waiver.partner_id is None or waiver.partner_id in partners
    ]
    used: dict[str, Waiver] = {}
    marked = []
    for finding in findings:
        waiver = None
        if finding.severity != "block":
            waiver = next((each for each in in_force if _applies_to(each, finding)), None)
        if waiver is None:
            marked.append(finding)
            continue
        used[waiver.id] = waiver
        marked.append(finding.model_copy(update={"waived_by": waiver.id}))
    return marked, list(used.values())


def _refuse_test_keys(*, test_only: bool) -> None:
    if test_only:
        raise InsufficientRole(f"waivers apply to live plans, so test mode must not change them; {ASK_FOR_LIVE}")


def _applies_to(waiver: Waiver, finding: Finding) -> bool:
    if waiver.rule != finding.rule:
        return False
    scope = (waiver.pointer or "").split("/")[1:]
    place = finding.pointer.split("/")[1:]
    return len(scope) <= len(place) and all(wanted in ("*", part) for wanted, part in zip(scope, place, strict=False))


def _load_view(session: Session, account_id: str, waiver_id: str) -> WaiverView:
    row = session.scalars(
        select(Waiver)
        .where(col(Waiver.id) == waiver_id, col(Waiver.account_id) == account_id)
        .execution_options(populate_existing=True)
    ).first()
    if row is None:
        raise NotFound(f"waiver {waiver_id} does not exist")
    return _to_view(row)


def _to_view(row: Waiver) -> WaiverView:
    return WaiverView(
        id=row.id,
        rule=row.rule,
        pointer=row.pointer,
        partner_id=row.partner_id,
        reason=row.reason,
        waived_by=row.waived_by,
        ends_on=row.ends_on,
        created_at=row.created_at,
        revoked_by=row.revoked_by,
        revoked_at=row.revoked_at,
    )
