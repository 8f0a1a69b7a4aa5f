"""Views of invoice lines: the treatment as chips with their sources, and the reasons for each heading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipeline.core.money import format_plain
from pipeline.customs.chapter99.facts import entry_date, line_facts
from pipeline.customs.chapter99.section232 import data_needed
from pipeline.customs.chapter99.stack import DecisionStep, explain_headings
from pipeline.customs.pga.answers import FlagAnswer, flag_answers
from pipeline.customs.queries import LineInPlan, TreatedLine
from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.deliveries.outbox.entry_facts import rule_words
from pipeline.exports.models import Export, LineTreatment
from pipeline.interfaces.console.exports.citations import ShownSource, link_tariff, show_evidence, show_source
from pipeline.interfaces.console.exports.finding_views import ShownFinding

_VERDICT_WORDS = {
    "yes": "applies",
    "no": "does not apply",
    "unknown": "a fact is missing",
    "needs_person": "needs a person",
}


@dataclass(frozen=True)
class ShownChip:
    """One code of a line's treatment, what it says, and its source, None if the rules do not know it on that day."""

    code: str
    text: str
    kind: str
    source: ShownSource | None
    link: str


@dataclass(frozen=True)
class ShownLine:
    """The treatment of an invoice line; `link` leads to the reasons."""

    link: str
    unit_ref: str
    line_ref: str
    hts_code: str
    hts_link: str
    origin: str
    chips: list[ShownChip]


@dataclass(frozen=True)
class ShownStepOfDecision:
    """One heading that was considered. `carried` says that the plan carries it."""

    step: DecisionStep
    program: str
    verdict: str
    mark: str
    carried: bool
    source: ShownSource | None


@dataclass(frozen=True)
class ShownDecision:
    """The reasons for a line's treatment; `rules_note` says by which rules, `same_rules` if those of the export."""

    line: ShownLine
    found: LineInPlan
    facts: list[tuple[str, str]]
    rules_note: str
    same_rules: bool
    steps: list[ShownStepOfDecision]
    other_steps: list[ShownStepOfDecision]
    answers: list[tuple[FlagAnswer, ShownSource | None]]
    findings: Sequence[ShownFinding]


def show_lines(export_id: str, lines: Sequence[TreatedLine], on: date) -> list[ShownLine]:
    """Return the lines for a list; the sources are those of the day `on`."""
    return [_show_line(export_id, each.unit_ref, each.treatment, on) for each in lines]


def is_below(pointer: str, prefix: str) -> bool:
    """Return whether a JSON Pointer is `prefix` or a place in it."""
    return pointer == prefix or pointer.startswith(f"{prefix}/")


def line_link(export_id: str, unit_no: int, position: int) -> str:
    """Return the address of the page with the reasons for a line's treatment."""
    return f"/console/exports/{export_id}/units/{unit_no}/lines/{position}"


def _show_line(export_id: str, unit_ref: str, row: LineTreatment, on: date) -> ShownLine:
    return ShownLine(
        line_link(export_id, row.unit_no, row.position),
        unit_ref,
        row.line_ref,
        _dotted(row.hts_code),
        link_tariff(row.hts_code),
        row.country_of_origin,
        [
            *(_show_heading(each, on) for each in row.chapter99),
            *(_show_metal(each, row, on) for each in row.section232),
            *(_show_flag(each, on) for each in row.pga),
        ],
    )


def _show_heading(carried: Mapping[str, Any], on: date) -> ShownChip:
    heading, rules = carried["heading"], ruleset()
    row = rules.find_row(heading, on)
    family = None if row else rules.find_family(heading)
    source = None
    if row is not None:
        source = show_source(row.description, row)
    elif family is not None:
        source = show_source(family.name, family)
    rate = carried.get("ratePercent")
    text = ", ".join(filter(None, (rule_words().name_program(carried["program"]), "" if rate is None else f"{rate} %")))
    return ShownChip(heading, text, "chapter 99", source, link_tariff(heading))


def _show_metal(metal: Mapping[str, Any], row: LineTreatment, on: date) -> ShownChip:
    needs = data_needed(row.hts_code, row.country_of_origin, on)
    need = next((each for each in needs if each.metal == metal["metal"]), None)
    source = None if need is None else show_evidence(f"needs {', '.join(need.fields)}", need.source, need.status)
    return ShownChip(metal["metal"], f"{metal['metalWeightKg']} kg", "Section 232", source, "")


def _show_flag(answer: Mapping[str, Any], on: date) -> ShownChip:
    row = pga_rules().find_flag(answer["flag"], on)
    required = "" if row is None else "data required" if row.required else "data or a disclaimer may be required"
    disclaimer = f"disclaimed {answer['disclaimer']}" if answer.get("disclaimer") else ""
    text = " ".join(filter(None, (answer["agency"], answer.get("program"), disclaimer)))
    source = (
        None if row is None else show_source(f"{pga_rules().agencies.get(row.agency, row.agency)}: {required}", row)
    )
    return ShownChip(answer["flag"], text, "agency", source, "")


def show_decision(export: Export, found: LineInPlan, line_findings: Sequence[ShownFinding]) -> ShownDecision:
    """Return the recorded treatment of a line and the reasons that the rules in use give for it."""
    line, on, rules = found.line, entry_date(found.unit), ruleset()
    steps = [
        _show_step(step, {row.heading for row in line.treatment.chapter99})
        for step in explain_headings(line_facts(line, on, found.goods_rate), rules)
    ]
    others = [each for each in steps if each.mark != "good" and not each.carried]
    same = export.rules_hash in (None, rules.content_hash)
    note = (
        f"The reasons come from ruleset {rules.id}, with which the export was executed."
        if same
        else "This version of the service cannot read the ruleset with which the export was executed. The reasons come"
        f" from ruleset {rules.id}, and may differ. The treatment above is what was executed."
    )
    if export.ruleset_id != rules.id:
        note = f"The plan was made by ruleset {export.ruleset_id}. {note}"
    return ShownDecision(
        _show_line(export.id, found.unit.unit_ref, found.treatment, on),
        found,
        [
            ("Day of entry", on.isoformat()),
            ("Country of export", line.country_of_export),
            ("Special program", line.spi or "none"),
            ("Quantity", f"{format_plain(line.quantity)} {line.unit}"),
            ("Net weight", f"{format_plain(line.net_weight_kg)} kg"),
        ],
        note,
        same,
        [each for each in steps if each.mark == "good" or each.carried],
        others,
        [
            (each, None if each.flag is None else show_source("", each.flag))
            for each in flag_answers(found.unit, found.line, on)
        ],
        line_findings,
    )


def _show_step(step: DecisionStep, carried: set[str]) -> ShownStepOfDecision:
    mark = "good" if step.applies else "over" if step.verdict == "no" else "busy"
    verdict = "applies" if step.applies else _VERDICT_WORDS[step.verdict]
    if step.verdict == "yes" and not step.applies:
        verdict = "would apply; another heading of the program is chosen"
        mark = "over"
    return ShownStepOfDecision(
        step,
        rule_words().name_program(step.program),
        verdict,
        mark,
        step.heading in carried,
        show_evidence("", step.source, step.status) if step.source else None,
    )


def _dotted(code: str) -> str:
    return f"{code[:4]}.{code[4:6]}.{code[6:]}"
