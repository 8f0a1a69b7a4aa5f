"""The decision of the rules for one line: the headings of chapter 99 with reasons, open questions and sources."""

from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

from sqlmodel import Session

from pipeline.core.errors import ValidationFailed
from pipeline.core.money import format_plain, sum_exact
from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.chapter99.section232 import data_needed
from pipeline.customs.chapter99.stack import HeadingOutcome, decide_headings, depends_on_rate, explain_headings
from pipeline.customs.reference.base import CHAPTERS
from pipeline.customs.reference.chapter99 import HeadingRow
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.ruleset import Ruleset, ruleset
from pipeline.customs.schemas import (
    DecidedHeading,
    ExcludedGoods,
    LineDecision,
    ListedCode,
    NeededData,
    OpenDutyView,
    OpenQuestion,
    PossibleHeading,
    QuestionView,
    ReasonedStep,
)
from pipeline.customs.tariff.goods import load_goods_rate


def check_facts(facts: LineFacts) -> None:
    """Raise ValidationFailed if no goods can have these facts, or the rules do not reach their day; the error names the fact."""
    begins_on = ruleset().begins_on
    if facts.on < begins_on:
        raise ValidationFailed(
            f"{facts.on} is before {begins_on}, the first day of these rules; give a day of entry from then", field="on"
        )
    if facts.chapter not in CHAPTERS:
        raise ValidationFailed(
            f"chapter {facts.chapter} has no goods; give the number of the goods themselves", field="htsCode"
        )
    named = {"origin": [facts.origin], "metalCountry": [code for each in facts.metals or () for code in each.countries]}
    for field, codes in named.items():
        unknown = next((code for code in codes if not _is_country(code, of_metal=field != "origin")), None)
        if unknown is not None:
            raise ValidationFailed(f"{unknown} is not the code of a country; write it as in ISO 3166-1", field=field)
    if facts.net_kg is not None and sum_exact(each.weight_kg for each in facts.metals or ()) > facts.net_kg:
        raise ValidationFailed(
            "the metals weigh more than the goods; give both weights for the whole line", field="netKg"
        )


def _is_country(code: str, *, of_metal: bool) -> bool:
    return code in entry_rules().countries.codes or (of_metal and code == "OTH")


def find_rate(session: Session, facts: LineFacts) -> LineFacts:
    """Return the facts with the rate of the goods by the edition of the day, if a heading depends on it and it is known."""
    if not depends_on_rate(facts):
        return facts
    return replace(facts, goods_rate=load_goods_rate(session, facts.hts_code, facts.origin, facts.spi, facts.on))


def decide_line(facts: LineFacts) -> LineDecision:
    """Return what the rules in use decide for a line with these facts; a heading that depends on a missing fact is open."""
    rules = ruleset()
    stack = decide_headings(facts, rules, only_given=True)
    return LineDecision(
        hts_code=facts.hts_code,
        origin=facts.origin,
        on=facts.on,
        ruleset=rules.id,
        rules_as_of=rules.as_of,
        rules_hash=rules.content_hash,
        lists=[ListedCode(list=found.list.id, code=found.code) for found in stack.lists],
        headings=[row.heading for row in stack.decided],
        stack=[_show_heading(row) for row in stack.decided],
        undecided=[
            OpenQuestion(
                program=choice.program.id,
                name=choice.program.name,
                outcomes=[_show_outcome(each) for each in choice.outcomes],
            )
            for choice in stack.undecided
        ],
        excluded=_find_excluded(rules, facts),
        open_duties=[
            OpenDutyView(text=row.text, **row.model_dump(include=set(OpenDutyView.model_fields)))
            for row in rules.find_open_duties(facts.hts_code, facts.origin, facts.on)
        ],
        questions=[
            QuestionView(**row.model_dump(include=set(QuestionView.model_fields)))
            for row in rules.find_questions(facts.hts_code, facts.origin, facts.on)
        ],
        data=[
            NeededData(**_plain(asdict(need))) for need in data_needed(facts.hts_code, facts.origin, facts.on, rules)
        ],
        steps=[ReasonedStep(**_plain(asdict(step))) for step in explain_headings(facts, rules)],
    )


def _show_heading(row: HeadingRow) -> DecidedHeading:
    return DecidedHeading(
        heading=row.heading,
        program=row.program,
        description=row.description,
        rate_percent=None if row.rate_percent is None else format_plain(row.rate_percent),
        basis=row.basis,
        source=row.source,
        status=row.status,
    )


def _show_outcome(each: HeadingOutcome) -> PossibleHeading:
    rate = None if each.rate_percent is None else format_plain(each.rate_percent)
    return PossibleHeading(
        heading=each.heading, description=each.description, rate_percent=rate, applies_if=each.applies_if
    )


def _find_excluded(rules: Ruleset, facts: LineFacts) -> list[ExcludedGoods]:
    return [
        ExcludedGoods(
            list=ban.list,
            what=ban.what,
            unless=ban.unless,
            effective_from=ban.effective_from,
            source=ban.source,
            status=ban.status,
        )
        for ban in rules.find_bans(facts.hts_code, facts.origin, facts.on)
    ]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: format_plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}
