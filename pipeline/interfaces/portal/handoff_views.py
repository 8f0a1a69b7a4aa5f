"""Views of a customs broker's handoffs in the portal: statuses, answers, documents, and the form of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.core.text_safety import make_legible
from pipeline.deliveries.portal import HandoffSummary, HandoffUnits, PartnerHandoff
from pipeline.deliveries.submissions.answer_forms import AnswerForm
from pipeline.documents.registry import describe_kind
from pipeline.exports.field_text import describe_field
from pipeline.exports.states import SubmissionState
from pipeline.interfaces.console.exports.deadline_views import ShownDeadline, build_deadline
from pipeline.interfaces.event_text import format_size
from pipeline.interfaces.handoff_units import ShownHandedUnit, show_handed_unit
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.list_views import FilterLink

#: The statuses of a handoff in their order, for the ladder on its page.
_LADDER: Final = ("sent", "delivered", "received", "accepted", "filed", "released")
#: The units on a page of a handoff; each has up to twenty documents.
UNITS_ON_A_PAGE: Final = 10


@dataclass(frozen=True)
class HandoffRow:
    """A handoff in the list."""

    link: str
    batch_id: str
    revision: int
    test: bool
    status: str
    mark: str
    deadline: ShownDeadline | None
    changed: str


@dataclass(frozen=True)
class LadderStep:
    """A status of the ladder: `mark` is done, here or empty."""

    name: str
    mark: str


@dataclass(frozen=True)
class ShownAnswer:
    """An answer of the customs broker."""

    status: str
    at: str
    message: str
    entry_number: str
    fields: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class HandoffDocument:
    """A document of a handoff."""

    link: str
    filename: str
    package: str
    kind: str
    size: str


@dataclass(frozen=True)
class HandoffPage:
    """A handoff on its page, with some of its units; `counted` says which ones, and is empty if they are all."""

    link: str
    submission_id: str
    batch_id: str
    revision: int
    test: bool
    status: str
    mark: str
    deadline: ShownDeadline | None
    notice: str
    ladder: Sequence[LadderStep]
    answers: Sequence[ShownAnswer]
    units: Sequence[ShownHandedUnit]
    documents: Sequence[HandoffDocument]
    after: int
    counted: str
    previous_link: str
    next_link: str


@dataclass(frozen=True)
class AnswerChoice:
    """A radio button of the form."""

    status: str
    words: str
    chosen: bool


@dataclass(frozen=True)
class FieldRow:
    """A row of the form that names a field. Errors are empty if the input is right."""

    number: int
    name: str
    place: str
    place_error: str
    wrong: str
    wrong_error: str


@dataclass(frozen=True)
class ShownAnswerForm:
    """The form as it was typed, with the error of each input."""

    choices: Sequence[AnswerChoice]
    status_error: str
    message: str
    message_error: str
    entry_number: str
    entry_error: str
    rows: Sequence[FieldRow]


def build_due_links(*, due: bool) -> list[FilterLink]:
    """Return the links that filter the list of handoffs."""
    return [FilterLink("answer due", "/portal/handoffs", due), FilterLink("all", "/portal/handoffs?all=true", not due)]


def show_handoff_row(each: HandoffSummary, now: datetime) -> HandoffRow:
    """Return a handoff as a row of the list."""
    return HandoffRow(
        link=f"/portal/handoffs/{each.submission_id}",
        batch_id=each.batch_id,
        revision=each.revision,
        test=each.test,
        status=each.status.value,
        mark=_mark(each.status),
        deadline=_show_deadline(each.deadline_at, now),
        changed=format_instant(each.updated_at),
    )


def show_handoff(handoff: PartnerHandoff, some: HandoffUnits, after: int, now: datetime) -> HandoffPage:
    """Return a handoff for its page, with `some` of its units, those after the first `after`."""
    submission = handoff.submission
    link = f"/portal/handoffs/{submission.id}"
    units, total = some.units, handoff.units_total
    names = {pointer: place for place, pointer in some.fields.items()}
    previous, following = max(after - UNITS_ON_A_PAGE, 0), after + len(units)
    packages = {each.id: unit.package_number for unit in units for each in (unit.invoice_data, *unit.artifacts) if each}
    notice = {
        "superseded": "A newer revision has replaced this handoff: an answer is not needed any more.",
        "cancelled": "This export was cancelled: an answer is not needed any more.",
    }.get(handoff.replaced or "", "")
    if handoff.message is None:
        notice = "This export was purged when its retention ended. It cannot be answered any more."
    return HandoffPage(
        link=link,
        submission_id=submission.id,
        batch_id=handoff.batch_id,
        revision=handoff.revision,
        test=handoff.test,
        status=submission.submission_status.value,
        mark=_mark(submission.submission_status),
        deadline=_show_deadline(submission.deadline_at, now),
        notice=notice,
        ladder=_build_ladder(submission.submission_status),
        answers=[
            ShownAnswer(
                status=each.status,
                at=format_instant(each.received_at),
                message=each.message or "",
                entry_number=each.entry_number or "",
                fields=[
                    (names.get(field["pointer"]) or describe_field(field["pointer"]), field["message"])
                    for field in each.fields
                ],
            )
            for each in submission.acknowledgements
        ],
        units=[show_handed_unit(unit) for unit in units],
        documents=[
            HandoffDocument(
                f"{link}/documents/{each.id}",
                make_legible(each.filename),
                packages[each.id],
                describe_kind(each.artifact_type),
                format_size(each.size),
            )
            for each in some.documents
        ],
        after=after,
        counted=_describe_part(after + 1, following, total) if 0 < len(units) < total else "",
        previous_link=f"{link}?after={previous}" if after > 0 else "",
        next_link=f"{link}?after={following}" if units and following < total else "",
    )


def show_answer_form(
    form: AnswerForm, answers: Mapping[str, str], rows: int, errors: Mapping[str, str]
) -> ShownAnswerForm:
    """Return the form with what was typed; `answers` are the choices with their words, `errors` by the input's name."""
    typed = [*form.fields, *[("", "")] * rows]
    return ShownAnswerForm(
        choices=[AnswerChoice(status, words, status == form.status) for status, words in answers.items()],
        status_error=errors.get("status", ""),
        message=form.message,
        message_error=errors.get("message", ""),
        entry_number=form.entry_number,
        entry_error=errors.get("entryNumber", ""),
        rows=[
            FieldRow(row, str(row + 1), place, errors.get(f"place{row}", ""), wrong, errors.get(f"wrong{row}", ""))
            for row, (place, wrong) in enumerate(typed[:rows])
        ],
    )


def _build_ladder(status: SubmissionState) -> list[LadderStep]:
    """Return the statuses in order. One that is not on the ladder, such as rejected, stands at its place."""
    places = {"pending": -1, "failed": -1, "rejected": 3, "query": 3, "held": 5}
    place = places.get(status.value, _LADDER.index(status.value) if status.value in _LADDER else -1)
    names = [status.value if at == place else name for at, name in enumerate(_LADDER)]
    return [LadderStep(name, "here" if at == place else "done" if at < place else "") for at, name in enumerate(names)]


def _describe_part(first: int, last: int, total: int) -> str:
    return f"{first:,} of {total:,}" if first == last else f"{first:,} to {last:,} of {total:,}"


def _mark(status: SubmissionState) -> str:
    # The partner has received it, and has not answered: that is not good yet.
    return "busy" if status is SubmissionState.DELIVERED else status.value


def _show_deadline(at: datetime | None, now: datetime) -> ShownDeadline | None:
    return None if at is None else build_deadline("Your next answer", at, now)
