"""What a line on a Section 232 list of metals says of its metals: what is missing, and weights that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from pipeline.customs.hts_lists import Listed
from pipeline.customs.rules import MetalNeeds, section232_rules, spoken
from pipeline.customs.ruleset import ruleset
from pipeline.money import decimal, plain, times, total
from pipeline.schemas.plan import Line, Section232
from pipeline.schemas.problems import Finding, Severity

_HUNDRED = decimal("100")
_FIELDS = {
    "country_of_melt_and_pour": ("countryOfMeltAndPour", "country of melt and pour"),
    "primary_country_of_smelt": ("primaryCountryOfSmelt", "primary country of smelt"),
    "country_of_cast": ("countryOfCast", "country of cast"),
}


def check_line(line: Line, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with what a line, entered on the day, says of its metals (V09) and their weight (V10)."""
    lists = tuple(listed for listed in ruleset().lists_of(line.hts_code, on) if listed.list.metal is not None)
    if not lists or section232_rules().no_metal_heading in _carried(line):
        return
    yield from _metal_data(line, pointer, on, lists)
    yield from _weights(line, pointer, on, lists)


@dataclass(frozen=True, slots=True)
class DataNeeded:
    """What a line on a list of metals must say of one of them."""

    metal: str
    fields: tuple[str, ...]
    source: str
    status: str


def data_needed(hts_code: str, on: date) -> tuple[DataNeeded, ...]:
    """Return what a line of the ten digits, entered on the day, must say of each listed metal."""
    lists = [listed for listed in ruleset().lists_of(hts_code, on) if listed.list.metal is not None]
    found = []
    for metal in dict.fromkeys(listed.list.metal for listed in lists):
        fields = ["its weight in kg", "the net weight in kg"]
        source, status = lists[0].version.source, str(lists[0].version.status)
        for needs in section232_rules().metals:
            if needs.metal == metal and needs.holds(on) and needs.asked_of(hts_code):
                unknown = f" (or {needs.unknown})" if _may_be_unknown(needs, tuple(lists)) else ""
                fields += [f"the {_FIELDS[name][1]}{unknown}" for name in needs.needs]
                source, status = needs.source, str(needs.status)
        found.append(DataNeeded(str(metal), tuple(fields), source, status))
    return tuple(found)


def _carried(line: Line) -> set[str]:
    return {row.heading for row in line.treatment.chapter99}


def _listed(line: Line, lists: tuple[Listed, ...]) -> str:
    where = spoken(dict.fromkeys(listed.list.id for listed in lists))
    return f"Line {line.line_ref}: {line.hts_code} is on Section 232 list {where}"


def _metal_data(line: Line, pointer: str, on: date, lists: tuple[Listed, ...]) -> Iterator[Finding]:
    metals = list(dict.fromkeys(str(listed.list.metal) for listed in lists))
    given = [
        (place, row)
        for place, row in enumerate(line.treatment.section232)
        if row.metal in metals and row.metal_weight_kg > 0
    ]
    if not given:
        yield Finding(
            rule="V09",
            severity="block",
            pointer=f"{pointer}/treatment/section232",
            message=f"{_listed(line, lists)}, but the weight of its {' or '.join(metals)} is not given.",
            remedy="Give the metal, its weight in kg and where it was melted and poured, or smelted and cast.",
            source=lists[0].version.source,
        )
    for place, row in given:
        yield from _metal_row(line, row, f"{pointer}/treatment/section232/{place}", on, lists)


def _metal_row(line: Line, row: Section232, pointer: str, on: date, lists: tuple[Listed, ...]) -> Iterator[Finding]:
    rules = section232_rules()
    for needs in rules.metals:
        if needs.metal != row.metal or not needs.holds(on) or not needs.asked_of(line.hts_code):
            continue
        for name in needs.needs:
            if getattr(row, name) is None:
                key, words = _FIELDS[name]
                yield Finding(
                    rule="V09",
                    severity=_severity(line, needs, on),
                    pointer=f"{pointer}/{key}",
                    message=f"{_listed(line, lists)}, but the {words} of its {row.metal} is missing.",
                    remedy=f"Give the {words} from the mill certificate"
                    + (", or OTH where the steel's is not known." if row.metal == "steel" else "."),
                    source=needs.source,
                )
            elif getattr(row, name) == needs.unknown and not _may_be_unknown(needs, lists):
                key, words = _FIELDS[name]
                yield Finding(
                    rule="V09",
                    severity="warn",
                    pointer=f"{pointer}/{key}",
                    message=f"{_listed(line, lists)}, of articles and not of derivatives: "
                    f"{needs.unknown} for the {words} of its {row.metal} may be refused.",
                    remedy=f"Give the {words} from the mill certificate.",
                    source=needs.source,
                )
    unknown = rules.unknown_aluminum
    countries = (row.primary_country_of_smelt, row.secondary_country_of_smelt, row.country_of_cast)
    if (
        row.metal == "aluminum"
        and unknown.holds(on)
        and unknown.value in countries
        and not _carried(line).intersection(unknown.headings)
    ):
        yield Finding(
            rule="V09",
            severity=unknown.severity,
            pointer=pointer,
            message=f"Line {line.line_ref} does not know where its aluminum was smelted or cast; "
            "customs may charge the 200 % rate of Russian aluminum.",
            remedy="Ask the maker for the smelt and cast countries, or the broker whether OTH is accepted.",
            source=unknown.source,
        )


def _may_be_unknown(needs: MetalNeeds, lists: tuple[Listed, ...]) -> bool:
    return any(listed.list.kind in needs.unknown_on for listed in lists if listed.list.metal == needs.metal)


def _severity(line: Line, needs: MetalNeeds, on: date) -> Severity:
    # Whether an article below the weight test must still name the countries is not certain.
    lenient = section232_rules().weight_test.heading in _carried(line)
    early = needs.fatal_from is not None and on < needs.fatal_from
    return "warn" if lenient or early else needs.severity


def _weights(line: Line, pointer: str, on: date, lists: tuple[Listed, ...]) -> Iterator[Finding]:
    test = section232_rules().weight_test
    metals = {listed.list.metal for listed in lists}
    rows = line.treatment.section232
    metal_kg = total(row.metal_weight_kg for row in rows if row.metal in metals)
    every_kg = total(row.metal_weight_kg for row in rows)
    if every_kg > line.net_weight_kg:
        yield Finding(
            rule="V10",
            severity="block",
            pointer=f"{pointer}/treatment/section232",
            message=f"Line {line.line_ref} holds {plain(every_kg)} kg of metal "
            f"but weighs {plain(line.net_weight_kg)} kg net.",
            remedy="Correct the metal weight, or the net weight: both are for the whole line.",
            source=test.source,
        )
        return
    if not test.holds(on) or not metal_kg:
        return
    exempt = line.hts_code[:2] in test.exempt_chapters
    below = not exempt and times(metal_kg, _HUNDRED) < times(line.net_weight_kg, test.least_percent)
    for place, row in enumerate(line.treatment.chapter99):
        here = f"{pointer}/treatment/chapter99/{place}/heading"
        share = f"{plain(metal_kg)} kg of {plain(line.net_weight_kg)} kg net"
        if below and row.heading in test.duty_headings:
            yield Finding(
                rule="V10",
                severity=test.severity,
                pointer=here,
                message=f"Line {line.line_ref} carries {row.heading}, but its metal is below {test.least_percent} % "
                f"of its weight ({share}).",
                remedy=f"Use {test.heading}, or correct the weights.",
                source=test.source,
            )
        if not below and row.heading == test.heading:
            yield Finding(
                rule="V10",
                severity=test.severity,
                pointer=here,
                message=f"Line {line.line_ref} carries {row.heading}, which is for articles with less than "
                f"{test.least_percent} % metal outside chapters {spoken(sorted(test.exempt_chapters))} ({share}).",
                remedy="Use the heading of the list that the article is on, or correct the weights.",
                source=test.source,
            )
