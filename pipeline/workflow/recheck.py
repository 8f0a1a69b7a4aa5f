"""Rechecks the plans whose entry is not over by the active rules, and notifies the operators of each that changed.

A plan records the rules by which it was last checked, so a recheck that was interrupted continues where it ended, and a
second one by the same rules finds nothing to do. Rules can also be tried, which records nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, cast

from sqlalchemy import Row, bindparam, func, select, tuple_, update
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.errors import RulesUnreadable
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets, waivers
from pipeline.customs.checks.plan import KeptTariff, check_plan
from pipeline.customs.checks.tariff import keep_tariff, load_tariff
from pipeline.customs.reference.content import RulesContent, use_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.rules_reader import watch_rules
from pipeline.customs.tariff.facts import read_facts
from pipeline.deliveries import operator_messages
from pipeline.deliveries.operator_messages import ChangedFindings
from pipeline.documents.repository import PURGED
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, ExportUnit, PlanSnapshot
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.states import Outcome
from pipeline.workflow.preflight import FIND_EXECUTED

ACTOR: Final = "recheck"
#: The plans that one transaction reads.
BATCH: Final = 100
#: They differ after every change of the rules, and say nothing about the goods.
_OF_THE_RULES: Final = frozenset({"R01", "R02"})
#: An export that ended like this does not cross with this plan, or has crossed.
_OVER: Final = frozenset({Outcome.CANCELLED.value, Outcome.SUPERSEDED.value, Outcome.RELEASED.value})

_plans, _units = table(PlanSnapshot).c, table(ExportUnit).c
_place = tuple_(_plans.entry_on, _plans.id)
_UNCHECKED: Final = (
    _place > tuple_(bindparam("after_on"), bindparam("after_id")),
    _plans.rules_hash.is_distinct_from(bindparam("active")),
    _plans.document != PURGED,
)
_COUNT_UNCHECKED: Final = select(func.count()).select_from(table(PlanSnapshot)).where(*_UNCHECKED)
_FIND_UNCHECKED: Final = (
    select(
        _plans.id,
        _plans.account_id,
        _plans.batch_id,
        _plans.test,
        _plans.document,
        _plans.entry_on,
        _plans.rules_hash,
    )
    .where(*_UNCHECKED)
    .order_by(_plans.entry_on, _plans.id)
    .limit(bindparam("most"))
)


@dataclass(frozen=True)
class RecheckedPlan:
    """A plan that was checked again: what the active rules find that the rules before did not, and the reverse.

    `export_id` is None for a plan that is registered only. `problem` says why the plan could not be checked.
    """

    plan_id: str
    account_id: str
    batch_id: str
    export_id: str | None
    appeared: Sequence[Finding] = ()
    gone: Sequence[Finding] = ()
    problem: str | None = None

    @property
    def changed(self) -> bool:
        """Whether a blocking finding or a warning appeared or is gone."""
        return bool(self.appeared or self.gone)


def recheck_plans(
    runtime: Runtime,
    on_progress: Callable[[int, int], None] = lambda _, __: None,
    *,
    most: int | None = None,
    tried: RulesContent | None = None,
) -> Iterator[RecheckedPlan]:
    """Check plans again by the active rules, at most `most`, and yield each; each that changed notifies the operators.

    Only plans with an entry today or later, which these rules have not checked, and whose export has not crossed.
    With `tried`, check by these rules, write nothing and notify nobody. `on_progress` is called with the numbers of
    plans that were looked at and of all. Raises RulesUnreadable.
    """
    active = _activate(runtime) if tried is None else tried
    after: tuple[date, str] = (runtime.clock().date(), "")
    with runtime.db.read() as session:
        total = session.scalar(
            _COUNT_UNCHECKED, {"after_on": after[0], "after_id": after[1], "active": active.content_hash}
        )
    total = min(total or 0, most or total or 0)
    done, left = 0, most
    while left is None or left > 0:
        size = BATCH if left is None else min(BATCH, left)
        with runtime.db.read() as session:
            rows = session.execute(
                _FIND_UNCHECKED,
                {"after_on": after[0], "after_id": after[1], "active": active.content_hash, "most": size},
            ).all()
            exports = [_find_export(session, row) for row in rows]
        if not rows:
            return
        rechecked = [
            _Recheck(runtime, active, row, export)
            for row, export in zip(rows, exports, strict=True)
            if export is None or (export.plan_id == row.id and export.outcome not in _OVER)
        ]
        found = []
        for number, each in enumerate(rechecked, start=done):
            on_progress(number, total)
            found.append(each.check())
        done += len(rows)
        on_progress(done, total)
        if tried is None:
            _record_checked(runtime, rows, active, except_for={each.plan_id for each in found if each.changed})
        for each, result in zip(rechecked, found, strict=True):
            if tried is not None or not result.changed or each.record(result):
                yield result
        after = (rows[-1].entry_on, rows[-1].id)
        left = None if left is None else left - len(rows)


def _activate(runtime: Runtime) -> RulesContent:
    watch_rules(runtime)
    with runtime.db.read() as session:
        return rulesets.read_active(session)


def _find_export(session: Session, row: Row[Any]) -> Export | None:
    of_batch = {"of_account": row.account_id, "of_batch": row.batch_id, "of_test": row.test}
    return cast("Export | None", session.execute(FIND_EXECUTED, of_batch).first())


@dataclass(frozen=True)
class _Recheck:
    runtime: Runtime
    active: RulesContent
    row: Row[Any]
    export: Export | None

    def check(self) -> RecheckedPlan:
        """Return what changed for the plan between its rules and the active ones."""
        row = self.row
        identity = (row.id, row.account_id, row.batch_id, None if self.export is None else self.export.id)
        try:
            plan = Plan.model_validate_json(row.document)
        except ValueError as error:
            return RecheckedPlan(*identity, problem=f"its document cannot be read: {type(error).__name__}")
        on, kept = self.runtime.clock().date(), self._load_kept(plan)
        found_before = self._find_before(plan, on, kept)
        before = {_key(each) for each in found_before}
        now = self._find_relevant(plan, self.active, on, kept)
        known = {_key(each) for each in now}
        with self.runtime.db.read() as session:
            appeared, _ = waivers.apply_waivers(
                session, row.account_id, plan, [each for each in now if _key(each) not in before], on=on
            )
        gone = [each for each in found_before if _key(each) not in known]
        return RecheckedPlan(*identity, [each for each in appeared if each.waived_by is None], gone)

    def record(self, found: RecheckedPlan) -> bool:
        """Write that the plan was checked, and notify the operators; return False if another recheck did."""
        row, export = self.row, self.export
        with self.runtime.db.write() as session:
            if export is not None:
                events.lock_export(session, export.id)
            claimed = session.execute(
                update(table(PlanSnapshot))
                .where(_plans.id == row.id, _plans.rules_hash.is_not_distinct_from(row.rules_hash))
                .values(rules_hash=self.active.content_hash)
                .returning(_plans.id)
            ).first()
            if claimed is None:
                return False
            change = ChangedFindings(self._name_before(), self._name(self.active), found.appeared, found.gone)
            if export is None:
                operator_messages.enqueue_plan_rechecked(session, row.id, change)
            else:
                fact = {
                    "rulesBefore": row.rules_hash,
                    "rules": self.active.content_hash,
                    "appeared": len(found.appeared),
                    "gone": len(found.gone),
                }
                enqueued = operator_messages.enqueue_export_rechecked(session, export.id, change)
                events.append(
                    session, export.id, ACTOR, [NewEvent(EventType.EXPORT_RECHECKED, {**fact, **enqueued.fact})]
                )
        return True

    def _load_kept(self, plan: Plan) -> KeptTariff:
        """Return what the export keeps of the tariff; of a plan that is registered only, what its export would keep."""
        with self.runtime.db.read() as session:
            if self.export is not None:
                query = select(_units.tariff).where(_units.export_id == self.export.id).order_by(_units.unit_no)
                return [read_facts(stored) for stored in session.scalars(query)]
            with use_rules(self.active):
                return keep_tariff(plan, load_tariff(session, plan))

    def _find_before(self, plan: Plan, on: date, kept: KeptTariff) -> list[Finding]:
        rules = self._load_before()
        return [] if rules is None else self._find_relevant(plan, rules, on, kept)

    def _load_before(self) -> RulesContent | None:
        try:
            return rulesets.load_stored(self.runtime, self.row.rules_hash)
        except RulesUnreadable:
            return None  # then all that the active rules find is news

    def _name_before(self) -> str | None:
        rules = self._load_before()
        return None if rules is None else self._name(rules)

    @staticmethod
    def _find_relevant(plan: Plan, rules: RulesContent, on: date, kept: KeptTariff) -> list[Finding]:
        with use_rules(rules):
            found = check_plan(plan, on=on, kept=kept)
        return [each for each in found if each.severity != "note" and each.rule not in _OF_THE_RULES]

    @staticmethod
    def _name(rules: RulesContent) -> str:
        with use_rules(rules):
            return ruleset().id


def _key(finding: Finding) -> tuple[str, str, str, str]:
    return finding.rule, finding.severity, finding.pointer, finding.message


def _record_checked(runtime: Runtime, rows: Sequence[Row[Any]], active: RulesContent, *, except_for: set[str]) -> None:
    """Record that the plans were checked by the active rules, unless others checked them meanwhile."""
    with runtime.db.write() as session:
        for rules_hash in {row.rules_hash for row in rows}:
            checked = [row.id for row in rows if row.rules_hash == rules_hash and row.id not in except_for]
            session.execute(
                update(table(PlanSnapshot))
                .where(_plans.id.in_(checked), _plans.rules_hash.is_not_distinct_from(rules_hash))
                .values(rules_hash=active.content_hash)
            )
