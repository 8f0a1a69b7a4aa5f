"""The commercial invoice as UBL 2.1, with an extension for all data that has no UBL element."""

from typing import Final
from xml.etree.ElementTree import Element

from pipeline.core.money import sum_exact
from pipeline.core.templating import render
from pipeline.documents.schemas.entry_filing import EntryConsignee
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Treatment

VERSION = "7"

#: The namespace of the extension; raise its number if a reader of the old form could misread the new one.
NAMESPACE: Final = "urn:exports:ubl-customs:1"

#: HTS unit of quantity -> UN/ECE Recommendation 20 code with the same meaning; other units keep their HTS code.
UNITS: Final = {
    "CAR": "CTM", "CM2": "CMK", "CM3": "CMQ", "DOZ": "DZN", "DPR": "DPR", "G": "GRM", "GM": "GRM", "GR": "GRO",
    "HUN": "CEN", "KG": "KGM", "KWH": "KWH", "L": "LTR", "M": "MTR", "M2": "MTK", "M3": "MTQ", "MWH": "MWH", "NO": "C62",
    "PCS": "C62", "PRS": "PR", "T": "TNE", "THS": "MIL",
}  # fmt: skip


def invoice_ubl(invoice: Invoice) -> bytes:
    """Return the invoice as UTF-8 XML, valid against UBL-Invoice-2.1.xsd.

    UBL's own lines stay those of the invoice: a reader of UBL adds up their prices and finds its articles in them. The entry
    lines, with equal customs facts merged, stand in the extension; each of its lines names its entry line. An ultimate consignee is
    the party of a line's own delivery; the extension names the orders and packages that are for it.
    """
    added = [row for row in invoice.charges if not row.included_in_prices]
    page = render(
        "documents/commercial_customs_invoice.xml",
        invoice=invoice,
        namespace=NAMESPACE,
        units=UNITS,
        entry_lines=invoice.entry_line_numbers,
        entries=() if invoice.estimate is None else zip(invoice.entry_lines, invoice.estimate.lines, strict=True),
        makers={maker.ref: maker for maker in invoice.parties.manufacturers},
        recipients=_list_recipients(invoice),
        included=[row for row in invoice.charges if row.included_in_prices],
        added=added,
        charges=sum_exact(row.amount.decimal for row in added),
        allowances=sum_exact(row.amount.decimal for row in invoice.discounts),
    )
    return page.encode()


def _list_recipients(invoice: Invoice) -> dict[int, list[EntryConsignee]]:
    """Return the ultimate consignees that receive goods of each line, by the number of the line."""
    found: dict[int, list[EntryConsignee]] = {}
    for consignee in invoice.parties.ultimate_consignees:
        for number in consignee.line_numbers:
            found.setdefault(number, []).append(consignee)
    return found


def read_treatment(line: Element) -> Treatment:
    """Return the treatment that a `Line` of the extension represents.

    Raises pydantic's ValidationError if it does not represent a valid treatment.
    """

    def rows(name: str) -> list[Element]:
        return line.findall(f"{{{NAMESPACE}}}{name}")

    return Treatment.model_validate(
        {
            "chapter99": [dict(row.attrib) for row in rows("Chapter99")],
            "section232": [dict(row.attrib) for row in rows("Section232")],
            "pga": [{**row.attrib, "data": _data(row)} for row in rows("Pga")],
            "undetermined": next((row.text for row in rows("Undetermined")), None),
        }
    )


def _data(row: Element) -> dict[str, str | list[str]]:
    data: dict[str, str | list[str]] = {}
    for element in row:
        if element.tag == f"{{{NAMESPACE}}}Data":
            data[element.get("name", "")] = [each.text or "" for each in element]
        else:
            data[element.get("name", "")] = element.text or ""
    return data
