"""Checks of a line's USMCA claim, and of its certification: in force, for these goods, and complete."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from pipeline.core.findings import Finding
from pipeline.core.money import sum_exact
from pipeline.customs.checks.chapter98 import claims_by_place
from pipeline.customs.checks.entry import in_usd
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import REFERENCES, Contact, Line, Party, Unit, UsmcaCertificate


@dataclass(frozen=True, slots=True)
class UsmcaClaimBasis:
    """What supports a unit's USMCA claims: certifications and makers by ref, a statement, the value of claiming lines."""

    certificates: Mapping[str, UsmcaCertificate]
    makers: Mapping[str, str]
    stated: bool
    worth_usd: Decimal | None


def unit_claims(unit: Unit, on: date) -> UsmcaClaimBasis:
    """Return what supports the unit's USMCA claims of origin. Call it once per unit: a unit has thousands of lines."""
    programs = entry_rules().usmca.programs
    claimed = sum_exact(
        line.line_value for line in unit.lines if line.spi in programs and not claims_by_place(line, on)
    )
    return UsmcaClaimBasis(
        certificates={certificate.ref: certificate for certificate in unit.usmca_certificates},
        makers={maker.ref: maker.name for maker in unit.parties.manufacturers},
        stated=unit.invoice.usmca_statement is not None,
        worth_usd=in_usd(claimed, unit.invoice),
    )


def check_claim(line: Line, here: str, on: date, claims: UsmcaClaimBasis) -> Iterator[Finding]:
    """Yield what is wrong with the USMCA claim of a line that is entered on the day `on` (V12)."""
    usmca = entry_rules().usmca
    ref = line.usmca_certificate_ref
    pointer = f"{here}/usmcaCertificateRef"
    if ref is not None and ref not in claims.certificates:
        message = f"Line {line.line_ref} names USMCA certification {ref}, which the unit does not have."
        yield _claim_finding(pointer, message, "Add it to usmcaCertificates, or correct usmcaCertificateRef.")
        return
    if claims_by_place(line, on):
        return
    if line.spi not in usmca.programs:
        if ref is not None:
            yield usmca.warning(
                "V12",
                f"{here}/spi",
                f"Line {line.line_ref} names USMCA certification {ref} but does not claim USMCA.",
                "Set spi to S to claim USMCA, or remove usmcaCertificateRef from the line.",
            )
        return
    certificate = claims.certificates.get(ref or "")
    if not _covers(certificate, line, on):
        low, worth = entry_rules().usmca_low_value, claims.worth_usd
        if worth is not None and low.in_force(on) and worth <= low.limit_usd:
            # The service never writes the statement itself: the person who signs it is responsible for its words.
            if not claims.stated:
                yield _unstated_finding(line, pointer, worth)
        else:
            yield _uncovered_finding(line, pointer, certificate, on)
    if certificate is not None:
        yield from _compare_producer(line, pointer, certificate, claims.makers.get(line.manufacturer_ref))
    if line.country_of_origin not in usmca.countries:
        message = (
            f"Line {line.line_ref} claims USMCA for goods of {line.country_of_origin}; "
            f"they must originate in {' or '.join(sorted(usmca.countries))}."
        )
        yield _claim_finding(f"{here}/spi", message, "Remove the claim, or correct the origin.")


def _claim_finding(pointer: str, message: str, remedy: str) -> Finding:
    return entry_rules().usmca.finding("V12", pointer, message, remedy)


def _uncovered_finding(line: Line, pointer: str, certificate: UsmcaCertificate | None, on: date) -> Finding:
    if certificate is None or not _in_force(certificate, on):
        message = f"Line {line.line_ref} claims USMCA, but no certification covers {line.sku} on {on}."
        return _claim_finding(
            pointer, message, "Name a certification that is in force on the day of entry, or remove the claim."
        )
    message = (
        f"Line {line.line_ref} claims USMCA, but certification {certificate.ref} covers no goods of "
        f"{line.hts_code[:4]}.{line.hts_code[4:6]}."
    )
    return _claim_finding(pointer, message, "Name a certification that covers the goods, or remove the claim.")


def _compare_producer(line: Line, pointer: str, certificate: UsmcaCertificate, maker: str | None) -> Iterator[Finding]:
    producer = _name_of(certificate.producer)
    if certificate.certifier_role == "producer":
        producer = certificate.certifier_name
    if producer is not None and maker is not None and not _is_one_of(producer, [maker]):
        yield entry_rules().usmca_elements.warning(
            "V12",
            pointer,
            f"Line {line.line_ref} is made by {maker}, but its USMCA certification {certificate.ref} names the "
            f"producer {producer}.",
            "Name the certification of this maker, or correct the producer or the line's manufacturerRef.",
        )


def _covers(certificate: UsmcaCertificate | None, line: Line, on: date) -> bool:
    if certificate is None or not _in_force(certificate, on):
        return False
    return not certificate.goods or any(line.hts_code.startswith(goods.hs_code) for goods in certificate.goods)


def _unstated_finding(line: Line, pointer: str, worth: Decimal) -> Finding:
    rules, low = entry_rules().usmca_statement, entry_rules().usmca_low_value
    return Finding(
        rule="V12",
        severity=rules.severity,
        pointer=pointer,
        message=f"Line {line.line_ref} claims USMCA for goods of ${worth:,.2f} without a certification. Up to "
        f"${low.limit_usd:,} none is needed, but the invoice must have a signed statement that the goods originate.",
        remedy="Give the signed statement as invoice.usmcaStatement, or name a certification that covers the goods.",
        source=f"{low.source}; {rules.source}",
    )


# In English, French or Spanish, the languages that customs takes for a certification.
_STATED: Final = {
    "that the goods originate": re.compile(r"originat|originair|originari", re.IGNORECASE),
    "the name of the agreement": re.compile(r"USMCA|CUSMA|ACEUM|T-?MEC|M[eé]xico|Mexique", re.IGNORECASE),
}
_CERTIFIER: Final = re.compile(r"\b(?:import|export|produc)", re.IGNORECASE)


def check_statement(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield what the USMCA statement of the invoice lacks (V12); nothing for an invoice without a statement."""
    statement, rules = unit.invoice.usmca_statement, entry_rules().usmca_statement
    if statement is None:
        return
    lacks = [what for what, pattern in _STATED.items() if not pattern.search(statement)]
    if not _CERTIFIER.search(statement) and not any(
        name.casefold() in statement.casefold() for name in _list_names(unit)
    ):
        lacks.append("who certifies: the importer, the exporter or the producer")
    if lacks:
        yield rules.finding(
            "V12",
            f"{pointer}/invoice/usmcaStatement",
            f"The USMCA statement of invoice {unit.invoice.number} lacks {join_words(lacks)}.",
            "Have its signer certify under a name that the goods qualify as originating under USMCA.",
        )


def _list_names(unit: Unit) -> list[str]:
    """Return the names of the parties that may certify, and of their persons."""
    parties = unit.parties
    importer = parties.importer_of_record
    contacts = (parties.exporter_contact, parties.seller.contact, parties.buyer.contact, importer.contact)
    return [
        *(party.name for party in (parties.seller, parties.buyer)),
        *(maker.name for maker in parties.manufacturers),
        *(contact.name for contact in contacts if contact is not None),
        *([] if importer.name is None else [importer.name]),
    ]


def _in_force(certificate: UsmcaCertificate, on: date) -> bool:
    # The claimant must possess it on the day of entry: it covers nothing before it is signed, whatever its blanket period.
    begins = max(certificate.blanket_from or certificate.signed_on, certificate.signed_on)
    return begins <= on and (certificate.blanket_to is None or on <= certificate.blanket_to)


def check_certificates(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield what the unit's certifications lack (V30), another importer (V30-PARTY), and refs used twice (V24)."""
    rules = entry_rules().usmca_elements
    seen: set[str] = set()
    for place, certificate in enumerate(unit.usmca_certificates):
        here = f"{pointer}/usmcaCertificates/{place}"
        if certificate.ref in seen:
            yield Finding.blocking(
                "V24",
                f"{here}/ref",
                f"USMCA certification {certificate.ref} is in unit {unit.unit_ref} twice.",
                "Give each certification its own ref.",
                REFERENCES,
            )
        seen.add(certificate.ref)
        for rule, (where, message, remedy) in (
            *(("V30", each) for each in _missing_elements(certificate)),
            *(("V30", each) for each in _period_errors(certificate, rules.longest_months)),
            *(("V30-PARTY", each) for each in _other_importer(unit, certificate)),
        ):
            yield rules.warning(rule, f"{here}/{where}", f"USMCA certification {certificate.ref} {message}.", remedy)


_COMPLETE = "Complete the certification and have it signed again; customs refuses the claim if an element is missing."


def _missing_elements(certificate: UsmcaCertificate) -> Iterator[tuple[str, str, str]]:
    role = certificate.certifier_role
    lacks = _missing_contact_fields(certificate.certifier_contact)
    if certificate.certifier_contact is not None and certificate.certifier_contact.title is None:
        lacks.append("title")
    if lacks:
        yield "certifierContact", f"lacks the certifier's {join_words(lacks)} (element 2)", _COMPLETE
    if certificate.certifier_address is None:
        yield "certifierAddress", "lacks the certifier's address (element 2)", _COMPLETE
    if role == "importer" and certificate.exporter is None:
        yield "exporter", "does not name the exporter (element 3)", _COMPLETE
    if role != "producer" and certificate.producer is None and not certificate.producer_on_request:
        yield (
            "producer",
            "does not name the producer (element 4)",
            "Name the producer, or set producerOnRequest if the producer is named to customs on request.",
        )
    if role != "importer" and certificate.importer is None:
        yield "importer", "does not name the importer (element 5)", "Name the importer if it is known."
    parties: tuple[tuple[str, int, Party | None], ...] = (
        ("exporter", 3, certificate.exporter),
        ("producer", 4, certificate.producer),
        ("importer", 5, certificate.importer),
    )
    for name, element, party in parties:
        if party is not None and (lacks := _missing_contact_fields(party.contact)):
            yield f"{name}/contact", f"lacks the {name}'s {join_words(lacks)} (element {element})", _COMPLETE
    if not certificate.goods:
        yield "goods", "does not say which goods it covers, by description and HS subheading (element 6)", _COMPLETE


#: Words that two spellings of one company's name may differ by.
_FORMS_OF_FIRM = frozenset("co company corp corporation inc incorporated limited llc ltd the".split())

#: A party named like this is left open on purpose.
_ANYONE = frozenset({"unknown", "various"})


def _other_importer(unit: Unit, certificate: UsmcaCertificate) -> Iterator[tuple[str, str, str]]:
    role, parties = certificate.certifier_role, unit.parties
    importer = certificate.certifier_name if role == "importer" else _name_of(certificate.importer)
    known = [parties.importer_of_record.name, parties.buyer.name, parties.ship_to.name]
    known += [consignee.name for consignee in parties.ultimate_consignees]
    if importer is not None and not _is_one_of(importer, filter(None, known)):
        where = "certifierName" if role == "importer" else "importer/name"
        message = f"names {importer} as the importer (element 5), who is neither importer nor buyer nor consignee here"
        yield where, message, "Name a certification for this importer, or have it signed for several importers."


def _name_of(party: Party | None) -> str | None:
    return None if party is None else party.name


def _is_one_of(name: str, others: Iterable[str]) -> bool:
    words = _list_name_words(name)
    return bool(words & _ANYONE) or any(words <= other or other <= words for other in map(_list_name_words, others))


def _list_name_words(name: str) -> set[str]:
    words = set(re.findall(r"\w+", name.casefold()))
    return words - _FORMS_OF_FIRM or words


def _missing_contact_fields(contact: Contact | None) -> list[str]:
    values = (("e-mail", contact and contact.email), ("telephone", contact and contact.phone))
    return [name for name, value in values if value is None]


def _period_errors(certificate: UsmcaCertificate, longest_months: int) -> Iterator[tuple[str, str, str]]:
    begins, ends = certificate.blanket_from, certificate.blanket_to
    if (begins is None) != (ends is None):
        where = "blanketFrom" if begins is None else "blanketTo"
        yield (
            where,
            "has only one day of its blanket period (element 8)",
            "Give both days, or none for a single shipment.",
        )
    if begins is not None and ends is not None:
        if ends < begins:
            yield "blanketTo", f"ends on {ends}, before it begins on {begins}", "Correct the blanket period."
        elif (_months_apart(begins, ends), ends.day) > (longest_months, begins.day):
            yield (
                "blanketTo",
                f"covers {begins} to {ends}; a blanket period is at most {longest_months} months (element 8)",
                f"Shorten the blanket period to {longest_months} months.",
            )


def _months_apart(begins: date, ends: date) -> int:
    return (ends.year - begins.year) * 12 + ends.month - begins.month
