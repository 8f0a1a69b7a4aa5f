"""Makes a customs broker's own message: the facts of an invoice in the form of a standard, by the broker's settings."""

from collections.abc import Callable, Mapping
from typing import Final

from pipeline.documents.formats.entry_records import entry_records
from pipeline.documents.formats.universal_shipment import universal_shipment
from pipeline.documents.formats.x12 import Control, TransactionSet, build_interchange
from pipeline.documents.formats.x12_invoice import build_invoice_set
from pipeline.documents.formats.x12_notice import build_notice_set
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MessageProfile, X12Envelope

VERSION: Final = "4"

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "x12": "application/edi-x12",
    "universal_shipment": "application/xml",
    "entry_records": "text/plain; charset=us-ascii",
}

#: What a line of a message is.
LINE_NAMES: Final[Mapping[str, str]] = {"x12": "Segment", "universal_shipment": "XML", "entry_records": "Record"}

_TRANSACTIONS: Final[Mapping[str, Callable[[X12Envelope, Invoice], TransactionSet]]] = {
    "810": build_invoice_set,
    "856": build_notice_set,
}


def write_message(profile: MessageProfile, invoice: Invoice) -> bytes:
    """Return the message; the same profile and invoice give the same bytes.

    Raises ValidationFailed if the format cannot carry a number or a list of the invoice.
    """
    if profile.x12 is not None:
        return _write_interchange(profile.x12, invoice)
    if profile.universal_shipment is not None:
        return universal_shipment(profile.universal_shipment, invoice)
    if profile.entry_records is not None:
        return entry_records(profile.entry_records, invoice)
    raise ValueError("a message has the settings of its format; this one has none")


def _write_interchange(envelope: X12Envelope, invoice: Invoice) -> bytes:
    provenance = invoice.provenance
    sets = [_TRANSACTIONS[code](envelope, invoice) for code in envelope.transactions]
    control = Control.of_package(provenance.package_number, provenance.revision)
    return build_interchange(envelope, sets, control, invoice.header.invoice_date, test=invoice.test)
