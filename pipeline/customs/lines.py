"""What must hold of each invoice line by itself: its words, its sum, its weights, its claim and its references."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date

from pipeline.customs import pga, section232
from pipeline.customs.entry_rules import entry_rules
from pipeline.customs.rules import spoken
from pipeline.money import EXACT, decimal, fits, minor_units, plain, rounded, times
from pipeline.schemas.plan import Line, Unit, UsmcaCertificate
from pipeline.schemas.problems import Finding

_TWO = decimal("2")
_WORD = re.compile(r"[^\W_]+")


def check_lines(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the unit's lines, entered on the day, in the order of the invoice."""
    makers = {manufacturer.ref for manufacturer in unit.parties.manufacturers}
    certificates = {certificate.ref: certificate for certificate in unit.usmca_certificates}
    seen: set[str] = set()
    for place, line in enumerate(unit.lines):
        here = f"{pointer}/lines/{place}"
        yield from _references(line, here, seen, makers)
        yield from _description(line, here)
        yield from _value(line, here, unit.invoice.currency)
        yield from _weights(line, here)
        yield from _usmca(line, here, on, certificates)
        yield from _undetermined(line, here)
        yield from section232.check_line(line, here, on)
        yield from pga.check_line(unit, line, here, on)


def _references(line: Line, here: str, seen: set[str], makers: AbstractSet[str]) -> Iterator[Finding]:
    if line.line_ref in seen:
        yield Finding(
            rule="V24",
            severity="block",
            pointer=f"{here}/lineRef",
            message=f"Line {line.line_ref} is on the invoice twice.",
            remedy="Give every line a lineRef of its own.",
        )
    seen.add(line.line_ref)
    if line.manufacturer_ref not in makers:
        yield Finding(
            rule="V24",
            severity="block",
            pointer=f"{here}/manufacturerRef",
            message=f"Line {line.line_ref} was made by {line.manufacturer_ref}, which is none of the manufacturers.",
            remedy="Add the manufacturer to the parties, or correct the reference.",
        )


def _description(line: Line, here: str) -> Iterator[Finding]:
    vague = entry_rules().vague
    words = _WORD.findall(line.description.lower())
    if len(words) < vague.fewest_words or all(word in vague.words or word.isdigit() for word in words):
        yield Finding(
            rule="V02",
            severity=vague.severity,
            pointer=f"{here}/description",
            message=f'Line {line.line_ref}: "{line.description}" is too vague for US customs.',
            remedy="Say what it is, what it is made of and what it is for.",
            source=vague.source,
        )


def _value(line: Line, here: str, currency: str) -> Iterator[Finding]:
    product = times(line.quantity, line.unit_price)
    # Half a minor unit either way: invoices round halves up, banks to even.
    apart = EXACT.abs(EXACT.subtract(product, line.line_value))
    agrees = times(apart, _TWO).scaleb(minor_units(currency)) <= 1
    if not agrees or not fits(line.line_value, currency):
        yield Finding(
            rule="V03",
            severity="block",
            pointer=f"{here}/lineValue",
            message=f"Line {line.line_ref}: {plain(line.quantity)} at {plain(line.unit_price)} {currency} make "
            f"{plain(rounded(product, currency))}, the line says {plain(line.line_value)}.",
            remedy="Correct the quantity, the unit price or the line value.",
            source="19 CFR 141.86(a)(4), (5)",
        )
    if not line.line_value:
        yield Finding(
            rule="V15",
            severity="warn",
            pointer=f"{here}/lineValue",
            message=f"Line {line.line_ref} has no value, which customs is likely to query.",
            remedy="Give what a buyer would pay; samples and gifts too need a fair value.",
            source="19 CFR 141.86(a)(6)",
        )


def _weights(line: Line, here: str) -> Iterator[Finding]:
    for name, weight in (("netWeightKg", line.net_weight_kg), ("grossWeightKg", line.gross_weight_kg)):
        if not weight:
            yield Finding(
                rule="V05",
                severity="block",
                pointer=f"{here}/{name}",
                message=f"Line {line.line_ref} weighs nothing.",
                remedy="Give the weight of the whole line in kg.",
                source="19 CFR 141.86(a)(4)",
            )
    if line.net_weight_kg > line.gross_weight_kg:
        yield Finding(
            rule="V05",
            severity="block",
            pointer=f"{here}/netWeightKg",
            message=f"Line {line.line_ref} weighs {plain(line.net_weight_kg)} kg net, more than its "
            f"{plain(line.gross_weight_kg)} kg gross.",
            remedy="Correct the net or the gross weight.",
            source="19 CFR 141.86(a)(4)",
        )


def _usmca(line: Line, here: str, on: date, certificates: Mapping[str, UsmcaCertificate]) -> Iterator[Finding]:
    usmca = entry_rules().usmca
    ref = line.usmca_certificate_ref
    if ref is not None and ref not in certificates:
        yield Finding(
            rule="V12",
            severity=usmca.severity,
            pointer=f"{here}/usmcaCertificateRef",
            message=f"Line {line.line_ref} names USMCA certification {ref}, which the unit does not carry.",
            remedy="Add the certification to usmcaCertificates, or correct the reference.",
            source=usmca.source,
        )
        return
    if line.spi not in usmca.programs:
        if ref is not None:
            yield Finding(
                rule="V12",
                severity="warn",
                pointer=f"{here}/spi",
                message=f"Line {line.line_ref} names a USMCA certification but claims nothing by it.",
                remedy="Set spi to S to claim USMCA, or take the reference off the line.",
                source=usmca.source,
            )
        return
    certificate = certificates.get(ref or "")
    if certificate is None or not _in_force(certificate, on):
        yield Finding(
            rule="V12",
            severity=usmca.severity,
            pointer=f"{here}/usmcaCertificateRef",
            message=f"Line {line.line_ref}: USMCA claimed, but no certification covers {line.sku} on {on}.",
            remedy="Name a certification that is in force on the day of entry, or drop the claim.",
            source=usmca.source,
        )
    if line.country_of_origin not in usmca.countries:
        yield Finding(
            rule="V12",
            severity=usmca.severity,
            pointer=f"{here}/spi",
            message=f"Line {line.line_ref}: USMCA claimed for goods of {line.country_of_origin}; "
            f"they must originate in {spoken(sorted(usmca.countries))}.",
            remedy="Drop the claim, or correct the origin.",
            source=usmca.source,
        )


def _in_force(certificate: UsmcaCertificate, on: date) -> bool:
    begins = certificate.blanket_from or certificate.signed_on
    return begins <= on and (certificate.blanket_to is None or on <= certificate.blanket_to)


def _undetermined(line: Line, here: str) -> Iterator[Finding]:
    if line.treatment.undetermined is not None:
        yield Finding(
            rule="T01",
            severity="block",
            pointer=f"{here}/treatment/undetermined",
            message=f"Line {line.line_ref}: its customs treatment is undecided: {line.treatment.undetermined}",
            remedy="Decide it in the plan and approve the plan again; nothing is guessed here.",
        )
