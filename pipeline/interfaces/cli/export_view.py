"""An export, and what is said of it, as a person reads it in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.core.text_safety import make_legible
from pipeline.exports.schemas.export import BrokerSubmissionView, EventView, ExportSummary, ExportView, StepView
from pipeline.exports.states import ExportState, Outcome, StepState
from pipeline.interfaces.cli.progress import ATTENTION, BAD, GOOD, NEUTRAL, format_size

_OUTCOME: Final = {
    Outcome.IN_PROGRESS: (NEUTRAL, "cyan"),
    Outcome.WITH_BROKER: (NEUTRAL, "cyan"),
    Outcome.ACCEPTED: (GOOD, "green"),
    Outcome.FILED: (GOOD, "green"),
    Outcome.RELEASED: (GOOD, "green"),
    Outcome.QUERY: (ATTENTION, "bold yellow"),
    Outcome.HELD: (ATTENTION, "bold yellow"),
    Outcome.OVERDUE: (ATTENTION, "bold yellow"),
    Outcome.NEEDS_ATTENTION: (BAD, "bold red"),
    Outcome.REJECTED: (BAD, "bold red"),
    Outcome.UNDELIVERABLE: (BAD, "bold red"),
    Outcome.CANCELLED: (BAD, "yellow"),
    Outcome.SUPERSEDED: (NEUTRAL, "yellow"),
}


def headline(export: ExportView) -> Text:
    """Return the one line that matters: mark, state and outcome, batch, id, and what it is doing."""
    marked = _marked(export.state, export.outcome, quarantined=export.quarantined)
    return Text.from_markup(
        f"{marked}  [bold]{escape(export.batch_id)}[/]  {escape(export.export_id)}\n  {escape(export.status)}"
    )


def _marked(state: ExportState, outcome: Outcome, *, quarantined: bool) -> str:
    mark, style = _OUTCOME[outcome]
    # Of an export that was not executed, its state says it all.
    words = [state.value, *([outcome.value.replace("_", " ")] if state is ExportState.EXECUTED else [])]
    return f"[{style}]{mark} {', '.join([*words, *(['quarantined'] if quarantined else [])])}[/]"


def exports_table(found: Iterable[ExportSummary]) -> Table:
    """Return exports, one a row: batch, outcome, units, partners, acceptance and id."""
    made = table("batch", "outcome", "units", "customs broker", "warehouse", "accepted", "export")
    for each in found:
        made.add_row(
            escape(each.batch_id) + (" [dim]test[/]" if each.test else ""),
            _marked(each.state, each.outcome, quarantined=each.quarantined),
            f"{each.units_closed}/{each.units_total}",
            escape(each.broker_id),
            escape(each.warehouse_id),
            f"{each.accepted_at:%Y-%m-%d %H:%M:%S}",
            each.export_id,
        )
    return made


def whole(export: ExportView) -> Iterator[RenderableType]:
    """Yield everything that the export's view holds, part by part."""
    yield headline(export)
    yield Text.from_markup(
        f"  [dim]accepted {export.accepted_at:%Y-%m-%d %H:%M:%S} UTC, revision {export.revision}, {escape(export.plan_hash)}[/]"
    )
    if export.supersedes is not None:
        yield Text.from_markup(f"  [dim]in the place of {escape(export.supersedes)}[/]")
    if export.superseded_by is not None:
        yield Text.from_markup(f"  [yellow]superseded by {escape(export.superseded_by)}[/]")
    yield ""
    yield _units_table(export)
    if export.artifacts:
        yield ""
        yield artifacts_table(export)
    if export.notifications:
        yield ""
        yield notifications_table(export)
    for submission in export.broker_submissions:
        yield ""
        yield submission_text(submission)
    for finding in export.findings:
        yield Text(f"{finding.severity} {finding.rule} {finding.pointer}: {finding.message}")


def table(*columns: str) -> Table:
    """Return an empty table without lines around it."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _units_table(export: ExportView) -> Table:
    made = table("unit", "customs package", "state", "steps")
    for unit, package in zip(export.units, export.customs_packages, strict=True):
        made.add_row(
            escape(unit.unit_ref), escape(package.package_number or package.id), package.state, _steps(unit.steps)
        )
    if export.steps:
        made.add_row("all", "", "", _steps(export.steps))
    return made


def _steps(steps: list[StepView]) -> str:
    return "  ".join(f"{_step_mark(step.state)} {step.name}" for step in steps)


def _step_mark(state: StepState) -> str:
    if state is StepState.DONE:
        return f"[green]{GOOD}[/]"
    return f"[red]{BAD}[/]" if state in {StepState.FAILED, StepState.CANCELLED} else f"[dim]{NEUTRAL}[/]"


def artifacts_table(export: ExportView) -> Table:
    """Return the documents: customs package, file name, kind, size and id."""
    names = {package.id: package.package_number or package.id for package in export.customs_packages}
    made = table("customs package", "document", "kind", "size", "id")
    for artifact in export.artifacts:
        made.add_row(
            escape(names[artifact.customs_package_id]),
            escape(artifact.filename),
            artifact.artifact_type,
            format_size(artifact.size),
            artifact.id,
        )
    return made


def notifications_table(export: ExportView) -> Table:
    """Return the messages, counted by recipient, channel and kind."""
    made = table("told", "by", "with", "messages", "delivered", "pending", "dead")
    for told in export.notifications:
        made.add_row(
            f"{escape(told.partner_id)} ({told.audience.replace('_', ' ')})",
            told.channel,
            told.event_type,
            str(told.messages),
            str(told.delivered),
            str(told.pending + told.waiting),
            str(told.dead),
        )
    return made


def submission_text(submission: BrokerSubmissionView) -> Text:
    """Return the handoff to the customs broker and its answers."""
    path = f"path {submission.path}, by {submission.channel}"
    lines = [
        f"customs broker [bold]{escape(submission.partner_id)}[/], {path}: [bold]{submission.submission_status}[/]"
    ]
    if submission.overdue_at is not None and submission.deadline_at is not None:
        lines.append(f"  [bold yellow]{ATTENTION} overdue since {submission.deadline_at:%Y-%m-%d %H:%M:%S} UTC[/]")
    elif submission.deadline_at is not None:
        lines.append(f"  the next answer is due by {submission.deadline_at:%Y-%m-%d %H:%M:%S} UTC")
    if submission.error_message:
        lines.append(f"  {escape(submission.error_message)}")
    for answer in submission.acknowledgements:
        entry = f"entry {answer.entry_number}" if answer.entry_number else None
        said = "  ".join(each for each in (entry, answer.message or answer.reference) if each)
        lines.append(f"  {answer.status}  {escape(make_legible(said))}")
        fields = (f"{field.get('pointer', '')} {field.get('message', '')}" for field in answer.fields)
        lines += [f"    {escape(make_legible(each))}" for each in fields]
    return Text.from_markup("\n".join(lines))


def event_line(event: EventView) -> Text:
    """Return an event: its number, its time, its type, who and the facts."""
    facts = "  ".join(f"{key}={value}" for key, value in event.data.items())
    return Text.from_markup(
        f"[dim]{event.seq:>5}  {event.at:%H:%M:%S.%f}[/]  [bold]{event.type}[/]  [dim]{escape(event.actor)}[/]  {escape(make_legible(facts))}"
    )


#: What stands in every message, or is long; the sample is to show what differs.
_LEFT_OUT: Final = frozenset(
    "exportId batchId revision test planHash treatmentDigest submissionId acknowledgementUrl ruleset version unitRef "
    "customsPackageId inspect parties parentRef".split()
)


def shortened(data: Any, width: int) -> str:
    """Return what a message says on one line of `width`, what stands in every message left out."""
    text = json.dumps(_telling(data), ensure_ascii=False)
    return text if len(text) <= width else text[: max(width - 1, 20)] + "…"


def _telling(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _telling(value) for key, value in data.items() if key not in _LEFT_OUT and value is not None}
    return [_telling(item) for item in data] if isinstance(data, list) else data
