"""Views of statistics for the first page: tiles, plots and tables as text and positions."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.exports.field_text import NamedField, name_field
from pipeline.exports.states import NEEDS_PERSON, Milestone, Outcome, SubmissionState
from pipeline.interfaces.durations import format_duration
from pipeline.interfaces.pages.list_views import FilterLink, ListFilter
from pipeline.interfaces.pages.plots import (
    TREND_SLOT,
    Bar,
    Plot,
    Series,
    draw_lines,
    draw_trend,
    format_count,
    stack_bars,
)
from pipeline.ops.schemas import BrokerFunnel, CorrectionSeries, Percentiles, StatsRange, StatsView
from pipeline.ops.stats.models import period_start
from pipeline.ops.work_counts import MOST_INBOX, MOST_OUTCOMES

_RANGES: Final[Mapping[StatsRange, str]] = {
    StatsRange.HOURS_3: "3 hours",
    StatsRange.HOURS_24: "24 hours",
    StatsRange.DAYS_7: "7 days",
    StatsRange.DAYS_90: "90 days",
}
#: The series of the plot of outcomes, from below: their names, the classes of their colours, and what they count.
_OUTCOMES: Final[Sequence[tuple[str, str, Collection[Outcome]]]] = (
    ("released", "released", {Outcome.RELEASED}),
    ("filed", "filed", {Outcome.FILED}),
    ("accepted", "accepted", {Outcome.ACCEPTED}),
    ("handed to customs brokers", "sent", {Outcome.WITH_BROKER}),
    ("cancelled, withdrawn or superseded", "over", {Outcome.CANCELLED, Outcome.WITHDRAWN, Outcome.SUPERSEDED}),
    ("in need of a person", "bad", NEEDS_PERSON),
)

#: The slowest customs brokers that are shown open, and all that are shown; the others are folded or left out.
_OPEN: Final = 6
_MOST_BROKERS: Final = 24
_DAY: Final = 86_400
#: The shortest length that is visible on a scale from 0 to 100.
_THINNEST: Final = 0.8


@dataclass(frozen=True)
class Tile:
    """A figure with a link; `mark` is the class of its colour."""

    name: str
    value: str
    link: str
    mark: str
    note: str


@dataclass(frozen=True)
class DurationRow:
    """How long a step took, as text; and p50, p95 and the length from p50 to p99 on a logarithmic scale from 0 to 100."""

    name: str
    count: str
    p50: str
    p95: str
    p99: str
    places: tuple[float, float, float] | None


@dataclass(frozen=True)
class FunnelRow:
    """How many handoffs reached a status; `share` is that of all handoffs, from 0 to 100."""

    status: str
    mark: str
    count: str
    share: float
    median: str


@dataclass(frozen=True)
class Funnel:
    """How quickly a customs broker reviews its handoffs, what it sends back, and the statuses that they reached."""

    partner_id: str
    link: str
    handoffs: str
    median: str
    p95: str
    speed: float
    sent_back: str
    sent_back_link: str
    overdue: str
    overdue_link: str
    field: NamedField | None
    times: str
    rows: Sequence[FunnelRow]


@dataclass(frozen=True)
class CorrectionRow:
    """A field that a customs broker corrected, how often, and its trend as text and in a picture of that width."""

    field: NamedField
    partner_id: str
    link: str
    count: str
    halves: str
    trend: Sequence[Bar]
    width: int


@dataclass(frozen=True)
class HomeView:
    """Everything on the first page."""

    tiles: Sequence[Tile]
    plots: Sequence[Plot]
    durations: Sequence[DurationRow]
    brokers: Sequence[Funnel]
    more_brokers: Sequence[Funnel]
    brokers_left_out: int
    corrections: Sequence[CorrectionRow]


def build_home(found: StatsView) -> HomeView:
    """Return the first page."""
    periods, seconds = found.periods, found.period_seconds
    by_outcome = {each.outcome: each.counts for each in found.outcomes}
    outcomes = [
        Series(name, mark, [sum(by_outcome[each][at] for each in counted) for at in range(len(periods))])
        for name, mark, counted in _OUTCOMES
    ]
    percentiles = [
        Series(name, mark, [getattr(each, name) for each in found.handoff_series])
        for name, mark in (("p99", "sent"), ("p95", "busy"), ("p50", "good"))
    ]
    marks = ("sent", "good", "busy", "bad")
    queues = [(each, marks[at % len(marks)]) for at, each in enumerate(found.queues)]
    slowest = max((each.review.p50 or 0 for each in found.brokers), default=0)
    funnels = [_build_funnel(each, slowest, periods[0]) for each in found.brokers[:_MOST_BROKERS]]
    depths = [Series(each.queue.removeprefix("exports."), mark, each.depth) for each, mark in queues]
    delays = [Series(each.queue.removeprefix("exports."), mark, each.delay_seconds) for each, mark in queues]
    return HomeView(
        tiles=_build_tiles(found),
        plots=[
            stack_bars("Outcomes that exports reached", outcomes, periods, seconds),
            draw_lines("Acceptance to handoff", percentiles, periods, seconds, format_duration),
            draw_lines("Due work by queue, whole service", depths, periods, seconds, format_count, whole=True),
            draw_lines("Longest delay by queue, whole service", delays, periods, seconds, format_duration),
        ],
        durations=[
            _build_duration("acceptance to handoff", found.handoff),
            *(_build_duration(each.step.replace("_", " "), each) for each in found.steps),
        ],
        brokers=funnels[:_OPEN],
        more_brokers=funnels[_OPEN:],
        brokers_left_out=len(found.brokers) - len(funnels),
        corrections=[_build_correction(each) for each in found.corrections],
    )


def build_range_links(chosen: StatsRange) -> list[FilterLink]:
    """Return the links that choose how far back the page reaches."""
    return [FilterLink(_RANGES[each], f"/console?range={each.value}", each is chosen) for each in StatsRange]


def _build_tiles(found: StatsView) -> list[Tile]:
    current, inbox, accepted = found.now.outcomes, found.now.inbox, found.now.accepted_today
    accepted_filter = ListFilter(reached=Milestone.ACCEPTED, reached_since=period_start(found.periods[-1], _DAY))

    def tile(name: str, outcome: Outcome, mark: str, note: str) -> Tile:
        count = current.get(outcome, 0)
        shown = f"{count:,}+" if count >= MOST_OUTCOMES else str(count)
        return Tile(name, shown, ListFilter(outcomes=frozenset({outcome})).link(), mark if count else "over", note)

    return [
        Tile(
            "Needs a person",
            f"{inbox:,}+" if inbox >= MOST_INBOX else str(inbox),
            "/console/inbox",
            "bad" if inbox else "over",
            "the inbox: rejected, queried, held, overdue, undeliverable, failed",
        ),
        tile("Overdue", Outcome.OVERDUE, "bad", "no answer before the deadline; also if acknowledged"),
        tile("In progress", Outcome.IN_PROGRESS, "busy", "accepted or executing"),
        tile("With customs brokers", Outcome.WITH_BROKER, "busy", "handed off, not reviewed yet"),
        Tile(
            "Accepted today",
            f"{accepted:,}",
            accepted_filter.link(),
            "good" if accepted else "over",
            "by customs brokers, since 00:00 UTC",
        ),
        Tile("Acceptance to handoff", format_duration(found.handoff.p95), "#steps", "over", "p95 of the chosen time"),
    ]


def _build_duration(name: str, found: Percentiles) -> DurationRow:
    p50, p95, p99 = found.p50, found.p95, found.p99
    places = None
    if p50 is not None and p95 is not None and p99 is not None:
        places = _place(p50), _place(p95), max(_place(p99) - _place(p50), _THINNEST)
    return DurationRow(
        name, f"{found.count:,}", format_duration(p50), format_duration(p95), format_duration(p99), places
    )


def _place(seconds: float) -> float:
    # From a millisecond to ten minutes.
    return round(min(1.0, max(0.0, math.log10(max(seconds, 0.001) / 0.001) / math.log10(600 / 0.001))) * 100, 1)


def _build_funnel(found: BrokerFunnel, slowest: float, since: datetime) -> Funnel:
    def link(reached: Milestone) -> str:
        return ListFilter(broker=found.partner_id, reached=reached, reached_since=since).link()

    highest = max((each.count for each in found.statuses), default=0) or 1
    handoffs = max((each.count for each in found.statuses if each.status == SubmissionState.SENT), default=0)
    reviewed, corrected = found.review.count, found.most_corrected
    return Funnel(
        partner_id=found.partner_id,
        link=_link_partner(found.partner_id),
        handoffs=f"{handoffs:,}",
        median=format_duration(found.review.p50) if reviewed else "no review",
        p95=format_duration(found.review.p95),
        speed=round(100 * (found.review.p50 or 0) / slowest, 1) if slowest else 0,
        sent_back=f"{found.sent_back:,}",
        sent_back_link=link(Milestone.SENT_BACK),
        overdue=f"{found.overdue:,}",
        overdue_link=link(Milestone.OVERDUE),
        field=None if corrected is None else name_field(corrected.field),
        times="" if corrected is None else _count_times(sum(corrected.counts)),
        rows=[
            FunnelRow(
                each.status,
                "bad" if each.status in ("rejected", "query", "held") else "good",
                f"{each.count:,}",
                round(100 * each.count / highest, 1),
                format_duration(each.median_seconds) if each.count else "",
            )
            for each in found.statuses
        ],
    )


def _build_correction(found: CorrectionSeries) -> CorrectionRow:
    middle = len(found.counts) // 2
    return CorrectionRow(
        field=name_field(found.field),
        partner_id=found.partner_id,
        link=_link_partner(found.partner_id),
        count=f"{sum(found.counts):,}",
        halves=f"{sum(found.counts[:middle]):,}, then {sum(found.counts[middle:]):,}",
        trend=draw_trend(found.counts),
        width=TREND_SLOT * len(found.counts),
    )


def _count_times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _link_partner(partner_id: str) -> str:
    return f"/console/partners/{partner_id}"
