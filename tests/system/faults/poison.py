"""Plans that are poison to a worker, selected by invoice number, and a worker that they break.

For Celery this is the app; run as a module it is the `exports` command with such a worker.
"""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Final

from config.celery import app
from pipeline.documents import registry
from pipeline.documents.pdf.supervisor import RENDERER, RendererLimits
from pipeline.documents.registry import Document
from pipeline.documents.schemas.invoice import Invoice
from pipeline.interfaces.cli import main
from pipeline.workflow import render_documents
from tests.system.faults import poisoned_engine

__all__ = ["app"]

#: Prefixes of invoice numbers, and so the fate of the worker. With A the sandbox broker would accept.
DIES, HANGS, RAISES = "AKILL", "AHANG", "ARAISE"

ENGINE_SECONDS: Final = 2


class UnforeseenError(Exception):
    """An error that the product does not expect."""


def render_or_break(invoice: Invoice) -> Iterator[Document]:
    """Yield the documents of an invoice, unless it is poison."""
    number = invoice.header.number
    if number.startswith(DIES):
        os.kill(os.getpid(), signal.SIGKILL)
    if number.startswith(HANGS):
        poisoned_engine.loop()
    if number.startswith(RAISES):
        raise UnforeseenError(number)
    yield from registry.render_documents(invoice)


def install_poison() -> None:
    """Make this process's worker break at such plans, and its PDF engine at others."""
    setattr(render_documents, registry.render_documents.__name__, render_or_break)
    RENDERER._limits = RendererLimits(cpu_seconds=ENGINE_SECONDS)
    RENDERER._engine = poisoned_engine.__name__


install_poison()

if __name__ == "__main__":
    sys.argv[0] = "exports"
    main.main()
