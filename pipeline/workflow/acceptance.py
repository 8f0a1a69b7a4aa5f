"""Acceptance: a plan is checked, then written as an export in one transaction, once for each account and batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlmodel import Session, SQLModel

from config.queues import LARGE
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.print_settings import PrintSettings, find_print_settings
from pipeline.core.db import blocked_by_same_key, table
from pipeline.core.errors import DatabaseBusy, IdempotencyInProgress, PlanNotExecutable, ValidationFailed
from pipeline.core.failpoints import failpoint
from pipeline.core.findings import count_by_rule, top_findings
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.core.trace_context import TraceContext
from pipeline.customs import rulesets, treatment
from pipeline.customs.certifications import keep_certifications, list_used
from pipeline.customs.checks.informal import informal_columns
from pipeline.customs.checks.same_goods import OutdatedNumbers, same_goods_columns, take_numbers
from pipeline.customs.reference.content import RulesContent, use_rules
from pipeline.customs.rules_reader import watch_rules
from pipeline.deliveries.account_clock import read_now
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.exports.event_models import Event
from pipeline.exports.events import EventType, NewEvent, chain_events
from pipeline.exports.models import Export, ExportUnit, IdempotencyRecord, PlanSnapshot, Step
from pipeline.exports.plans import HashedPlan, check_approval, hash_plan, plan_hash_mismatch
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Approval
from pipeline.exports.states import ExportState
from pipeline.orders.batches import PlannedFacts, claim_listed_orders, claim_orders
from pipeline.orders.sync import Owner
from pipeline.workflow import read_model
from pipeline.workflow.acceptance_events import describe_acceptance, describe_planning
from pipeline.workflow.export_limit import check_active_exports
from pipeline.workflow.idempotency import Acceptance, IdempotentRequest, request_fingerprint
from pipeline.workflow.partner_checks import FILES_NOTHING, check_partners, list_broker_findings, refuse_uncarried
from pipeline.workflow.preflight import (
    Findings,
    already_executed,
    check_account,
    evaluate_plan,
    find_planning,
    find_registered_plan,
    load_snapshot,
    store_snapshot,
)
from pipeline.workflow.steps import initial_steps

M = TypeVar("M", bound=SQLModel)

#: How often acceptance starts over when another request wrote the same key or batch first.
MAX_CONFLICTS: Final = 5

_INSERTS: Final = tuple(insert(table(model)) for model in (Export, ExportUnit, Step, Event))


class ConcurrentWrite(Exception):
    """Another request wrote the rows that this one was about to write."""


@dataclass(frozen=True)
class AmendedExport:
    """The export that a new one replaces, the numbers of its customs packages, and since when units are the same."""

    export: Export
    package_numbers: Mapping[str, str | None]
    same: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckedPlan:
    """A plan that may be executed, its findings by these rules, the database's time, and the queue of each unit."""

    hashed: HashedPlan
    found: Findings
    rules: RulesContent
    now: datetime
    queues: tuple[str, ...]
    printing: PrintSettings  # the account's, for documents
    planned: PlannedFacts | None = None  # its orders leave with the export
    upstream_id: str | None = None


@dataclass(frozen=True)
class NewExport:
    """Everything that acceptance writes, built before its transaction."""

    hashed: HashedPlan
    rules: RulesContent
    editions: str
    rows: read_model.ExportRows
    body: str
    document: str
    queues: tuple[str, ...]
    planned: PlannedFacts | None = None
    certifications: Sequence[dict[str, Any]] = ()
    outdated: OutdatedNumbers = field(default_factory=OutdatedNumbers)

    def write(self, session: Session, caller: Caller, idempotent: IdempotentRequest) -> None:
        """Write the rows and the response.

        Raises InvalidState if the plan's orders, products or plan template have changed since this service planned it,
        or if another export has one of its orders.
        """
        rows = self.rows
        take_numbers(session, caller.account_id, self.outdated)
        rows.export.plan_id, _ = store_snapshot(session, caller, self.hashed, self.document, self.rules, self.editions)
        for into, written in zip(_INSERTS, ([rows.export], rows.units, rows.steps, rows.events), strict=True):
            session.execute(into, [vars(row) for row in written])
        keep_certifications(session, self.certifications)
        owner = Owner(caller.account_id, caller.test)
        if self.planned is not None:
            claim_orders(session, owner, self.planned, rows.export.id)
        else:
            claim_listed_orders(session, owner, self.hashed.plan, rows.export.id)
        idempotent.store_response(session, rows.export.id, self.body)

    def acceptance(self, streams: Sequence[DeliveryStream] = ()) -> Acceptance:
        """Return the response to the request."""
        return Acceptance(self.rows.export.id, 202, self.body, created=True, queues=self.queues, streams=tuple(streams))


def accept_plan(
    runtime: Runtime,
    caller: Caller,
    request: ExecuteRequest,
    *,
    raw_plan: Mapping[str, Any] | None,
    idempotency_key: str | None,
    trace: TraceContext | None = None,
) -> Acceptance:
    """Accept an approved plan for execution, in one transaction, and return the response.

    After that the service is responsible for the export. `raw_plan` is the JSON that `request.plan` was read from, None
    if the request names a registered plan. The same key with the same request returns the existing export; so does the
    same batch with the same plan. Raises the errors of the contract. A refused request writes nothing.
    """
    check_account(caller, request.account_id)
    inline = inline_plan(request, raw_plan)
    idempotent = IdempotentRequest.create(caller, idempotency_key, request_fingerprint(request, inline))
    watch_rules(runtime)

    def check(session: Session) -> Acceptance | Export | CheckedPlan:
        earlier = idempotent.find_response_or_export(session, caller, request.batch_id)
        if isinstance(earlier, Acceptance):
            return earlier
        resolved = resolve_plan(session, caller, request, inline)
        if earlier is None:
            checked = check_new_plan(session, runtime, caller, resolved, request.upstream)
            return replace(checked, planned=find_planning(session, caller, resolved))
        if earlier.plan_hash != resolved.plan_hash:
            raise already_executed(earlier)
        return earlier

    def once() -> Acceptance:
        with runtime.db.read() as session:
            found = check(session)
        if isinstance(found, Acceptance):
            return found
        if isinstance(found, CheckedPlan):
            return _write_new(runtime, caller, found, idempotent, trace)
        return existing_response(runtime, found, idempotent)

    return retry_on_conflict(once, request)


def retry_on_conflict(once: Callable[[], Acceptance], request: ExecuteRequest) -> Acceptance:
    """Return what `once` returns; call it again if another request wrote the same rows first.

    Raises IdempotencyInProgress if another request still holds this key at the deadline, else DatabaseBusy.
    """
    for _ in range(MAX_CONFLICTS):
        try:
            return once()
        except (IntegrityError, ConcurrentWrite):
            continue  # another request wrote this key, this batch or this revision first; the next try finds it
        except DatabaseBusy as busy:
            if blocked_by_same_key(busy, IdempotencyRecord):
                raise IdempotencyInProgress(
                    "a request with this idempotency key is still in progress; repeat it in a moment",
                    field="Idempotency-Key",
                    headers={"Retry-After": "1"},
                ) from busy
            raise
    raise DatabaseBusy(f"too many requests accept batch {request.batch_id} at the same time; try again later")


def inline_plan(request: ExecuteRequest, raw_plan: Mapping[str, Any] | None) -> HashedPlan | None:
    """Return the plan in the request, or None if it names a registered plan."""
    return None if request.plan is None or raw_plan is None else hash_plan(request.plan, raw_plan)


def resolve_plan(
    session: Session, caller: Caller, request: ExecuteRequest, inline: HashedPlan | None
) -> HashedPlan | PlanSnapshot:
    """Return the plan in the request, or the registered plan's snapshot (of a purged plan only the hash is left).

    Raises NotFound, and the error of a request with contradictory parts.
    """
    if inline is None:
        return find_registered_plan(session, caller, request)
    check_account(caller, inline.plan.account_id, "/plan/accountId")
    if inline.plan.batch_id != request.batch_id:
        raise ValidationFailed(
            f"the plan's batchId is {inline.plan.batch_id}, the request's is {request.batch_id}; send the same one",
            field="/plan/batchId",
        )
    if request.plan_hash is not None and request.plan_hash != inline.plan_hash:
        raise plan_hash_mismatch("/planHash", request.plan_hash, inline.plan_hash)
    return inline


def _write_new(
    runtime: Runtime, caller: Caller, checked: CheckedPlan, idempotent: IdempotentRequest, trace: TraceContext | None
) -> Acceptance:
    new = build_export(runtime, caller, checked, trace)
    failpoint("accept.before")
    with runtime.db.write() as session:
        new.write(session, caller, idempotent)
        failpoint("accept.mid")
    failpoint("accept.after")
    return new.acceptance()


def check_new_plan(
    session: Session,
    runtime: Runtime,
    caller: Caller,
    resolved: HashedPlan | PlanSnapshot,
    upstream: str | None,
    replaced: Export | None = None,
) -> CheckedPlan:
    """Return the plan with its findings if it may be executed for `upstream`; `replaced` is the export that it amends.

    Raises:
    - PlanNotApproved or PlanExpired if the approval is not valid now,
    - PlanNotExecutable if a finding blocks it, or if the broker's own file cannot carry it,
    - UnknownPartner or PartnerNotLive if a partner cannot be used,
    - InvalidState if the plan was purged,
    - RateLimited if the account has its maximum of active exports.
    """
    hashed = resolved if isinstance(resolved, HashedPlan) else load_snapshot(resolved)
    checked_at = read_now(session, runtime, caller)
    check_approval(hashed.plan, checked_at)
    now, queues = check_active_exports(session, runtime, hashed.plan, caller.account_id)
    with use_rules(rulesets.read_active(session)) as rules:  # the export keeps these rules until its end
        found = evaluate_plan(session, caller, hashed, now=checked_at, replaced=replaced)
    if found.blocking:
        raise PlanNotExecutable(top_findings(found.all), count_by_rule(found.all))
    # Not in the transaction that writes: this may take a second for a large plan. A later change of a partner has the effect
    # of one after the acceptance: messages of a paused partner wait, and the handoff checks the file again.
    noted = list_broker_findings(check_partners(session, runtime.settings, caller, hashed.plan, upstream), hashed.plan)
    refuse_uncarried(noted)
    found = replace(found, all=[*found.all, *(each for each in noted if each.rule == FILES_NOTHING)])
    printing = find_print_settings(session, caller.account_id, hashed.plan.broker.id)
    return CheckedPlan(hashed, found, rules, now, queues, printing, upstream_id=upstream)


def build_export(
    runtime: Runtime,
    caller: Caller,
    checked: CheckedPlan,
    trace: TraceContext | None,
    amended: AmendedExport | None = None,
) -> NewExport:
    """Return everything that acceptance writes; `amended` is the export that it replaces."""
    # Digests, canonical texts and the response are built before the transaction: SQLite has only one writer.
    with use_rules(checked.rules):
        rows = _build_rows(caller, checked, trace, runtime.settings.stalled_seconds, amended)
        # A test plan may certify anything, so only live exports are remembered.
        certifications = [] if rows.export.test else list_used(checked.hashed.plan, rows.export.id)
    body = read_model.build_view(rows).model_dump_json(by_alias=True)
    return NewExport(
        checked.hashed,
        checked.rules,
        checked.found.editions,
        rows,
        body,
        checked.hashed.document,
        checked.queues,
        checked.planned,
        certifications,
        checked.found.outdated,
    )


def _build_rows(
    caller: Caller,
    checked: CheckedPlan,
    trace: TraceContext | None,
    stalled_seconds: float,
    amended: AmendedExport | None,
) -> read_model.ExportRows:
    """Return the rows of a new export; `plan_id` stays empty until the snapshot is written."""
    hashed, found, now = checked.hashed, checked.found, checked.now
    plan = hashed.plan
    approval = cast("Approval", plan.approval)  # check_approval() refuses a plan without one
    numbers = {} if amended is None else amended.package_numbers
    digests = {unit.unit_ref: treatment.unit_digest(treatment.line_digests(unit)) for unit in plan.units}
    export = _new_row(
        Export,
        id=new_id("exp", now),  # so that lists find instants of acceptance by the id
        account_id=caller.account_id,
        batch_id=plan.batch_id,
        revision=1 if amended is None else amended.export.revision + 1,
        supersedes_id=None if amended is None else amended.export.id,
        plan_id="",
        plan_hash=hashed.plan_hash,
        test=caller.mode == "test",
        state=ExportState.ACCEPTED.value,
        broker_id=plan.broker.id,
        warehouse_id=plan.warehouse.id,
        upstream_id=checked.upstream_id or (None if amended is None else amended.export.upstream_id),
        ruleset_id=plan.ruleset.id,
        ruleset_as_of=plan.ruleset.as_of,
        rules_hash=checked.rules.content_hash,
        units_total=len(plan.units),
        treatment_digest=treatment.export_digest(digests),
        prints_french=checked.printing.french,
        logo_sha256=checked.printing.logo_sha256,
        broker_name=checked.printing.broker_name,
        approved_by=approval.approved_by,
        approved_at=approval.approved_at_utc,
        sent_by=caller.actor,
        findings=[finding.model_dump(mode="json", by_alias=True) for finding in top_findings(found.all)],
        trace_parent=None if trace is None else trace.parent,
        trace_state=None if trace is None else trace.state,
        accepted_at=now,
        updated_at=now,
    )
    units = [
        _new_row(
            ExportUnit,
            export_id=export.id,
            unit_no=no,
            account_id=caller.account_id,
            unit_ref=unit.unit_ref,
            customs_package_id=new_id("cpk"),
            package_number=numbers.get(unit.unit_ref),
            same_since=None if amended is None else amended.same.get(unit.unit_ref),
            invoice_number=unit.invoice.number,
            purchase_order=unit.invoice.purchase_order,
            **informal_columns(unit),
            **goods,
            treatment_digest=digests[unit.unit_ref],
            document=hashed.units[no - 1],
            tariff=None if kept is None else kept.to_json(),
            created_at=now,
        )
        for no, (unit, kept, goods) in enumerate(
            zip(plan.units, found.tariff, same_goods_columns(plan.units, test=caller.test), strict=True), 1
        )
    ]
    happened = [describe_acceptance(export, units, found, checked.printing, trace)]
    if checked.planned is not None:
        happened += describe_planning(checked.planned)
    if amended is not None:
        happened.append(
            NewEvent(EventType.EXPORT_AMENDED, {"supersedes": amended.export.id, "revision": export.revision})
        )
    export.next_seq = len(happened) + 1
    log = [_new_row(Event, **row) for row in chain_events(export.id, 1, caller.actor, now, happened)]
    # The task messages are sent at once; from `due_at` on the sweeper finds the steps.
    due_at = now + timedelta(seconds=stalled_seconds)
    large = [queue == LARGE for queue in checked.queues]
    steps = [_new_row(Step, **row) for row in initial_steps(export.id, large, due_at)]
    return read_model.ExportRows(export=export, units=units, steps=steps, events=log)


def _new_row(model: type[M], **values: Any) -> M:
    """Return a row to insert: an object with the attributes of the model, because an instance costs ten times as much."""
    return cast("M", SimpleNamespace(**_column_defaults(model) | values))


@cache
def _column_defaults(model: type[SQLModel]) -> dict[str, Any]:
    return {
        column.name: column.default.arg if isinstance(column.default, ScalarElementColumnDefault) else None
        for column in table(model).c
    }


def existing_response(runtime: Runtime, executed: Export, idempotent: IdempotentRequest) -> Acceptance:
    """Return the existing export as the response to a repeated request, and store it under the request's key."""
    with runtime.db.read() as session:
        body = read_model.read_export(session, executed.account_id, executed.id).model_dump_json(by_alias=True)
    if idempotent.key is not None:
        with runtime.db.write() as session:
            idempotent.store_response(session, executed.id, body)
    return Acceptance(executed.id, 202, body)
