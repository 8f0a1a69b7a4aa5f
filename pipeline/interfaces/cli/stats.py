"""The command `exports stats`."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import Json, build_table, print_result, report_errors
from pipeline.interfaces.durations import format_duration
from pipeline.ops.schemas import StatsRange, StatsView

app = typer.Typer()

#: The levels of a line of blocks.
_BLOCKS = " ▁▂▃▄▅▆▇█"


@app.command()
@report_errors
def stats(
    range_: Annotated[StatsRange, typer.Option("--range", help="How far back.")] = StatsRange.HOURS_24,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show what happened to exports: outcomes, durations, queues, customs brokers, corrections."""
    with connect(api_url, api_key) as api:
        found = api.stats(range=range_.value)
    print_result(found, *render_stats(found, range_), as_json=as_json)


def render_stats(found: StatsView, range_: StatsRange) -> Iterator[RenderableType]:
    """Yield the tables of the statistics."""
    yield Text(f"The last {range_.value}, in periods of {format_duration(found.period_seconds)}", style="bold")
    yield Text(
        f"now in the inbox: {found.now.inbox}; accepted by customs brokers today (UTC): {found.now.accepted_today}"
    )
    current = found.now.outcomes
    reached = [(each, sum(each.counts)) for each in found.outcomes]
    yield build_table(
        ("outcome", "now", "reached", "trend"),
        (
            (
                each.outcome.words,
                str(current[each.outcome]) if each.outcome in current else "",
                str(total),
                draw_trend(each.counts),
            )
            for each, total in reached
            if total or current.get(each.outcome)
        ),
    )
    yield ""
    handoff = ("acceptance to handoff", found.handoff)
    yield build_table(
        ("duration", "count", "p50", "p95", "p99"),
        (
            (name, str(each.count), *(format_duration(value) for value in (each.p50, each.p95, each.p99)))
            for name, each in (handoff, *((step.step.replace("_", " "), step) for step in found.steps))
        ),
    )
    yield ""
    yield build_table(
        ("queue", "most due", "longest delay", "due work"),
        (
            (each.queue, str(max(each.depth)), format_duration(max(each.delay_seconds)), draw_trend(each.depth))
            for each in found.queues
        ),
    )
    if found.brokers:
        yield ""
        yield build_table(
            ("customs broker, slowest first", "median to review", "p95", "sent back", "overdue", "corrects most"),
            (
                (
                    each.partner_id,
                    format_duration(each.review.p50),
                    format_duration(each.review.p95),
                    str(each.sent_back),
                    str(each.overdue),
                    "" if each.most_corrected is None else each.most_corrected.field,
                )
                for each in found.brokers
            ),
        )
    for broker in found.brokers:
        yield ""
        yield build_table(
            (broker.partner_id, "handoffs", "median time to it"),
            ((each.status, str(each.count), format_duration(each.median_seconds)) for each in broker.statuses),
        )
    if found.corrections:
        yield ""
        yield build_table(
            ("corrected field", "customs broker", "times", "trend"),
            (
                (each.field, each.partner_id, str(sum(each.counts)), draw_trend(each.counts))
                for each in found.corrections
            ),
        )


def draw_trend(counts: list[int]) -> str:
    """Return a line of blocks, as high as the counts."""
    highest = max(counts, default=0) or 1
    return "".join(_BLOCKS[-(-count * (len(_BLOCKS) - 1) // highest)] for count in counts)
