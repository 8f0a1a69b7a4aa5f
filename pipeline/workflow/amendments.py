"""Amendments: a changed plan replaces an export with a new revision, in the transaction that supersedes the old one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import select, update
from sqlmodel import Session, col

from pipeline.accounts.api_keys import EXECUTE, OPERATE, Caller
from pipeline.core import tracing
from pipeline.core.errors import EntryFiled, InsufficientRole, InvalidState, Purged, ValidationFailed
from pipeline.core.failpoints import failpoint
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.core.trace_context import TraceContext
from pipeline.customs.rules_reader import watch_rules
from pipeline.deliveries.entries.entries import name_entries
from pipeline.deliveries.entries.revisions import EarlierEntry, find_filed_entries
from pipeline.deliveries.outbox import retractions
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.submissions.left_entries import mark_left
from pipeline.documents.repository import PURGED
from pipeline.exports import events, queries
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, ExportPackage, ExportUnit, PlanSnapshot, Step
from pipeline.exports.plans import HashedPlan
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.states import ACTIVE_STATES, EXPORT_TRANSITIONS, ExportState, Outcome, StepState, source_states
from pipeline.exports.transitions import transition_export
from pipeline.workflow import read_model
from pipeline.workflow.acceptance import (
    AmendedExport,
    ConcurrentWrite,
    NewExport,
    build_export,
    check_new_plan,
    existing_response,
    inline_plan,
    resolve_plan,
    retry_on_conflict,
)
from pipeline.workflow.idempotency import Acceptance, IdempotentRequest, request_fingerprint
from pipeline.workflow.interventions import Precondition
from pipeline.workflow.preflight import check_account, find_executed_export, preflight

#: Each of these roles may amend an export.
AMENDING_ROLES: Final = (EXECUTE, OPERATE)
_AMENDABLE: Final = frozenset(state.value for state in source_states(EXPORT_TRANSITIONS, ExportState.SUPERSEDED))


def amend_export(
    runtime: Runtime,
    caller: Caller,
    export_or_batch_id: str,
    request: ExecuteRequest,
    *,
    raw_plan: Mapping[str, Any] | None,
    idempotency_key: str | None,
    precondition: Precondition | None = None,
    correct: bool = False,
    trace: TraceContext | None = None,
) -> Acceptance:
    """Accept an approved plan that replaces an executed or failed export, in one transaction, and return the response.

    The new revision is judged by the rules that are active now; the old one keeps its own. The old export is superseded
    and its pending deliveries are cancelled. All recipients that may have been notified of it receive a retraction that
    names the new revision. Its numbers pass to the packages that the new plan keeps, and the entries of its unchanged
    units go on. If the newest revision was made from the same plan, that revision is returned; a repeated amendment
    creates nothing.
    Raises NotFound, InvalidState, what `precondition` raises, EntryFiled if the entry of a changed unit is filed and the plan
    does not `correct` it, and the errors of an execution. A refused request writes nothing.
    """
    check_account(caller, request.account_id)
    inline = inline_plan(request, raw_plan)
    says = {"amends": export_or_batch_id} | ({"afterFiling": "correction"} if correct else {})
    idempotent = IdempotentRequest.create(caller, idempotency_key, request_fingerprint(request, inline, **says))

    watch_rules(runtime)

    def once() -> Acceptance:
        with runtime.db.read() as session:
            existing = idempotent.find_response(session)
            if existing is not None:
                return existing
            old = queries.find_export(session, caller.account_id, export_or_batch_id, test=caller.test)
            newest = find_executed_export(session, caller, old.batch_id) or old
            if precondition is not None:
                precondition(read_model.read_export(session, caller.account_id, old.id))
            amended = AmendedExport(old, _package_numbers(session, old.id))
        _check_belongs(caller, request.batch_id, old)
        with runtime.db.read() as session:
            resolved = resolve_plan(session, caller, request, inline)
        if newest.plan_hash == resolved.plan_hash:
            return existing_response(runtime, newest, idempotent)
        _check_amendable(old, newest)
        with runtime.db.read() as session:
            checked = check_new_plan(session, runtime, caller, resolved, request.upstream, old)
            amended = replace(amended, same=find_same_units(session, old, checked.hashed.plan))
        new = build_export(runtime, caller, checked, trace, amended)
        tracing.link_trace(TraceContext.from_row(old))
        failpoint("amend.before")
        with runtime.db.write() as session:
            streams = _supersede(session, caller, amended, new, precondition, correct=correct)
            new.write(session, caller, idempotent)
            detail = {"by": new.rows.export.id, "revision": new.rows.export.revision}
            record_act(session, caller.account_id, caller.actor, Action.EXPORT_AMENDED, amended.export.id, detail)
            failpoint("amend.mid")
        failpoint("amend.after")
        return new.acceptance(streams)

    return retry_on_conflict(once, request)


def find_same_units(session: Session, old: Export, plan: Plan) -> dict[str, int]:
    """Return since which revision the customs broker has each unit of `plan` as it is, by unitRef.

    Values count, not their notation. With another customs broker or country nothing is the same. A purged plan has
    nothing to compare.
    """
    stored = session.get_one(PlanSnapshot, old.plan_id)
    if stored.document == PURGED:
        return {}
    before = Plan.model_validate_json(stored.document)
    if _describe_route(before) != _describe_route(plan):
        return {}
    units = {unit.unit_ref: unit for unit in before.units}
    rows = select(col(ExportUnit.unit_ref), col(ExportUnit.same_since)).where(col(ExportUnit.export_id) == old.id)
    since = dict(session.execute(rows).all())
    return {
        unit.unit_ref: since[unit.unit_ref] or old.revision for unit in plan.units if units.get(unit.unit_ref) == unit
    }


def find_corrected(runtime: Runtime, caller: Caller, export_id: str, plan: Plan) -> list[EarlierEntry]:
    """Return the filed entries that an amendment of the export with this plan must correct. Raises NotFound."""
    with runtime.db.read() as session:
        old = queries.find_export(session, caller.account_id, export_id, test=caller.test)
        same, numbers = find_same_units(session, old, plan), _package_numbers(session, old.id)
        kept = {number: same.get(ref) for ref, number in numbers.items() if number is not None}
        return find_filed_entries(session, _NextRevision(old), kept)


class _NextRevision:
    """The revision that would replace an export."""

    def __init__(self, old: Export) -> None:
        self.account_id, self.batch_id, self.test = old.account_id, old.batch_id, old.test
        self.revision = old.revision + 1


def _describe_route(plan: Plan) -> tuple[str, ...]:
    return plan.broker.id, plan.destination_country, plan.export_country


def preflight_amendment(runtime: Runtime, caller: Caller, export_or_batch_id: str, hashed: HashedPlan) -> list[Finding]:
    """Return the findings that an amendment with this plan would have, by the same checks; nothing is written.

    Raises NotFound, ValidationFailed if the plan is of another batch, InsufficientRole for the mode of the key, and
    InvalidState or Purged if the export cannot be amended.
    """
    old = find_amendable(runtime, caller, export_or_batch_id)
    _check_belongs(caller, hashed.plan.batch_id, old)
    return preflight(runtime, caller, hashed, may_replace=True)


def can_amend(caller: Caller, export: Export) -> bool:
    """Return whether the caller may amend the export as it is; a newer revision may refuse it all the same."""
    may = any(caller.has_role(role) for role in AMENDING_ROLES) and caller.may_change(test=export.test)
    return (
        may and export.purged_at is None and export.state in _AMENDABLE and export.outcome != Outcome.WITHDRAWING.value
    )


def find_amendable(runtime: Runtime, caller: Caller, export_or_batch_id: str) -> Export:
    """Return the export if the caller can amend it now. Raises NotFound, InsufficientRole, InvalidState and Purged."""
    with runtime.db.read() as session:
        old = queries.find_export(session, caller.account_id, export_or_batch_id, test=caller.test)
        newest = find_executed_export(session, caller, old.batch_id) or old
    _check_mode(caller, old)
    _check_amendable(old, newest)
    return old


def _check_belongs(caller: Caller, batch_id: str, old: Export) -> None:
    if batch_id != old.batch_id:
        raise ValidationFailed(
            f"batchId must be {old.batch_id}, as in export {old.id}, not {batch_id}; send the same batchId",
            field="/batchId",
        )
    _check_mode(caller, old)


def _check_mode(caller: Caller, old: Export) -> None:
    if caller.test != old.test:
        mode = "test" if old.test else "live"
        ask = f"ask a person who may act on {mode} exports"
        remedy = ask if caller.person is not None else f"use a {mode} key, or {ask}"
        raise InsufficientRole(f"export {old.id} is a {mode} export; {remedy}")


def _check_amendable(old: Export, newest: Export) -> None:
    if old.id != newest.id:
        raise InvalidState(
            f"export {old.id} was superseded; amend the newest revision of its batch, {newest.id}",
            details={"exportId": newest.id, "revision": newest.revision},
        )
    if old.state in ACTIVE_STATES:
        raise InvalidState(
            f"export {old.id} is {old.state}; wait until it has ended, or cancel it and send the plan with a new batch id"
        )
    if old.purged_at is not None:
        raise Purged.for_export(old.id, "send the plan with a new batch id")
    if old.outcome == Outcome.WITHDRAWING.value:
        raise InvalidState(
            f"export {old.id} is being withdrawn; amend it when the customs broker confirms that, or is overdue"
        )
    if old.state not in _AMENDABLE:
        raise InvalidState(f"export {old.id} is {old.state} and cannot be amended; send the plan with a new batch id")


def _find_filed(session: Session, new: NewExport) -> list[EarlierEntry]:
    same = {unit.package_number: unit.same_since for unit in new.rows.units if unit.package_number is not None}
    return find_filed_entries(session, new.rows.export, same)


def _check_not_filed(filed: Sequence[EarlierEntry]) -> None:
    if filed:
        named = name_entries((each.customs_package_number, each.entry_number) for each in filed[:20])
        raise EntryFiled(
            f"the entry of {named} is filed, so another one would be a second entry of the same goods; send"
            " afterFiling=correction if the plan corrects it, or ask the customs broker to cancel the entry",
            field="/query/afterFiling",
            details={"entryNumbers": [each.entry_number for each in filed]},
        )


def _package_numbers(session: Session, export_id: str) -> dict[str, str | None]:
    rows = session.execute(
        select(col(ExportUnit.unit_ref), col(ExportUnit.package_number)).where(col(ExportUnit.export_id) == export_id)
    )
    return dict(rows.all())


def _supersede(
    session: Session,
    caller: Caller,
    amended: AmendedExport,
    new: NewExport,
    precondition: Precondition | None,
    *,
    correct: bool,
) -> Sequence[DeliveryStream]:
    """Supersede the old export; raise ConcurrentWrite if it changed after the new one was prepared."""
    old, by = amended.export, new.rows.export
    locked = session.get_one(Export, old.id, with_for_update=True)
    as_before = all(getattr(locked, name) == getattr(old, name) for name in ("state", "purged_at", "withdrawal_seq"))
    if not as_before or _package_numbers(session, old.id) != amended.package_numbers:
        raise ConcurrentWrite
    if precondition is not None:
        precondition(read_model.read_export(session, caller.account_id, old.id))
    filed = _find_filed(session, new)
    if not correct:
        _check_not_filed(filed)
    # Its summaries are those of the newer revision.
    transition_export(session, old.id, ExportState.SUPERSEDED, hold_seq=None, summary_trouble=None)
    session.execute(
        update(Step)
        .where(col(Step.export_id) == old.id, col(Step.state).in_((StepState.WAITING.value, StepState.READY.value)))
        .values(state=StepState.CANCELLED.value, lease_until=None, due_at=None)
    )
    # From here on the numbers are free for the new revision. Other exports do not see that before the commit.
    for model in (ExportPackage, ExportUnit):
        session.execute(update(model).where(col(model.export_id) == old.id).values(released=True))
    planned = {(unit.unit_ref, package.package_ref) for unit in new.hashed.plan.units for package in unit.packages}
    enqueued = retractions.retract_superseded(session, old, by, planned)
    fact = {"supersededBy": by.id, "revision": by.revision, **enqueued.fact}
    if by.broker_id != old.broker_id and any(each.export_id == old.id for each in filed):
        # Until the old customs broker cancels its entry, both may file one.
        fact |= mark_left(session, old.id, needs_person=True)
    events.append(session, old.id, caller.actor, [NewEvent(EventType.EXPORT_AMENDED, fact)])
    return enqueued.streams
