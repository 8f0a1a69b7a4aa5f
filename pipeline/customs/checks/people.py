"""Checks of the people that a unit names: the responsible employee, and an importer with a Social Security number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.core.field_types import is_social_security_number
from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import Unit

_WORD: Final = re.compile(r"[^\W\d_]+")

#: A name with one of these words names a company, or a part of a company.
_PARTS_OF_A_FIRM: Final = frozenset(
    """bureau corp customs department departamento dept desk división division douane douanes département equipo équipe
    export exports exportation exportations gmbh inc llc ltd oficina office staff team""".split()
)
#: A name of only these words names a task or a title.
_TASKS: Final = frozenset(
    """accounts admin administration agent and aux billing broker brokerage clearance clerk commis compliance contact
    coordinator de des du finance fulfilment fulfillment group help import imports info la logistics los manager mill of
    operations purchasing receiving regulatory sales service services shipping store supervisor support the trade
    traffic transport unit warehouse""".split()
)


def check_people(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield a contact or signer that is not a person's name (V19-NAME), and an importer's Social Security number (V20-SSN)."""
    contact = unit.parties.exporter_contact
    if _names_no_person(contact.name):
        yield Finding(
            rule="V19-NAME",
            severity="warn",
            pointer=f"{pointer}/parties/exporterContact/name",
            message=f"The responsible employee of unit {unit.unit_ref} is {contact.name}, which looks like a department, "
            "not a person.",
            remedy="Name the exporter's employee who knows the sale; give the department as the title.",
            source="19 CFR 141.86(j)",
        )
    for place, certificate in enumerate(unit.usmca_certificates):
        signer = certificate.certifier_contact
        if signer is not None and _names_no_person(signer.name):
            yield Finding(
                rule="V19-NAME",
                severity="warn",
                pointer=f"{pointer}/usmcaCertificates/{place}/certifierContact/name",
                message=f"The certifier of USMCA certification {certificate.ref} is {signer.name}, which looks like a "
                "department, not a person.",
                remedy="Name the person who signed the certification; give the department as the title.",
                source=entry_rules().usmca_elements.source,
            )
    if is_social_security_number(unit.parties.importer_of_record.importer_number):
        # A message must never repeat the number.
        yield Finding(
            rule="V20-SSN",
            severity="warn",
            pointer=f"{pointer}/parties/importerOfRecord/importerNumber",
            message=f"The importer number of unit {unit.unit_ref} has the form of a Social Security number.",
            remedy="Use the importer's IRS number, or one that CBP assigns (form 5106). Otherwise the broker's data contains "
            "it in full; printed pages, e-mails and screens show only its last four digits.",
            source=entry_rules().importer_numbers.source,
        )


def _names_no_person(name: str) -> bool:
    words = {word.casefold() for word in _WORD.findall(name)}
    return not words or bool(words & _PARTS_OF_A_FIRM) or words <= _TASKS
