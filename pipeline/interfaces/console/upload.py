"""Forms with a file: the fields and the file that a browser sends as multipart/form-data."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from pipeline.core.errors import InvalidRequest
from pipeline.interfaces.console.pages import Form, Visit, Visitor, read_body
from pipeline.interfaces.console.session import check_csrf_token

#: What a form adds to its file: the token, the names of its parts, and the boundaries between them.
_FORM_BYTES = 16 * 1024


@dataclass(frozen=True)
class Upload:
    """The fields of a form, and its files by the names of their inputs; an input without a file has no entry."""

    form: Form
    files: dict[str, bytes] = field(default_factory=dict)


def limit_upload(max_bytes: int) -> Callable[[Request, Visit], Coroutine[Any, Any, Upload]]:
    """Return the dependency that reads a form with files of at most `max_bytes` together, and checks its CSRF token."""

    async def read_upload(request: Request, visit: Visitor) -> Upload:
        body = await read_body(request, max_bytes + _FORM_BYTES)
        upload = await run_in_threadpool(parse_upload, request.headers.get("content-type", ""), body)
        check_csrf_token(visit.csrf_token, upload.form.get("csrf_token"))
        return upload

    return read_upload


def parse_upload(content_type: str, body: bytes) -> Upload:
    """Return the parts of a form. Raises InvalidRequest if the body is not multipart/form-data."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if message.get_content_type() != "multipart/form-data" or not message.is_multipart():
        raise InvalidRequest("the form is not multipart/form-data; load the page again, and send the form of that page")
    values: dict[str, list[str]] = {}
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            continue  # not an input of a form
        if part.get_param("filename", header="content-disposition") is None:
            values.setdefault(name, []).append(content.decode(errors="replace").strip())
        elif content:
            files.setdefault(name, content)
    return Upload(Form(values), files)
