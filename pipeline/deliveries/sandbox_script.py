"""The script of the sandbox broker: what it answers to a handoff, and when, as the invoice numbers say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from zlib import crc32

from pipeline.core.money import to_decimal
from pipeline.deliveries.schemas.answers import AcknowledgementBody, FieldAnswer, HandoffAnswer, StatusName
from pipeline.exports.schemas.assessment import AssessedAmounts, AssessedFee
from pipeline.exports.schemas.entry_filing import entry_check_digit, format_entry_number

Via = Literal["borderbuddy", "webhook"]

#: The prefix of the sandbox's handoff ids.
HANDOFF_PREFIX: Final = "sbx-"

#: The statuses that each letter asks for. Any other letter accepts.
_STATUSES: Final[Mapping[str, tuple[StatusName, ...]]] = {
    "R": ("rejected",),
    "Q": ("query",),
    "P": (),
    "H": ("held",),
    "F": (),
    "W": ("withdrawn",),
    "E": ("accepted", "filed"),
    "M": ("accepted", "filed"),
    "C": ("accepted", "filed", "released"),
    "X": ("accepted", "filed", "released", "held"),
}

#: The statuses of letters that count only with a digit after them: real numbers begin with them, such as INV-7.
_WITH_DIGIT: Final[Mapping[str, tuple[StatusName, ...]]] = {
    "B": ("accepted", "filed", "bill_unmatched", "bill_matched"),
    "G": ("accepted", "filed", "customs_accepted", "admissible", "released"),
    "I": ("accepted", "filed", "replaced"),
    "J": ("accepted", "filed", "released", "summary_filed", "summary_documents_requested"),
    "K": ("accepted", "filed", "cancelled"),
    "L": ("accepted", "filed", "held", "hold_removed", "released"),
    "N": ("accepted", "filed", "not_released"),
    "O": ("remark",),
    "S": ("accepted", "filed", "released", "summary_filed", "summary_paid", "summary_liquidated"),
    "T": ("accepted", "filed", "detained"),
    "U": ("accepted", "filed", "refused"),
    "V": ("accepted", "filed", "released", "summary_filed", "summary_corrected"),
    "Y": ("accepted", "filed", "released", "summary_filed", "summary_rejected"),
    "Z": ("accepted", "filed", "seized"),
}

#: The letters whose answers always come later, by default after one second.
_LATE: Final = frozenset("DHWECXM").union(_WITH_DIGIT)

#: What letters do that their statuses do not say.
_NOTES: Final[Mapping[str, str]] = {
    "P": "taken, and never answered",
    "F": "503 at every attempt",
    "M": "accepted, filed with other amounts than the estimate",
}

_MESSAGES: Final[Mapping[StatusName, str]] = {
    "accepted": "Accepted by the sandbox broker.",
    "rejected": "Rejected by the sandbox broker: two fields need a correction.",
    "query": "The sandbox broker asks about one field.",
    "held": "Held by the sandbox broker.",
    "filed": "Filed by the sandbox broker.",
    "released": "Released by the sandbox broker.",
    "withdrawn": "The sandbox broker files no entry.",
}

#: The published outcome of each last status; that of any other is `accepted`. Its readers know no other words.
_OUTCOMES: Final[Mapping[StatusName, str]] = {
    "rejected": "rejected",
    "query": "query",
    "held": "held",
    "withdrawn": "rejected",
    "remark": "none",
    "not_released": "held",
    "detained": "held",
    "cancelled": "rejected",
    "refused": "rejected",
    "seized": "rejected",
}
_WORST_FIRST: Final = ("rejected", "held", "query", "accepted")


@dataclass(frozen=True)
class Script:
    """How the sandbox answers. It never answers without `statuses`, and does not take the handoff if it `fails`.

    Each status follows the one before it after `delay_seconds`.
    """

    statuses: tuple[StatusName, ...]
    delay_seconds: int = 0
    fails: bool = False
    changes_amounts: bool = False  # it files with other amounts than the estimate

    @property
    def files(self) -> bool:
        """Whether the sandbox files the entry, so that it cannot withdraw it."""
        return "filed" in self.statuses


def parse_script(invoice_number: str) -> Script:
    """Return the statuses and the delay in seconds that the first two characters of the invoice number ask for.

    A accepts, R rejects with named fields, Q asks, P never answers. D accepts, H holds and W withdraws after a delay, by
    default of one second. After such delays E accepts and files, C also releases, and X then holds; M files with
    other amounts than the estimate. F fails at transport. With a digit, more letters lead to the other statuses.
    Any other letter accepts.
    """
    letter, digit = invoice_number[:1].upper(), invoice_number[1:2]
    has_digit = digit.isascii() and digit.isdigit()
    statuses = (has_digit and _WITH_DIGIT.get(letter)) or _STATUSES.get(letter, ("accepted",))
    delay = int(digit) if has_digit and statuses else 0
    is_late = letter in _LATE and (has_digit or letter not in _WITH_DIGIT)
    return Script(statuses, delay or int(is_late), fails=letter == "F", changes_amounts=letter == "M")


def list_letters() -> dict[str, str]:
    """Return what each beginning of an invoice number asks for, in the order of answers."""
    plain = {"A": "accepted", "D": "accepted later"} | {letter: ", ".join(each) for letter, each in _STATUSES.items()}
    digits = {f"{letter}1": ", ".join(each) for letter, each in _WITH_DIGIT.items()}
    return {name: text.replace("_", " ") for name, text in {**plain, **_NOTES, **digits}.items()}


@dataclass(frozen=True)
class PlannedAnswer:
    """An answer, and when it is due."""

    due_at: datetime
    answer: AcknowledgementBody


@dataclass(frozen=True)
class ScriptedHandoff:
    """A handoff, with the script and the customs package of each unit.

    `id` is that of the CloudEvent. A person requested the withdrawal at `withdrawn_at`, None if nobody did. Units that are
    `kept` have an entry of an earlier handoff, which is answered there. Units are named by their numbers.
    """

    id: str
    received_at: datetime
    scripts: Sequence[Script]
    packages: Sequence[str] = ()
    withdrawn_at: datetime | None = None
    amounts: Mapping[int, AssessedAmounts] = field(default_factory=dict)
    kept: frozenset[int] = frozenset()
    corrected: Mapping[int, str] = field(default_factory=dict)  # the numbers of entries that the handoff corrects

    @property
    def handoff_id(self) -> str:
        """The sandbox's id of the handoff."""
        return f"{HANDOFF_PREFIX}{self.id}"

    @property
    def is_whole(self) -> bool:
        """Whether each answer is about the whole handoff: entries that are filed have numbers of their own."""
        if self.kept:
            return False
        return len(self.scripts) == 1 or (len({*self.scripts}) == 1 and not self.scripts[0].files)

    @property
    def is_silent(self) -> bool:
        """Whether the sandbox never answers."""
        return not any(script.statuses for no, script in enumerate(self.scripts, start=1) if no not in self.kept)

    @property
    def outcome(self) -> str:
        """The worst outcome of a unit."""
        reached = {_OUTCOMES.get(script.statuses[-1], "accepted") for script in self.scripts if script.statuses}
        return next((each for each in _WORST_FIRST if each in reached), "none")

    def build_first_answer(self, via: Via) -> HandoffAnswer | None:
        """Return the answer in the response to the handoff, None if it has none."""
        if via == "webhook" or self.is_silent:
            return None
        if not self._is_answered_at_once:
            return HandoffAnswer(handoff_id=self.handoff_id, status="received")
        answer = self._build_answer(self.scripts[0].statuses[0])
        said = answer.model_dump(include={"status", "reference", "message", "fields"})
        return HandoffAnswer(handoff_id=self.handoff_id, **said)

    def list_late_answers(self, via: Via) -> list[PlannedAnswer]:
        """Return the answers after the response, the first one first."""
        if via == "borderbuddy" and self._is_answered_at_once:
            return []
        planned = self._plan_whole() if self.is_whole else self._plan_units()
        return sorted(planned, key=lambda each: each.due_at)

    @property
    def _is_answered_at_once(self) -> bool:
        return self.is_whole and not self.scripts[0].delay_seconds

    def _plan_whole(self) -> Iterator[PlannedAnswer]:
        script = self.scripts[0]
        for due_at, status in self._list_due(script):
            at = due_at if len(script.statuses) > 1 else None
            yield PlannedAnswer(due_at, self._build_answer(status, at=at))

    def _plan_units(self) -> Iterator[PlannedAnswer]:
        for unit_no, (script, package) in enumerate(zip(self.scripts, self.packages, strict=False), start=1):
            due = [] if unit_no in self.kept else self._list_due(script)
            withdraws = script.statuses and not script.files and "withdrawn" not in script.statuses
            if self.withdrawn_at is not None and withdraws:
                # It must count after the scripted answer, which may come later than the request.
                due.append((max([self.withdrawn_at, *(at for at, _ in due)]), "withdrawn"))
            for due_at, status in due:
                yield PlannedAnswer(due_at, self._build_answer(status, unit_no, package, at=due_at))

    def _list_due(self, script: Script) -> list[tuple[datetime, StatusName]]:
        return [
            (self.received_at + timedelta(seconds=place * script.delay_seconds), status)
            for place, status in enumerate(script.statuses, start=1)
        ]

    def _build_answer(
        self, status: StatusName, unit_no: int | None = None, package: str | None = None, *, at: datetime | None = None
    ) -> AcknowledgementBody:
        """Return the answer about one unit, without `unit_no` about the whole handoff."""
        unit = "" if unit_no is None else f":{unit_no}"
        return AcknowledgementBody(
            id=f"{self.handoff_id}{unit}:{status}",
            status=status,
            at=at,
            customs_package_numbers=[] if package is None else [package],
            reference=f"SBX-{self.handoff_id[-8:].upper()}{unit.replace(':', '-')}",
            entry_number=self.find_entry_number(unit_no or 1, status),
            message=get_message(status),
            assessed=self.amounts.get(unit_no or 1) if status == "filed" else None,
            fields=build_fields(status, unit_no or 1),
        )

    def find_entry_number(self, unit_no: int, status: StatusName) -> str | None:
        """Return the number of the entry that the sandbox files for the unit, or another that replaces it; else None."""
        seed = self.id if len(self.scripts) == 1 else f"{self.id}:{unit_no}"
        if status == "filed":
            return self.corrected.get(unit_no) or _build_entry_number(seed)
        return _build_entry_number(f"{seed}:{status}") if status == "replaced" else None


def get_message(status: StatusName) -> str:
    """Return what the sandbox says with this status."""
    return _MESSAGES.get(status) or f"The sandbox broker reports: {status.replace('_', ' ')}."


def build_fields(status: StatusName, unit_no: int) -> list[FieldAnswer]:
    """Return the fields of the unit that the sandbox rejects or asks about; empty with another status."""
    unit = f"/units/{unit_no - 1}"
    if status == "rejected":
        return [
            FieldAnswer(pointer=f"{unit}/lines/0/htsCode", message="The code does not fit the description."),
            FieldAnswer(pointer=f"{unit}/parties/importerOfRecord/importerNumber", message="The number is not known."),
        ]
    if status == "query":
        return [FieldAnswer(pointer=f"{unit}/lines/0/description", message="What is it made of?")]
    return []


def change_amounts(amounts: AssessedAmounts) -> AssessedAmounts:
    """Return the amounts with 10 dollars more of the harbor maintenance fee."""
    fee = AssessedFee(code="501", amount_usd=to_decimal("10.00"))
    return amounts.model_copy(update={"fees": [*(amounts.fees or ()), fee]})


def _build_entry_number(seed: str) -> str:
    number = f"SBX{crc32(seed.encode()) % 10**7:07}"
    return format_entry_number(number + entry_check_digit(number))
