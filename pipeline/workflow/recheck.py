"""Rechecks the plans whose entry is not over, and notifies the operators of each that changed.

It checks by the active rules and by the editions that are in force on the days of entry. A plan records both, so a recheck
that was interrupted continues where it ended, and a second one by the same rules and editions finds nothing to do. Rules can
also be tried, which records nothing.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Row, bindparam, func, or_, select, tuple_, update
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.errors import RulesUnreadable
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets, waivers
from pipeline.customs.checks.plan import KeptTariff, check_plan
from pipeline.customs.checks.tariff import check_tariff, keep_tariff, load_tariff
from pipeline.customs.reference.content import RulesContent, use_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.rules_reader import watch_rules
from pipeline.customs.tariff.facts import TariffFacts, read_facts
from pipeline.customs.tariff.in_force import StoredEditions, record_editions
from pipeline.customs.tariff.lines import FindEditions, TariffOnDay
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import ChangedFindings
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
#: These findings differ after every change of the rules, and say nothing about the goods.
_OF_THE_RULES: Final = "R"
#: An export that ended like this does not cross with this plan, or has crossed.
_OVER: Final = frozenset(
    {Outcome.CANCELLED.value, Outcome.WITHDRAWN.value, Outcome.SUPERSEDED.value, Outcome.RELEASED.value}
)

#: Findings name the edition; another edition alone makes no other finding.
_EDITION: Final = re.compile(r"\bedition [A-Za-z0-9][A-Za-z0-9._-]*")
#: The record of a plan that is not checked any more.
_NO_EDITIONS: Final = record_editions({})

_plans, _units = table(PlanSnapshot).c, table(ExportUnit).c
_place = tuple_(_plans.entry_on, _plans.id)
_UNCHECKED: Final = (
    _place > tuple_(bindparam("after_on"), bindparam("after_id")),
    or_(
        _plans.rules_hash.is_distinct_from(bindparam("active")),
        _plans.editions.is_(None),
        _plans.editions.in_(bindparam("outdated", expanding=True)),
    ),
    _plans.document != PURGED,
)
_FIND_EDITIONS: Final = (
    select(_plans.editions).where(_plans.entry_on >= bindparam("today"), _plans.editions.is_not(None)).distinct()
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
        _plans.editions,
    )
    .where(*_UNCHECKED)
    .order_by(_plans.entry_on, _plans.id)
    .limit(bindparam("most"))
)


@dataclass(frozen=True)
class RecheckedPlan:
    """A plan that was checked again: what is found now that was not found before, and the reverse.

    `export_id` is None for a plan that is registered only. `editions` are the names of those that checked it;
    `editions_before` is None if they are not known. `problem` says why the plan could not be checked.
    """

    plan_id: str
    account_id: str
    batch_id: str
    export_id: str | None
    ruleset: str
    editions: Sequence[str] = ()
    editions_before: Sequence[str] | None = None
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
    """Check plans again, at most `most`, and yield each; each that changed notifies the operators.

    Only plans with an entry today or later, which these rules and the editions in force have not checked, and whose export
    has not crossed. With `tried`, check by these rules, write nothing and notify nobody. `on_progress` is called with the
    numbers of plans that were looked at and of all. Raises RulesUnreadable.
    """
    active = _activate(runtime) if tried is None else tried
    after: tuple[date, str] = (runtime.clock().date(), "")
    with runtime.db.read() as session:
        editions = StoredEditions.load(session)
        recorded = session.scalars(_FIND_EDITIONS, {"today": after[0]})
        unchecked = {
            "active": active.content_hash,
            "outdated": [each for each in recorded if each is not None and editions.is_outdated(each)],
        }
        total = session.scalar(_COUNT_UNCHECKED, {"after_on": after[0], "after_id": after[1], **unchecked})
    total = min(total or 0, most or total or 0)
    done, left = 0, most
    while left is None or left > 0:
        size = BATCH if left is None else min(BATCH, left)
        with runtime.db.read() as session:
            rows = session.execute(
                _FIND_UNCHECKED, {"after_on": after[0], "after_id": after[1], "most": size, **unchecked}
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
        records = {result.plan_id: record for result, record in found}
        changed = {result.plan_id for result, _ in found if result.changed}
        if tried is None:
            _record_checked(runtime, [row for row in rows if row.id not in changed], active, records)
        for each, (result, record) in zip(rechecked, found, strict=True):
            if tried is not None or not result.changed or each.record(result, record):
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
class _Judges:
    """Rules, what the editions say of a plan by them, and what an export keeps of the editions."""

    rules: RulesContent
    tariff: Mapping[date, TariffOnDay]
    kept: KeptTariff

    def find_relevant(self, plan: Plan, on: date) -> list[Finding]:
        """Return the blocking findings and warnings about the plan, except those about the rules themselves."""
        with use_rules(self.rules):
            found = [*check_plan(plan, on=on, kept=self.kept), *check_tariff(plan, self.tariff)]
        return [each for each in found if each.severity != "note" and not each.rule.startswith(_OF_THE_RULES)]


@dataclass(frozen=True)
class _Recheck:
    runtime: Runtime
    active: RulesContent
    row: Row[Any]
    export: Export | None

    def check(self) -> tuple[RecheckedPlan, str]:
        """Return what changed for the plan since its last check, and the record of the editions that checked it now."""
        row = self.row
        identity = (row.id, row.account_id, row.batch_id, None if self.export is None else self.export.id)
        ruleset_id = _name_ruleset(self.active)
        try:
            plan = Plan.model_validate_json(row.document)
        except ValueError as error:
            problem = f"its document cannot be read: {type(error).__name__}"
            return RecheckedPlan(*identity, ruleset_id, problem=problem), _NO_EDITIONS
        on = self.runtime.clock().date()
        stored, before, now = self._load_judges(plan)
        found_before = [] if before is None else before.find_relevant(plan, on)
        found_now = now.find_relevant(plan, on)
        known_before, known_now = ({_key(each) for each in found} for found in (found_before, found_now))
        with self.runtime.db.read() as session:
            appeared, _ = waivers.apply_waivers(
                session, row.account_id, plan, [each for each in found_now if _key(each) not in known_before], on=on
            )
        gone = [each for each in found_before if _key(each) not in known_now]
        record = record_editions({day: known.editions for day, known in now.tariff.items()})
        names = stored.name(record) or (), stored.name(row.editions)
        news = [each for each in appeared if each.waived_by is None]
        return RecheckedPlan(*identity, ruleset_id, *names, news, gone), record

    def record(self, found: RecheckedPlan, editions: str) -> bool:
        """Write that the plan was checked, and notify the operators; return False if another recheck did."""
        row, export = self.row, self.export
        with self.runtime.db.write() as session:
            if export is not None:
                events.lock_export(session, export.id)
            claimed = session.execute(
                update(table(PlanSnapshot))
                .where(_plans.id == row.id, *_last_checked(row.rules_hash, row.editions))
                .values(rules_hash=self.active.content_hash, editions=editions)
                .returning(_plans.id)
            ).first()
            if claimed is None:
                return False
            change = ChangedFindings(
                self._name_before(), found.ruleset, found.appeared, found.gone, found.editions_before, found.editions
            )
            if export is None:
                operator_messages.enqueue_plan_rechecked(session, row.id, change)
            else:
                fact = {
                    "rulesBefore": row.rules_hash,
                    "rules": self.active.content_hash,
                    "editions": [*found.editions],
                    "appeared": len(found.appeared),
                    "gone": len(found.gone),
                }
                enqueued = operator_messages.enqueue_export_rechecked(session, export.id, change)
                events.append(
                    session, export.id, ACTOR, [NewEvent(EventType.EXPORT_RECHECKED, {**fact, **enqueued.fact})]
                )
        return True

    def _load_judges(self, plan: Plan) -> tuple[StoredEditions, _Judges | None, _Judges]:
        """Return the editions, what checked the plan last, None if its rules cannot be read, and what checks it now."""
        rules = self._load_before()
        accepted: list[TariffFacts | None] = [None] * len(plan.units)
        with self.runtime.db.read() as session:
            # One snapshot: without the rows of an edition that is removed meanwhile, its numbers would seem to be missing.
            stored = StoredEditions.load(session)
            recorded = stored.read(self.row.editions)
            if self.export is not None:
                query = select(_units.tariff).where(_units.export_id == self.export.id).order_by(_units.unit_no)
                accepted = [read_facts(facts) for facts in session.scalars(query)]
            now = _load_judges(session, plan, self.active, stored.find_on, accepted)
            if rules is None:
                return stored, None, now
            return stored, _load_judges(session, plan, rules, lambda on: recorded.get(on, {}), accepted), now

    def _load_before(self) -> RulesContent | None:
        try:
            return rulesets.load_stored(self.runtime, self.row.rules_hash)
        except RulesUnreadable:
            return None  # then all that the active rules find is news

    def _name_before(self) -> str | None:
        rules = self._load_before()
        return None if rules is None else _name_ruleset(rules)


def _load_judges(
    session: Session, plan: Plan, rules: RulesContent, find: FindEditions, accepted: Sequence[TariffFacts | None]
) -> _Judges:
    with use_rules(rules):
        tariff = load_tariff(session, plan, find)
        facts = keep_tariff(plan, tariff)
    # The rates of the acceptance count for an export if their edition was removed.
    kept = [
        new if new is not None and new.edition is not None else old for new, old in zip(facts, accepted, strict=True)
    ]
    return _Judges(rules, tariff, kept)


def _name_ruleset(rules: RulesContent) -> str:
    with use_rules(rules):
        return ruleset().id


def _key(finding: Finding) -> tuple[str, str, str, str]:
    return finding.rule, finding.severity, finding.pointer, _EDITION.sub("edition", finding.message)


def _last_checked(rules_hash: str | None, editions: str | None) -> tuple[ColumnElement[bool], ...]:
    return _plans.rules_hash.is_not_distinct_from(rules_hash), _plans.editions.is_not_distinct_from(editions)


def _record_checked(
    runtime: Runtime, rows: Sequence[Row[Any]], active: RulesContent, records: Mapping[str, str]
) -> None:
    """Record that the plans were checked by the active rules and these editions, unless others checked them meanwhile."""
    checked: dict[tuple[str | None, str | None, str], list[str]] = defaultdict(list)
    for row in rows:
        checked[row.rules_hash, row.editions, records.get(row.id, _NO_EDITIONS)].append(row.id)
    with runtime.db.write() as session:
        for (rules_hash, before, editions), ids in checked.items():
            session.execute(
                update(table(PlanSnapshot))
                .where(_plans.id.in_(ids), *_last_checked(rules_hash, before))
                .values(rules_hash=active.content_hash, editions=editions)
            )
