"""The USMCA certifications of origin of a unit as printed pages in US Letter: the nine data elements, and a signature block.

An element that the plan does not have is an empty box with its label; a finding (V30) names it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from pipeline.documents.invoice.wording import format_address
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.declarations import Certificate
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from pipeline.exports.schemas.plan import Address, CertifiedGoods, Contact, Party

VERSION = f"2/{ENGINE}"

#: The size of goods, and of the other elements of their certification, in addition to their wording, in characters.
GOODS_CHARACTERS, HEAD_CHARACTERS = 120, 2_000

_PRINTED: dict[str, Any] = {
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date"},
    "parties": {"seller": {"name"}},
}


@dataclass(frozen=True)
class GoodsRow:
    """A row of the pages: the place of a certification, and its goods at `number` (from 1), or None if it names none."""

    place: int
    number: int
    last: bool
    goods: CertifiedGoods | None


def has_certifications(invoice: Invoice) -> bool:
    """Return whether the unit has a certification of origin."""
    return bool(invoice.certificates)


def usmca_certification(invoice: Invoice) -> bytes:
    """Return the PDF; each certification begins on a new page."""
    rows = list(_list_rows(invoice))
    template = TypstTemplate("usmca_certification.typ", partial(_facts, rows), _remarks)
    return typeset(invoice, template, plan_parts(map(_size, rows)))


def _list_rows(invoice: Invoice) -> Iterator[GoodsRow]:
    for place, certificate in enumerate(invoice.certificates):
        listed = certificate.goods or (None,)
        for number, goods in enumerate(listed, start=1):
            yield GoodsRow(place, number, number == len(listed), goods)


def _size(row: GoodsRow) -> int:
    head = HEAD_CHARACTERS if row.number == 1 else 0
    return head + GOODS_CHARACTERS + (0 if row.goods is None else len(row.goods.description))


def _facts(rows: list[GoodsRow], invoice: Invoice, cut: slice) -> bytes:
    facts = invoice.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE)
    facts["certifications"] = [
        _certification_facts(invoice, place, list(group))
        for place, group in groupby(rows[cut], key=lambda row: row.place)
    ]
    return json.dumps(facts, ensure_ascii=False).encode()


def _certification_facts(invoice: Invoice, place: int, rows: list[GoodsRow]) -> dict[str, Any]:
    certificate = invoice.certificates[place]
    return {
        "ref": certificate.ref,
        "begins": rows[0].number == 1,
        "ends": rows[-1].last,
        "role": certificate.certifier_role,
        "certifier": {
            "name": certificate.certifier_name,
            "address": _join_address(certificate.certifier_address),
            **_contact_facts(certificate.certifier_contact),
        },
        "signer": _name_signer(certificate.certifier_contact),
        "parties": {
            role: _party_facts(certificate, role, party, invoice.parties.seller.name)
            for role, party in (
                ("exporter", certificate.exporter),
                ("producer", certificate.producer),
                ("importer", certificate.importer),
            )
        },
        "goods": [
            {"code": f"{row.goods.hs_code[:4]}.{row.goods.hs_code[4:]}", "description": row.goods.description}
            for row in rows
            if row.goods is not None
        ],
        "criterion": f"{certificate.criterion} (4.2({certificate.criterion.lower()}))",
        "single": certificate.blanket_from is None and certificate.blanket_to is None,
        "blanket_from": None if certificate.blanket_from is None else f"{certificate.blanket_from}",
        "blanket_to": None if certificate.blanket_to is None else f"{certificate.blanket_to}",
        "signed_on": f"{certificate.signed_on}",
        "lines": certificate.lines_shown or None,
    }


def _party_facts(certificate: Certificate, role: str, party: Party | None, seller: str) -> dict[str, Any]:
    """Return what is `said` in place of the party's facts, or its `facts`, each None if the plan does not have it."""
    if party is not None:
        return {"facts": {"name": party.name, "address": _join_address(party.address), **_contact_facts(party.contact)}}
    exports = certificate.certifier_role == "producer" and certificate.certifier_name.casefold() == seller.casefold()
    if certificate.certifier_role == role or (role == "exporter" and exports):
        return {"said": "certifier"}
    if role == "producer" and certificate.producer_on_request:
        return {"said": "on_request"}
    return {"facts": {"name": None, "address": None, **_contact_facts(None)}}


def _contact_facts(contact: Contact | None) -> dict[str, str | None]:
    if contact is None:
        return {"phone": None, "email": None}
    return {"phone": contact.phone, "email": contact.email}


def _join_address(address: Address | None) -> str | None:
    return None if address is None else ", ".join(format_address(address))


def _name_signer(contact: Contact | None) -> str | None:
    return None if contact is None else ", ".join(part for part in (contact.name, contact.title) if part)


def _remarks(_invoice: Invoice, _cut: slice) -> dict[str, Any]:
    return {}
