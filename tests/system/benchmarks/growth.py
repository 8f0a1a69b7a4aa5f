"""S9: what reads, sweeps and acceptance cost on a large database, against an almost empty one."""

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Final, Self

from sqlalchemy import select
from sqlmodel import col

from pipeline.core.runtime import Runtime, open_runtime
from pipeline.core.tenancy import account_scope
from pipeline.deliveries.calendars import MAX_EVENTS, CalendarToken, write_calendar
from pipeline.deliveries.deadlines import DeadlineFilter, list_deadlines
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.deliveries.submissions.overdue import notify_overdue
from pipeline.exports.event_models import FeedRange
from pipeline.exports.feed import read_feed
from pipeline.exports.queries import find_export
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import ExportState, Milestone, Outcome
from pipeline.interfaces.api.metrics import WorkCollector
from pipeline.ops import readiness, work_counts
from pipeline.workflow import queries, sweeper
from pipeline.workflow.inbox import load_inbox
from tests.support import factories
from tests.system.benchmarks.bulk import copy_export, copy_id
from tests.system.benchmarks.environments import REDIS, BenchmarkServers
from tests.system.benchmarks.exports import accept, accept_exports, make_plan
from tests.system.benchmarks.goals import Extent, Goal, at_most
from tests.system.benchmarks.statements import run_export

#: The exports of the almost empty database.
FEW: Final = 1_000
#: A probe is not called again once it took so many seconds.
_ENOUGH_SECONDS: Final = 10.0
#: A slow statement is a figure here, not an error.
_SETTINGS: Final = {"database_timeout_seconds": 60.0}
#: Nine in ten of the queued exports belong to other accounts: one account may have 10,000 active exports.
_OWN_QUEUED: Final = 9_000
_QUEUED_ACCOUNT: Final = f"CASE WHEN n <= {_OWN_QUEUED} THEN account_id ELSE 'acc_' || mod(n, 10) END"
#: The failed exports of each database. Half of them are quarantined, more than a page, so that lists have the same length.
_FAILED: Final = 200
#: The queued exports of the almost empty database: as many as a list of active exports shows.
_PAGE: Final = 51
#: What nothing measured reads is left empty.
_STORED: Final = {
    "broker_submissions.state": "'released'",
    # Every second handoff waits for a status: more than a calendar shows, and none is late.
    "broker_submissions.deadline_at": "CASE WHEN mod(n, 2) = 0 THEN now() + make_interval(days => 1, secs => n) END",
    "broker_submissions.first_accepted_at": "updated_at - make_interval(secs => n)",
    **dict.fromkeys(("plans.document", "units.document", "notifications.data", "idempotency_records.body"), "'{}'"),
}
_QUEUED: Final = {"account_id": _QUEUED_ACCOUNT, "units.document": "'{}'", "plans.document": "'{}'"}
#: Each copy is in the feed with one event.
_FEED: Final = (
    "WITH added AS (INSERT INTO feed (account_id, export_id, first_seq, last_seq, position)"
    " SELECT account_id, id, 1, 1, (SELECT max(position) FROM feed) + row_number() OVER (ORDER BY id) FROM exports"
    " WHERE id NOT IN (SELECT export_id FROM feed) RETURNING export_id)"
    " INSERT INTO events (export_id, seq, type, at, actor, data, hash)"
    " SELECT export_id, 1, 'EXPORT_ACCEPTED', now(), 'copy', '{}', '' FROM added"
)
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

FILTERS: Final[Mapping[str, ExportFilter]] = {
    "newest": ExportFilter(),
    "state failed": ExportFilter(state=ExportState.FAILED),
    "state cancelled": ExportFilter(state=ExportState.CANCELLED),
    "quarantined": ExportFilter(quarantined=True),
    "customs broker": ExportFilter(broker=factories.BROKER),
    "warehouse": ExportFilter(warehouse=factories.WAREHOUSE),
    "unknown customs broker": ExportFilter(broker="br_unknown"),
    "unknown warehouse": ExportFilter(warehouse="wh_unknown"),
    "accepted long ago": ExportFilter(accepted_before=_LONG_AGO),
    "accepted from now on": ExportFilter(accepted_after=datetime.now(UTC) + timedelta(days=1)),
    **{f"outcome {outcome.value}": ExportFilter(outcome=(outcome,)) for outcome in Outcome},
    **{f"reached {each.value}": ExportFilter(reached=each) for each in Milestone},
    "accepted by one customs broker": ExportFilter(reached=Milestone.ACCEPTED, broker=factories.BROKER),
    "accepted by none since tomorrow": ExportFilter(
        reached=Milestone.ACCEPTED, reached_after=datetime.now(UTC) + timedelta(days=1)
    ),
}

Probe = Callable[[Runtime], object]


def measure(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """Load both databases, and call every probe on each in turns."""
    goal = f"{{}} at {extent.stored:,} stored and {extent.queued:,} queued against {FEW:,} stored"
    with ExitStack() as open_:
        few = open_.enter_context(_Loaded(servers, FEW, _PAGE))
        many = open_.enter_context(_Loaded(servers, extent.stored, extent.queued))
        compare = partial(_compare, few, many, extent.calls)
        filters = {name: compare(partial(_list, wanted)) for name, wanted in FILTERS.items()}
        slowest = max(filters, key=lambda name: filters[name][0])
        within = sum(ratio <= 1.2 for ratio, _ in filters.values())
        ratio, note = filters[slowest]
        lists = f"slowest of {len(filters)}, {within} within: {slowest}, {note}"
        found = {"list filters": (ratio, lists)}
        found["search by batch id"] = compare(None)
        found["first page of the feed"] = compare(_read_first)
        found["end of the feed"] = compare(_read_last)
        found["deadlines"] = compare(_list_deadlines)
        found["calendar"] = compare(_write_calendar)
        found["inbox"] = compare(_load_inbox)
        found["/metrics"] = _compare_metrics(few, many, extent.calls)
        found["/readyz"] = compare(readiness.check_parts)
        found["accept"] = compare(_accept)
        # A sweep finds at most so many steps: the small database gets enough for all calls, so that both do the same work.
        few.queue(few.runtime.settings.sweep_limit * extent.calls)
        found["sweep"] = compare(_sweep)
    return [at_most("S9", goal.format(name), 1.2, *each) for name, each in found.items()]


class _Loaded:
    """A database with that many stored and queued exports, all copies of two that the service made."""

    def __init__(self, servers: BenchmarkServers, stored: int, queued: int) -> None:
        stack = servers.stack(REDIS)
        self.runtime = open_runtime(stack.settings.model_copy(update=_SETTINGS))
        self._connection = servers.connect(stack)
        (template,) = accept_exports(self.runtime, 1)
        run_export(self.runtime, template)
        _answer(self.runtime, template)
        each = stored // _FAILED
        failed = {
            "exports.state": f"CASE WHEN mod(n, {each}) = 0 THEN 'failed' ELSE state END",
            "exports.outcome": f"CASE WHEN mod(n, {each}) = 0 THEN 'needs_attention' ELSE 'released' END",
            "exports.quarantined": f"mod(n, {2 * each}) = 0",
        }
        copy_export(self._connection, template, stored, changes=_STORED | failed, seconds_apart=10)
        # Those of the template come first: a reader has placed them.
        _read_first(self.runtime)
        self._connection.execute(_FEED)
        self._connection.execute("VACUUM ANALYZE feed, events")
        with self.runtime.db.read() as session:
            batch = find_export(session, factories.ACCOUNT, template).batch_id
        self.batch_id = copy_id(batch, stored // 2)
        if queued:
            self.queue(queued)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self.runtime.close()

    def queue(self, count: int) -> None:
        """Add exports whose first step has been due for a minute."""
        (template,) = accept_exports(self.runtime, 1)
        copy_export(self._connection, template, count, changes=_QUEUED | {"steps.due_at": "due_at - interval '70 s'"})


def _compare(few: _Loaded, many: _Loaded, calls: int, probe: Probe | None) -> tuple[float, str]:
    """Return the ratio of the median seconds of a call on both databases, and both in milliseconds."""
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(calls):
        for side, database in enumerate((few, many)):
            call = probe or partial(_search, database.batch_id)
            began = time.perf_counter()
            call(database.runtime)
            seconds[side].append(time.perf_counter() - began)
        if sum(seconds[1]) > _ENOUGH_SECONDS:
            break
    small, large = (median(each[1:] or each) * 1000 for each in seconds.values())
    return large / small, f"{large:.1f} against {small:.1f} ms"


def _list(wanted: ExportFilter, runtime: Runtime) -> None:
    with account_scope(factories.ACCOUNT), runtime.db.read() as session:
        queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=50)


def _search(batch_id: str, runtime: Runtime) -> None:
    with account_scope(factories.ACCOUNT), runtime.db.read() as session:
        find_export(session, factories.ACCOUNT, batch_id)


def _read_first(runtime: Runtime) -> None:
    with account_scope(factories.ACCOUNT):
        read_feed(runtime, factories.ACCOUNT, None, limit=50)


def _read_last(runtime: Runtime) -> None:
    with account_scope(factories.ACCOUNT):
        with runtime.db.read() as session:
            last = select(col(FeedRange.export_id)).where(col(FeedRange.position).is_not(None))
            newest = session.scalar(
                last.where(col(FeedRange.account_id) == factories.ACCOUNT)
                .order_by(col(FeedRange.position).desc())
                .limit(1)
            )
        read_feed(runtime, factories.ACCOUNT, f"{newest}.1", limit=50)


def _answer(runtime: Runtime, export_id: str) -> None:
    """Record the answers of a customs broker: they are copied with their entry."""
    with account_scope(factories.ACCOUNT), runtime.db.read() as session:
        submission_id = session.scalars(
            select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        ).one()
    for status in ("accepted", "filed", "released"):
        answer = AcknowledgementBody.model_validate({"id": status, "status": status})
        with account_scope(factories.ACCOUNT):
            broker_answers.receive_answer(runtime, submission_id, answer, f"partner:{factories.BROKER}")


def _list_deadlines(runtime: Runtime) -> None:
    with account_scope(factories.ACCOUNT):
        if len(list_deadlines(runtime, factories.ACCOUNT, DeadlineFilter(), limit=50).items) != 50:
            raise RuntimeError("a page of deadlines is not full")


def _write_calendar(runtime: Runtime) -> None:
    if write_calendar(runtime, CalendarToken(factories.ACCOUNT, 0)).count(b"BEGIN:VEVENT") != MAX_EVENTS:
        raise RuntimeError("the calendar is not full")


def _load_inbox(runtime: Runtime) -> None:
    with account_scope(factories.ACCOUNT):
        if not load_inbox(runtime, factories.ACCOUNT).items:
            raise RuntimeError("the inbox is empty")


def _accept(runtime: Runtime) -> None:
    with account_scope(factories.ACCOUNT):
        accept(runtime, make_plan())


def _collect(runtime: Runtime) -> None:
    # Each call is the first of a new collector, which has nothing in its cache.
    if not WorkCollector(runtime, clock=itertools.count(step=1000).__next__).collect():
        raise RuntimeError("the database did not answer the metrics in time")


def _compare_metrics(few: _Loaded, many: _Loaded, calls: int) -> tuple[float, str]:
    """Compare a scrape while a sweeper keeps the counts; the note also says how long the sweeper counts."""
    took = []
    for database in (few, many):
        began = time.perf_counter()
        if not work_counts.keep_counts(database.runtime):
            raise RuntimeError("the counts were kept already")
        took.append((time.perf_counter() - began) * 1000)
    ratio, note = _compare(few, many, calls, _collect)
    counting = f"the sweeper counts for {took[1]:.0f} against {took[0]:.0f} ms every {work_counts.KEEP_SECONDS:.0f} s"
    return ratio, f"{note}; {counting}"


def _sweep(runtime: Runtime) -> None:
    sweeper.find_due(runtime)
    notify_overdue(runtime)
