"""A printed document of any length: one that is too long for the engine's memory is set in parts and joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipeline.documents.renderer import RENDERER, Renderer
from pipeline.schemas.invoice import Invoice

ENGINE = f"typst-{version('typst')}"


@dataclass(frozen=True)
class Template:
    """A Typst template; `facts` gives the JSON of the rows from one number to another, `extra` what else it asks of a part."""

    name: str
    facts: Callable[[Invoice, slice], bytes]
    extra: Callable[[Invoice, slice], dict[str, Any]]


def typeset(invoice: Invoice, template: Template, cuts: Sequence[slice], renderer: Renderer = RENDERER) -> bytes:
    """Return the PDF of `invoice`, set in the parts `cuts` (slices of its rows), numbered page x of y throughout."""
    midnight = datetime.combine(invoice.header.invoice_date, datetime.min.time(), UTC)
    timestamp = int(midnight.timestamp())

    def part(at: int, first_page: int, total_pages: int | None) -> tuple[bytes, dict[str, Any]]:
        place = {"first": at == 0, "last": at == len(cuts) - 1, "first_page": first_page, "total_pages": total_pages}
        return template.facts(invoice, cuts[at]), {**place, **template.extra(invoice, cuts[at])}

    if len(cuts) == 1:
        facts, about = part(0, 1, None)
        return renderer.set(template.name, facts, about, timestamp)
    # The last page's number stands on the first page: count all parts, then set them.
    counts = [renderer.count(template.name, *part(at, 1, None)) for at in range(len(cuts))]
    bodies: list[bytes] = []
    for at in range(len(cuts)):
        facts, about = part(at, 1 + sum(counts[:at]), sum(counts))
        bodies.append(renderer.set(template.name, facts, about, timestamp))
    return renderer.join(bodies)
