"""Answers requests for PDFs without the PDF engine, for tests of what happens to documents, not of what they show."""

import json
from hashlib import sha256
from typing import Final

from pipeline.documents.pdf.worker import EngineMessage

_OBJECTS: Final = (
    b"<</Type/Catalog/Pages 2 0 R>>",
    b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]>>",
)


def answer_request(message: EngineMessage) -> EngineMessage:
    """Return the response to a request: a PDF of one empty page, whose bytes depend on every byte of the request."""
    if message.head["task"] == "count":
        return EngineMessage({"pages": 1})
    digest = sha256(json.dumps(message.head, sort_keys=True).encode())
    for body in message.bodies:
        digest.update(sha256(body).digest())
    return EngineMessage({}, [_empty_page(digest.hexdigest())])


def _empty_page(comment: str) -> bytes:
    body = f"%PDF-1.7\n%{comment}\n".encode()
    offsets = []
    for number, content in enumerate(_OBJECTS, 1):
        offsets.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    entries = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(_OBJECTS) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, entries)
    return body + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, len(body))
