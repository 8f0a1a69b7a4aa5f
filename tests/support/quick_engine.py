"""A PDF engine's process that sets nothing: each document is a page without content, whose bytes depend on the request.

Its supervisor, messages and end are the real ones; only the work of Typst is left out.
"""

from typing import Final

from pipeline.documents.pdf.worker import EngineMessage, main
from tests.support import fake_pdf

#: What the supervisor and the pipe add to a request for a document.
_ADDED: Final = {"number", "seconds", "cpu_seconds", "frames"}


class QuickEngine:
    """Answers at once."""

    def handle_request(self, request: EngineMessage) -> EngineMessage:
        """Return a page whose bytes depend on every byte of the document's request."""
        head = {name: value for name, value in request.head.items() if name not in _ADDED}
        return fake_pdf.answer_request(EngineMessage(head, request.bodies))

    def self_test(self) -> None:
        """Set no page."""


if __name__ == "__main__":
    main(QuickEngine)
