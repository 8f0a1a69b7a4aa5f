"""The overview of a plan for a filer: per line and agency, what is present, what is missing and what needs a person."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain
from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.ports import port_rules
from pipeline.exports.schemas.plan import Line, Plan, Section232, Unit

PLAN: Final = "plan"
CBP: Final = "CBP"
DUTIES: Final = "CBP ch. 99"
USMCA: Final = "USMCA"

_PLACE = re.compile(r"^/units/(?P<unit>\d+)(?:/lines/(?P<line>\d+))?(?P<rest>/.*)?$")
_PGA = re.compile(r"^/treatment/pga/(\d+)")


@dataclass
class AgencyStatus:
    """The state of one line for one agency; of the unit if `line_ref` is empty, of the plan if `unit_ref` is empty too."""

    unit_ref: str
    line_ref: str
    agency: str
    present: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    person: list[str] = field(default_factory=list)
    waived: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing needs a person."""
        return not self.missing and not self.person


def plan_overview(plan: Plan, findings: Sequence[Finding]) -> list[AgencyStatus]:
    """Return the state of the plan, then of each unit and its lines, each with its agencies, in the order of the plan.

    A blocking finding counts as missing, a warning as needing a person unless it is waived; a note counts as neither.
    """
    by_place: dict[tuple[int, int | None] | None, list[tuple[str, Finding]]] = {}
    for finding in findings:
        if finding.severity == "note":
            continue
        matched = _PLACE.match(finding.pointer)
        if matched is None:
            by_place.setdefault(None, []).append((finding.pointer, finding))
        else:
            line = matched["line"]
            place = (int(matched["unit"]), None if line is None else int(line))
            by_place.setdefault(place, []).append((matched["rest"] or "", finding))
    rows = list(_add_findings(_plan_status(plan), by_place.get(None, ()), None))
    for number, unit in enumerate(plan.units):
        rows += _add_findings(_unit_status(unit), by_place.get((number, None), ()), None)
        for position, each in enumerate(unit.lines):
            rows += _add_findings(_line_statuses(unit, each), by_place.get((number, position), ()), each)
    return rows


def _add_findings(
    rows: dict[str, AgencyStatus], findings: Sequence[tuple[str, Finding]], line: Line | None
) -> Iterator[AgencyStatus]:
    first = next(iter(rows.values()))
    for rest, finding in findings:
        agency = PLAN if first.agency == PLAN else _agency(rest, line)
        row = rows.setdefault(agency, AgencyStatus(first.unit_ref, first.line_ref, agency))
        label = f"{finding.rule} {_field_words(rest)}".strip()
        if finding.severity == "block":
            row.missing.append(label)
        elif finding.waived_by is None:
            row.person.append(label)
        else:
            row.waived.append(label)
    yield from rows.values()


def _agency(rest: str, line: Line | None) -> str:
    if rest.startswith(("/usmcaCertificate", "/spi")):
        return USMCA
    if rest.startswith(("/treatment/section232", "/treatment/chapter99")):
        return DUTIES
    matched = _PGA.match(rest)
    if matched is not None and line is not None and int(matched[1]) < len(line.treatment.pga):
        return line.treatment.pga[int(matched[1])].agency
    return CBP


def _field_words(rest: str) -> str:
    """Return the last name of a pointer in words, such as `country of cast` for countryOfCast."""
    names = [part for part in rest.split("/") if part and not part.isdigit()]
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f" {found[1].lower()}", names[-1]) if names else ""


def _plan_status(plan: Plan) -> dict[str, AgencyStatus]:
    present = [f"batch {plan.batch_id}", f"rules {plan.ruleset.id}"]
    if plan.approval is not None:
        ends = plan.approval.expires_at
        until = "" if ends is None else f" until {ends:%Y-%m-%d %H:%M}"
        present.append(f"approved by {plan.approval.approved_by}{until}")
    return {PLAN: AgencyStatus("", "", PLAN, present)}


def _unit_status(unit: Unit) -> dict[str, AgencyStatus]:
    invoice = unit.invoice
    present = [
        f"entry {unit.entry.type} at {port_rules().ports.describe(unit.entry.port_of_entry)}",
        f"invoice {invoice.number}, {format_plain(invoice.total)} {invoice.currency} {invoice.incoterm}",
        f"{_count(unit.lines, 'line')} in {_count(unit.packages, 'package')}",
    ]
    return {CBP: AgencyStatus(unit.unit_ref, "", CBP, present)}


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _line_statuses(unit: Unit, line: Line) -> dict[str, AgencyStatus]:
    headings = [row.heading for row in line.treatment.chapter99]
    rows = {
        CBP: AgencyStatus(
            unit.unit_ref,
            line.line_ref,
            CBP,
            [
                line.hts_code,
                f"origin {line.country_of_origin}",
                f"{format_plain(line.line_value)} {unit.invoice.currency}",
            ],
        )
    }
    if headings or line.treatment.section232:
        metals = [_metal(row) for row in line.treatment.section232]
        rows[DUTIES] = AgencyStatus(unit.unit_ref, line.line_ref, DUTIES, [*headings, *metals])
    if line.spi is not None or line.usmca_certificate_ref is not None:
        claim = [f"claim {line.spi}"] if line.spi else []
        certified = [f"certification {line.usmca_certificate_ref}"] if line.usmca_certificate_ref else []
        rows[USMCA] = AgencyStatus(unit.unit_ref, line.line_ref, USMCA, [*claim, *certified])
    for pga in line.treatment.pga:
        row = rows.setdefault(pga.agency, AgencyStatus(unit.unit_ref, line.line_ref, pga.agency))
        code = " ".join(part for part in (pga.flag, pga.program, pga.processing) if part)
        if pga.disclaimer is not None:
            row.present.append(f"{code} disclaimed {pga.disclaimer}")
        elif pga.data:
            row.present.append(f"{code}: {', '.join(map(_label, sorted(pga.data)))}")
        else:
            row.present.append(code)
    return rows


def _label(key: str) -> str:
    element = pga_rules().elements.get(key)
    return key if element is None else element.label


def _metal(row: Section232) -> str:
    countries = (
        ("melt", row.country_of_melt_and_pour),
        ("smelt", row.primary_country_of_smelt),
        ("smelt 2", row.secondary_country_of_smelt),
        ("cast", row.country_of_cast),
    )
    countries_text = "".join(f", {name} {country}" for name, country in countries if country)
    return f"{row.metal} {format_plain(row.metal_weight_kg)} kg{countries_text}"
