"""Reads the statistics of an account: a few rows for each period, however many exports there are."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, Row, and_, cast, func, or_, select
from sqlmodel import Session

from pipeline.core import tenancy
from pipeline.core.db import database_now, table
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.states import Milestone, Outcome, SubmissionState
from pipeline.ops import work_counts
from pipeline.ops.schemas import (
    BrokerFunnel,
    CorrectionSeries,
    CurrentCounts,
    OutcomeSeries,
    Percentiles,
    QueueSeries,
    StatsRange,
    StatsView,
    StatusCount,
    StepDurations,
)
from pipeline.ops.stats.durations import percentile
from pipeline.ops.stats.models import (
    ALL,
    CORRECTION,
    HANDOFF,
    OUTCOME,
    QUEUE_DELAY,
    QUEUE_DEPTH,
    REACHED,
    REVIEW,
    STATUS,
    STEP,
    Stat,
    cover_periods,
    period_start,
)
from pipeline.workflow.steps import STEPS

#: The length of the range, and of its periods in seconds.
_RANGES: Final[Mapping[StatsRange, tuple[timedelta, int]]] = {
    StatsRange.HOURS_3: (timedelta(hours=3), 300),
    StatsRange.HOURS_24: (timedelta(hours=24), 3_600),
    StatsRange.DAYS_7: (timedelta(days=7), 21_600),
    StatsRange.DAYS_90: (timedelta(days=90), 86_400),
}
_DAY: Final = 86_400
_stats = table(Stat).c
#: The statuses of a handoff in their order; a partner may skip some.
_FUNNEL: Final = tuple(
    each.value
    for each in (
        SubmissionState.SENT,
        SubmissionState.DELIVERED,
        SubmissionState.RECEIVED,
        SubmissionState.ACCEPTED,
        SubmissionState.FILED,
        SubmissionState.RELEASED,
        SubmissionState.REJECTED,
        SubmissionState.QUERY,
        SubmissionState.HELD,
    )
)
#: partner and label -> its durations as counts by bin
_Bins: TypeAlias = Mapping[tuple[str, str], Mapping[int, int]]
#: The corrections that are listed: those that customs brokers made most often.
_MAX_CORRECTIONS: Final = 20


def read_stats(runtime: Runtime, account_id: str, wanted: StatsRange) -> StatsView:
    """Return the account's statistics. The rollup adds an event half a minute after it was written.

    Raises DatabaseBusy.
    """
    with runtime.db.read() as session:
        now = session.execute(select(database_now())).scalar_one()
        periods, seconds = _periods(now, wanted)
        own = _Reader(session, account_id, periods, seconds)
        outcomes = own.read_series(OUTCOME)
        handoff, handoff_series = own.read_durations(HANDOFF)
        steps = own.read_bins(STEP)
        statuses = own.read_bins(STATUS)
        reviews, reached = own.read_bins(REVIEW), own.read_bins(REACHED)
        corrections = _order_corrections(own.read_series(CORRECTION))
        counts = work_counts.count_outcomes(session, account_id)
        inbox = work_counts.count_inbox(session, account_id)
        midnight = period_start(now, _DAY)
        today = _Reader(session, account_id, [midnight], _DAY).read_series(REACHED)
        accepted_since = work_counts.count_reached(session, account_id, Milestone.ACCEPTED, midnight)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        service = _Reader(session, ALL, periods, seconds)
        depth, delay = service.read_series(QUEUE_DEPTH), service.read_series(QUEUE_DELAY)
    none = [0] * len(periods)
    return StatsView(
        periods=periods,
        period_seconds=seconds,
        now=CurrentCounts(
            outcomes=dict(counts),
            inbox=inbox,
            # The rollup is late, and the other count has a limit.
            accepted_today=max(accepted_since, sum(_of_milestone(today, Milestone.ACCEPTED))),
        ),
        outcomes=[OutcomeSeries(outcome=each, counts=outcomes.get(("", each.value), none)) for each in Outcome],
        handoff=_percentiles(handoff),
        handoff_series=[_percentiles(each) for each in handoff_series],
        steps=[
            StepDurations(step=spec.name, **_percentiles(steps.get(("", spec.name), {})).model_dump()) for spec in STEPS
        ],
        queues=[
            QueueSeries(queue=queue, depth=counted, delay_seconds=delay.get(("", queue), none))
            for (_, queue), counted in sorted(depth.items())
        ],
        brokers=_funnels(statuses, reviews, reached, corrections),
        corrections=corrections[:_MAX_CORRECTIONS],
    )


def _periods(now: datetime, wanted: StatsRange) -> tuple[list[datetime], int]:
    length, seconds = _RANGES[wanted]
    count = int(length.total_seconds()) // seconds
    last = period_start(now, seconds)
    return [last - timedelta(seconds=seconds * back) for back in range(count - 1, -1, -1)], seconds


class _Reader:
    """Reads the numbers of one account in the given periods."""

    def __init__(self, session: Session, account_id: str, periods: Sequence[datetime], seconds: int) -> None:
        self._session, self._account_id, self._seconds = session, account_id, seconds
        self._places = {start: place for place, start in enumerate(periods)}
        self._periods = periods

    def read_series(self, name: str) -> dict[tuple[str, str], list[int]]:
        """Return the numbers of each partner and label by period."""
        series: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(self._places))
        for row in self._own_rows(name, _stats.partner_id, _stats.label, _stats.starts_at):
            if row.starts_at in self._places:
                series[row.partner_id, row.label][self._places[row.starts_at]] = row.total
        return series

    def read_bins(self, name: str) -> dict[tuple[str, str], dict[int, int]]:
        """Return the durations of each partner and label over all periods, as counts by bin."""
        bins: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        # Long periods have far fewer rows than the short ones in them.
        covering = cover_periods(self._periods[0], self._periods[-1])
        for row in self._rows(name, covering, _stats.partner_id, _stats.label, _stats.bin):
            bins[row.partner_id, row.label][row.bin] = row.total
        return bins

    def read_durations(self, name: str) -> tuple[dict[int, int], list[dict[int, int]]]:
        """Return the durations as counts by bin: over all periods, and in each."""
        whole: dict[int, int] = defaultdict(int)
        series: list[dict[int, int]] = [{} for _ in self._places]
        for row in self._own_rows(name, _stats.starts_at, _stats.bin):
            if row.starts_at in self._places:
                whole[row.bin] += row.total
                series[self._places[row.starts_at]][row.bin] = row.total
        return whole, series

    def _own_rows(self, name: str, *columns: Any) -> Iterable[Row[Any]]:
        return self._rows(name, [(self._seconds, start) for start in self._periods], *columns)

    def _rows(self, name: str, periods: Sequence[tuple[int, datetime]], *columns: Any) -> Iterable[Row[Any]]:
        spans = []
        for seconds, group in groupby(periods, key=itemgetter(0)):
            starts = [start for _, start in group]
            spans.append(and_(_stats.seconds == seconds, _stats.starts_at.between(starts[0], starts[-1])))
        here = _stats.account_id == self._account_id, _stats.name == name, or_(*spans)
        grouped = select(*columns, cast(func.sum(_stats.value), BigInteger).label("total")).where(*here)
        return self._session.execute(grouped.group_by(*columns))


def _percentiles(counts: Mapping[int, int]) -> Percentiles:
    p50, p95, p99 = (percentile(counts, share) for share in (0.5, 0.95, 0.99))
    return Percentiles(count=sum(counts.values()), p50=p50, p95=p95, p99=p99)


def _of_milestone(today: Mapping[tuple[str, str], list[int]], milestone: Milestone) -> Iterable[int]:
    return (sum(counts) for (_, label), counts in today.items() if label == milestone)


def _funnels(
    statuses: _Bins, reviews: _Bins, reached: _Bins, corrections: Sequence[CorrectionSeries]
) -> list[BrokerFunnel]:
    most_corrected: dict[str, CorrectionSeries] = {}
    for each in corrections:
        most_corrected.setdefault(each.partner_id, each)
    status_bins, review_bins, reached_bins = _by_partner(statuses), _by_partner(reviews), _by_partner(reached)
    funnels = []
    for partner_id, by_status in sorted(status_bins.items()):
        counts = {status: sum(bins.values()) for status, bins in by_status.items()}
        first_reviews = review_bins.get(partner_id, {}).values()
        milestones = {each: sum(bins.values()) for each, bins in reached_bins.get(partner_id, {}).items()}
        funnels.append(
            BrokerFunnel(
                partner_id=partner_id,
                review=_percentiles(sum(map(Counter, first_reviews), Counter[int]())),
                sent_back=milestones.get(Milestone.SENT_BACK, 0),
                overdue=milestones.get(Milestone.OVERDUE, 0),
                most_corrected=most_corrected.get(partner_id),
                statuses=[
                    StatusCount(
                        status=status,
                        count=counts.get(status, 0),
                        median_seconds=percentile(by_status.get(status, {}), 0.5),
                    )
                    for status in _FUNNEL
                ],
            )
        )
    return sorted(funnels, key=_slowness, reverse=True)


def _by_partner(bins: _Bins) -> dict[str, dict[str, Mapping[int, int]]]:
    found: dict[str, dict[str, Mapping[int, int]]] = defaultdict(dict)
    for (partner_id, label), each in bins.items():
        found[partner_id][label] = each
    return found


def _slowness(broker: BrokerFunnel) -> tuple[bool, float, int]:
    """Return what orders customs brokers: one that reviewed nothing in time is slower than all that reviewed."""
    silent = broker.review.p50 is None and broker.overdue > 0
    return silent, broker.review.p50 or 0.0, broker.overdue


def _order_corrections(corrections: Mapping[tuple[str, str], list[int]]) -> list[CorrectionSeries]:
    ordered = sorted(corrections.items(), key=lambda each: (-sum(each[1]), each[0]))
    return [
        CorrectionSeries(partner_id=partner_id, field=field, counts=counts) for (partner_id, field), counts in ordered
    ]
