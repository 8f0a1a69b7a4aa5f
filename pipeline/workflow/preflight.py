"""Preflight of approved plans: all checks before execution, and the plan snapshots."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, cast

from sqlalchemy import bindparam, case, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from pipeline.accounts.api_keys import Caller
from pipeline.core.cache import Kept
from pipeline.core.db import table
from pipeline.core.errors import (
    AlreadyExecuted,
    InvalidAccountScope,
    InvalidState,
    NotFound,
    PartnerNotLive,
    PlanExpired,
    PlanHashMismatch,
    PlanNotApproved,
    Refused,
    UnknownPartner,
)
from pipeline.core.findings import Finding, count_by_rule, top_findings
from pipeline.core.ids import new_id
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets, waivers
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.informal import check_other_exports
from pipeline.customs.checks.plan import check_approval_texts, check_hashed_part, check_plan
from pipeline.customs.checks.same_goods import OutdatedNumbers, check_same_goods
from pipeline.customs.checks.tariff import check_tariff, keep_tariff, load_tariff
from pipeline.customs.models import Waiver
from pipeline.customs.reference.content import RulesContent, rules_in_use, use_rules
from pipeline.customs.reference.ruleset import Ruleset, ruleset
from pipeline.customs.rules_reader import watch_rules
from pipeline.customs.tariff.editions import find_editions
from pipeline.customs.tariff.facts import KeptEdition, TariffFacts
from pipeline.customs.tariff.in_force import record_editions
from pipeline.deliveries.account_clock import read_now
from pipeline.documents.repository import PURGED
from pipeline.exports import packages
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.plans import HashedPlan, RegisteredPlan, check_approval, hash_plan
from pipeline.exports.schemas.export import ExecuteRequest, PreflightReport, RulesUsed
from pipeline.exports.schemas.plan import Plan
from pipeline.orders.batches import PlannedFacts, find_planned
from pipeline.orders.sync import Owner
from pipeline.workflow.partner_checks import check_partners, list_broker_findings

#: The findings of the plans that this process checked last, by plan hash, day, rules, and edition of the tariff of each unit.
#: The hash covers all but the approval.
_MAX_PLANS: Final = 256
_known_findings: Final[Kept[tuple[str, date, str, tuple[KeptEdition | None, ...]], list[Finding]]] = Kept(_MAX_PLANS)
#: The public protocol has no shorter batch ids. Older plans of this service may have them.
_MIN_BATCH_ID: Final = 3
#: Longer lists are not kept, because they need much memory.
_MAX_FINDINGS: Final = 50


@dataclass(frozen=True)
class Findings:
    """The findings of a plan, the waivers with which the account accepts some, and what each unit keeps of the tariff.

    `editions` are those that checked it, `outdated` the numbers that it takes over from other exports.
    """

    all: Sequence[Finding]
    waivers: Sequence[Waiver]
    tariff: Sequence[TariffFacts | None]
    editions: str
    outdated: OutdatedNumbers

    @property
    def blocking(self) -> bool:
        """Whether the plan must not be executed."""
        return any(finding.severity == "block" for finding in self.all)


def evaluate_plan(
    session: Session, caller: Caller, hashed: HashedPlan, *, now: datetime, replaced: Export | None = None
) -> Findings:
    """Return all findings of the plan at the time of the check: rules apply by the dates of its entries, waivers by `now`.

    `replaced` is the export that the plan amends.
    """
    plan, account_id, on = hashed.plan, caller.account_id, now.date()
    tariff = load_tariff(session, plan)
    kept = keep_tariff(plan, tariff)
    found = [*_check_alone_once(hashed, on, kept), *check_tariff(plan, tariff)]
    again, outdated = check_same_goods(session, account_id, plan, now=now, test=caller.test, replaced=replaced)
    found += again
    editions = record_editions({on: known.editions for on, known in tariff.items()})
    return Findings(*waivers.apply_waivers(session, account_id, plan, found, on=on), kept, editions, outdated)


def check_plan_alone(plan: Plan, *, on: date) -> list[Finding]:
    """Return the findings that need only the plan, on the day `on`: first of its packages, then of customs."""
    return [*packages.check_plan(plan), *check_plan(plan, on=on)]


def _check_alone_once(hashed: HashedPlan, on: date, kept: Sequence[TariffFacts | None]) -> list[Finding]:
    """Return what `check_plan_alone` returns, by the rates of the goods that are kept of the tariff.

    An execution takes over the findings that its preflight made here.
    """
    editions = tuple(None if each is None else each.edition for each in kept)
    key = (hashed.plan_hash, on, rules_in_use().content_hash, editions)
    found = _known_findings.get(key)
    if found is None:
        found = [*packages.check_plan(hashed.plan), *check_hashed_part(hashed.plan, on=on, kept=kept)]
        if len(found) <= _MAX_FINDINGS:
            _known_findings.put(key, found)
    return [*found, *check_approval_texts(hashed.plan)]


def build_report(
    hashed: HashedPlan, findings: Sequence[Finding], rules: Ruleset | None = None, on: date | None = None
) -> PreflightReport:
    """Return the preflight report of a plan with these findings, by these rules on this day."""
    listed = top_findings(findings)
    return PreflightReport(
        executable=not any(finding.severity == "block" for finding in findings),
        plan_hash=hashed.plan_hash,
        findings=listed,
        rules=count_by_rule(findings),
        findings_left_out=len(findings) - len(listed),
        checked_by=None
        if rules is None or on is None
        else RulesUsed(id=rules.id, as_of=rules.as_of, days_old=rules.days_old(on), days_late=rules.days_too_old(on)),
    )


def preflight(runtime: Runtime, caller: Caller, hashed: HashedPlan, *, may_replace: bool = False) -> list[Finding]:
    """Return the findings and refusals that an execution would return, by the same checks; nothing is written.

    With `may_replace`, the plan may replace the executed one of its batch.

    Raises InvalidAccountScope if the plan belongs to another account.
    """
    return _preflight(runtime, caller, hashed, may_replace=may_replace)[0]


def preflight_report(runtime: Runtime, caller: Caller, hashed: HashedPlan) -> PreflightReport:
    """Return what `preflight` finds as a report, with the rules that checked the plan."""
    return build_report(hashed, *_preflight(runtime, caller, hashed, may_replace=False))


def _preflight(
    runtime: Runtime, caller: Caller, hashed: HashedPlan, *, may_replace: bool
) -> tuple[list[Finding], Ruleset, date]:
    check_account(caller, hashed.plan.account_id, "/plan/accountId")
    watch_rules(runtime)
    with runtime.db.read() as session, use_rules(rulesets.read_active(session)):
        now = read_now(session, runtime, caller)
        # Findings about the whole plan come first, because a very long list is cut at its end.
        refused = approval_findings(hashed.plan, now)
        about_file: Sequence[Finding] = ()
        try:
            about_file = list_broker_findings(
                check_partners(session, runtime.settings, caller, hashed.plan), hashed.plan
            )
        except (UnknownPartner, PartnerNotLive) as unreached:
            refused.append(_refusal_finding("A01", unreached))
        executed = find_executed_export(session, caller, hashed.plan.batch_id)
        if not may_replace and executed is not None and executed.plan_hash != hashed.plan_hash:
            refused.append(_refusal_finding("A03", already_executed(executed)))
        # A changed plan replaces the batch's own export, so its labels are free for it.
        found = evaluate_plan(session, caller, hashed, now=now, replaced=executed)
        others = check_other_exports(session, caller.account_id, hashed.plan, test=caller.test)
        marked, _ = waivers.apply_waivers(session, caller.account_id, hashed.plan, others, on=now.date())
        return [*refused, *found.all, *marked, *about_file], ruleset(), now.date()


def approval_findings(plan: Plan, now: datetime) -> list[Finding]:
    """Return a finding if the plan has no approval that is valid at `now`, else an empty list."""
    try:
        check_approval(plan, now)
    except (PlanNotApproved, PlanExpired) as refused:
        return [_refusal_finding("A02", refused)]
    return []


def _refusal_finding(rule: str, refused: Refused) -> Finding:
    # A refusal's message says what is wrong, then after a semicolon what to do.
    problem, _, remedy = refused.message.partition("; ")
    return Finding.blocking(
        rule,
        (refused.field or "").removeprefix("/plan"),
        f"{problem[:1].upper()}{problem[1:]}.",
        f"{remedy[:1].upper()}{remedy[1:]}.",
    )


def register_plan(runtime: Runtime, caller: Caller, hashed: HashedPlan) -> RegisteredPlan:
    """Store an approved plan for a later execution; registering the same plan again changes nothing.

    Raises PlanNotApproved and PlanExpired, and AlreadyExecuted if its batch was executed with another plan.
    """
    check_account(caller, hashed.plan.account_id, "/plan/accountId")
    with runtime.db.read() as session:
        now = read_now(session, runtime, caller)
    check_approval(hashed.plan, now)
    document = hashed.document
    watch_rules(runtime)
    with runtime.db.write() as session:
        executed = find_executed_export(session, caller, hashed.plan.batch_id)
        if executed is not None and executed.plan_hash != hashed.plan_hash:
            raise already_executed(executed)
        if executed is not None and executed.purged_at is not None:
            # The export was purged: the response names it, and the plan's payload is not stored again.
            return RegisteredPlan(executed.plan_id, hashed.plan.batch_id, hashed.plan_hash, created=False)
        plan_id, created = store_snapshot(session, caller, hashed, document, rulesets.read_active(session))
    return RegisteredPlan(plan_id, hashed.plan.batch_id, hashed.plan_hash, created)


def find_registered_plan(session: Session, caller: Caller, request: ExecuteRequest) -> PlanSnapshot:
    """Return the snapshot of the plan registered for the request's batch, the newest if there are several.

    A plan that this service built from orders counts from its last planning. Raises NotFound, PlanHashMismatch if
    the batch has other plans or such a planning has replaced the named one, and ValidationFailed for an unknown batch id that is too
    short.
    """
    of_batch = (
        col(PlanSnapshot.account_id) == caller.account_id,
        col(PlanSnapshot.batch_id) == request.batch_id,
        col(PlanSnapshot.test) == caller.test,
    )
    newest = select(PlanSnapshot).where(*of_batch).order_by(col(PlanSnapshot.id).desc()).limit(1)
    wanted = newest if request.plan_hash is None else newest.where(col(PlanSnapshot.plan_hash) == request.plan_hash)
    stored = session.scalars(wanted).first()
    planned = find_planned(session, Owner(caller.account_id, caller.test), request.batch_id)
    if stored is not None and planned is not None and _is_replaced(stored, planned):
        if request.plan_hash is not None:
            raise PlanHashMismatch(
                f"planHash is {request.plan_hash}, but batch {request.batch_id} was planned again as {planned.plan_hash};"
                " execute its newest plan",
                field="/planHash",
                details={"given": request.plan_hash, "actual": planned.plan_hash},
            )
        stored = session.scalars(newest.where(col(PlanSnapshot.plan_hash) == planned.plan_hash)).first()
    if stored is None and len(request.batch_id) < _MIN_BATCH_ID:
        short = Issue(path="/batchId", message=f"must have at least {_MIN_BATCH_ID} characters", code="too_small")
        raise validation_failed([short])
    if stored is None and (other := session.scalars(newest).first()) is not None:
        raise PlanHashMismatch(
            f"planHash is {request.plan_hash}, but the newest plan of batch {request.batch_id} is {other.plan_hash};"
            " execute that one, or register yours",
            field="/planHash",
            details={"given": request.plan_hash, "actual": other.plan_hash},
        )
    if stored is None:
        raise NotFound(
            f"no plan is registered for batch {request.batch_id}; register one, or send it as `plan`", field="/batchId"
        )
    return stored


def _is_replaced(stored: PlanSnapshot, planned: PlannedFacts) -> bool:
    """Return whether the batch was planned from orders after this other plan of it."""
    return stored.plan_hash != planned.plan_hash and stored.registered_at <= planned.planned_at


def find_planning(session: Session, caller: Caller, resolved: HashedPlan | PlanSnapshot) -> PlannedFacts | None:
    """Return the facts of the planning if this service built the registered plan from orders, else None."""
    if isinstance(resolved, HashedPlan):
        return None
    planned = find_planned(session, Owner(caller.account_id, caller.test), resolved.batch_id)
    return planned if planned is not None and planned.plan_hash == resolved.plan_hash else None


def load_snapshot(stored: PlanSnapshot) -> HashedPlan:
    """Return the plan of a snapshot.

    Raises InvalidState if it was purged, ValueError if the row is damaged, PlanHashMismatch if the plan is changed.
    """
    check_kept(stored)
    return hash_plan(Plan.model_validate_json(stored.document), json.loads(stored.document))


def check_kept(stored: PlanSnapshot) -> None:
    """Raise InvalidState if the plan of a snapshot was purged."""
    if stored.document == PURGED:
        raise InvalidState(
            f"plan {stored.plan_hash} of batch {stored.batch_id} was purged after its retention period; send it as `plan`",
            field="/batchId",
        )


_plans = table(PlanSnapshot).c

# The row is locked in both cases, so that no purge removes it before the export that uses it is written.
_STORE_SNAPSHOT: Final = {
    dialect: each.on_conflict_do_update(
        index_elements=["account_id", "batch_id", "plan_hash", "test"],
        # A purged plan that is sent again gets its document back.
        set_={
            "document": case((_plans.document == PURGED, each.excluded.document), else_=_plans.document),
            "rules_hash": each.excluded.rules_hash,
            "editions": each.excluded.editions,
        },
    ).returning(_plans.id)
    for dialect, each in (
        ("postgresql", postgresql.insert(table(PlanSnapshot))),
        ("sqlite", sqlite.insert(table(PlanSnapshot))),
    )
}

_exports = table(Export).c
#: The newest revision of the export of a batch, for the parameters that `batch_params` returns.
FIND_EXECUTED: Final = (
    select(table(Export))
    .where(
        _exports.account_id == bindparam("of_account"),
        _exports.batch_id == bindparam("of_batch"),
        _exports.test == bindparam("of_test"),
    )
    .order_by(_exports.revision.desc())
    .limit(1)
)


def store_snapshot(
    session: Session,
    caller: Caller,
    hashed: HashedPlan,
    document: str,
    rules: RulesContent,
    editions: str | None = None,
) -> tuple[str, bool]:
    """Write the plan's snapshot, its canonical JSON `document`, unless it exists; return its id and whether it is new.

    It records the rules and the editions by which the plan was last checked, by default the editions that are in force.
    """
    with use_rules(rules):
        days = {entry_date(unit) for unit in hashed.plan.units}
    editions = editions or record_editions({on: find_editions(session, on).values() for on in days})
    new = {
        "id": new_id("pln"),
        "account_id": caller.account_id,
        "batch_id": hashed.plan.batch_id,
        "plan_hash": hashed.plan_hash,
        "test": caller.test,
        "document": document,
        "entry_on": max(days),
        "rules_hash": rules.content_hash,
        "editions": editions,
    }
    stored_id: str = session.execute(_STORE_SNAPSHOT[session.get_bind().dialect.name], new).scalar_one()
    return stored_id, stored_id == new["id"]


def find_executed_export(session: Session, caller: Caller, batch_id: str) -> Export | None:
    """Return the newest revision of the batch's export, or None if the batch was never executed.

    Test keys and live keys have separate batches, even if the batch ids are equal.
    """
    # A row of all columns has the attributes of the model.
    return cast("Export | None", session.execute(FIND_EXECUTED, batch_params(caller, batch_id)).first())


def batch_params(caller: Caller, batch_id: str) -> dict[str, Any]:
    """Return the parameters of `FIND_EXECUTED`."""
    return {"of_account": caller.account_id, "of_batch": batch_id, "of_test": caller.test}


def already_executed(executed: Export) -> AlreadyExecuted:
    """Return the error for a plan if its batch was executed with another plan."""
    return AlreadyExecuted(
        f"batch {executed.batch_id} was executed as export {executed.id} with plan {executed.plan_hash}; send a changed"
        f" plan to /api/exports/{executed.id}/amend, or use a new batch id",
        field="/batchId",
        details={"exportId": executed.id, "planHash": executed.plan_hash, "revision": executed.revision},
    )


def check_account(caller: Caller, account_id: str, field: str = "/accountId") -> None:
    """Raise InvalidAccountScope for another account than the caller's; `field` points to it in the request."""
    if account_id != caller.account_id:
        raise InvalidAccountScope(f"the key does not belong to account {account_id}", field=field)
