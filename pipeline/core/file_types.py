"""The types of files that people and partners may send; the content decides the type, and must agree with what is declared."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from xml.parsers import expat

from pipeline.core.errors import ValidationFailed

_BOM: Final = "\ufeff"
_MAX_NAME: Final = 80
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
#: Control characters that no table has. Tab, line feed and carriage return stay.
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SEPARATORS: Final = re.compile(r"[,;\t]")
#: Text that begins so is JSON, whatever its name says.
_NO_TABLE: Final = ("{", "[")
#: Roots of XML that a browser shows as a page.
_PAGES: Final = frozenset({"html", "svg"})


@dataclass(frozen=True)
class FileType:
    """A type of files: its media type, its name for people, and the ends of file names."""

    media_type: str
    label: str
    suffixes: tuple[str, ...]
    also: tuple[str, ...] = ()  # other media types by which senders declare it

    def declares(self, media_type: str) -> bool:
        """Return whether this media type declares the type; its parameters do not count."""
        return media_type.partition(";")[0].strip().lower() in (self.media_type, *self.also)

    def build_name(self, name: str) -> str:
        """Return `name` as a file name that is safe on every system and ends as the type does."""
        path = PurePosixPath(name.replace("\\", "/").rpartition("/")[2])
        suffix = path.suffix.lower()
        stem = path.stem if suffix in self.suffixes else path.name
        safe = _UNSAFE.sub("-", stem).strip(".-_")[:_MAX_NAME].rstrip(".-_") or "file"
        return f"{safe}{suffix if suffix in self.suffixes else self.suffixes[0]}"


PDF: Final = FileType("application/pdf", "PDF", (".pdf",))
PNG: Final = FileType("image/png", "PNG", (".png",))
JPEG: Final = FileType("image/jpeg", "JPEG", (".jpg", ".jpeg"))
CSV: Final = FileType("text/csv", "CSV", (".csv",))
XML: Final = FileType("application/xml", "XML", (".xml",), ("text/xml",))
FILE_TYPES: Final = (PDF, PNG, JPEG, CSV, XML)
#: The types in words, for refusals and forms.
ALLOWED: Final = "PDF, PNG, JPEG, CSV or XML"

_MAGIC: Final = ((PDF, b"%PDF-"), (PNG, b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), (JPEG, b"\xff\xd8\xff"))


def find_by_name(name: str) -> FileType:
    """Return the type that the end of a file name declares. Raises ValidationFailed if it declares none of FILE_TYPES."""
    suffix = PurePosixPath(name).suffix.lower()
    found = next((each for each in FILE_TYPES if suffix in each.suffixes), None)
    if found is None:
        raise ValidationFailed(
            f"the file name {name[:_MAX_NAME]!r} does not end as that of a {ALLOWED} file; rename it"
        )
    return found


def detect_type(body: bytes) -> FileType:
    """Return the type of the content. Raises ValidationFailed if it is empty or none of FILE_TYPES.

    Pictures and PDF are not opened. Text must be UTF-8. XML is parsed without its document type, which is refused.
    """
    if not body:
        raise ValidationFailed("the file is empty; send one with content")
    for kind, magic in _MAGIC:
        if body.startswith(magic):
            return kind
    try:
        text = body.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise ValidationFailed(
            f"the file is not a {ALLOWED} file: byte {error.start + 1} is not UTF-8; save text as UTF-8"
        ) from None
    if text.lstrip().startswith("<"):
        _check_xml(body)
        return XML
    _check_table(text)
    return CSV


def _check_xml(body: bytes) -> None:
    parser = expat.ParserCreate("utf-8", namespace_separator="}")

    def refuse_document_type(*_: object) -> None:
        # Entities are declared there: a few bytes of them become gigabytes.
        raise ValidationFailed("the XML has a document type; remove the line that begins with <!DOCTYPE")

    def check_root(name: str, _: object) -> None:
        parser.StartElementHandler = None
        if name.rpartition("}")[2].lower() in _PAGES:
            raise ValidationFailed(f"the XML is a page ({name.rpartition('}')[2]}); send a {ALLOWED} file")

    parser.StartDoctypeDeclHandler = refuse_document_type
    parser.StartElementHandler = check_root
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise ValidationFailed(
            f"the XML is not well-formed: {expat.ErrorString(error.code)} in line {error.lineno}; correct it"
        ) from None


def _check_table(text: str) -> None:
    found = _CONTROL.search(text)
    if found is not None:
        raise ValidationFailed(
            f"the file is not a {ALLOWED} file: character {found.start() + 1} is a control character; remove it"
        )
    first = text.lstrip().partition("\n")[0]
    if first.startswith(_NO_TABLE) or not _SEPARATORS.search(first):
        raise ValidationFailed(
            f"the file is not a {ALLOWED} file: its first line has no comma, semicolon or tab, or begins like JSON; send a table"
        )
