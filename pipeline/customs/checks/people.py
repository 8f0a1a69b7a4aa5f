"""What must hold of the people that a unit names: who answers for the invoice, and an importer whose number is personal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.core.field_types import is_social_security_number
from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import Unit

_WORD: Final = re.compile(r"[^\W\d_]+")

#: One of these makes a name that of a part of a firm, or of the firm itself.
_PARTS_OF_A_FIRM: Final = frozenset(
    """bureau corp customs department departamento dept desk división division douane douanes département equipo équipe
    export exports exportation exportations gmbh inc llc ltd oficina office staff team""".split()
)
#: A name of these words alone is that of a task or a title.
_TASKS: Final = frozenset(
    """accounts admin administration agent and aux billing broker brokerage clearance clerk commis compliance contact
    coordinator de des du finance fulfilment fulfillment group help import imports info la logistics los manager mill of
    operations purchasing receiving regulatory sales service services shipping store supervisor support the trade
    traffic transport unit warehouse""".split()
)


def check_people(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield whether a desk stands where a person must (V19-NAME), and a Social Security number as importer's (V20-SSN)."""
    contact = unit.parties.exporter_contact
    if _names_no_person(contact.name):
        yield Finding(
            rule="V19-NAME",
            severity="warn",
            pointer=f"{pointer}/parties/exporterContact/name",
            message=f"The responsible employee of unit {unit.unit_ref} is {contact.name}, which reads like a desk.",
            remedy="Name the employee of the exporter who knows the sale; keep the desk as the title.",
            source="19 CFR 141.86(j)",
        )
    if is_social_security_number(unit.parties.importer_of_record.importer_number):
        # The number itself is never repeated.
        yield Finding(
            rule="V20-SSN",
            severity="warn",
            pointer=f"{pointer}/parties/importerOfRecord/importerNumber",
            message=f"The importer's number of unit {unit.unit_ref} has the form of a Social Security number.",
            remedy="Use the importer's IRS number, or one that CBP assigns (form 5106). Else it goes to the broker's data "
            "in full; printed pages, e-mails and screens show its last four digits.",
            source=entry_rules().importer_numbers.source,
        )


def _names_no_person(name: str) -> bool:
    words = {word.casefold() for word in _WORD.findall(name)}
    return not words or bool(words & _PARTS_OF_A_FIRM) or words <= _TASKS
