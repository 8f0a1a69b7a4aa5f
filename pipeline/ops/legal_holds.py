"""Legal holds: marks that keep records from the purge, whatever their age, until a person releases them."""

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from pipeline.core.db import database_now
from pipeline.core.errors import InvalidState, NotFound
from pipeline.core.ids import new_id
from pipeline.core.pages import Page, read_page
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import Action, name_decider, record_act
from pipeline.exports.models import Account, Export, LegalHold, PlanSnapshot


def place_hold(
    runtime: Runtime, account_id: str, *, export_id: str | None, reason: str, placed_by: str, actor: str | None = None
) -> LegalHold:
    """Place a hold on an export's whole batch, or on a whole account; raise NotFound, or InvalidState if purged.

    The audit trail names the `actor`, by default the one who places it.
    """
    hold = LegalHold(id=new_id("hld"), account_id=account_id, export_id=export_id, reason=reason, placed_by=placed_by)
    with runtime.db.write() as session:
        # Lock first the export, then the account, in the order of a purge, to avoid a deadlock.
        export = None if export_id is None else session.get(Export, export_id, with_for_update=True)
        # A running purge has locked the account too: this transaction waits for it and sees its result.
        if session.get(Account, account_id, with_for_update={"key_share": True}) is None:
            raise NotFound(f"there is no account {account_id}")
        if export_id is not None:
            if export is None or export.account_id != account_id:
                raise NotFound(f"there is no export {export_id} in account {account_id}")
            if export.purged_at is not None:
                raise InvalidState(f"export {export_id} was purged already; nothing is left to hold")
        session.add(hold)
        session.flush()
        detail = {"export": export_id or "all"} | name_decider(placed_by, actor)
        record_act(session, account_id, actor or placed_by, Action.HOLD_PLACED, hold.id, detail)
        session.refresh(hold)
        session.expunge(hold)
    return hold


def release_hold(
    runtime: Runtime, hold_id: str, *, released_by: str, account_id: str | None = None, actor: str | None = None
) -> LegalHold:
    """Release a hold, of this account if one is given, and return it; its record is kept. `actor` is as in `place_hold`.

    Raise NotFound, and InvalidState if it was released already.
    """
    with runtime.db.write() as session:
        hold = session.get(LegalHold, hold_id, with_for_update=True)
        if hold is None or account_id not in (None, hold.account_id):
            raise NotFound(f"there is no legal hold {hold_id}")
        if hold.released_at is not None:
            raise InvalidState(f"legal hold {hold_id} was released by {hold.released_by} already")
        session.execute(
            update(LegalHold)
            .where(col(LegalHold.id) == hold_id)
            .values(released_by=released_by, released_at=database_now())
        )
        detail = name_decider(released_by, actor)
        record_act(session, hold.account_id, actor or released_by, Action.HOLD_RELEASED, hold_id, detail)
        session.refresh(hold)
        session.expunge(hold)
    return hold


def list_holds(runtime: Runtime, account_id: str | None = None) -> list[LegalHold]:
    """Return the holds, oldest first, including released ones."""
    query = select(LegalHold).order_by(col(LegalHold.id))
    if account_id is not None:
        query = query.where(col(LegalHold.account_id) == account_id)
    with runtime.db.read() as session:
        holds = list(session.scalars(query))
        session.expunge_all()
    return holds


def list_hold_page(
    runtime: Runtime, account_id: str, *, released: bool, after: str | None, limit: int
) -> Page[LegalHold]:
    """Return a page of the holds in force, or of the `released` ones, newest first, after the one with the id `after`.

    Raises ValidationFailed if the account has no hold `after`.
    """
    at = col(LegalHold.released_at)
    wanted = at.is_not(None) if released else at.is_(None)
    query = select(LegalHold).where(col(LegalHold.account_id) == account_id)
    with runtime.db.read() as session:
        page = read_page(session, query, [col(LegalHold.id)], _detach, after=after, limit=limit, wanted=wanted)
        session.expunge_all()
    return page


def get_hold(runtime: Runtime, account_id: str, hold_id: str) -> LegalHold:
    """Return one hold of the account. Raises NotFound."""
    with runtime.db.read() as session:
        hold = session.get(LegalHold, hold_id)
        session.expunge_all()
    if hold is None or hold.account_id != account_id:
        raise NotFound(f"there is no legal hold {hold_id}")
    return hold


def _detach(hold: LegalHold) -> LegalHold:
    return hold


def oldest_hold_of_export() -> ColumnElement[str | None]:
    """Return the oldest hold that keeps the export, as a subquery on `exports`; a hold keeps a whole batch."""
    return _oldest_hold(Export)


def oldest_hold_of_plan() -> ColumnElement[str | None]:
    """Return the oldest hold that keeps the plan, as a subquery on `plans`."""
    return _oldest_hold(PlanSnapshot)


def _oldest_hold(table: type[Export | PlanSnapshot]) -> ColumnElement[str | None]:
    held_export = aliased(Export)
    of_batch = select(col(held_export.id)).where(
        col(held_export.account_id) == col(table.account_id), col(held_export.batch_id) == col(table.batch_id)
    )
    return (
        select(func.min(col(LegalHold.id)))
        .where(
            col(LegalHold.account_id) == col(table.account_id),
            or_(col(LegalHold.export_id).is_(None), col(LegalHold.export_id).in_(of_batch.correlate(table))),
            col(LegalHold.released_at).is_(None),
        )
        .correlate(table)
        .scalar_subquery()
    )


def lock_holds(session: Session, account_id: str) -> None:
    """Wait for transactions that place a hold on the account, and block new ones until this transaction ends."""
    session.execute(select(col(Account.id)).where(col(Account.id) == account_id).with_for_update(read=True))
