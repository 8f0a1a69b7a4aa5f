"""Forms in which a person of a customs broker answers a handoff: the fields that it may name, and its validation."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pipeline.core.errors import ValidationFailed
from pipeline.core.problems import Issue
from pipeline.core.text_safety import make_legible
from pipeline.deliveries.entries.facets import FACETS, MEANINGS, AnswerStatus, Facet
from pipeline.deliveries.schemas.answers import AcknowledgementBody, CustomsHold, FieldAnswer
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

#: The headings of the other answers, by what they are about.
_HEADINGS: Final = {Facet.RELEASE: "Customs", Facet.BILL: "Bill of lading", Facet.SUMMARY: "Entry summary"}

#: The other answers, by heading: their words in the table of the facets.
RARE_CHOICES: Final[Mapping[str, Mapping[AnswerStatus, str]]] = {
    heading: {
        status: f"{words[0].upper()}{words[1:]}" for status, words in MEANINGS[facet].items() if status not in CHOICES
    }
    for facet, heading in _HEADINGS.items()
}

#: Answers that only follow another one.
_FOLLOWS: Final[Mapping[AnswerStatus, AnswerStatus]] = {
    AnswerStatus.HOLD_REMOVED: AnswerStatus.HELD,
    AnswerStatus.CANCELLED: AnswerStatus.FILED,
    AnswerStatus.REPLACED: AnswerStatus.FILED,
    **dict.fromkeys(MEANINGS[Facet.SUMMARY], AnswerStatus.RELEASED),
}

#: The holders that a person may choose with their words, and the kinds of a hold.
HOLDERS: Final = {"cbp": "CBP", "agriculture": "CBP agriculture", "manifest": "Manifest", "agency": "Another agency"}
HOLD_KINDS: Final = ("exam", "documents", "review", "redelivery")

#: Answers that say nothing new, by the status of the submission, that of its worst entry.
_PASSED: Final[Mapping[SubmissionState, Collection[AnswerStatus]]] = {
    SubmissionState.ACCEPTED: (AnswerStatus.ACCEPTED,),
    SubmissionState.FILED: (AnswerStatus.ACCEPTED, AnswerStatus.FILED),
    SubmissionState.RELEASED: (AnswerStatus.ACCEPTED, AnswerStatus.FILED, AnswerStatus.RELEASED),
}

#: Answers that may say what is wrong with fields, and answers that may have an entry number.
_NAMES_FIELDS: Final = frozenset({"rejected", "query"})
_HAS_ENTRY: Final = frozenset(
    {AnswerStatus.ACCEPTED, *(each for each, facet in FACETS.items() if facet not in (Facet.MESSAGE, Facet.BROKER))}
)
#: Answers that may name a hold.
_HAS_HOLD: Final = frozenset(MEANINGS[Facet.HOLDS])

_ANSWER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_AGENCY: Final = re.compile(r"[A-Z0-9]{2,8}")

_ENTRY_NUMBER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_POINTER: Final = re.compile(r"(/[^/]*)+")


@dataclass(frozen=True)
class AnswerForm:
    """The filled-in form, unchecked. `fields` are pairs of a field and what is said about it.

    Without a `package` the answer is about the whole handoff. An entry number counts only with `accepted` and later
    statuses, fields only with `rejected` and `query`, the holder, agency and kind of a hold only with `held` and
    `hold_removed`. `corrects` is the id of an earlier answer.
    """

    status: str = ""
    message: str = ""
    entry_number: str = ""
    fields: Sequence[tuple[str, str]] = ()
    package: str = ""
    attachments: Sequence[str] = ()  # ids of files
    holder: str = ""
    agency: str = ""
    kind: str = ""
    corrects: str = ""


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
    return {choice: words for choice, words in _list_following(CHOICES, answered) if choice not in passed}


def list_rare_choices(answered: Collection[str]) -> dict[str, dict[AnswerStatus, str]]:
    """Return the other answers that may follow those of the statuses `answered`, by heading."""
    found = {heading: dict(_list_following(choices, answered)) for heading, choices in RARE_CHOICES.items()}
    return {heading: choices for heading, choices in found.items() if choices}


def _list_following(
    choices: Mapping[AnswerStatus, str], answered: Collection[str]
) -> Iterator[tuple[AnswerStatus, str]]:
    for choice, words in choices.items():
        if choice not in _FOLLOWS or _FOLLOWS[choice] in answered:
            yield choice, words


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
    /status, /package, /message, /entryNumber, /holder, /agency, /kind, /corrects, /place<row> or /wrong<row>.
    """
    # Ignore inputs that do not belong to the chosen answer: they may be hidden leftovers of another choice.
    message = make_legible(form.message).strip()
    entry_number = form.entry_number.strip() if form.status in _HAS_ENTRY else ""
    checked = [*_check_fields(form, pointers)] if form.status in _NAMES_FIELDS else []
    fields = [each for each in checked if isinstance(each, FieldAnswer)]
    issues = [each for each in checked if isinstance(each, Issue)]
    if form.status not in CHOICES and not any(form.status in choices for choices in RARE_CHOICES.values()):
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
    hold = _check_hold(form) if form.status in _HAS_HOLD else None
    if isinstance(hold, Issue):
        issues.append(hold)
    if form.corrects and not _ANSWER_ID.fullmatch(form.corrects):
        issues.append(_issue("/corrects", "Choose an earlier answer from the list, or none."))
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
        hold=hold if isinstance(hold, CustomsHold) else None,
        corrects=form.corrects or None,
    )


def _issue(path: str, message: str) -> Issue:
    return Issue(path=path, message=message, code="invalid")


def _check_hold(form: AnswerForm) -> CustomsHold | Issue | None:
    """Return the hold of the form, or what is wrong with it; None if it names none."""
    holder, agency, kind = form.holder, form.agency.strip().upper(), form.kind
    if not (holder or agency or kind):
        return None
    if holder not in HOLDERS:
        return _issue("/holder", "Choose whose hold it is.")
    if kind and kind not in HOLD_KINDS:
        return _issue("/kind", "Choose a kind of hold from the list, or none.")
    if holder != "agency":
        agency = ""
    elif not _AGENCY.fullmatch(agency):
        return _issue("/agency", "Write the agency's code of 2 to 8 letters and digits, such as FDA.")
    return CustomsHold.model_validate({"holder": holder, "agency": agency or None, "kind": kind or None})


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
