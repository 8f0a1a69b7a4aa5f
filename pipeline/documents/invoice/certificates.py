"""The USMCA certifications of origin of a unit, with the elements of annex 5-A in words."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.documents.invoice import wording
from pipeline.documents.schemas import declarations
from pipeline.documents.schemas import invoice as out
from pipeline.exports.schemas import plan

#: A certificate for more goods than this names their number: the lines of the invoice have the rest.
MOST_GOODS_TOLD = 12


def certificate_rows(unit: plan.Unit) -> tuple[declarations.Certificate, ...]:
    """Return the certifications in the order of the plan, each with the lines that claim by it."""
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
            lines_shown=wording.line_numbers(claims.get(certificate.ref, [])),
            told=tuple(_told(certificate)),
        )
        for certificate in unit.usmca_certificates
    )


def _told(certificate: plan.UsmcaCertificate) -> Iterator[out.Pair]:
    contact = certificate.certifier_contact
    reached = [] if contact is None else [contact.name, contact.title, contact.phone, contact.email]
    where = [] if certificate.certifier_address is None else wording.address_lines(certificate.certifier_address)
    if told := ", ".join(part for part in (*where, *reached) if part):
        yield out.Pair(name="Certifier", value=told)
    for role, party in (
        ("Exporter", certificate.exporter),
        ("Producer", certificate.producer),
        ("Importer", certificate.importer),
    ):
        if party is not None:
            yield out.Pair(name=role, value=", ".join((party.name, *wording.address_lines(party.address))))
    if certificate.producer_on_request:
        yield out.Pair(name="Producer", value="named to customs on request")
    if certificate.goods:
        shown = [
            f"{row.hs_code[:4]}.{row.hs_code[4:]} {row.description}" for row in certificate.goods[:MOST_GOODS_TOLD]
        ]
        more = len(certificate.goods) - len(shown)
        yield out.Pair(name="Goods", value="; ".join(shown) + (f"; and {more} more" if more else ""))
