"""The rows of an export's Gantt chart: steps of units and of the export, deliveries with each attempt, broker's answers."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from pipeline.deliveries.entries.facets import NEEDS_LOOK
from pipeline.deliveries.history import PastDelivery
from pipeline.deliveries.schemas.messages import describe_message_type
from pipeline.exports.queries import UnitGroup
from pipeline.exports.schemas.export import ExportView, StepView, UnitView
from pipeline.exports.schemas.submissions import BrokerSubmissionView
from pipeline.exports.states import DeliveryState, StepState
from pipeline.interfaces.console.exports.gantt import ChartRow, Gantt, Stretch, draw_gantt, since
from pipeline.interfaces.event_text import count_noun

#: Up to so many units have a row for each step; up to so many have one row; more units share rows.
_UNITS_IN_STEPS: Final = 2
MAX_UNIT_ROWS: Final = 16
_MAX_DELIVERY_ROWS: Final = 14
#: The most attempts of equal messages in one row; failed ones come first.
_MAX_ATTEMPTS: Final = 30

#: State of units -> mark of their bar; later ones are drawn over the others.
_SPAN_MARKS: Final = {"closed": "sent", "open": "busy", "failed": "bad"}
_ATTEMPT_MARKS: Final = {"delivered": "good", "failed": "bad", "refused": "bad"}
_ANSWER_MARKS: Final = {status.value: "bad" for status in NEEDS_LOOK}


def build_gantt(
    export: ExportView, groups: Sequence[UnitGroup], deliveries: Sequence[PastDelivery], now: datetime
) -> Gantt | None:
    """Return the chart of the export; None if nothing has started. What is not finished goes on until `now`.

    `groups` are those of all units if there are more than MAX_UNIT_ROWS; else the view shows all units.
    """
    began = export.accepted_at
    rows = [
        *([_group_row(each, began, now) for each in groups] or _unit_rows(export.units, began, now)),
        *(_step_row("", step, began, now) for step in export.steps),
        *_delivery_rows(deliveries, began, now),
        *(_answer_row(each, began, now) for each in export.broker_submissions),
    ]
    return draw_gantt(rows)


def _unit_rows(units: Sequence[UnitView], began: datetime, now: datetime) -> Iterator[ChartRow]:
    if len(units) <= _UNITS_IN_STEPS:
        for unit in units:
            prefix = f"{unit.unit_ref} " if len(units) > 1 else ""
            yield from (_step_row(prefix, step, began, now) for step in unit.steps)
    else:
        for unit in units:
            yield ChartRow(unit.unit_ref, [bar for step in unit.steps for bar in _step_bars(step, began, now)])


def _group_row(group: UnitGroup, began: datetime, now: datetime) -> ChartRow:
    """Return a row with a bar for the units that are closed, one for those that are not, and one for failed ones."""
    return ChartRow(
        f"{group.first_ref} to {group.last_ref}",
        [
            Stretch(
                since(began, span.started_at),
                since(began, span.ended_at if span.state == "closed" and span.ended_at else now),
                _SPAN_MARKS[span.state],
                f"{count_noun(span.units, 'unit')} {'not closed' if span.state == 'open' else span.state}",
            )
            for span in sorted(group.spans, key=lambda each: [*_SPAN_MARKS].index(each.state))
        ],
    )


def _step_row(prefix: str, step: StepView, began: datetime, now: datetime) -> ChartRow:
    return ChartRow(f"{prefix}{step.name.replace('_', ' ')}", _step_bars(step, began, now))


def _step_bars(step: StepView, began: datetime, now: datetime) -> list[Stretch]:
    if step.started_at is None:
        return []
    mark = "bad" if step.state is StepState.FAILED else "sent" if step.finished_at else "busy"
    attempts = f", attempt {step.attempts}" if step.attempts > 1 else ""
    text = f"{step.name.replace('_', ' ')} {step.state.value}{attempts}"
    return [Stretch(since(began, step.started_at), since(began, step.finished_at or now), mark, text)]


def _delivery_rows(deliveries: Sequence[PastDelivery], began: datetime, now: datetime) -> list[ChartRow]:
    groups: defaultdict[tuple[str, str, str], list[PastDelivery]] = defaultdict(list)
    for each in deliveries:
        if each.state is not DeliveryState.CANCELLED or each.attempts:
            groups[each.event_type, each.partner_id, each.channel].append(each)
    rows = [
        ChartRow(f"{describe_message_type(event_type)} to {partner_id}", [*_delivery_bars(same, channel, began, now)])
        for (event_type, partner_id, channel), same in groups.items()
    ]
    # Those with failed attempts say the most.
    rows.sort(key=lambda row: not any(bar.mark == "bad" for bar in row.bars))
    return rows[:_MAX_DELIVERY_ROWS]


def _delivery_bars(same: Sequence[PastDelivery], channel: str, began: datetime, now: datetime) -> Iterator[Stretch]:
    """Yield one wait for all messages of a row, from the first that was enqueued, and a bar for each attempt."""
    what = channel if len(same) == 1 else f"{channel}, {count_noun(len(same), 'message')}"
    pending = any(each.state is DeliveryState.PENDING for each in same)
    attempts = [attempt for each in same for attempt in each.attempts]
    ends = [attempt.at for attempt in attempts]
    start = min(each.created_at for each in same)
    until = max([start, *ends, *([now] if pending else [])])
    state = "pending" if pending else same[0].state.value
    yield Stretch(since(began, start), since(began, until), "over", f"enqueued by {what}, {state}", waits=True)
    attempts.sort(key=lambda attempt: attempt.outcome == "delivered")
    for attempt in attempts[:_MAX_ATTEMPTS]:
        status = f" with {attempt.status}" if attempt.status else ""
        yield Stretch(
            since(began, attempt.at - timedelta(milliseconds=attempt.duration_ms)),
            since(began, attempt.at),
            _ATTEMPT_MARKS.get(attempt.outcome, "busy"),
            f"attempt {attempt.number} {attempt.outcome}{status} by {what}",
        )


def _answer_row(submission: BrokerSubmissionView, began: datetime, now: datetime) -> ChartRow:
    if submission.sent_at is None:
        return ChartRow("", [])
    answers = submission.acknowledgements
    awaited = submission.deadline_at is not None
    until = now if awaited else max([submission.sent_at, *(each.received_at for each in answers)])
    waiting = "overdue" if submission.overdue_at else "waiting for the next answer" if awaited else "answered"
    return ChartRow(
        f"answers of {submission.partner_id}",
        [
            Stretch(since(began, submission.sent_at), since(began, until), "over", waiting, waits=True),
            *(
                Stretch(
                    since(began, each.received_at),
                    since(began, each.received_at),
                    _ANSWER_MARKS.get(each.status, "good"),
                    f"answered {each.status}",
                )
                for each in answers
            ),
        ],
    )
