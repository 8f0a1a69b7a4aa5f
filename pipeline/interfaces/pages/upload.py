"""Forms with a file: the fields and the file that a browser sends as multipart/form-data."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from pipeline.core.errors import InvalidRequest
from pipeline.core.signed_text import Signatures
from pipeline.interfaces.pages.pages import Form, Visit, Visitor, stream_body
from pipeline.interfaces.pages.session import check_csrf_token

#: What a form adds to its file: the token, the names of its parts, and the boundaries between them.
_FORM_BYTES: Final = 16 * 1024

#: A form has at most so many parts, and a part so many headers of so many bytes.
_MOST_PARTS: Final = 4
#: A form of an answer has a part for each input, and one for each file.
MOST_PARTS_OF_ANSWER: Final = 48
_MOST_HEADERS: Final = 4
_HEADER_BYTES: Final = 1024


@dataclass(frozen=True)
class Upload:
    """The fields of a form, and its files by the names of their inputs; an input without a file has no entry."""

    form: Form
    files: dict[str, bytes] = field(default_factory=dict)
    named: list[tuple[str, bytes]] = field(default_factory=list)  # all files with the names that they had


async def read_upload(
    request: Request, max_bytes: int, csrf_tokens: Signatures | None, read_plain: Callable[[Request], Awaitable[Form]]
) -> Upload:
    """Return a form that may have files, of at most `max_bytes` together; one without files may come without parts.

    Checks the CSRF token unless there are none. Raises ForeignForm, InvalidRequest and PayloadTooLarge.
    """
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        form = await read_plain(request)
        if csrf_tokens is not None:
            check_csrf_token(csrf_tokens, form.get("csrf_token"))
        return Upload(form)
    parser = UploadParser(kind, csrf_tokens, MOST_PARTS_OF_ANSWER)
    async for piece in stream_body(request, max_bytes + 4 * _FORM_BYTES):
        await run_in_threadpool(parser.feed, piece)
    return parser.finish()


def limit_upload(
    max_bytes: int, role: str, most_parts: int = _MOST_PARTS
) -> Callable[[Request, Visit], Coroutine[Any, Any, Upload]]:
    """Return the dependency that reads a form of at most `most_parts` parts, with files of at most `max_bytes` together.

    It checks the role before it reads the form, and the CSRF token, which must come first, before it reads on.
    """

    async def read_upload(request: Request, visit: Visitor) -> Upload:
        visit.caller.require(role)
        parser = UploadParser(request.headers.get("content-type", ""), visit.csrf_tokens, most_parts)
        async for piece in stream_body(request, max_bytes + _FORM_BYTES):
            await run_in_threadpool(parser.feed, piece)
        return parser.finish()

    return read_upload


@dataclass
class _FormPart:
    header: bytearray = field(default_factory=bytearray)  # the name of the one that is being read
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    content: bytearray = field(default_factory=bytearray)


class UploadParser:
    """Reads the parts of a form as its bytes arrive. A part that claims to hold parts is content as any other."""

    def __init__(self, content_type: str, csrf_tokens: Signatures | None, most_parts: int = _MOST_PARTS) -> None:
        # The library's time grows with the square of the parameters.
        kind, options = parse_options_header(content_type[:_HEADER_BYTES])
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise _refuse("is not multipart/form-data")
        self._csrf_tokens = csrf_tokens
        self._most_parts = most_parts
        self._named: list[tuple[str, bytes]] = []
        self._part = _FormPart()
        self._begun = 0
        self._ended = False
        self._values: dict[str, list[str]] = {}
        self._files: dict[str, bytes] = {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._part.header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._part.value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_part_data": lambda data, start, end: self._part.content.extend(data[start:end]),
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
                max_header_count=_MOST_HEADERS,
                max_header_size=_HEADER_BYTES,
            )
        except FormParserError as error:
            raise _refuse("has a boundary of more than 256 bytes") from error

    def feed(self, piece: bytes) -> None:
        """Read the next bytes of the form. Raises InvalidRequest, and ForeignForm if the first part is not the token."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _refuse("is damaged, or has a header that is too long") from error

    def finish(self) -> Upload:
        """Return what the form holds. Raises InvalidRequest if its end is missing."""
        if not self._ended:
            raise _refuse("has no end")
        return Upload(Form(self._values), self._files, self._named)

    def _begin_part(self) -> None:
        self._begun += 1
        if self._begun > self._most_parts:
            raise _refuse(f"has more than {self._most_parts} parts")
        self._part = _FormPart()

    def _end_header(self) -> None:
        part = self._part
        if part.header.lower() == b"content-disposition":
            part.disposition = bytes(part.value)
        part.header.clear()
        part.value.clear()

    def _end_part(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        name, content = options.get(b"name", b"").decode(errors="replace"), bytes(self._part.content)
        if b"filename" not in options:
            self._values.setdefault(name, []).append(content.decode(errors="replace").strip())
        elif content:
            self._files.setdefault(name, content)
            self._named.append((options[b"filename"].decode(errors="replace"), content))
        if self._begun == 1 and self._csrf_tokens is not None:
            check_csrf_token(self._csrf_tokens, Form(self._values).get("csrf_token"))

    def _end(self) -> None:
        self._ended = True


def _refuse(what: str) -> InvalidRequest:
    return InvalidRequest(f"the form {what}; load the page again, and send the form of that page")
