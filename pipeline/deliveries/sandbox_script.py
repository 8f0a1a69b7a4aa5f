"""The script of the sandbox broker: what it answers to a handoff, and when, as the invoice numbers say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from zlib import crc32

from pipeline.core.money import to_decimal
from pipeline.deliveries.schemas.answers import AcknowledgementBody, FieldAnswer, HandoffAnswer
from pipeline.exports.schemas.assessment import AssessedAmounts, AssessedFee
from pipeline.exports.schemas.entry_filing import entry_check_digit, format_entry_number

Via = Literal["borderbuddy", "webhook"]
SandboxStatus = Literal["accepted", "rejected", "query", "held", "filed", "released", "withdrawn"]

#: The prefix of the sandbox's handoff ids.
HANDOFF_PREFIX: Final = "sbx-"

#: The statuses that each letter asks for. Any other letter accepts.
_STATUSES: Final[Mapping[str, tuple[SandboxStatus, ...]]] = {
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

#: The letters whose answers always come later, by default after one second.
_LATE: Final = frozenset("DHWECXM")

_MESSAGES: Final[Mapping[SandboxStatus, str]] = {
    "accepted": "Accepted by the sandbox broker.",
    "rejected": "Rejected by the sandbox broker: two fields need a correction.",
    "query": "The sandbox broker asks about one field.",
    "held": "Held by the sandbox broker.",
    "filed": "Filed by the sandbox broker.",
    "released": "Released by the sandbox broker.",
    "withdrawn": "The sandbox broker files no entry.",
}

#: The published outcome of each last status. Its readers know no other words.
_OUTCOMES: Final[Mapping[SandboxStatus, str]] = {
    "accepted": "accepted",
    "rejected": "rejected",
    "query": "query",
    "held": "held",
    "filed": "accepted",
    "released": "accepted",
    "withdrawn": "rejected",
}
_WORST_FIRST: Final = ("rejected", "held", "query", "accepted")


@dataclass(frozen=True)
class Script:
    """How the sandbox answers. It never answers without `statuses`, and does not take the handoff if it `fails`.

    Each status follows the one before it after `delay_seconds`.
    """

    statuses: tuple[SandboxStatus, ...]
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
    other amounts than the estimate. F fails at transport.
    Any other letter accepts.
    """
    letter, digit = invoice_number[:1].upper(), invoice_number[1:2]
    statuses = _STATUSES.get(letter, ("accepted",))
    delay = int(digit) if digit.isascii() and digit.isdigit() and statuses else 0
    return Script(statuses, delay or int(letter in _LATE), fails=letter == "F", changes_amounts=letter == "M")


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
        reached = {_OUTCOMES[script.statuses[-1]] for script in self.scripts if script.statuses}
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

    def _list_due(self, script: Script) -> list[tuple[datetime, SandboxStatus]]:
        return [
            (self.received_at + timedelta(seconds=place * script.delay_seconds), status)
            for place, status in enumerate(script.statuses, start=1)
        ]

    def _build_answer(
        self,
        status: SandboxStatus,
        unit_no: int | None = None,
        package: str | None = None,
        *,
        at: datetime | None = None,
    ) -> AcknowledgementBody:
        """Return the answer about one unit, without `unit_no` about the whole handoff."""
        unit = "" if unit_no is None else f":{unit_no}"
        return AcknowledgementBody(
            id=f"{self.handoff_id}{unit}:{status}",
            status=status,
            at=at,
            customs_package_numbers=[] if package is None else [package],
            reference=f"SBX-{self.handoff_id[-8:].upper()}{unit.replace(':', '-')}",
            entry_number=self._find_entry_number(unit_no or 1, f"{self.id}{unit}") if status == "filed" else None,
            message=_MESSAGES[status],
            assessed=self.amounts.get(unit_no or 1) if status == "filed" else None,
            fields=_build_fields(status, f"/units/{(unit_no or 1) - 1}"),
        )

    def _find_entry_number(self, unit_no: int, seed: str) -> str:
        return self.corrected.get(unit_no) or _build_entry_number(seed)


def _build_fields(status: SandboxStatus, unit: str) -> list[FieldAnswer]:
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
