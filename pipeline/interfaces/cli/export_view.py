"""Exports, their messages and their events, formatted for a terminal."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from pipeline.core.text_safety import make_legible
from pipeline.exports.schemas.export import EventView, ExportSummary, ExportView, StepView
from pipeline.exports.schemas.feed import FeedEventView
from pipeline.exports.schemas.submissions import BrokerSubmissionView, ConversationItem, EntryView
from pipeline.exports.states import ExportState, Outcome, StepState
from pipeline.interfaces.cli.output import FittedTable, build_table
from pipeline.interfaces.event_text import ATTENTION, BAD, GOOD, NEUTRAL, describe_event, format_size

_OUTCOME_STYLES: Final = {
    Outcome.IN_PROGRESS: (NEUTRAL, "cyan"),
    Outcome.WITH_BROKER: (NEUTRAL, "cyan"),
    Outcome.ACCEPTED: (GOOD, "green"),
    Outcome.FILED: (GOOD, "green"),
    Outcome.RELEASED: (GOOD, "green"),
    Outcome.QUERY: (ATTENTION, "bold yellow"),
    Outcome.HELD: (ATTENTION, "bold yellow"),
    Outcome.OVERDUE: (ATTENTION, "bold yellow"),
    Outcome.HANDOFF_HELD: (ATTENTION, "bold yellow"),
    Outcome.NOT_WITHDRAWN: (BAD, "bold red"),
    Outcome.WITHDRAWING: (NEUTRAL, "cyan"),
    Outcome.WITHDRAWN: (BAD, "yellow"),
    Outcome.NEEDS_ATTENTION: (BAD, "bold red"),
    Outcome.REJECTED: (BAD, "bold red"),
    Outcome.UNDELIVERABLE: (BAD, "bold red"),
    Outcome.CANCELLED: (BAD, "yellow"),
    Outcome.SUPERSEDED: (NEUTRAL, "yellow"),
}


def _parse_outcome(given: str) -> Outcome:
    """Return the outcome with this name, or the one that people read. Raises BadParameter."""
    try:
        return Outcome(given)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is not one of {', '.join(Outcome)}") from None


OUTCOME: Final = typer.Option(
    parser=_parse_outcome,
    metavar="OUTCOME",
    help="Only exports with this outcome, such as rejected or failed; repeatable, for any of several.",
)


def format_headline(export: ExportView) -> Text:
    """Return the headline: mark, state and outcome, batch and id, and the status."""
    state = _format_state(export.state, export.outcome, quarantined=export.quarantined)
    return Text.from_markup(
        f"{state}  [bold]{escape(export.batch_id)}[/]  {escape(export.export_id)}\n  {escape(export.status)}"
    )


def _format_state(state: ExportState, outcome: Outcome, *, quarantined: bool) -> str:
    mark, style = _OUTCOME_STYLES[outcome]
    # For an export that was not executed, the state says everything.
    words = [state.value, *([outcome.words] if state is ExportState.EXECUTED else [])]
    return f"[{style}]{mark} {', '.join([*words, *(['quarantined'] if quarantined else [])])}[/]"


def build_exports_table(found: Iterable[ExportSummary]) -> FittedTable:
    """Return a table of exports, one a row: batch, outcome, units, partners, acceptance and id."""
    return build_table(
        ("batch", "outcome", "units", "customs broker", "warehouse", "accepted", "export"),
        (
            (
                Text.assemble(each.batch_id, (" test" if each.test else "", "dim")),
                Text.assemble(
                    Text.from_markup(_format_state(each.state, each.outcome, quarantined=each.quarantined)),
                    f": {each.entries}" if each.entries else "",
                ),
                f"{each.units_closed}/{each.units_total}",
                each.broker_id,
                each.warehouse_id,
                f"{each.accepted_at:%Y-%m-%d %H:%M:%S}",
                each.export_id,
            )
            for each in found
        ),
    )


def render_export(export: ExportView) -> Iterator[RenderableType]:
    """Yield all parts of the export's view."""
    yield format_headline(export)
    yield Text.from_markup(
        f"  [dim]accepted {export.accepted_at:%Y-%m-%d %H:%M:%S} UTC, revision {export.revision}, {escape(export.plan_hash)}[/]"
    )
    if export.approval is not None and export.approval.sent_by is not None:
        by = escape(export.approval.approved_by or "an approver who was purged")
        yield Text.from_markup(f"  [dim]approved by {by}, sent by {escape(export.approval.sent_by)}[/]")
    if export.supersedes is not None:
        yield Text.from_markup(f"  [dim]supersedes {escape(export.supersedes)}[/]")
    if export.superseded_by is not None:
        yield Text.from_markup(f"  [yellow]superseded by {escape(export.superseded_by)}[/]")
    yield ""
    yield _build_units_table(export)
    if export.artifacts:
        yield ""
        yield build_artifacts_table(export)
    if export.notifications:
        yield ""
        yield build_notifications_table(export)
    for submission in export.broker_submissions:
        yield ""
        yield format_submission(submission)
    for earlier in export.earlier_entries:
        name = f"earlier entry {earlier.entry_number or 'without a number'} of {earlier.customs_package_number}"
        yield Text(f"{name}, revision {earlier.revision}: {earlier.status.replace('_', ' ')}")
    if any(each.side == "exporter" for each in export.conversation):
        yield ""
        shown = len(export.conversation)
        yield f"the newest {shown} of {export.conversation_total} items of the conversation"
        yield from map(format_item, export.conversation)
    for finding in export.findings:
        yield Text(f"{finding.severity} {finding.rule} {finding.pointer}: {finding.message}")


def _build_units_table(export: ExportView) -> FittedTable:
    rows: list[tuple[str | Text, ...]] = [
        (unit.unit_ref, package.package_number or package.id, package.state, _format_steps(unit.steps))
        for unit, package in zip(export.units, export.customs_packages, strict=True)
    ]
    if export.steps:
        rows.append(("all", "", "", _format_steps(export.steps)))
    return build_table(("unit", "customs package", "state", "steps"), rows)


def _format_steps(steps: list[StepView]) -> Text:
    return Text.from_markup("  ".join(f"{_format_step_mark(step.state)} {step.name}" for step in steps))


def _format_step_mark(state: StepState) -> str:
    if state is StepState.DONE:
        return f"[green]{GOOD}[/]"
    return f"[red]{BAD}[/]" if state in {StepState.FAILED, StepState.CANCELLED} else f"[dim]{NEUTRAL}[/]"


def build_artifacts_table(export: ExportView) -> FittedTable:
    """Return a table of the documents: customs package, file name, kind, size and id."""
    names = {package.id: package.package_number or package.id for package in export.customs_packages}
    return build_table(
        ("customs package", "document", "kind", "size", "id"),
        (
            (names[each.customs_package_id], each.filename, each.artifact_type, format_size(each.size), each.id)
            for each in export.artifacts
        ),
    )


def build_notifications_table(export: ExportView) -> FittedTable:
    """Return a table of the messages, counted by recipient, channel and type."""
    return build_table(
        ("recipient", "by", "message", "messages", "delivered", "pending", "dead"),
        (
            (
                f"{tally.partner_id} ({tally.audience.replace('_', ' ')})",
                tally.channel,
                tally.event_type,
                *map(str, (tally.messages, tally.delivered, tally.pending + tally.waiting, tally.dead)),
            )
            for tally in export.notifications
        ),
    )


def format_submission(submission: BrokerSubmissionView) -> Text:
    """Return the handoff to the customs broker and its answers."""
    path = f"path {submission.path}, by {submission.channel}"
    lines = [
        f"customs broker [bold]{escape(submission.partner_id)}[/], {path}: [bold]{submission.submission_status}[/]"
    ]
    if submission.overdue_at is not None and submission.deadline_at is not None:
        lines.append(f"  [bold yellow]{ATTENTION} overdue since {submission.deadline_at:%Y-%m-%d %H:%M:%S} UTC[/]")
    elif submission.deadline_at is not None:
        lines.append(f"  the next answer is due by {submission.deadline_at:%Y-%m-%d %H:%M:%S} UTC")
    if submission.summary_due_at is not None:
        word = "overdue: due" if submission.summary_overdue_at else "due"
        lines.append(f"  the entry summary is {word} by {submission.summary_due_at:%Y-%m-%d %H:%M:%S} UTC")
    for each in submission.entries:
        windows = (("correction", each.correction_until), ("protest", each.protest_until))
        if until := ", ".join(f"{name} until {day}" for name, day in windows if day is not None):
            lines.append(f"  {each.customs_package_number}  {until}")
    if submission.error_message:
        lines.append(f"  {escape(submission.error_message)}")
    several = len(submission.entries) > 1
    lines += [_format_entry(each) for each in submission.entries if several or each.holds or each.bill or each.summary]
    for found in filter(None, (each.assessment for each in submission.entries)):
        beyond = f"[bold yellow]{ATTENTION} {escape(found.describe_differences())}[/]"
        same = "no amount differs from the estimate beyond its tolerance"
        source = f"  ({escape(found.source)})" if found.source else ""
        lines.append(f"  {found.customs_package_number}  assessed: {beyond if found.differs else same}{source}")
    for answer in submission.acknowledgements:
        entry = f"entry {answer.entry_number}" if answer.entry_number else None
        packages = ", ".join(answer.packages or ())
        details = "  ".join(each for each in (packages, answer.hold, entry, answer.message or answer.reference) if each)
        lines.append(f"  {answer.status}  {escape(make_legible(details))}")
        fields = (f"{field.get('pointer', '')} {field.get('message', '')}" for field in answer.fields)
        lines += [f"    {escape(make_legible(each))}" for each in fields]
    return Text.from_markup("\n".join(lines))


def _format_entry(entry: EntryView) -> str:
    holds = [f"hold {each.replace(':', ' ') or 'not named'}" for each in entry.holds]
    facts = (entry.headline, entry.entry_number, ", ".join(holds), entry.bill, entry.summary)
    return f"  {entry.customs_package_number}  {'  '.join(each.replace('_', ' ') for each in facts if each)}"


def format_item(item: ConversationItem) -> Text:
    """Return an item of the conversation: time, author, what it says, and its id."""
    said = [*filter(None, (item.text,)), *(f"{each['pointer']} {each['message']}" for each in item.fields or ())]
    said += [f"file {each.filename or 'deleted'}, {format_size(each.size)}, {each.id}" for each in item.attachments]
    about = [*filter(None, (item.status, ", ".join(item.packages or ())))]
    return Text.assemble(
        (f"{item.at:%Y-%m-%d %H:%M:%S}  ", "dim"),
        ("  ".join([item.author, *about]), "bold" if item.side == "exporter" else "bold cyan"),
        (f"  {item.id}", "dim"),
        *(f"\n  {make_legible(each)}" for each in said),
    )


def format_event(event: EventView) -> Text:
    """Return an event as one line: number, time, what happened, by what, and its type; `--json` has its data.

    An event of the feed has its id in place of the number, and its day and its batch.
    """
    mark, sentence = describe_event(event)
    text = f"{mark} {escape(make_legible(sentence))}"
    place = f"{event.seq:>5}  {event.at:%H:%M:%S.%f}"
    if isinstance(event, FeedEventView):
        place = f"{escape(event.id)}  {event.at:%Y-%m-%d %H:%M:%S.%f}  {escape(event.batch_id)}"
    return Text.from_markup(f"[dim]{place}[/]  {text}  [dim]{escape(event.actor)}  {event.type}[/]")


#: Members of every message, and long ones; the sample must show what differs.
_OMITTED: Final = frozenset(
    "exportId batchId revision test planHash treatmentDigest submissionId acknowledgementUrl ruleset version unitRef "
    "customsPackageId inspect parties parentRef".split()
)


def shorten(data: Any, width: int) -> str:
    """Return a message as one line of `width`, without the members that every message has."""
    text = json.dumps(_omit_repeated(data), ensure_ascii=False)
    return text if len(text) <= width else text[: max(width - 1, 20)] + "…"


def _omit_repeated(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _omit_repeated(value) for key, value in data.items() if key not in _OMITTED and value is not None}
    return [_omit_repeated(item) for item in data] if isinstance(data, list) else data
