"""The declared Section 232 metals (one row per line and metal, sums by metal), and the USMCA certifications."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from pipeline.core import money
from pipeline.documents.invoice import code_wording, wording
from pipeline.documents.schemas import declarations
from pipeline.documents.schemas import invoice as out
from pipeline.documents.schemas.invoice import Printed
from pipeline.exports.schemas import plan


def metal_rows(lines: Iterable[out.InvoiceLine]) -> tuple[declarations.MetalRow, ...]:
    """Return the metals of the lines, in the order of the lines."""
    return tuple(_metal_rows(lines))


def _metal_rows(lines: Iterable[out.InvoiceLine]) -> Iterator[declarations.MetalRow]:
    for line in lines:
        net = line.net_weight_kg.decimal
        for row in line.treatment.section232:
            share = money.percent_of(row.metal_weight_kg, net)
            yield declarations.MetalRow(
                line_number=line.number,
                line_ref=line.line_ref,
                hts_code=line.hts_code,
                description=line.description,
                headings=_headings(line.treatment),
                metal=wording.format_code(row.metal),
                metal_weight_kg=wording.format_number(row.metal_weight_kg),
                net_weight_kg=line.net_weight_kg,
                share_percent=None if share is None else wording.format_number(share),
                country_of_melt_and_pour=row.country_of_melt_and_pour,
                primary_country_of_smelt=row.primary_country_of_smelt,
                secondary_country_of_smelt=row.secondary_country_of_smelt,
                country_of_cast=row.country_of_cast,
                us_metal_percent=None if row.us_metal_percent is None else _format_percent(row.us_metal_percent),
                line_value=line.line_value,
                treatment_digest=line.treatment_digest,
            )


def _headings(treatment: plan.Treatment) -> tuple[declarations.MetalHeading, ...]:
    # The planner names the program of each heading. If no name contains 232, all headings of the line are shown.
    named = [row for row in treatment.chapter99 if "232" in row.program] or treatment.chapter99
    return tuple(
        declarations.MetalHeading(
            heading=row.heading,
            program=row.program,
            rate_percent=None if row.rate_percent is None else _format_percent(row.rate_percent),
            basis=code_wording.format_basis(row.basis),
        )
        for row in named
    )


def _format_percent(value: Decimal) -> Printed:
    return Printed(value, f"{money.format_plain(value)} %")


def metal_totals(lines: Sequence[plan.Line], currency: str) -> tuple[declarations.MetalTotal, ...]:
    """Return the sums by metal, sorted by name; a line with two metals counts in the sums of both."""
    by_metal: dict[str, list[tuple[plan.Line, plan.Section232]]] = {}
    for line in lines:
        for row in line.treatment.section232:
            by_metal.setdefault(row.metal, []).append((line, row))
    totals: list[declarations.MetalTotal] = []
    for metal, rows in sorted(by_metal.items()):
        holders = {line.line_ref: line for line, _ in rows}.values()
        totals.append(
            declarations.MetalTotal(
                metal=wording.format_code(metal),
                line_count=len(holders),
                metal_weight_kg=wording.format_number(money.sum_exact(row.metal_weight_kg for _, row in rows)),
                net_weight_kg=wording.format_number(money.sum_exact(line.net_weight_kg for line in holders)),
                line_value=wording.format_amount(money.sum_exact(line.line_value for line in holders), currency),
            )
        )
    return tuple(totals)


#: The most goods of a certificate that are named; of more, only the number is given.
MAX_GOODS_SHOWN = 12


def certificate_rows(unit: plan.Unit) -> tuple[declarations.Certificate, ...]:
    """Return the certifications in the order of the plan, each with the lines that refer to it."""
    claims: dict[str, list[int]] = {}
    for number, line in enumerate(unit.lines, start=1):
        if line.usmca_certificate_ref:
            claims.setdefault(line.usmca_certificate_ref, []).append(number)
    return tuple(
        declarations.Certificate(
            ref=certificate.ref,
            certifier_role=certificate.certifier_role,
            certifier_name=certificate.certifier_name,
            certifier_address=certificate.certifier_address,
            certifier_contact=certificate.certifier_contact,
            exporter=certificate.exporter,
            producer=certificate.producer,
            producer_on_request=certificate.producer_on_request,
            importer=certificate.importer,
            goods=tuple(certificate.goods),
            criterion=certificate.criterion,
            blanket_from=certificate.blanket_from,
            blanket_to=certificate.blanket_to,
            signed_on=certificate.signed_on,
            lines_shown=wording.format_line_numbers(claims.get(certificate.ref, [])),
            details=tuple(_certificate_details(certificate)),
        )
        for certificate in unit.usmca_certificates
    )


def _certificate_details(certificate: plan.UsmcaCertificate) -> Iterator[out.Pair]:
    contact = certificate.certifier_contact
    reached = [] if contact is None else [contact.name, contact.title, contact.phone, contact.email]
    where = [] if certificate.certifier_address is None else wording.format_address(certificate.certifier_address)
    if certifier := ", ".join(part for part in (*where, *reached) if part):
        yield out.Pair(name="Certifier", value=certifier)
    for role, party in (
        ("Exporter", certificate.exporter),
        ("Producer", certificate.producer),
        ("Importer", certificate.importer),
    ):
        if party is not None:
            yield out.Pair(name=role, value=", ".join((party.name, *wording.format_address(party.address))))
    if certificate.producer_on_request:
        yield out.Pair(name="Producer", value="named to customs on request")
    if certificate.goods:
        shown = [
            f"{row.hs_code[:4]}.{row.hs_code[4:]} {row.description}" for row in certificate.goods[:MAX_GOODS_SHOWN]
        ]
        more = len(certificate.goods) - len(shown)
        yield out.Pair(name="Goods", value="; ".join(shown) + (f"; and {more} more" if more else ""))
