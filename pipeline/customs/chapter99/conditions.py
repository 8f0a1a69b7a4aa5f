"""Judges whether a heading's conditions hold for a line: yes, no, unknown or needs a person, each with its reason."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache

from pipeline.core.money import format_plain, multiply, to_decimal
from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.reference.base import Metal, combine_evidence, join_words
from pipeline.customs.reference.chapter99 import HeadingConditions, HeadingRow, ListedGoods, MetalFrom, in_ranges
from pipeline.customs.reference.hts_lists import ListMatch
from pipeline.customs.reference.ruleset import Ruleset
from pipeline.customs.tariff.goods import GoodsRate

_HUNDRED = to_decimal("100")


class Verdict(StrEnum):
    """The result of a condition. Of several results, the first in this order decides."""

    NO = "no"
    UNKNOWN = "unknown"  # the line lacks a fact
    NEEDS_PERSON = "needs_person"  # only a person knows
    YES = "yes"


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """The verdict on a heading's row for a line, and its reasons as parts of a sentence.

    `listed`: the line's code is on a list of the row. `open_conditions`: the conditions without an answer.
    """

    row: HeadingRow
    verdict: Verdict
    reasons: tuple[str, ...]
    listed: bool = False
    open_conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LineHeadings:
    """The headings of a line: `claimed` by the plan, `decided` by the rules; one of each set in `choices` applies."""

    claimed: AbstractSet[str]
    decided: AbstractSet[str]
    choices: tuple[AbstractSet[str], ...] = ()


#: The verdict on a condition, the reason, and the condition in words.
ConditionResult = tuple[Verdict, str, str]
#: The verdict and the reason.
VerdictReason = tuple[Verdict, str]


@lru_cache(maxsize=20_000)
def prospective_rows(
    rules: Ruleset, hts_code: str, origin: str, spi: str | None, on: date
) -> Mapping[str, tuple[RowVerdict, ...]]:
    """Return by program the rows in force that code, origin and special program allow, judged only by these three."""
    facts = LineFacts(hts_code, origin, on, spi)
    names = {listed.list.id for listed in rules.find_lists(hts_code, on)}
    by_program: dict[str, tuple[RowVerdict, ...]] = {}
    for row in _in_force(rules, on):
        if _is_possible(row.when, facts, names):
            judged = _combine_results(
                row, _check_fixed_conditions(rules, row.when, facts), listed=_is_listed(row.when, names)
            )
            by_program[row.program] = (*by_program.get(row.program, ()), judged)
    return by_program


@lru_cache(maxsize=400)
def _in_force(rules: Ruleset, on: date) -> tuple[HeadingRow, ...]:
    return tuple(row for row in rules.rows if row.in_force(on))


def _is_possible(when: HeadingConditions, facts: LineFacts, names: AbstractSet[str]) -> bool:
    # The fixed conditions again, without reasons: it quickly drops most rows, which are for goods of another country.
    return (
        (not when.origins or facts.origin in when.origins)
        and facts.origin not in when.not_origins
        and _find_exception(when, facts, names) is None
        and (not when.spi or facts.spi in when.spi)
        and facts.spi not in when.not_spi
        and (not when.chapters or facts.chapter in when.chapters)
        and facts.chapter not in when.not_chapters
        and (not _needs_list(when) or _is_listed(when, names) or _may_certify(when, facts, names))
    )


def _find_exception(when: HeadingConditions, facts: LineFacts, names: AbstractSet[str]) -> ListedGoods | None:
    return next((goods for goods in when.not_goods if facts.origin in goods.origins and names & set(goods.lists)), None)


def _needs_list(when: HeadingConditions) -> bool:
    return bool(when.lists or when.certified)


def _may_certify(when: HeadingConditions, facts: LineFacts, names: AbstractSet[str]) -> bool:
    certified = when.certified
    if certified is None or facts.chapter in certified.not_chapters:
        return False
    return names.isdisjoint(certified.not_lists)


def _is_listed(when: HeadingConditions, names: AbstractSet[str]) -> bool:
    return not names.isdisjoint(when.lists)


def judge_row(rules: Ruleset, prospect: RowVerdict, facts: LineFacts, line_headings: LineHeadings) -> RowVerdict:
    """Return the verdict for the line on a row that code, origin and special program allow."""
    when = prospect.row.when
    if not when.varies_by_line:
        return prospect
    varying = _combine_results(
        prospect.row, _check_line_conditions(rules, when, facts, line_headings), listed=prospect.listed
    )
    if varying.verdict is Verdict.NO:
        return varying
    verdict = min(prospect.verdict, varying.verdict, key=_PRECEDENCE.__getitem__)
    reasons = (*prospect.reasons, *varying.reasons)
    open_conditions = (*prospect.open_conditions, *varying.open_conditions)
    return RowVerdict(prospect.row, verdict, reasons, prospect.listed, open_conditions)


def rejection_reason(rules: Ruleset, row: HeadingRow, facts: LineFacts) -> str | None:
    """Return why the row does not apply to the line, or None if nothing excludes it."""
    for verdict, reason, _ in (
        *_check_fixed_conditions(rules, row.when, facts),
        *_check_line_conditions(rules, row.when, facts, LineHeadings(facts.claimed, facts.claimed)),
    ):
        if verdict is Verdict.NO:
            return reason
    return None


def _combine_results(row: HeadingRow, reasons: Iterator[ConditionResult], *, listed: bool) -> RowVerdict:
    texts: list[str] = []
    open_conditions: list[str] = []
    verdict = Verdict.YES
    for result, reason, condition in reasons:
        if result is Verdict.NO:
            return RowVerdict(row, result, (reason,), listed)
        texts.append(reason)
        if result is not Verdict.YES:
            open_conditions.append(condition)
        if _PRECEDENCE[result] < _PRECEDENCE[verdict]:
            verdict = result
    return RowVerdict(row, verdict, tuple(texts), listed, tuple(open_conditions))


_PRECEDENCE = {verdict: place for place, verdict in enumerate(Verdict)}


def listed_metals(rules: Ruleset, facts: LineFacts) -> tuple[Metal, ...]:
    """Return the metals of the lists that the code is on."""
    return _listed_metals(rules, facts.hts_code, facts.on)


@lru_cache(maxsize=20_000)
def _listed_metals(rules: Ruleset, hts_code: str, on: date) -> tuple[Metal, ...]:
    lists = rules.find_lists(hts_code, on)
    return tuple(dict.fromkeys(listed.list.metal for listed in lists if listed.list.metal is not None))


def _check_fixed_conditions(rules: Ruleset, when: HeadingConditions, facts: LineFacts) -> Iterator[ConditionResult]:
    for check in (_check_origins, _check_spi, _check_chapters, _check_lists):
        result = check(rules, when, facts)
        if result is not None:
            yield result
    if when.person_decides is not None:
        yield Verdict.NEEDS_PERSON, f"a person must decide: {when.person_decides}", when.person_decides


def _check_line_conditions(
    rules: Ruleset, when: HeadingConditions, facts: LineFacts, line_headings: LineHeadings
) -> Iterator[ConditionResult]:
    if when.column_1_words is not None:
        yield *_check_column_1(when, when.column_1_words, facts.goods_rate), when.column_1_words
    if when.contains is not None:
        yield *_check_contains(when.contains, facts), f"it contains {when.contains}"
    if when.no_metal:
        yield *_check_no_metal(facts), "it contains no aluminum, steel or copper"
    if when.below_weight_test:
        yield (
            *_check_weight_test(rules, facts),
            f"its {join_words(listed_metals(rules, facts))} weighs less than {_describe_share(rules, facts)}",
        )
    if when.metal_from is not None:
        yield *_check_metal_from(when.metal_from, rules, facts), when.metal_from.words_of_metal
    if when.us_metal_percent is not None:
        share = f"at least {format_plain(when.us_metal_percent)} % of its listed metal is US metal"
        yield *_check_us_metal(when, rules, facts), share
    if when.with_headings:
        yield _check_other_headings(when, line_headings)


def _describe_share(rules: Ruleset, facts: LineFacts) -> str:
    test = rules.metals.find_weight_test(facts.on)
    return f"{format_plain(test.least_percent)} % of the net weight" if test is not None else "a weight test requires"


def _check_origins(rules: Ruleset, when: HeadingConditions, facts: LineFacts) -> ConditionResult | None:
    if when.origins and facts.origin not in when.origins:
        return Verdict.NO, f"it is for goods of {join_words(sorted(when.origins))}, not of {facts.origin}", ""
    if facts.origin in when.not_origins:
        return Verdict.NO, f"it is not for goods of {facts.origin}", ""
    if when.not_goods:
        names = {listed.list.id for listed in rules.find_lists(facts.hts_code, facts.on)}
        excepted = _find_exception(when, facts, names)
        if excepted is not None:
            return Verdict.NO, f"it is not for {excepted.words}", ""
    return (Verdict.YES, f"the goods are of {facts.origin}", "") if when.origins or when.not_origins else None


def _check_chapters(_: Ruleset, when: HeadingConditions, facts: LineFacts) -> ConditionResult | None:
    if (when.chapters and facts.chapter not in when.chapters) or facts.chapter in when.not_chapters:
        return Verdict.NO, f"it is not for chapter {facts.chapter}", ""
    return (Verdict.YES, f"it is for chapter {facts.chapter}", "") if when.chapters or when.not_chapters else None


def _check_spi(_: Ruleset, when: HeadingConditions, facts: LineFacts) -> ConditionResult | None:
    if facts.spi in when.not_spi:
        return Verdict.NO, f"it is not for goods of special program {facts.spi}", ""
    if not when.spi:
        return None
    if facts.spi in when.spi:
        return Verdict.YES, f"the line claims special program {facts.spi}", ""
    return Verdict.NO, f"the line does not claim special program {' or '.join(sorted(when.spi))}", ""


def _check_lists(rules: Ruleset, when: HeadingConditions, facts: LineFacts) -> ConditionResult | None:
    if not _needs_list(when):
        return None
    matches = rules.find_lists(facts.hts_code, facts.on)
    listed = next((found for found in matches if found.list.id in when.lists), None)
    if listed is not None:
        return Verdict.YES, _describe_membership(listed), ""
    if when.certified is not None and _may_certify(when, facts, {listed.list.id for listed in matches}):
        what = when.certified.what
        return Verdict.NEEDS_PERSON, f"the importer must certify: {what}", f"the importer certifies that {what}"
    if when.lists:
        return Verdict.NO, f"{facts.hts_code} is not on list {' or '.join(when.lists)}", ""
    return Verdict.NO, f"{facts.hts_code} is in a chapter or on a list that excludes a certification", ""


def _describe_membership(listed: ListMatch) -> str:
    return f"{listed.code} is on list {listed.list.id} ({combine_evidence(listed.source).cited})"


def _check_column_1(when: HeadingConditions, condition: str, rate: GoodsRate | None) -> VerdictReason:
    below, least = when.column_1_below, when.column_1_least
    if rate is not None:
        found = f"{rate.words} ({rate.source})"
        if (below is None or rate.most < below) and (least is None or rate.least >= least):
            return Verdict.YES, f"{condition}: {found}"
        if (below is not None and rate.least >= below) or (least is not None and rate.most < least):
            return Verdict.NO, f"it applies if {condition}, but {found}"
    return Verdict.NEEDS_PERSON, f"a person must decide: {condition}"


def _check_contains(metal: Metal, facts: LineFacts) -> VerdictReason:
    weight = facts.total_weight((metal,))
    if weight is None:
        return Verdict.UNKNOWN, f"the plan does not say whether the article contains {metal}"
    if weight:
        return Verdict.YES, f"the article contains {format_plain(weight)} kg of {metal}"
    return Verdict.NO, f"the article contains no {metal}"


def _check_no_metal(facts: LineFacts) -> VerdictReason:
    weight = facts.total_weight(("aluminum", "steel", "copper"))
    if weight is None:
        return Verdict.UNKNOWN, "the plan does not say whether the article contains aluminum, steel or copper"
    if weight:
        return Verdict.NO, f"the article contains {format_plain(weight)} kg of aluminum, steel or copper"
    return Verdict.YES, "the article contains no aluminum, steel or copper"


def _check_weight_test(rules: Ruleset, facts: LineFacts) -> VerdictReason:
    test = rules.metals.find_weight_test(facts.on)
    if test is None:
        return Verdict.NO, f"no weight test is in force on {facts.on}"
    if facts.chapter in test.exempt_chapters:
        return Verdict.NO, f"chapter {facts.chapter} is outside the weight test"
    metals = listed_metals(rules, facts)
    weight = facts.total_weight(metals)
    # A weight of zero means that the plan does not give it; V09 reports that.
    if not weight or not facts.net_kg:
        return Verdict.UNKNOWN, f"the plan does not give the weight of its {join_words(metals)}, or the net weight"
    share = f"{format_plain(weight)} kg of {join_words(metals)} in {format_plain(facts.net_kg)} kg net"
    if multiply(weight, _HUNDRED) < multiply(facts.net_kg, test.least_percent):
        return Verdict.YES, f"{share} is below {test.least_percent} %"
    return Verdict.NO, f"{share} is {test.least_percent} % or more"


def _check_metal_from(wanted: MetalFrom, rules: Ruleset, facts: LineFacts) -> VerdictReason:
    where = join_words(sorted(wanted.countries))
    if wanted.or_origin and facts.origin in wanted.countries:
        return Verdict.YES, f"the goods are of {where}"
    metals = [metal for metal in listed_metals(rules, facts) if metal in wanted.metals] or wanted.metals
    known = facts.metal_facts(metals)
    metal_names = join_words(metals)
    if wanted.share == "any":
        if any(country in wanted.countries for fact in known for country in fact.countries):
            return Verdict.YES, f"it contains {metal_names} of {where}"
        if facts.metals is None or not all(fact.countries for fact in known):
            return Verdict.UNKNOWN, f"the plan does not say whether its {metal_names} is of {where}"
        return Verdict.NO, f"the plan gives no {metal_names} of {where}"
    shared = [wanted.countries.intersection(fact.countries) for fact in known]
    if wanted.share == "most" and any(shared):
        return Verdict.YES, f"its {metal_names} is of {where}"
    if not known or not all(fact.countries for fact in known):
        return Verdict.UNKNOWN, f"the plan does not say where its {metal_names} was melted and poured, smelted or cast"
    if wanted.share == "most":
        return Verdict.NO, f"its {metal_names} is not of {where}"
    if all(country in wanted.countries for fact in known for country in fact.countries):
        return Verdict.YES, f"its {metal_names} is of {where}"
    return Verdict.NO, f"its {metal_names} is not all of {where}"


def _check_us_metal(when: HeadingConditions, rules: Ruleset, facts: LineFacts) -> VerdictReason:
    known = facts.metal_facts(listed_metals(rules, facts))
    shares = [fact.us_percent for fact in known]
    if any(share is not None and share < (when.us_metal_percent or share) for share in shares):
        return Verdict.NO, f"less than {when.us_metal_percent} % of its metal is US metal"
    if not shares or None in shares:
        return Verdict.UNKNOWN, "the plan does not give the share of US metal"
    return Verdict.YES, f"at least {when.us_metal_percent} % of its metal is US metal"


def _check_other_headings(when: HeadingConditions, line_headings: LineHeadings) -> ConditionResult:
    claimed = sorted(heading for heading in line_headings.claimed if in_ranges(heading, when.with_headings))
    decided = sorted(heading for heading in line_headings.decided if in_ranges(heading, when.with_headings))
    for choice in line_headings.choices if not decided else ():
        brings = sorted(heading for heading in choice if in_ranges(heading, when.with_headings))
        if 0 < len(brings) < len(choice):
            named = " or ".join(brings)
            return Verdict.UNKNOWN, f"it is open whether {named} is on the line", f"{named} is on the line"
        decided += [" or ".join(brings)] if brings else []
    if bool(claimed) != bool(decided):
        named = join_words(claimed or decided)
        return Verdict.UNKNOWN, f"it is open whether {named} is on the line", f"{named} is on the line"
    if claimed:
        return Verdict.YES, f"{join_words(decided)} {'is' if len(decided) == 1 else 'are'} on the line", ""
    return Verdict.NO, "the line carries no heading that it depends on", ""
