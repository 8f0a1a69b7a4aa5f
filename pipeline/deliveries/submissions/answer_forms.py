"""Forms in which a person of a customs broker answers a handoff: the fields that it may name, and its validation."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pipeline.core.errors import ValidationFailed
from pipeline.core.problems import Issue
from pipeline.core.text_safety import make_legible
from pipeline.deliveries.entries.facets import AnswerStatus
from pipeline.deliveries.schemas.answers import AcknowledgementBody, FieldAnswer
from pipeline.exports.field_text import LINE_FIELDS, UNIT_FIELDS
from pipeline.exports.states import SubmissionState

#: With more lines than this, the list of fields names whole lines, not their fields.
MAX_DETAILED_LINES: Final = 60

MAX_MESSAGE: Final = 1000

#: The answers that a person may choose, by status: its words on the form.
CHOICES: Final[Mapping[AnswerStatus, str]] = {
    AnswerStatus.RECEIVED: "Received; our answer follows",
    AnswerStatus.ACCEPTED: "We accept it and will file",
    AnswerStatus.WITHDRAWN: "We file no entry: it is withdrawn",
    AnswerStatus.QUERY: "We have a question",
    AnswerStatus.REMARK: "A remark that needs no answer",
    AnswerStatus.REJECTED: "We reject it: something has to be corrected",
    AnswerStatus.FILED: "The entry is filed",
    AnswerStatus.HELD: "Customs holds the goods",
    AnswerStatus.HOLD_REMOVED: "Customs removed all holds",
    AnswerStatus.RELEASED: "Customs released the goods",
    AnswerStatus.CANCELLED: "The entry is cancelled",
    AnswerStatus.SUMMARY_FILED: "The entry summary is filed",
    AnswerStatus.SUMMARY_PAID: "Duty and fees are paid",
}

#: Answers that only follow another one.
_FOLLOWS: Final[Mapping[AnswerStatus, AnswerStatus]] = {
    AnswerStatus.HOLD_REMOVED: AnswerStatus.HELD,
    AnswerStatus.CANCELLED: AnswerStatus.FILED,
    AnswerStatus.SUMMARY_FILED: AnswerStatus.RELEASED,
    AnswerStatus.SUMMARY_PAID: AnswerStatus.RELEASED,
}

#: Answers that say nothing new, by the status of the submission, that of its worst entry.
_PASSED: Final[Mapping[SubmissionState, Collection[AnswerStatus]]] = {
    SubmissionState.ACCEPTED: (AnswerStatus.ACCEPTED,),
    SubmissionState.FILED: (AnswerStatus.ACCEPTED, AnswerStatus.FILED),
    SubmissionState.RELEASED: (AnswerStatus.ACCEPTED, AnswerStatus.FILED, AnswerStatus.RELEASED),
}

#: Answers that may say what is wrong with fields, and answers that may have an entry number.
_NAMES_FIELDS: Final = frozenset({"rejected", "query"})
_HAS_ENTRY: Final = frozenset({"accepted", "filed", "released", "held", "cancelled", "summary_filed"})

_ENTRY_NUMBER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_POINTER: Final = re.compile(r"(/[^/]*)+")


@dataclass(frozen=True)
class AnswerForm:
    """The filled-in form, unchecked. `fields` are pairs of a field and what is said about it.

    Without a `package` the answer is about the whole handoff. An entry number counts only with `accepted` and later
    statuses, fields only with `rejected` and `query`.
    """

    status: str = ""
    message: str = ""
    entry_number: str = ""
    fields: Sequence[tuple[str, str]] = ()
    package: str = ""
    attachments: Sequence[str] = ()  # ids of files


@dataclass(frozen=True)
class AnswerableUnit:
    """A unit that an answer may be about: its place in the handoff, from 0, and the SKUs of the lines inside the message."""

    place: int
    unit_ref: str
    skus: Sequence[str]


def list_choices(
    status: SubmissionState, answered: Collection[str], *, withdrawing: bool = False
) -> dict[AnswerStatus, str]:
    """Return the answers that may follow those of the statuses `answered`, with their words.

    Only a withdrawal that was requested can be confirmed.
    """
    passed = {
        *_PASSED.get(status, ()),
        *([AnswerStatus.RECEIVED] if answered else []),
        *([] if withdrawing else [AnswerStatus.WITHDRAWN]),
    }
    return {
        choice: words
        for choice, words in CHOICES.items()
        if choice not in passed and (choice not in _FOLLOWS or _FOLLOWS[choice] in answered)
    }


def list_fields(units: Iterable[AnswerableUnit], *, alone: bool, detailed: bool) -> dict[str, str]:
    """Return the fields of units that an answer may name: JSON Pointers by readable name.

    A unit that is `alone` in its handoff is not named. If they are not `detailed`, lines are named only as a whole.
    """
    return dict(_iterate_fields(units, alone=alone, detailed=detailed))


def can_detail(units: Iterable[AnswerableUnit]) -> bool:
    """Return whether a handoff of these units has few enough lines to name their fields."""
    return sum(len(unit.skus) for unit in units) <= MAX_DETAILED_LINES


def check_form(
    form: AnswerForm, pointers: Mapping[str, str], answer_id: str, packages: Collection[str] = ()
) -> AcknowledgementBody:
    """Return the answer of the form, about one of the customs `packages` or the whole handoff.

    Raises ValidationFailed with one issue for each wrong input, each a sentence for the person who filled in the form:
    /status, /package, /message, /entryNumber, /place<row> or /wrong<row>.
    """
    # Ignore inputs that do not belong to the chosen answer: they may be hidden leftovers of another choice.
    message = make_legible(form.message).strip()
    entry_number = form.entry_number.strip() if form.status in _HAS_ENTRY else ""
    checked = [*_check_fields(form, pointers)] if form.status in _NAMES_FIELDS else []
    fields = [each for each in checked if isinstance(each, FieldAnswer)]
    issues = [each for each in checked if isinstance(each, Issue)]
    if form.status not in CHOICES:
        issues.insert(0, _issue("/status", "Choose one of the answers."))
    package = form.package.strip().upper()
    if package and package not in packages:
        text = "The handoff does not have this customs package; choose one from the list, or leave the field empty."
        issues.append(_issue("/package", text))
    if len(message) > MAX_MESSAGE:
        issues.append(_issue("/message", f"The message has more than {MAX_MESSAGE:,} characters; shorten it."))
    if entry_number and not _ENTRY_NUMBER.fullmatch(entry_number):
        text = "An entry number must have only letters, digits and hyphens, for example ABC-1234567-8."
        issues.append(_issue("/entryNumber", text))
    if form.status == "remark" and not message:
        issues.append(_issue("/message", "Write the remark."))
    if form.status in _NAMES_FIELDS and not (message or checked):
        issues.append(_issue("/message", "Write what is wrong or what you ask, in the message or at a field."))
    if issues:
        first, listed = issues[0], [each.model_dump() for each in issues]
        raise ValidationFailed(first.message, field=first.path, details={"issues": listed})
    return AcknowledgementBody(
        id=answer_id,
        status=cast(Any, form.status),
        message=message or None,
        entry_number=entry_number or None,
        fields=fields,
        attachments=list(form.attachments),
        customs_package_numbers=[package] if package else [],
    )


def _issue(path: str, message: str) -> Issue:
    return Issue(path=path, message=message, code="invalid")


def _check_fields(form: AnswerForm, pointers: Mapping[str, str]) -> Iterator[FieldAnswer | Issue]:
    for row, (typed_place, typed_message) in enumerate(form.fields):
        place, message = typed_place.strip(), make_legible(typed_message).strip()
        pointer = pointers.get(place, place)
        if not place and not message:
            continue
        if not place:
            yield _issue(f"/place{row}", f"Choose the field that this is about: {message[:80]}")
        elif not _POINTER.fullmatch(pointer) or len(pointer) > 256:
            yield _issue(f"/place{row}", f"“{place[:80]}” is not a field of this handoff; choose one from the list.")
        elif not message or len(message) > MAX_MESSAGE:
            yield _issue(
                f"/wrong{row}",
                f"Write what is wrong or asked about “{place[:80]}”, in at most {MAX_MESSAGE:,} characters.",
            )
        else:
            yield FieldAnswer(pointer=pointer, message=message)


def _iterate_fields(units: Iterable[AnswerableUnit], *, alone: bool, detailed: bool) -> Iterator[tuple[str, str]]:
    for unit in units:
        unit_pointer, prefix = f"/units/{unit.place}", "" if alone else f"{unit.unit_ref}, "
        for name, pointer in UNIT_FIELDS.items():
            yield f"{prefix}{name}", f"{unit_pointer}{pointer}"
        for position, sku in enumerate(unit.skus):
            label = f"{prefix}line {position + 1} ({sku})"
            yield label, f"{unit_pointer}/lines/{position}"
            if detailed:
                for name, pointer in LINE_FIELDS.items():
                    yield f"{label}: {name}", f"{unit_pointer}/lines/{position}{pointer}"
