"""Checks of the chapter 99 headings on a line against the dated rules: one finding per difference, with its source."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from pipeline.core.findings import ExpectedValue, Finding, Severity
from pipeline.core.money import format_plain
from pipeline.customs.chapter99.conditions import Verdict, rejection_reason
from pipeline.customs.chapter99.facts import LineFacts, line_facts
from pipeline.customs.chapter99.stack import HeadingStack, ProgramChoice, decide_headings, list_expected, row_evidence
from pipeline.customs.reference.base import Evidence, ReferenceRow, combine_evidence, join_words
from pipeline.customs.reference.chapter99 import DutyProgram, HeadingRow, in_ranges
from pipeline.customs.reference.ruleset import Ruleset, ruleset
from pipeline.customs.tariff.goods import GoodsRate
from pipeline.exports.schemas.plan import Line, Plan

#: The sentences for a line that lacks headings: it certainly lacks one, or facts are missing.
_CERTAIN = "carries no {}"
_ONE_OF = "carries none of {}; which one applies depends on facts that the plan does not give"
_FACTS = "may need {}; this depends on facts that the plan does not give"


def check_ruleset(plan: Plan) -> Iterator[Finding]:
    """Yield R01 if the plan was made by another ruleset than this service has."""
    rules, plan_ruleset = ruleset(), plan.ruleset
    if (plan_ruleset.id, plan_ruleset.as_of) == (rules.id, rules.as_of):
        return
    known = plan_ruleset.id == rules.id or plan_ruleset.id in rules.predecessors
    here = f"{rules.id} as of {rules.as_of}"
    by = f"The plan was made by ruleset {plan_ruleset.id} as of {plan_ruleset.as_of}"
    if plan_ruleset.id not in rules.predecessors and plan_ruleset.as_of > rules.as_of:
        message = f"{by}, which is newer than the rules of this service ({here}). These rules lack what changed since."
        remedy = "Update the rules of this installation before the plan is executed."
    elif not known and plan_ruleset.as_of == rules.as_of:
        # A correction keeps the day: the day does not show which of the two rulesets is the corrected one.
        message = f"{by}, which this service does not know. It may be newer than the rules of this service ({here})."
        remedy = (
            "Update the rules of this installation. If they are up to date, make and approve the plan again with them."
        )
    else:
        message = f"{by}, but this service checks it by {here}: ruleset_outdated."
        remedy = "Make and approve the plan again with the newer rules. Until then its treatment is used unchanged."
    yield Finding.warning("R01", "/ruleset/asOf", message, remedy, f"ruleset {rules.id}, {rules.content_hash}")


def check_headings(line: Line, pointer: str, on: date, rate: GoodsRate | None = None) -> Iterator[Finding]:
    """Yield a finding per difference from the rules, for a line that is entered on the day `on`; `rate` is of its goods.

    It checks headings (V11, V13), their order and rates (V11), US metal (V09) and import bans (V13).
    """
    headings = tuple(row.heading for row in line.treatment.chapter99)
    check = _HeadingCheck(ruleset(), line, f"{pointer}/treatment", line_facts(line, on, rate), headings)
    for finding in _find_all(check):
        # Programs that plan correct themselves by the whole list, not by the one heading that differs.
        named = finding.severity != "note" and "/chapter99" in finding.pointer
        yield finding.model_copy(update={"expected": check.expected}) if named else finding
    yield from check.find_bans(f"{pointer}/htsCode")


def _find_all(check: "_HeadingCheck") -> Iterator[Finding]:
    stack = decide_headings(check.facts, check.rules)
    yield from check.find_conflicts()
    yield from check.find_wrong(stack)
    yield from check.find_unproven(stack)
    if check.line.treatment.undetermined is None:
        yield from check.find_missing(stack)
    yield from check.check_order()
    yield from check.check_rates()


@dataclass
class _HeadingCheck:
    """The check of one line. `contested` holds the places of headings that have a finding; they get no second one."""

    rules: Ruleset
    line: Line
    pointer: str
    facts: LineFacts
    headings: tuple[str, ...]
    contested: set[int] = field(default_factory=set)

    @cached_property
    def expected(self) -> tuple[ExpectedValue, ...]:
        """The headings that the rules expect on the line, as `exports rules why` decides them."""
        return list_expected(decide_headings(self.facts, self.rules, only_given=True))

    def _differing_heading(self, place: int, text: str, remedy: str, evidence: Evidence) -> Finding:
        return self._heading_finding(place, text, remedy, severity=evidence.severity, source=evidence.cited)

    def _heading_finding(self, place: int, text: str, remedy: str, *, severity: Severity, source: str) -> Finding:
        self.contested.add(place)
        return Finding(
            rule="V11",
            severity=severity,
            pointer=f"{self.pointer}/chapter99/{place}/heading",
            message=f"Line {self.line.line_ref} carries {text}.",
            remedy=remedy,
            source=source,
        )

    def find_conflicts(self) -> Iterator[Finding]:
        """Yield headings that exclude one another, that are not in force, or that lack a companion heading."""
        on, headings = self.facts.on, self.headings
        for rule in self.rules.exclusive:
            places = [place for place, heading in enumerate(headings) if in_ranges(heading, rule.headings)]
            divided = all(in_ranges(headings[place], rule.together) for place in places)
            if (
                rule.in_force(on)
                and len(places) > 1
                and not (divided and len({headings[p] for p in places}) == len(places))
            ):
                named = join_words(headings[place] for place in places)
                text = f"{named}, but at most one of {_join_ranges(rule.headings)} may apply"
                remedy = "Keep only the heading that fits the metal, its weight and its origin."
                yield self._differing_heading(places[1], text, remedy, combine_evidence(rule))
                self.contested.update(places)
        for place, heading in enumerate(headings):
            # The end in the rules may have been postponed since, so the finding is only as certain as the row.
            ended = self._find_ended(heading)
            if ended is not None:
                row, name = ended
                until = f" to {row.effective_to}" if row.effective_to else ""
                text = f"{heading} ({name}), which is in force from {row.effective_from}{until} but not on {on}"
                remedy = "Remove the heading from the line."
                yield self._differing_heading(place, text, remedy, combine_evidence(row))
        for pair in self.rules.companions:
            for place, heading in enumerate(headings):
                fits = in_ranges(heading, pair.headings) and not any(in_ranges(other, pair.needs) for other in headings)
                if fits and pair.in_force(on) and place not in self.contested:
                    text = f"{heading}, which may only be claimed with {_join_ranges(pair.needs)}"
                    remedy = "Remove it from the line, or add the heading that it needs."
                    yield self._differing_heading(place, text, remedy, combine_evidence(pair))

    def _find_ended(self, heading: str) -> tuple[ReferenceRow, str] | None:
        on = self.facts.on
        family = self.rules.find_family(heading)
        if family is not None and not family.in_force(on):
            return family, family.name
        rows = self.rules.by_heading.get(heading, ())
        if rows and self.rules.find_row(heading, on) is None:
            return rows[-1], rows[-1].description
        return None

    def find_wrong(self, stack: HeadingStack) -> Iterator[Finding]:
        """Yield headings that do not apply to the line, and headings that the rules do not know."""
        for place, heading in enumerate(self.headings):
            if place in self.contested:
                continue
            program = self.rules.find_program(heading)
            if program is None:
                text = f"{heading}, which these rules do not know"
                remedy = "Check the heading. If it is new, update the rules of this installation."
                source = f"ruleset {self.rules.id}"
                yield self._heading_finding(place, text, remedy, severity="note", source=source)
                self.contested.discard(place)
                continue
            row = self.rules.find_row(heading, self.facts.on)
            choice = stack.find_choice(program.id)
            if row is None or (choice is not None and choice.accepts(heading)):
                continue
            if self._is_weight_test_case(row, choice):
                self.contested.add(place)
                continue
            text = f"{heading}, which does not apply: {self._explain_rejection(row, choice)}"
            required = choice.required if choice is not None else None
            row_basis = row_evidence(self.rules, required or row, self.facts)
            # If confirmed rules require another heading, a wrong heading blocks like a missing one.
            refuses = required is not None and (row.status == "confirmed" or not self._is_met(choice))
            severity = row_basis.severity if refuses else "warn"
            yield self._heading_finding(
                place, text, _replacement_remedy(choice), severity=severity, source=row_basis.cited
            )

    def _is_met(self, choice: ProgramChoice | None) -> bool:
        return choice is not None and any(choice.accepts(heading) for heading in self.headings)

    def _is_weight_test_case(self, row: HeadingRow, choice: ProgramChoice | None) -> bool:
        # V10 reports these with the weights: a duty heading below the weight test, or the test's heading above it.
        test = self.rules.metals.find_weight_test(self.facts.on)
        certain = choice.certain if choice is not None else None
        if test is None or certain is None or not self.line.treatment.section232:
            return False
        duty = in_ranges(row.heading, test.duty_headings)
        return row.heading == test.heading or (certain.heading == test.heading and duty)

    def _explain_rejection(self, row: HeadingRow, choice: ProgramChoice | None) -> str:
        if choice is not None and choice.yields_to:
            return f"{join_words(choice.yields_to)} on the line excludes it"
        reason = rejection_reason(self.rules, row, self.facts)
        if reason is not None:
            return reason
        certain = choice.certain if choice is not None else None
        return f"{certain.heading} ({certain.description}) applies instead" if certain else "another heading applies"

    def find_unproven(self, stack: HeadingStack) -> Iterator[Finding]:
        """Yield headings for US metal if the line does not give the share of US metal (V09)."""
        claimed = {heading for place, heading in enumerate(self.headings) if place not in self.contested}
        for choice in stack.choices:
            for item in choice.candidates:
                least = item.row.when.us_metal_percent
                if least is not None and item.row.heading in claimed and item.verdict is Verdict.UNKNOWN:
                    yield Finding.warning(
                        "V09",
                        f"{self.pointer}/section232",
                        f"Line {self.line.line_ref} carries {item.row.heading}, for articles whose metal is "
                        f"at least {least} % US metal, but does not give that share.",
                        "Give usMetalPercent of every listed metal, or use the heading that does not need it.",
                        combine_evidence(item.row).cited,
                    )

    def find_missing(self, stack: HeadingStack) -> Iterator[Finding]:
        """Yield the headings that the line should carry or may need, one finding per rule, sentence and severity."""
        lacking: dict[tuple[str, str, Severity], list[tuple[str, str]]] = {}
        looked_at: set[str] = set()
        for choice in stack.choices:
            program = choice.program
            if not choice.candidates or self._is_met(choice) or self._is_contested(program):
                continue
            certain, required = choice.certain, choice.required
            if certain is not None or choice.listed:
                looked_at.update(name for item in choice.candidates for name in item.row.when.lists)
            row_basis = row_evidence(self.rules, required or choice.candidates[-1].row, self.facts)
            severity: Severity = "warn" if self._may_stand_for(choice) else row_basis.severity
            if certain is not None and certain.rate_percent is not None:
                text, sentence = (
                    f"{certain.heading} ({certain.description}, {format_plain(certain.rate_percent)} %)",
                    _CERTAIN,
                )
            elif choice.listed:
                offered = " or ".join(dict.fromkeys(item.row.heading for item in choice.candidates))
                text = f"{offered} ({program.name})"
                sentence = _ONE_OF if required is not None else _FACTS
                severity = severity if required is not None else "note"
            else:
                continue
            lacking.setdefault((program.missing.rule, sentence, severity), []).append((text, row_basis.cited))
        where = f"{self.line.hts_code} of {self.facts.origin}"
        lists = [item.list.id for item in stack.lists if item.list.id in looked_at]
        where += f" (on list {join_words(dict.fromkeys(lists))})" if lists else ""
        for (rule, sentence, severity), found_ones in lacking.items():
            named = join_words(text for text, _ in found_ones)
            yield Finding(
                rule=rule,
                severity=severity,
                pointer=f"{self.pointer}/chapter99",
                message=f"Line {self.line.line_ref}: {where} {sentence.format(named)}.",
                remedy="Add the heading, or one that the rules allow instead."
                f" `exports rules why {self.line.hts_code} --origin {self.facts.origin}` shows all of them.",
                source="; ".join(dict.fromkeys(cited for _, cited in found_ones)),
            )

    def _is_contested(self, program: DutyProgram) -> bool:
        # A heading of the program already has a finding: one mistake gets one finding.
        return any(self.rules.find_program(self.headings[place]) is program for place in self.contested)

    def _may_stand_for(self, choice: ProgramChoice) -> bool:
        # A heading without a row may be a newer heading of the program, or one that excludes it. Only headings in these
        # ranges count: otherwise any unknown heading of chapter 99 would suppress a block.
        ranges = {_heading_prefix(item.row.heading) for item in choice.candidates}
        return any(
            _heading_prefix(heading) in ranges or in_ranges(heading, choice.program.yields_to)
            for heading in self.headings
            if heading not in self.rules.by_heading
        )

    def check_order(self) -> Iterator[Finding]:
        """Yield the first heading that follows one that must be reported after it (V11)."""
        reporting = self.rules.reporting
        if not reporting.in_force(self.facts.on):
            return
        last: DutyProgram | None = None
        for place, heading in enumerate(self.headings):
            program = self.rules.find_program(heading)
            if program is None or place in self.contested:
                continue
            if last is not None and program.rank < last.rank:
                text = f"{heading} ({program.name}) after a heading of {last.name}, which must be reported after it"
                remedy = f"Put the headings in the order of reporting: {self.rules.reported_order}."
                cited = combine_evidence(reporting).cited
                yield self._heading_finding(place, text, remedy, severity="warn", source=cited)
                return
            last = program

    def check_rates(self) -> Iterator[Finding]:
        """Yield rates that differ from the rules (V11), only for headings whose rate is on the full value."""
        for place, carried in enumerate(self.line.treatment.chapter99):
            row = self.rules.find_row(carried.heading, self.facts.on)
            if row is None or place in self.contested or carried.rate_percent is None or row.rate_percent is None:
                continue
            if row.basis == "full_value" and carried.rate_percent != row.rate_percent:
                yield Finding.warning(
                    "V11",
                    f"{self.pointer}/chapter99/{place}/ratePercent",
                    f"Line {self.line.line_ref} gives {format_plain(carried.rate_percent)} % for {row.heading}, "
                    f"but its rate on {self.facts.on} is {format_plain(row.rate_percent)} %.",
                    "Correct the rate or the heading.",
                    combine_evidence(row).cited,
                )

    def find_bans(self, pointer: str) -> Iterator[Finding]:
        """Yield goods that an import ban excludes (V13)."""
        facts = self.facts
        lists = {listed.list.id: listed.source for listed in self.rules.find_lists(facts.hts_code, facts.on)}
        for ban in self.rules.find_bans(facts.hts_code, facts.origin, facts.on):
            basis = combine_evidence(ban, lists[ban.list])
            yield Finding(
                rule="V13",
                severity="warn" if ban.unless else basis.severity,
                pointer=pointer,
                message=f"Line {self.line.line_ref}: {ban.what} of {facts.origin} ({facts.hts_code}) "
                f"have been excluded from import since {ban.effective_from}"
                + (f", unless {ban.unless}." if ban.unless else "."),
                remedy="Remove the line from the export."
                if ban.unless is None
                else "Remove the line from the export, or have the broker confirm that the exception applies.",
                source=basis.cited,
            )


def _heading_prefix(heading: str) -> str:
    return heading[:7]  # 9903.82 of 9903.82.09


def _join_ranges(ranges: tuple[str, ...]) -> str:
    return join_words(text.replace("-", " to ") for text in ranges)


def _replacement_remedy(choice: ProgramChoice | None) -> str:
    if choice is None or not choice.candidates:
        return "Remove the heading from the line, or correct the HTS code, the origin or the special program."
    certain = choice.certain
    offered = [certain] if certain is not None else [item.row for item in choice.candidates]
    headings = " or ".join(dict.fromkeys(row.heading for row in offered))
    return f"Use {headings}, or correct the HTS code, the origin, the special program or the metals."
