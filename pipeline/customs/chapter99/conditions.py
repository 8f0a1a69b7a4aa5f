"""Whether a heading's conditions hold for a line: yes, no, not known, or for a person to say; with the reason."""

from __future__ import annotations

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

_HUNDRED = to_decimal("100")


class Verdict(StrEnum):
    """What is known of a condition; of several, the first named here decides."""

    NO = "no"
    UNKNOWN = "unknown"  # a fact of the line is wanting
    ASKS = "asks"  # only a person knows
    YES = "yes"


@dataclass(frozen=True, slots=True)
class Judged:
    """A heading's row against a line: the verdict, and the reasons for it as parts of a sentence.

    `listed`: the line's code is on a list of the row. `hangs_on`: the conditions that nobody has answered yet.
    """

    row: HeadingRow
    verdict: Verdict
    reasons: tuple[str, ...]
    listed: bool = False
    hangs_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """The headings that are on the line as the plan has it, and as it was decided; of each of `choices`, one is."""

    claimed: AbstractSet[str]
    decided: AbstractSet[str]
    choices: tuple[AbstractSet[str], ...] = ()


#: What is known of a condition, why, and the condition itself in words.
Reason = tuple[Verdict, str, str]
#: The first two of them.
Known = tuple[Verdict, str]


@lru_cache(maxsize=20_000)
def prospects(
    rules: Ruleset, hts_code: str, origin: str, spi: str | None, on: date
) -> Mapping[str, tuple[Judged, ...]]:
    """Return, by program, the rows in force that code, origin and special program do not rule out, judged by these alone."""
    facts = LineFacts(hts_code, origin, on, spi)
    names = {listed.list.id for listed in rules.find_lists(hts_code, on)}
    found: dict[str, tuple[Judged, ...]] = {}
    for row in _in_force(rules, on):
        if _possible(row.when, facts, names):
            judged = _judged(row, _standing(rules, row.when, facts), listed=_on_one_of(row.when, names))
            found[row.program] = (*found.get(row.program, ()), judged)
    return found


@lru_cache(maxsize=400)
def _in_force(rules: Ruleset, on: date) -> tuple[HeadingRow, ...]:
    return tuple(row for row in rules.rows if row.in_force(on))


def _possible(when: HeadingConditions, facts: LineFacts, names: AbstractSet[str]) -> bool:
    # The same as the standing conditions, without the reasons: most rows are for goods of another country.
    return (
        (not when.origins or facts.origin in when.origins)
        and facts.origin not in when.not_origins
        and _excepted(when, facts, names) is None
        and (not when.spi or facts.spi in when.spi)
        and (not when.chapters or facts.chapter in when.chapters)
        and facts.chapter not in when.not_chapters
        and (when.unlisted or not _asks_for_a_list(when) or _on_one_of(when, names) or _may_certify(when, facts, names))
    )


def _excepted(when: HeadingConditions, facts: LineFacts, names: AbstractSet[str]) -> ListedGoods | None:
    return next((goods for goods in when.not_goods if facts.origin in goods.origins and names & set(goods.lists)), None)


def _asks_for_a_list(when: HeadingConditions) -> bool:
    return bool(when.lists or when.possible_lists or when.certified)


def _may_certify(when: HeadingConditions, facts: LineFacts, names: AbstractSet[str]) -> bool:
    certified = when.certified
    if certified is None or facts.chapter in certified.not_chapters:
        return False
    return names.isdisjoint(certified.not_lists)


def _on_one_of(when: HeadingConditions, names: AbstractSet[str]) -> bool:
    return not names.isdisjoint(when.lists) or not names.isdisjoint(when.possible_lists)


def judge(rules: Ruleset, prospect: Judged, facts: LineFacts, beside: Beside) -> Judged:
    """Return whether a row that code, origin and special program do not rule out applies to the line."""
    when = prospect.row.when
    if not when.varies_by_line:
        return prospect
    varying = _judged(prospect.row, _varying(rules, when, facts, beside), listed=prospect.listed)
    if varying.verdict is Verdict.NO:
        return varying
    verdict = min(prospect.verdict, varying.verdict, key=_STRENGTH.__getitem__)
    reasons, hangs_on = (*prospect.reasons, *varying.reasons), (*prospect.hangs_on, *varying.hangs_on)
    return Judged(prospect.row, verdict, reasons, prospect.listed, hangs_on)


def why_not(rules: Ruleset, row: HeadingRow, facts: LineFacts) -> str | None:
    """Return why the row does not apply to the line, or None where nothing rules it out."""
    for found, reason, _ in (
        *_standing(rules, row.when, facts),
        *_varying(rules, row.when, facts, Beside(facts.claimed, facts.claimed)),
    ):
        if found is Verdict.NO:
            return reason
    return None


def _judged(row: HeadingRow, reasons: Iterator[Reason], *, listed: bool) -> Judged:
    said: list[str] = []
    hangs_on: list[str] = []
    verdict = Verdict.YES
    for found, reason, condition in reasons:
        if found is Verdict.NO:
            return Judged(row, found, (reason,), listed)
        said.append(reason)
        if found is not Verdict.YES:
            hangs_on.append(condition)
        if _STRENGTH[found] < _STRENGTH[verdict]:
            verdict = found
    return Judged(row, verdict, tuple(said), listed, tuple(hangs_on))


_STRENGTH = {verdict: place for place, verdict in enumerate(Verdict)}


def listed_metals(rules: Ruleset, facts: LineFacts) -> tuple[Metal, ...]:
    """Return the metals of the lists that the code is on."""
    return _metals(rules, facts.hts_code, facts.on)


@lru_cache(maxsize=20_000)
def _metals(rules: Ruleset, hts_code: str, on: date) -> tuple[Metal, ...]:
    lists = rules.find_lists(hts_code, on)
    return tuple(dict.fromkeys(listed.list.metal for listed in lists if listed.list.metal is not None))


def _standing(rules: Ruleset, when: HeadingConditions, facts: LineFacts) -> Iterator[Reason]:
    for check in (_origins, _spi, _chapters, _lists):
        found = check(rules, when, facts)
        if found is not None:
            yield found
    if when.person_decides is not None:
        yield Verdict.ASKS, f"for a person to say: {when.person_decides}", when.person_decides


def _varying(rules: Ruleset, when: HeadingConditions, facts: LineFacts, beside: Beside) -> Iterator[Reason]:
    if when.contains is not None:
        yield *_holds(when.contains, facts), f"there is {when.contains} in it"
    if when.no_metal:
        yield *_no_metal(facts), "there is no aluminum, steel or copper in it"
    if when.below_weight_test:
        yield (
            *_light(rules, facts),
            f"its {join_words(listed_metals(rules, facts))} weighs less than {_share(rules, facts)}",
        )
    if when.metal_from is not None:
        yield *_metal_from(when.metal_from, rules, facts), when.metal_from.words_of_metal
    if when.us_metal_percent is not None:
        share = f"at least {format_plain(when.us_metal_percent)} % of its listed metal is of the United States"
        yield *_us_metal(when, rules, facts), share
    if when.with_headings:
        yield _beside(when, beside)


def _share(rules: Ruleset, facts: LineFacts) -> str:
    test = rules.metals.find_weight_test(facts.on)
    return f"{format_plain(test.least_percent)} % of the net weight" if test is not None else "a test by weight asks"


def _origins(rules: Ruleset, when: HeadingConditions, facts: LineFacts) -> Reason | None:
    if when.origins and facts.origin not in when.origins:
        return Verdict.NO, f"it is for goods of {join_words(sorted(when.origins))}, not of {facts.origin}", ""
    if facts.origin in when.not_origins:
        return Verdict.NO, f"it is not for goods of {facts.origin}", ""
    if when.not_goods:
        names = {listed.list.id for listed in rules.find_lists(facts.hts_code, facts.on)}
        excepted = _excepted(when, facts, names)
        if excepted is not None:
            return Verdict.NO, f"it is not for {excepted.words}", ""
    return (Verdict.YES, f"the goods are of {facts.origin}", "") if when.origins or when.not_origins else None


def _chapters(_: Ruleset, when: HeadingConditions, facts: LineFacts) -> Reason | None:
    if (when.chapters and facts.chapter not in when.chapters) or facts.chapter in when.not_chapters:
        return Verdict.NO, f"it is not for chapter {facts.chapter}", ""
    return (Verdict.YES, f"it is for chapter {facts.chapter}", "") if when.chapters or when.not_chapters else None


def _spi(_: Ruleset, when: HeadingConditions, facts: LineFacts) -> Reason | None:
    if not when.spi:
        return None
    if facts.spi in when.spi:
        return Verdict.YES, f"the line claims special program {facts.spi}", ""
    return Verdict.NO, f"the line does not claim special program {' or '.join(sorted(when.spi))}", ""


def _lists(rules: Ruleset, when: HeadingConditions, facts: LineFacts) -> Reason | None:
    if not _asks_for_a_list(when):
        return None
    found = rules.find_lists(facts.hts_code, facts.on)
    for names, verdict in ((when.lists, Verdict.YES), (when.possible_lists, Verdict.UNKNOWN)):
        for listed in found:
            if listed.list.id in names:
                return verdict, _membership(listed), f"the goods were on list {listed.list.id}"
    if when.certified is not None and _may_certify(when, facts, {listed.list.id for listed in found}):
        what = when.certified.what
        return Verdict.ASKS, f"for the importer to certify: {what}", f"the importer certifies that {what}"
    if when.unlisted:
        reason = f"whether {facts.hts_code} was on a list of it is not known here"
        return Verdict.UNKNOWN, reason, "the goods were on its list"
    if when.lists or when.possible_lists:
        return Verdict.NO, f"{facts.hts_code} is not on list {' or '.join((*when.lists, *when.possible_lists))}", ""
    return Verdict.NO, f"{facts.hts_code} is of a chapter or on a list of which nothing can be certified", ""


def _membership(listed: ListMatch) -> str:
    return f"{listed.code} is on list {listed.list.id} ({combine_evidence(listed.source).cited})"


def _holds(metal: Metal, facts: LineFacts) -> Known:
    weight = facts.weight_of((metal,))
    if weight is None:
        return Verdict.UNKNOWN, f"whether the article holds {metal} is not given"
    if weight:
        return Verdict.YES, f"the article holds {format_plain(weight)} kg of {metal}"
    return Verdict.NO, f"the article holds no {metal}"


def _no_metal(facts: LineFacts) -> Known:
    weight = facts.weight_of(("aluminum", "steel", "copper"))
    if weight is None:
        return Verdict.UNKNOWN, "whether the article holds aluminum, steel or copper is not given"
    if weight:
        return Verdict.NO, f"the article holds {format_plain(weight)} kg of aluminum, steel or copper"
    return Verdict.YES, "the article holds no aluminum, steel or copper"


def _light(rules: Ruleset, facts: LineFacts) -> Known:
    test = rules.metals.find_weight_test(facts.on)
    if test is None:
        return Verdict.NO, f"no test by weight was in force on {facts.on}"
    if facts.chapter in test.exempt_chapters:
        return Verdict.NO, f"chapter {facts.chapter} is outside the weight test"
    metals = listed_metals(rules, facts)
    weight = facts.weight_of(metals)
    # No weight at all is a plan that says nothing of it: what is missing is said elsewhere.
    if not weight or not facts.net_kg:
        return Verdict.UNKNOWN, f"the weight of its {join_words(metals)}, or the net weight, is not given"
    share = f"{format_plain(weight)} kg of {join_words(metals)} in {format_plain(facts.net_kg)} kg net"
    if multiply(weight, _HUNDRED) < multiply(facts.net_kg, test.least_percent):
        return Verdict.YES, f"{share} is below {test.least_percent} %"
    return Verdict.NO, f"{share} is {test.least_percent} % or more"


def _metal_from(wanted: MetalFrom, rules: Ruleset, facts: LineFacts) -> Known:
    where = join_words(sorted(wanted.countries))
    if wanted.or_origin and facts.origin in wanted.countries:
        return Verdict.YES, f"the goods are of {where}"
    metals = [metal for metal in listed_metals(rules, facts) if metal in wanted.metals] or wanted.metals
    known = facts.of_metals(metals)
    said = join_words(metals)
    if wanted.share == "any":
        if any(country in wanted.countries for fact in known for country in fact.countries):
            return Verdict.YES, f"{said} in it is of {where}"
        if facts.metals is None or not all(fact.countries for fact in known):
            return Verdict.UNKNOWN, f"whether {said} in it is of {where} is not given"
        return Verdict.NO, f"no {said} in it is said to be of {where}"
    there = [wanted.countries.intersection(fact.countries) for fact in known]
    if wanted.share == "most" and any(there):
        return Verdict.YES, f"its {said} is of {where}"
    if not known or not all(fact.countries for fact in known):
        return Verdict.UNKNOWN, f"where its {said} was melted and poured, smelted or cast is not given"
    if wanted.share == "most":
        return Verdict.NO, f"its {said} is not of {where}"
    if all(country in wanted.countries for fact in known for country in fact.countries):
        return Verdict.YES, f"its {said} is of {where}"
    return Verdict.NO, f"its {said} is not all of {where}"


def _us_metal(when: HeadingConditions, rules: Ruleset, facts: LineFacts) -> Known:
    known = facts.of_metals(listed_metals(rules, facts))
    shares = [fact.us_percent for fact in known]
    if any(share is not None and share < (when.us_metal_percent or share) for share in shares):
        return Verdict.NO, f"less than {when.us_metal_percent} % of its metal is of the United States"
    if not shares or None in shares:
        return Verdict.UNKNOWN, "the share of US metal is not given"
    return Verdict.YES, f"at least {when.us_metal_percent} % of its metal is of the United States"


def _beside(when: HeadingConditions, beside: Beside) -> Reason:
    claimed = sorted(heading for heading in beside.claimed if in_ranges(heading, when.with_headings))
    decided = sorted(heading for heading in beside.decided if in_ranges(heading, when.with_headings))
    for choice in beside.choices if not decided else ():
        brings = sorted(heading for heading in choice if in_ranges(heading, when.with_headings))
        if 0 < len(brings) < len(choice):
            named = " or ".join(brings)
            return Verdict.UNKNOWN, f"whether {named} is on the line is in question", f"{named} is on the line"
        decided += [" or ".join(brings)] if brings else []
    if bool(claimed) != bool(decided):
        named = join_words(claimed or decided)
        return Verdict.UNKNOWN, f"whether {named} is on the line is in question", f"{named} is on the line"
    if claimed:
        return Verdict.YES, f"{join_words(decided)} {'is' if len(decided) == 1 else 'are'} on the line", ""
    return Verdict.NO, "no heading that would bring it about is on the line", ""
