"""The commercial invoice as a web page that stands alone: no script, no font and no picture from elsewhere."""

from __future__ import annotations

from pipeline.core.templating import render
from pipeline.documents.schemas.invoice import Invoice

VERSION = "5"


def invoice_html(invoice: Invoice) -> bytes:
    """Return the page in UTF-8."""
    return render("documents/commercial_customs_invoice.html", invoice=invoice).encode()
