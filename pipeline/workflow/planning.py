"""Planning: builds a batch's plan from synced orders, judges it by preflight, and registers it for execution."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from sqlmodel import Session

from pipeline.accounts.api_keys import Caller
from pipeline.core.errors import Refused
from pipeline.core.findings import Finding, top_findings
from pipeline.core.json_input import explain_errors
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets
from pipeline.customs.reference.content import use_rules
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.rules_reader import watch_rules
from pipeline.deliveries.account_clock import read_now
from pipeline.exports.plans import HashedPlan, hash_plan
from pipeline.exports.schemas.plan import Plan, RulesetRef, StrictModel
from pipeline.orders import batches
from pipeline.orders.batches import FoundOrder, OrderSet, Versions
from pipeline.orders.builder import APPROVED_BY, STRATEGY, Draft, build_plan
from pipeline.orders.schemas import PlanRequest, TemplateItem
from pipeline.orders.sync import Owner, StoredRequest, retry_on_conflict
from pipeline.orders.units import KnownOrder, Shipment
from pipeline.orders.views import ExcludedOrder, MissingDatum, PlanAnswer, ValidationMessage
from pipeline.workflow.preflight import already_executed, check_account, find_executed_export, preflight, store_snapshot

#: The most messages in an answer; `findings` of preflight has its own limit.
_MAX_MESSAGES: Final = 1_000

_DIGITS_OF_BATCH: Final = 24

#: The destination of a request that names none, in the public protocol.
_DEFAULT_DESTINATION: Final = "US"


@dataclass(frozen=True)
class _Planned:
    """A draft, its checked plan if there is one, and the orders that it was built from."""

    batch_id: str
    draft: Draft
    hashed: HashedPlan | None
    findings: Sequence[Finding]
    orders: OrderSet
    versions: Versions

    @property
    def missing(self) -> Sequence[MissingDatum]:
        """What the draft misses, and what the findings say that its plan leaves empty."""
        missing, facts = self.draft.missing, self.draft.facts
        named = {(each.subject, each.id, each.field) for each in missing}
        found = () if facts is None else facts.find_missing(self.findings)
        return [*missing, *(each for each in found if (each.subject, each.id, each.field) not in named)]

    def name_fact(self, finding: Finding) -> str:
        """Return the name of the datum that the finding is about; empty if it is about the whole plan."""
        return "" if self.draft.facts is None else self.draft.facts.find(finding.pointer).path


def plan_batch(runtime: Runtime, caller: Caller, request: PlanRequest, *, idempotency_key: str | None) -> PlanAnswer:
    """Return the plan of the requested orders, registered for its batch unless it is a dry run or lacks something.

    The same request with unchanged data gives the same plan and batch. Raises InvalidAccountScope, IdempotencyKeyReused,
    and AlreadyExecuted if the given batch was executed. A refused request writes nothing.
    """
    check_account(caller, request.account_id)
    owner = Owner(caller.account_id, caller.test)
    stored = StoredRequest.create(owner, "plan", idempotency_key, request)

    def once() -> PlanAnswer:
        watch_rules(runtime)
        with runtime.db.read() as session, use_rules(rulesets.read_active(session)):
            earlier = stored.find_response(session)
            if earlier is not None:
                return PlanAnswer.model_validate_json(earlier)
            planned = _plan(session, runtime, caller, request)
        planned = _check(runtime, caller, planned)
        answer = _answer(planned, request, registered=_can_register(planned, request))
        if not _can_register(planned, request):
            return answer
        with runtime.db.write() as session:
            _register(session, caller, planned)
            stored.store_response(session, answer.model_dump_json(by_alias=True))
        return answer

    return retry_on_conflict(once)


def _plan(session: Session, runtime: Runtime, caller: Caller, request: PlanRequest) -> _Planned:
    owner = Owner(caller.account_id, caller.test)
    now = read_now(session, runtime, caller)
    if request.batch_id is not None:
        executed = find_executed_export(session, caller, request.batch_id)
        if executed is not None:
            raise already_executed(executed)
    found = batches.load_orders(session, owner, request.order_ids)
    country = request.destination_country or _DEFAULT_DESTINATION
    batch_id = request.batch_id or _find_free_batch(session, caller, request, country)
    usable, excluded = _split_usable(found, batch_id, country, now)
    stored = batches.load_template(session, owner, country)
    template = None if stored is None else _override(stored.item, request)
    products = batches.load_products(session, owner, {item.product_id for each in usable for item in each.order.items})
    rules = ruleset()
    shipment = Shipment(
        account_id=caller.account_id,
        batch_id=batch_id,
        warehouse_id=request.warehouse_id,
        broker_id=request.broker_id,
        destination_country=country,
        template=template,
        ruleset=RulesetRef(id=rules.id, as_of=rules.as_of),
        now=now,
        zone=ZoneInfo(entry_rules().clock.zone),
    )
    draft = build_plan(shipment, usable, {name: product.item for name, product in products.items()})
    draft.excluded = [*excluded, *draft.excluded]
    used = {item.product_id for each in draft.included for item in each.order.items}
    versions = batches.collect_versions(stored, [products[each] for each in used])
    return _Planned(batch_id, draft, None, (), found, versions)


def _find_free_batch(session: Session, caller: Caller, request: PlanRequest, country: str) -> str:
    """Return the batch id that follows from what is planned: a repeated request plans the same batch again.

    An executed or cancelled batch is finished; the next one has another id.
    """
    named = [caller.account_id, request.warehouse_id, request.broker_id, country, *sorted(set(request.order_ids))]
    digests = (hashlib.sha256("\n".join([*named, str(number)]).encode()).hexdigest() for number in count())
    candidates = (f"batch_{digest[:_DIGITS_OF_BATCH]}" for digest in digests)
    return next(each for each in candidates if find_executed_export(session, caller, each) is None)


def _override(template: TemplateItem, request: PlanRequest) -> TemplateItem:
    """Return the plan template with what the request gives instead."""
    changes: dict[str, StrictModel] = {}
    for name, given in (("entry", request.entry), ("invoice", request.invoice)):
        if given is not None:
            # The request's entry has members that a plan template has not.
            own = {each: getattr(given, each) for each in given.model_fields_set}
            changes[name] = type(given).model_construct(**{**dict(getattr(template, name)), **own})
    if request.canadian_export is not None:
        changes["canadian_export"] = request.canadian_export
    return template.model_copy(update=changes)


def _split_usable(
    found: OrderSet, batch_id: str, country: str, now: datetime
) -> tuple[list[KnownOrder], list[ExcludedOrder]]:
    """Return the orders that the batch may have, in the order of their ids, and the excluded others."""
    usable, excluded = [], [_exclude_unknown(order_id) for order_id in found.unknown]
    for each in sorted(found.known, key=lambda known: known.id):
        why = _find_reason(each, batch_id, country, now)
        if why is None:
            usable.append(KnownOrder(each.id, each.external_id, each.order))
        else:
            reason, message, remedy = why
            excluded.append(
                ExcludedOrder(
                    order_id=each.id,
                    external_id=each.external_id,
                    reason=reason,
                    message=f"Order {each.external_id} {message}.",
                    remedy=remedy,
                    batch_id=each.batch_id if reason in ("ALREADY_EXPORTED", "IN_OTHER_BATCH") else None,
                )
            )
    return usable, excluded


def _find_reason(each: FoundOrder, batch_id: str, country: str, now: datetime) -> tuple[Any, str, str] | None:
    if each.export_id is not None and not each.export_stopped:
        message = f"was exported with batch {each.batch_id} as export {each.export_id}"
        return "ALREADY_EXPORTED", message, "Amend that export, or sync the goods as a new order."
    if each.held_until is not None and each.batch_id != batch_id and each.held_until > now and each.export_id is None:
        until = each.held_until.strftime("%Y-%m-%d %H:%M UTC")
        remedy = f"Plan batch {each.batch_id} again without it, or wait until {until}."
        return "IN_OTHER_BATCH", f"is in the plan of batch {each.batch_id}, which is not executed", remedy
    if each.order.destination_country != country:
        message = f"goes to {each.order.destination_country}, and the plan to {country}"
        remedy = (
            f"Plan it in a batch with destinationCountry {each.order.destination_country}: a plan has one destination."
        )
        return "OTHER_DESTINATION", message, remedy
    return None


def _exclude_unknown(order_id: str) -> ExcludedOrder:
    return ExcludedOrder(
        order_id=order_id,
        external_id=None,
        reason="UNKNOWN_ORDER",
        message=f"No order {order_id} is synced.",
        remedy="Sync it with POST /api/orders/sync (or `exports orders sync FILE`), and send the id that the answer gives.",
    )


def _check(runtime: Runtime, caller: Caller, planned: _Planned) -> _Planned:
    """Return what was planned, with the plan's hash and the findings of preflight, if there is a plan."""
    raw = planned.draft.raw
    if raw is None:
        return planned
    try:
        plan = Plan.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        refused = explain_errors(error, raw)
        return replace(planned, findings=[*_to_findings(refused)])
    hashed = hash_plan(plan, raw)
    return replace(planned, hashed=hashed, findings=preflight(runtime, caller, hashed))


def _to_findings(refused: Refused) -> Sequence[Finding]:
    """Return the issues of a plan that its schema refuses: data that are valid alone can exceed a limit together."""
    return [
        Finding.blocking(
            "SCHEMA",
            issue["path"],
            f"{issue['path']} {issue['message']}.",
            "Correct the order, product or plan template that it comes from.",
        )
        for issue in (refused.details or {}).get("issues", ())
    ]


def _can_register(planned: _Planned, request: PlanRequest) -> bool:
    return not request.dry_run and planned.hashed is not None and planned.hashed.plan.approval is not None


def _register(session: Session, caller: Caller, planned: _Planned) -> None:
    """Write the plan and hold its orders for the batch. Raises AlreadyExecuted if the batch was executed meanwhile."""
    if planned.hashed is None:
        return
    owner = Owner(caller.account_id, caller.test)
    included = {each.id for each in planned.draft.included}
    batches.hold_orders(
        session,
        owner,
        planned.batch_id,
        planned.hashed.plan_hash,
        [each for each in planned.orders.known if each.id in included],
        planned.versions,
        planned.draft.expires_at,
    )
    # After the orders are locked: an execution that claimed them before is committed, and seen here.
    executed = find_executed_export(session, caller, planned.batch_id)
    if executed is not None:
        raise already_executed(executed)
    store_snapshot(session, caller, planned.hashed, planned.hashed.document, rulesets.read_active(session))


def _answer(planned: _Planned, request: PlanRequest, *, registered: bool) -> PlanAnswer:
    draft, hashed = planned.draft, planned.hashed
    blocked = hashed is None or not (registered or request.dry_run) or _has(planned.findings, "block")
    warned = bool(draft.excluded) or bool(draft.missing) or _has(planned.findings, "warn")
    readiness: Literal["READY", "READY_WITH_WARNINGS", "BLOCKED"] = (
        "BLOCKED" if blocked or draft.missing_approval else "READY_WITH_WARNINGS" if warned else "READY"
    )
    return PlanAnswer(
        batch_id=planned.batch_id,
        export_id=planned.batch_id,
        state="dry_run" if request.dry_run else "planned" if registered else "not_planned",
        status=_describe_status(planned, request, registered=registered),
        plan_hash=None if hashed is None else hashed.plan_hash,
        readiness_state=readiness,
        flags=[*_flags(planned, request)],
        strategy=STRATEGY,
        included_order_ids=[each.id for each in draft.included],
        excluded_order_ids=[each.order_id for each in draft.excluded],
        excluded_orders=draft.excluded,
        missing_data=[*planned.missing],
        validation_messages=_list_messages(planned),
        next_recommended_action=_recommend(planned, request, readiness),
        export_units=draft.units,
        plan=dict(draft.raw) if request.dry_run and draft.raw is not None else None,
    )


def _has(findings: Sequence[Finding], severity: str) -> bool:
    return any(finding.severity == severity and finding.waived_by is None for finding in findings)


def _flags(planned: _Planned, request: PlanRequest) -> Sequence[str]:
    draft = planned.draft
    facts = {
        "DRY_RUN": request.dry_run,
        "MISSING_DATA": bool(planned.missing),
        "EXCLUDED_ORDERS": bool(draft.excluded),
        "NO_ORDERS": not draft.included,
        "NEEDS_APPROVAL": draft.missing_approval,
        "BLOCKING_FINDINGS": _has(planned.findings, "block"),
        "WARNINGS": _has(planned.findings, "warn"),
        "SEVERAL_UNITS": len(draft.units) > 1,
    }
    return [name for name, holds in facts.items() if holds]


def _describe_status(planned: _Planned, request: PlanRequest, *, registered: bool) -> str:
    draft = planned.draft
    orders = f"{len(draft.included)} of {len(draft.included) + len(draft.excluded)} orders"
    if planned.hashed is None:
        return f"No plan: {orders} can be planned. next_recommended_action says what to do first."
    units = f"{len(draft.units)} unit{'s' * (len(draft.units) != 1)}"
    if request.dry_run:
        return f"A dry run: {orders} in {units}; nothing is stored."
    if not registered:
        return f"Not planned: {orders} in {units}, but nobody has approved the plan."
    if _has(planned.findings, "block"):
        return f"Planned, but it cannot be executed yet: {orders} in {units}."
    return f"Planned: {orders} in {units}."


def _list_messages(planned: _Planned) -> list[ValidationMessage]:
    draft = planned.draft
    messages = [
        ValidationMessage(
            code=finding.rule,
            severity=finding.severity,
            path=planned.name_fact(finding),
            pointer=finding.pointer,
            message=finding.message,
            remedy=finding.remedy,
        )
        for finding in top_findings(planned.findings)
        if finding.waived_by is None
    ]
    messages += draft.notes
    messages += [
        ValidationMessage(
            code="MISSING_DATA",
            severity="warn" if each.orders else "block",
            path=f"{each.subject}.{each.id}{'.' if each.field else ''}{each.field}",
            pointer=None,
            message=each.message,
            remedy=each.remedy,
        )
        for each in draft.missing
    ]
    messages += [
        ValidationMessage(
            code=each.reason,
            severity="warn",
            path=f"orderIds.{each.order_id}",
            pointer=None,
            message=each.message,
            remedy=each.remedy,
        )
        for each in draft.excluded
    ]
    return messages[:_MAX_MESSAGES]


def _recommend(planned: _Planned, request: PlanRequest, readiness: str) -> str:
    draft = planned.draft
    execute = f"POST /api/exports/execute with batchId {planned.batch_id}."
    if draft.raw is None:
        return _recommend_for_no_plan(draft)
    blocking = next((each for each in planned.findings if each.severity == "block"), None)
    if planned.hashed is not None and draft.missing_approval:
        return next(each.remedy for each in draft.missing if each.field == APPROVED_BY)
    if blocking is not None:
        name = planned.name_fact(blocking)
        return f"{blocking.remedy} {f'Look at {name}, then' if name else 'Then'} plan the batch again."
    if request.dry_run:
        return "Send the request without dryRun."
    if readiness == "READY":
        return execute
    return f"Read validationMessages. If they are acceptable, {execute}"


def _recommend_for_no_plan(draft: Draft) -> str:
    """Return what to do first if nothing could be planned: about what every plan needs, else about an order."""
    needed = (each for each in draft.missing if not each.orders and each.field != APPROVED_BY)
    first = next(needed, None) or draft.excluded[0]
    others = len(draft.excluded) - 1 if first in draft.excluded else 0
    more = f" excluded_orders has {others} more." if others else ""
    return f"{first.message} {first.remedy}{more}"
