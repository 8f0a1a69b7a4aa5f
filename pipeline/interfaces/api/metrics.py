"""Metrics of the work in the database, of the customs rules, and of the disks that the service fills."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import and_, func, select
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col

from config.queues import BINDINGS, DEAD, TASK_QUEUES
from pipeline.core import tenancy
from pipeline.core.db import database_now
from pipeline.core.errors import DatabaseBusy, MessageBrokerDown, RulesUnreadable
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.customs import rules_reader, rulesets
from pipeline.customs.reference.content import packaged_rules, use_rules
from pipeline.customs.reference.ruleset import Ruleset, ruleset
from pipeline.deliveries.channels import queue_reader
from pipeline.deliveries.outbox.outbox import BROKER, OPERATOR, UPSTREAM, WAREHOUSE
from pipeline.exports.models import Step
from pipeline.exports.numbers import find_most_used_prefix
from pipeline.exports.states import StepState
from pipeline.interfaces.api.single_flight import SingleFlight
from pipeline.ops import work_counts
from pipeline.ops.queue_samples import QUEUES
from pipeline.ops.readiness import ServicePart
from pipeline.ops.stats.rollup import UNCOMMITTED_SECONDS as _UNCOMMITTED_SECONDS
from pipeline.ops.work_counts import OVERDUE_HANDOFFS, CountKey
from pipeline.workflow.steps import STEPS

log = structlog.get_logger(__name__)

_BY_STATE: Final = (
    ("exports", "Active and failed exports", work_counts.EXPORTS, work_counts.EXPORT_STATES),
    ("exports_steps", "Steps that a worker may start", work_counts.STEPS, (StepState.READY.value,)),
    ("exports_deliveries", "Deliveries that are not delivered", work_counts.DELIVERIES, work_counts.DELIVERY_STATES),
)
_OUTCOMES_HELP: Final = (
    f"Executed exports by outcome, if it is not final; of each account at most {work_counts.MOST_OUTCOMES}"
)
_WHOLE: Final = (
    ("exports_quarantined", "Exports that are quarantined now", work_counts.QUARANTINED_EXPORTS),
    ("exports_steps_retrying", "Steps that failed and will be retried", work_counts.RETRYING_STEPS),
    ("exports_breakers_open", "Circuit breakers that are open", work_counts.OPEN_BREAKERS),
    (
        "exports_commands_waiting",
        "Commands by queue that wait because their account has its maximum of active exports",
        work_counts.WAITING_COMMANDS,
    ),
    (
        "exports_certifications_expiring",
        "Products of accounts whose USMCA certification in use ends within 30 days, without a next one",
        work_counts.EXPIRING_CERTIFICATIONS,
    ),
)
_QUEUES: Final = (
    ("exports_queue_depth", "Work of the queue that waits or is running", work_counts.QUEUE_DEPTH),
    ("exports_queue_oldest_due_seconds", "How long the oldest work of the queue has been due", work_counts.QUEUE_DELAY),
)
_MESSAGE_QUEUES: Final = (*TASK_QUEUES, *BINDINGS, DEAD)
_PREFIX_HELP: Final = "Used part of the GS1 company prefix of the account that has used the most of its own"
#: The customs broker of handoffs of those that are not named.
_OTHERS: Final = ("", "other")


class WorkCollector(Collector):
    """Counts open work by state and queue, finished steps, open circuit breakers and overdue handoffs.

    The sweeper keeps the counts. What is done is counted only since this process started: it grows for years.
    """

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = monotonic) -> None:
        self._runtime = runtime
        self._finished_steps = _FinishedSteps()
        # Without a sweeper, counting reads all open work, and every caller that reaches the port can ask for it.
        self._counts = SingleFlight(self._read_counts, clock=clock)

    def describe(self) -> Sequence[Metric]:
        """Return nothing, so that registering the collector reads no database."""
        return ()

    def collect(self) -> Sequence[Metric]:
        """Return the counts, and whether the database responds; if not, there are no counts."""
        counts: Sequence[Metric] = ()
        try:
            counts = self._counts.get()
        except DatabaseBusy:
            log.warning("metrics_unavailable")
        return [GaugeMetricFamily("exports_database_up", "1 if the database responds, else 0", bool(counts)), *counts]

    def _read_counts(self) -> list[Metric]:
        with tenancy.account_scope(ALL_ACCOUNTS), self._runtime.db.read() as session:
            counts = work_counts.read_counts(session)
            finished = self._finished_steps.count(session)
            prefix = find_most_used_prefix(session)
        totals: Counter[tuple[str, str]] = Counter()
        for key, value in counts.items():
            totals[key.name, key.state] += value
        families: list[Metric] = []
        for name, help_text, counted, states in _BY_STATE:
            family = GaugeMetricFamily(name, f"{help_text} by state", labels=["state"])
            for state in states:
                family.add_metric([state], totals[counted, state])
            families.append(family)
        outcomes = GaugeMetricFamily("exports_outcomes", _OUTCOMES_HELP, labels=["outcome"])
        for outcome in work_counts.OPEN_OUTCOMES:
            outcomes.add_metric([outcome.value], totals[work_counts.OUTCOMES, outcome.value])
        families += [outcomes, finished, self._count_overdue(counts)]
        for name, help_text, counted in _QUEUES:
            family = GaugeMetricFamily(name, help_text, labels=["queue"])
            for queue in QUEUES:
                family.add_metric([queue], totals[counted, queue])
            families.append(family)
        failing = GaugeMetricFamily(
            "exports_failing_endpoint_seconds",
            "How long the oldest pending message to an endpoint that fails has waited",
            labels=["partner_kind"],
        )
        for kind in (BROKER, WAREHOUSE, OPERATOR, UPSTREAM):
            failing.add_metric([kind], totals[work_counts.FAILING_ENDPOINT, kind])
        families.append(failing)
        families += [GaugeMetricFamily(name, help_text, totals[counted, ""]) for name, help_text, counted in _WHOLE]
        used = GaugeMetricFamily("exports_gs1_prefix_used_ratio", _PREFIX_HELP, prefix.part if prefix else 0)
        return [*families, used]

    def _count_overdue(self, counts: Mapping[CountKey, int]) -> Metric:
        """Name the customs brokers with the most overdue handoffs, so that there are not too many time series."""
        family = GaugeMetricFamily(
            "exports_handoffs_overdue", "Handoffs whose next status is overdue", labels=["account", "broker"]
        )
        of_broker = Counter(
            {(key.account_id, key.state): value for key, value in counts.items() if key.name == OVERDUE_HANDOFFS}
        )
        named = of_broker.most_common(self._runtime.settings.metrics_brokers)
        for broker, value in (*named, (_OTHERS, of_broker.total() - sum(value for _, value in named))):
            family.add_metric(broker, value)
        return family


class ReadinessCollector(Collector):
    """Shows the parts of `/readyz`, and how many messages wait in each queue of the message broker."""

    def __init__(self, runtime: Runtime, parts: SingleFlight[list[ServicePart]]) -> None:
        self._runtime, self._parts = runtime, parts
        # A message broker may not answer for long.
        self._messages = SingleFlight(self._count_messages)

    def describe(self) -> Sequence[Metric]:
        """Return nothing, so that registering the collector asks neither the database nor the message broker."""
        return ()

    def collect(self) -> Sequence[Metric]:
        """Return the parts, and the queues if the message broker responds."""
        ready = GaugeMetricFamily(
            "exports_ready", "1 if the part of the service makes progress, else 0", labels=["part"]
        )
        for part in self._parts.get():
            ready.add_metric([part.name], part.ok)
        return [ready, *self._messages.get()]

    def _count_messages(self) -> list[Metric]:
        family = GaugeMetricFamily("exports_queue_messages", "Messages that wait in the queue", labels=["queue"])
        try:
            for queue, count in queue_reader.count_messages(self._runtime.settings, _MESSAGE_QUEUES).items():
                family.add_metric([queue], count)
        except MessageBrokerDown:
            log.warning("queues_not_counted")
        return [family]


class UpkeepCollector(Collector):
    """Shows what needs care from time to time: the age of the customs rules, and the disks of database and documents."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # A disk of the network may not answer for long.
        self._disks = SingleFlight(self._read_disks)

    def describe(self) -> Sequence[Metric]:
        """Return nothing, so that registering the collector reads no disk."""
        return ()

    def collect(self) -> Sequence[Metric]:
        """Return the day of the rules, and the size and free space of each disk."""
        rules = self._find_rules()
        as_of = GaugeMetricFamily(
            "exports_ruleset_as_of_timestamp_seconds", "The day of the customs rules", labels=["ruleset"]
        )
        as_of.add_metric([rules.id], datetime.combine(rules.as_of, time.min, UTC).timestamp())
        limit = GaugeMetricFamily(
            "exports_ruleset_review_seconds", "Age at which a person must review the customs rules", labels=["ruleset"]
        )
        limit.add_metric([rules.id], timedelta(days=rules.review.within_days).total_seconds())
        refused = GaugeMetricFamily(
            "exports_rules_refused",
            "1 if this process refused the customs rules at EXPORTS_RULES, else 0",
            rules_reader.find_problem(self._runtime) is not None,
        )
        return [as_of, limit, refused, *self._disks.get()]

    def _find_rules(self) -> Ruleset:
        """Return the active ruleset; that of this version if the database does not answer, or has one of a newer version."""
        try:
            with self._runtime.db.read() as session:
                content = rulesets.read_active(session)
        except (DatabaseBusy, DBAPIError, RulesUnreadable):
            content = packaged_rules()
        with use_rules(content):
            return ruleset()

    def _read_disks(self) -> list[Metric]:
        size = GaugeMetricFamily("exports_disk_size_bytes", "Size of the disk", labels=["use"])
        free = GaugeMetricFamily("exports_disk_free_bytes", "Free space of the disk", labels=["use"])
        for use, path in self._list_disks():
            # A folder that is missing may be a disk that is not mounted: the disk below it is another one.
            with suppress(OSError):
                usage = shutil.disk_usage(path)
                size.add_metric([use], usage.total)
                free.add_metric([use], usage.free)
        return [size, free]

    def _list_disks(self) -> Iterator[tuple[str, str | Path]]:
        if self._runtime.store.folder is not None:
            yield "artifacts", self._runtime.store.folder
        database = self._runtime.db
        if database.is_sqlite and database.url.database:
            yield "database", database.url.database


class _FinishedSteps:
    """Counts the finished steps since the first reading, and reads each of them once, from the index of their ends."""

    def __init__(self) -> None:
        self._counted = Counter({spec.name: 0 for spec in STEPS})
        self._until: datetime | None = None

    def count(self, session: Session) -> CounterMetricFamily:
        """Return the number of finished steps by name; the newest count at a later reading."""
        until = session.scalar(select(database_now(-_UNCOMMITTED_SECONDS)))
        if self._until is not None:
            finished = and_(col(Step.finished_at) > self._until, col(Step.finished_at) <= until)
            by_name = select(col(Step.name), func.count()).where(finished).group_by(col(Step.name))
            self._counted.update({name: count for name, count in session.execute(by_name)})  # noqa: C416 - mypy does not accept a row as a pair
        self._until = until
        family = CounterMetricFamily(
            "exports_steps_finished", "Steps that finished since this process started", labels=["step"]
        )
        for name, count in self._counted.items():
            family.add_metric([name], count)
        return family
