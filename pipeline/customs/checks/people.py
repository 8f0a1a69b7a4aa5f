"""Checks of the people that a unit names: the responsible employee, and an importer with a Social Security number."""

import re
from collections.abc import Iterator
from typing import Final

from pipeline.core.field_types import is_social_security_number
from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import Unit

_WORD: Final = re.compile(r"[^\W\d_]+")
#: What separates a name from a title, as in `D. Employee, Export manager`.
_BREAK: Final = re.compile(r"[,;:/|()]| [-\N{EN DASH}] ")

#: A name with one of these words names a company, or a part of a company.
_PARTS_OF_A_FIRM: Final = frozenset(
    """abteilung bureau corp departamento department dept desk división division département equipo equipe gmbh inc limited
    llc ltd ltda ltée oficina office plc staff team ufficio équipe""".split()
)
#: A name of only these words names a task or a title, or nobody, in English, French, Spanish, German and Italian.
_TASKS: Final = frozenset(
    """account accounting accounts admin administration administrator agent anyone authorised authorized billing broker
    brokerage cashier chief clearance clerk client clients company compliance contact contacts control controller
    coordinator customer customers customs declarant director dispatch dispatcher exporter exporters export
    exports finance fulfilment fulfillment general group head help human import importer imports info inquiries
    logistics mail manager mill nobody none not officer operations order orders owner payable person president
    purchasing quality reception receptionist receiving regulatory rep representative resources sales same self
    seller sender service services shipper shipping signatory store supervisor support tba tbc tbd test trade
    traffic transport unit unknown user vendor warehouse xxx achats adjoint adjointe approvisionnement
    clientèle commis comptabilité courtier dédouanement directeur directrice douane douanes expéditeur expédition
    expéditions exportateur exportation exportations gestionnaire livraison logistique responsable transports vente
    ventes aduana aduanas almacén cliente compras contabilidad embarques encargado envíos exportaciones exportador
    gerente logística servicio tráfico ventas einkauf leiter leitung logistik versand versandabteilung vertrieb zoll
    zollabteilung exportabteilung dogana esportazioni logistica responsabile spedizioni vendite""".split()
)
_SMALL_WORDS: Final = frozenset("al and as aux de des du et for la le les los of or the to und y à".split())
#: Words of Chinese, Japanese and Korean, which has no spaces, for a company, a part of it or a task.
_EASTERN_TASKS: Final = re.compile(
    "公司|会社|部门|部門|出口|海关|海關|关务|物流|外贸|外貿|贸易|貿易|船务|单证|销售|銷售|營業|営業|輸出|通関|経理|人事|采购|採購|客服|仓库|倉庫|"
    "수출|물류|부서|무역|회사"
)


def check_people(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield a contact or signer that is not a person's name (V19-NAME), and an importer's Social Security number (V20-SSN)."""
    contact = unit.parties.exporter_contact
    if names_no_person(contact.name) or contact.name.casefold() == unit.parties.seller.name.casefold():
        yield Finding.warning(
            "V19-NAME",
            f"{pointer}/parties/exporterContact/name",
            f"The responsible employee of unit {unit.unit_ref} is {contact.name}, which looks like a department, "
            "not a person.",
            "Name the exporter's employee who knows the sale; give the department as the title.",
            "19 CFR 141.86(j)",
        )
    for place, certificate in enumerate(unit.usmca_certificates):
        signer = certificate.certifier_contact
        if signer is not None and names_no_person(signer.name):
            yield entry_rules().usmca_elements.warning(
                "V19-NAME",
                f"{pointer}/usmcaCertificates/{place}/certifierContact/name",
                f"The certifier of USMCA certification {certificate.ref} is {signer.name}, which looks like a "
                "department, not a person.",
                "Name the person who signed the certification; give the department as the title.",
            )
    if is_social_security_number(unit.parties.importer_of_record.importer_number):
        # A message must never repeat the number.
        yield entry_rules().importer_numbers.warning(
            "V20-SSN",
            f"{pointer}/parties/importerOfRecord/importerNumber",
            f"The importer number of unit {unit.unit_ref} has the form of a Social Security number.",
            "Use the importer's IRS number, or one that CBP assigns (form 5106). Otherwise the broker's data contains "
            "it in full; printed pages, e-mails and screens show only its last four digits.",
        )


def names_no_person(name: str) -> bool:
    """Return whether a name is that of a task, of a company or of a part of one, rather than of a person."""
    # A title may stand beside a name: one part that may be a person is enough.
    return "@" in name or all(map(_cannot_be_person, _BREAK.split(name)))


def _cannot_be_person(part: str) -> bool:
    words = {word.casefold() for word in _WORD.findall(part) if len(word) > 1 or not word.isascii()}
    if words & _PARTS_OF_A_FIRM or _EASTERN_TASKS.search(part):
        return True
    telling = words - _SMALL_WORDS
    return telling <= _TASKS and bool(telling or not words)
