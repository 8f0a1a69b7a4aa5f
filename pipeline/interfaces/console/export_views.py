"""Views of exports for the pages: times, sizes and counts as text, so that templates compute nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.deliveries.handoff_bundle import safe_filename
from pipeline.deliveries.schemas.views import SandboxHandoffView
from pipeline.exports.schemas.export import (
    ArtifactView,
    BrokerSubmissionView,
    EventView,
    ExportView,
    LineTreatmentView,
    StepView,
)
from pipeline.exports.states import SubmissionState
from pipeline.interfaces.console.instants import format_instant
from pipeline.interfaces.console.list_views import GOOD_OUTCOMES, describe_outcome, mark_outcome
from pipeline.interfaces.console.plots import Span, Timeline, draw_timeline
from pipeline.interfaces.event_text import ATTENTION, BAD, GOOD, describe_event

__all__ = [
    "safe_filename",
    "show_handoff",
    "show_page",
]

_BAD_STATUSES: Final = frozenset(
    {SubmissionState.REJECTED, SubmissionState.QUERY, SubmissionState.HELD, SubmissionState.FAILED}
)


@dataclass(frozen=True)
class ShownHandoff:
    """A handoff that the sandbox broker received."""

    link: str
    export_id: str
    invoices: str
    path: str
    requested_outcome: str
    answer: str
    submission_status: str
    mark: str
    received: str


@dataclass(frozen=True)
class ShownStep:
    """A step, and how long it took."""

    name: str
    state: str
    took: str
    note: str


@dataclass(frozen=True)
class ShownArtifact:
    """A document."""

    filename: str
    kind: str
    size: str
    sha256: str
    link: str


@dataclass(frozen=True)
class ShownUnit:
    """A unit with its steps and documents."""

    unit_ref: str
    package_number: str
    state: str
    steps: list[ShownStep]
    artifacts: list[ShownArtifact]


@dataclass(frozen=True)
class ShownEvent:
    """An event as a sentence, with the class of its colour, and its data as JSON."""

    seq: int
    type: str
    mark: str
    text: str
    at: str
    actor: str
    data: str


@dataclass(frozen=True)
class ShownLine:
    """The treatment of an invoice line: each chip is a code, and what it says."""

    unit_ref: str
    line_ref: str
    hts_code: str
    origin: str
    chips: list[tuple[str, str]]


@dataclass(frozen=True)
class ShownDeadline:
    """The time by which the customs broker must answer, and whether it has passed."""

    label: str
    at: str
    overdue: bool


@dataclass(frozen=True)
class ShownSubmission:
    """The handoff to the customs broker: its status with the class of its colour, and the deadline if there is one."""

    view: BrokerSubmissionView
    mark: str
    deadline: ShownDeadline | None


@dataclass(frozen=True)
class ExportPageView:
    """An export's page."""

    outcome: str
    outcome_mark: str
    submissions: list[ShownSubmission]
    accepted: str
    updated: str
    units: list[ShownUnit]
    steps: list[ShownStep]
    timeline: Timeline | None
    lines: list[ShownLine]
    more_lines: int
    events: list[ShownEvent]


def show_page(export: ExportView) -> ExportPageView:
    """Return an export for its page."""
    documents: defaultdict[str, list[ShownArtifact]] = defaultdict(list)
    for artifact in export.artifacts:
        documents[artifact.customs_package_id].append(_show_artifact(export.export_id, artifact))
    packages = {package.id: package for package in export.customs_packages}
    return ExportPageView(
        outcome=describe_outcome(export.outcome),
        outcome_mark=mark_outcome(export.outcome),
        submissions=[
            ShownSubmission(each, _status_mark(each.submission_status), _show_deadline(each))
            for each in export.broker_submissions
        ],
        accepted=format_instant(export.accepted_at),
        updated=format_instant(export.updated_at),
        units=[
            ShownUnit(
                unit_ref=unit.unit_ref,
                package_number=packages[unit.customs_package_id].package_number or "no number yet",
                state=packages[unit.customs_package_id].state,
                steps=[_show_step(step) for step in unit.steps],
                artifacts=documents[unit.customs_package_id],
            )
            for unit in export.units
        ],
        steps=[_show_step(step) for step in export.steps],
        timeline=_build_timeline(export),
        lines=[_show_line(each) for each in export.treatment.lines],
        more_lines=export.treatment.line_count - len(export.treatment.lines),
        events=[_show_event(event) for event in reversed(export.events)],
    )


def _build_timeline(export: ExportView) -> Timeline | None:
    """Return when each step ran; None if none has started."""
    several = len(export.units) > 1
    spans = [
        Span(
            f"{unit.unit_ref} {_step_words(step)}" if several else _step_words(step), step.started_at, step.finished_at
        )
        for unit in export.units
        for step in unit.steps
        if step.started_at is not None
    ]
    spans += [
        Span(_step_words(step), step.started_at, step.finished_at)
        for step in export.steps
        if step.started_at is not None
    ]
    return draw_timeline(spans, export.accepted_at, export.updated_at) if spans else None


def _step_words(step: StepView) -> str:
    return step.name.replace("_", " ")


def _show_event(event: EventView) -> ShownEvent:
    mark, text = describe_event(event)
    return ShownEvent(
        event.seq,
        event.type,
        {GOOD: "good", BAD: "bad", ATTENTION: "busy"}.get(mark, "over"),
        f"{text[:1].upper()}{text[1:]}.",
        format_instant(event.at),
        event.actor,
        json.dumps(event.data, ensure_ascii=False, indent=1),
    )


def _show_line(line: LineTreatmentView) -> ShownLine:
    chips = [
        (each["heading"], " ".join(filter(None, (each["program"], _percent(each.get("ratePercent"))))))
        for each in line.chapter99
    ]
    chips += [(each["metal"], f"{each['metalWeightKg']} kg") for each in line.section232]
    chips += [
        (each["flag"], " ".join(filter(None, (each["agency"], each["program"], _disclaimer(each)))))
        for each in line.pga
    ]
    return ShownLine(line.unit_ref, line.line_ref, line.hts_code, line.country_of_origin, chips)


def _percent(rate: str | None) -> str:
    return "" if rate is None else f"{rate} %"


def _disclaimer(answer: Mapping[str, Any]) -> str:
    return f"disclaimed {answer['disclaimer']}" if answer.get("disclaimer") else ""


def show_handoff(item: SandboxHandoffView) -> ShownHandoff:
    """Return a handoff of the sandbox broker for its page."""
    return ShownHandoff(
        link=f"/console/exports/{item.export_id}",
        export_id=item.export_id,
        invoices=", ".join(item.invoice_numbers),
        path=item.path,
        requested_outcome="no answer" if item.outcome == "none" else item.outcome,
        answer="nothing" if item.answer is None else item.answer.message or item.answer.status,
        submission_status=item.submission_status.value,
        mark=_status_mark(item.submission_status),
        received=format_instant(item.received_at),
    )


def _status_mark(status: SubmissionState) -> str:
    if status in _BAD_STATUSES:
        return "bad"
    return "good" if status.value in GOOD_OUTCOMES else "busy"


def _show_deadline(submission: BrokerSubmissionView) -> ShownDeadline | None:
    if submission.deadline_at is None:
        return None
    overdue = submission.overdue_at is not None
    label = "Overdue since" if overdue else "Deadline of the next answer"
    return ShownDeadline(label, format_instant(submission.deadline_at), overdue)


def _show_step(step: StepView) -> ShownStep:
    took = ""
    if step.started_at is not None and step.finished_at is not None:
        milliseconds = (step.finished_at - step.started_at).total_seconds() * 1000
        took = f"{milliseconds:.0f} ms"
    return ShownStep(_step_words(step), step.state.value, took, step.error or "")


def _show_artifact(export_id: str, artifact: ArtifactView) -> ShownArtifact:
    return ShownArtifact(
        filename=artifact.filename,
        kind=artifact.artifact_type,
        size=f"{-(-artifact.size // 1000):,} kB",
        sha256=artifact.sha256,
        link=f"/console/exports/{export_id}/documents/{artifact.id}",
    )
