"""Decides the chapter 99 headings of a line, program by program, from the dated rules, each decision with its reasons."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Final

from pipeline.core.findings import ExpectedValue
from pipeline.customs.chapter99.conditions import LineHeadings, RowVerdict, Verdict, judge_row, prospective_rows
from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.reference.base import Evidence, combine_evidence
from pipeline.customs.reference.chapter99 import DutyProgram, HeadingRow, in_ranges
from pipeline.customs.reference.hts_lists import ListMatch
from pipeline.customs.reference.ruleset import Ruleset, ruleset

_OTHERWISE: Final = "no other value of its group applies"


@dataclass(frozen=True, slots=True)
class ProgramChoice:
    """The rows of a program that may apply to a line, in their order. Only the last of `candidates` can be certain.

    `yields_to` names the headings on the line that exclude the program, `claimed` the headings that the plan carries.
    """

    program: DutyProgram
    verdicts: tuple[RowVerdict, ...]
    candidates: tuple[RowVerdict, ...]
    yields_to: tuple[str, ...] = ()
    claimed: frozenset[str] = frozenset()

    @property
    def certain(self) -> HeadingRow | None:
        """The row that applies unless the plan claims one before it; None if no row is certain."""
        last = self.candidates[-1] if self.candidates else None
        return last.row if last is not None and last.verdict is Verdict.YES else None

    @property
    def decided(self) -> HeadingRow | None:
        """The row that applies whatever the missing facts are; None if a missing fact decides."""
        for item in self.candidates:
            if item.row.heading in self.claimed and item.verdict is not Verdict.UNKNOWN:
                return item.row
        return None if any(item.verdict is Verdict.UNKNOWN for item in self.candidates) else self.certain

    @property
    def undecided(self) -> tuple[RowVerdict, ...]:
        """The candidates between which missing facts decide; empty if the heading is decided.

        A row that the importer must certify is left out if the goods are on no list.
        """
        if self.decided is not None:
            return ()
        return tuple(item for item in self.candidates if item.listed or item.row.when.certified is None)

    @property
    def required(self) -> HeadingRow | None:
        """The row that a line without a heading of the program lacks; None if no heading is required.

        It is the certain row, or the last candidate if one of the candidates must apply.
        """
        if self.certain is None and self.listed and self.program.missing.one_applies:
            return self.candidates[-1].row
        return self.certain

    @property
    def listed(self) -> bool:
        """Return whether the line is on a list of the program, and not only claims one of its headings."""
        return any(item.listed for item in self.candidates)

    @property
    def outcomes(self) -> "tuple[HeadingOutcome, ...]":
        """The possible headings and what each depends on, in the order of deciding; empty if the heading is decided.

        If the last row certainly applies, the exceptions that a person must claim are left out.
        """
        certain = self.certain
        return tuple(
            HeadingOutcome(
                item.row.heading,
                item.row.description,
                item.row.rate_percent,
                None if item.verdict is Verdict.YES else " and ".join(item.open_conditions),
            )
            for item in self.undecided
            if certain is None or item.verdict is not Verdict.NEEDS_PERSON
        )

    def find_candidate(self, heading: str) -> RowVerdict | None:
        """Return the candidate of the heading, or None."""
        return next((item for item in self.candidates if item.row.heading == heading), None)

    def accepts(self, heading: str) -> bool:
        """Return whether the line may take the heading: it is a candidate, or another exemption that is certain."""
        return self.find_candidate(heading) is not None or self._is_alternative(heading)

    def _is_alternative(self, heading: str) -> bool:
        """Return whether the heading exempts the line too, beside the exemption that is certain: the filer may take either."""
        certain = self.certain
        return (
            certain is not None
            and certain.rate_percent == 0
            and any(
                item.row.heading == heading and item.verdict is Verdict.YES and item.row.rate_percent == 0
                for item in self.verdicts
            )
        )


@dataclass(frozen=True, slots=True)
class HeadingStack:
    """The headings of a line by the rules: the choice of every program that applies to it, and its lists."""

    facts: LineFacts
    lists: tuple[ListMatch, ...]
    choices: tuple[ProgramChoice, ...]

    @property
    def certain(self) -> tuple[HeadingRow, ...]:
        """The rows that certainly apply, in the order of reporting."""
        found = [(choice.program.rank, choice.certain) for choice in self.choices]
        return tuple(row for _, row in sorted(found, key=lambda item: item[0]) if row is not None)

    @property
    def decided(self) -> tuple[HeadingRow, ...]:
        """The rows that apply whatever the missing facts are, in the order of reporting."""
        found = [(choice.program.rank, choice.decided) for choice in self.choices]
        return tuple(row for _, row in sorted(found, key=lambda item: item[0]) if row is not None)

    @property
    def undecided(self) -> tuple[ProgramChoice, ...]:
        """The choices that depend on missing facts, in the order of reporting."""
        return tuple(sorted((each for each in self.choices if each.undecided), key=lambda each: each.program.rank))

    def find_choice(self, program: str) -> ProgramChoice | None:
        """Return the choice of the program, or None if the program does not apply to the line."""
        return next((choice for choice in self.choices if choice.program.id == program), None)


@dataclass(frozen=True, slots=True)
class HeadingOutcome:
    """A heading that a missing fact may lead to; `applies_if` is its condition, None for the heading that applies otherwise."""

    heading: str
    description: str
    rate_percent: Decimal | None
    applies_if: str | None


@dataclass(frozen=True, slots=True)
class DecisionStep:
    """One step of a decision: a heading, whether it applies, the reasons and the source."""

    program: str
    heading: str
    description: str
    rate_percent: Decimal | None
    basis: str
    verdict: str
    applies: bool
    reasons: tuple[str, ...]
    source: str
    status: str


def decide_headings(facts: LineFacts, rules: Ruleset | None = None, *, only_given: bool = False) -> HeadingStack:
    """Return the headings of a line by the rules in force on its day of entry.

    With `only_given`, a program whose heading depends on a missing fact does not decide the headings of other programs.
    """
    return _decide(rules or ruleset(), facts, only_given=only_given)


# A merchant's lines are alike, within a plan and from plan to plan.
@lru_cache(maxsize=2_000)
def _decide(rules: Ruleset, facts: LineFacts, *, only_given: bool) -> HeadingStack:
    choices: dict[str, ProgramChoice] = {}
    for program, rows, decided in _program_order(rules, facts.hts_code, facts.origin, facts.spi, facts.on):
        choice = decided or _choose_row(rules, program, rows, facts, choices, only_given=only_given)
        choices[program.id] = replace(choice, claimed=facts.claimed) if only_given else choice
    return HeadingStack(facts, rules.find_lists(facts.hts_code, facts.on), tuple(choices.values()))


@lru_cache(maxsize=20_000)
def _program_order(
    rules: Ruleset, hts_code: str, origin: str, spi: str | None, on: date
) -> tuple[tuple[DutyProgram, tuple[RowVerdict, ...], ProgramChoice | None], ...]:
    # Order of dependency: independent programs, then programs that yield to headings, then rows that need other headings.
    # A program that depends on nothing else of the line is decided once and cached.
    by_program = prospective_rows(rules, hts_code, origin, spi, on)
    ordered: list[tuple[int, DutyProgram, tuple[RowVerdict, ...], ProgramChoice | None]] = []
    for program in rules.programs:
        rows = by_program.get(program.id, ())
        if any(item.row.when.with_headings for item in rows):
            ordered.append((2, program, rows, None))
        elif program.yields_to and rows:
            ordered.append((1, program, rows, None))
        elif rows:
            varies = any(item.row.when.varies_by_line for item in rows)
            ordered.append((0, program, rows, None if varies else ProgramChoice(program, rows, _candidates(rows))))
    return tuple((program, rows, decided) for _, program, rows, decided in sorted(ordered, key=lambda item: item[0]))


def _choose_row(
    rules: Ruleset,
    program: DutyProgram,
    rows: tuple[RowVerdict, ...],
    facts: LineFacts,
    before: dict[str, ProgramChoice],
    *,
    only_given: bool,
) -> ProgramChoice:
    line_headings = _line_headings(rules, facts, before, only_given=only_given)
    if program.yields_to:
        carried = {heading for heading in facts.claimed if _may_be_claimed(rules, heading, facts, before)}
        yields_to = tuple(
            sorted(heading for heading in carried | line_headings.decided if in_ranges(heading, program.yields_to))
        )
        if yields_to:
            return ProgramChoice(program, (), (), yields_to)
    verdicts = tuple(judge_row(rules, row, facts, line_headings) for row in rows)
    return ProgramChoice(program, verdicts, _candidates(verdicts))


def _may_be_claimed(rules: Ruleset, heading: str, facts: LineFacts, before: dict[str, ProgramChoice]) -> bool:
    # A heading that the rules exclude for the line, or do not know, excludes no other heading.
    row = rules.find_row(heading, facts.on)
    choice = before.get(row.program) if row is not None else None
    return choice is not None and choice.find_candidate(heading) is not None


def _candidates(verdicts: tuple[RowVerdict, ...]) -> tuple[RowVerdict, ...]:
    candidates: list[RowVerdict] = []
    for item in verdicts:
        if item.verdict is not Verdict.NO:
            candidates.append(item)
        if item.verdict is Verdict.YES:
            break
    return tuple(candidates)


def _line_headings(
    rules: Ruleset, facts: LineFacts, before: dict[str, ProgramChoice], *, only_given: bool
) -> LineHeadings:
    claimed = set(facts.claimed)
    decided: set[str] = set()
    choices: list[frozenset[str]] = []
    for choice in before.values():
        own = {heading for heading in facts.claimed if rules.find_program(heading) is choice.program}
        possible = {item.row.heading for item in choice.candidates}
        certain = choice.certain
        headings = possible
        if own & possible:
            headings = own & possible
            decided |= headings
        elif only_given and choice.undecided:
            choices.append(frozenset(possible))
        elif certain is not None:
            headings = {certain.heading}
            decided |= headings
        elif choice.listed and choice.program.missing.one_applies:
            if any(item.verdict is Verdict.NEEDS_PERSON for item in choice.candidates):
                choices.append(frozenset(possible))
        else:
            continue
        if not own:
            claimed |= headings  # a missing heading is reported once, not again for the headings that depend on it
    return LineHeadings(claimed, decided, tuple(choices))


def explain_headings(facts: LineFacts, rules: Ruleset | None = None) -> tuple[DecisionStep, ...]:
    """Return the decision step by step: every heading considered, whether it applies, the reasons and the source.

    A heading that depends on a missing fact does not apply.
    """
    return tuple(_decision_steps(decide_headings(facts, rules, only_given=True)))


def _decision_steps(stack: HeadingStack) -> Iterator[DecisionStep]:
    for choice in sorted(stack.choices, key=lambda choice: choice.program.rank):
        for item in choice.verdicts:
            row = item.row
            if row.when.certified is not None and not item.listed and row.heading not in stack.facts.claimed:
                continue  # the heading is irrelevant until the importer certifies it
            passed = item.verdict is not Verdict.NO and item not in choice.candidates
            reasons = ("an earlier row applies",) if passed else item.reasons or ("it applies to all goods",)
            verdict = Verdict.NO if passed else item.verdict
            yield DecisionStep(
                program=row.program,
                heading=row.heading,
                description=row.description,
                rate_percent=row.rate_percent,
                basis=row.basis,
                verdict=verdict.value,
                applies=row is choice.decided,
                reasons=reasons,
                source=row.source,
                status=row.status,
            )
        if choice.yields_to:
            program = choice.program
            yield DecisionStep(
                program=program.id,
                heading="",
                description=program.name,
                rate_percent=None,
                basis="",
                verdict=Verdict.NO.value,
                applies=False,
                reasons=(f"{', '.join(choice.yields_to)} on the line excludes it",),
                source="",
                status="",
            )


def row_evidence(rules: Ruleset, row: HeadingRow, facts: LineFacts) -> Evidence:
    """Return the evidence for the row: at most as certain as its lists, and as the rate of column 1 that it depends on.

    A rate of an edition that is older than a review of the rules may have changed.
    """
    lists = rules.find_lists(facts.hts_code, facts.on)
    evidence = combine_evidence(row, *(listed.source for listed in lists if listed.list.id in row.when.lists))
    rate = facts.goods_rate
    if rate is None or row.when.column_1_words is None:
        return evidence
    is_recent = (facts.on - rate.edition_from).days <= rules.review.within_days
    return evidence.rest_on("confirmed" if is_recent else "probable", f"{rate.words}, {rate.source}")


def depends_on_rate(facts: LineFacts, rules: Ruleset | None = None) -> bool:
    """Return whether a heading that the line may take depends on the rate of column 1."""
    rows = prospective_rows(rules or ruleset(), facts.hts_code, facts.origin, facts.spi, facts.on)
    return any(item.row.when.column_1_words is not None for items in rows.values() for item in items)


def list_expected(stack: HeadingStack) -> tuple[ExpectedValue, ...]:
    """Return the headings that the rules expect on the line, in the order of reporting, with what they depend on."""
    expected: list[ExpectedValue] = []
    for choice in sorted(stack.choices, key=lambda each: each.program.rank):
        group, decided = choice.program.id, choice.decided
        if decided is not None:
            expected.append(ExpectedValue(value=decided.heading, group=group))
        else:
            expected += [
                ExpectedValue(value=each.heading, group=group, applies_if=each.applies_if or _OTHERWISE)
                for each in choice.outcomes
            ]
    return tuple(expected)
