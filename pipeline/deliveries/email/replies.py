"""Reads e-mails that answer those of the service: their sender, what they answer, their new text and their files."""

import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from html.parser import HTMLParser
from typing import Final

from pipeline.core.errors import InvalidRequest

#: The most parts, and parts inside parts, of an e-mail; the parser calls itself for each inner one.
_MAX_PARTS: Final = 100
_MAX_IDS: Final = 20
_MAX_TEXT_BYTES: Final = 256 * 1024

_ID: Final = re.compile(r"<([0-9a-f-]{36})@([A-Za-z0-9.-]{1,253})>")
_INNER: Final = re.compile(rb"(?i)content-type:\s*(?:multipart|message)/")
#: Python's parser needs quadratic time for the parameters of these headers.
_LONG_HEADER: Final = re.compile(
    rb"(?i)(?:^|[\r\n])content-(?:type|disposition)[ \t]*:(?:[^\r\n]|(?:\r\n|\r|\n)[ \t]){4000}"
)
_PASSED: Final = re.compile(r"(?i)(?:^|;)\s*dmarc\s*=\s*pass\b")
#: Where mail programs begin to repeat what is answered, or the sender's name and address.
_END: Final = re.compile(
    r"(?im)^(?:-{2,} ?(?:original message|message d'origine)|_{20,}[ \t]*$|from:.{1,300}\n(?:sent|date|to):|-- $)"
)
#: The line before a quotation, which mail programs may break.
_BEFORE_QUOTE: Final = re.compile(r"(?im)^(?:on|le) [^\n]{0,200}\n?[^\n]{0,200}(?:wrote|écrit)\s?:[ \t]*$")
_GAPS: Final = re.compile(r"\n(?:[ \t]*\n){2,}")
#: Of programs that answer by themselves, such as notices of absence.
_AUTOMATIC: Final = ("x-autoreply", "x-autorespond")
_BULK: Final = frozenset({"bulk", "junk", "auto_reply"})
_HIDDEN: Final = frozenset({"style", "script", "head", "title", "blockquote"})
_BREAKS: Final = frozenset({"br", "p", "div", "tr", "li"})


@dataclass(frozen=True)
class MailFile:
    """A file of an e-mail, with the name that its sender gave it."""

    name: str
    body: bytes


@dataclass(frozen=True)
class MailReply:
    """An e-mail that a person wrote; `answers` are the ids of our messages that it names, the nearest first."""

    key: str
    sender: str
    answers: tuple[str, ...]
    text: str
    files: tuple[MailFile, ...]


def parse_reply(raw: bytes, own_domain: str, trusted_server: str | None = None) -> MailReply:
    """Return what a person wrote. Raises InvalidRequest with the reason if a program wrote it, or it is hostile.

    With a `trusted_server`, its newest Authentication-Results must say that the sender's domain passed DMARC.
    """
    if len(_INNER.findall(raw)) > _MAX_PARTS:
        raise InvalidRequest(f"it has more than {_MAX_PARTS} parts inside parts")
    if _LONG_HEADER.search(raw):
        raise InvalidRequest("a header of it is too long")
    mail = message_from_bytes(raw)
    _check_person(mail)
    senders = [address.lower() for _, address in getaddresses([str(each) for each in mail.get_all("From", [])])]
    if len(senders) != 1 or "@" not in senders[0]:
        raise InvalidRequest("it does not have exactly one sender")
    if trusted_server is not None and not _is_authenticated(mail, trusted_server):
        raise InvalidRequest(f"{trusted_server} does not say that its sender's domain passed DMARC")
    parts = list(_list_parts(mail))
    message_id = str(mail.get("Message-ID", "")).strip()
    key = hashlib.sha256(message_id.encode("utf-8", "replace") or raw).hexdigest()[:32]
    return MailReply(key, senders[0], tuple(_list_answered(mail, own_domain)), _find_text(parts), _list_files(parts))


def _check_person(mail: Message) -> None:
    bulk = str(mail.get("Precedence", "")).strip().lower() in _BULK
    automatic = str(mail.get("Auto-Submitted", "no")).partition(";")[0].strip().lower() != "no"
    bounced = str(mail.get("Return-Path", "")).strip() == "<>" or mail.get_content_type() == "multipart/report"
    if bulk or automatic or bounced or any(name in mail for name in _AUTOMATIC):
        raise InvalidRequest("a program sent it, not a person")


def _is_authenticated(mail: Message, server: str) -> bool:
    for each in mail.get_all("Authentication-Results", []):
        name, _, results = str(each).partition(";")
        if (name.split() or [""])[0].lower() == server.lower():
            return _PASSED.search(re.sub(r"\([^()]*\)", "", results)) is not None
    return False


def _list_answered(mail: Message, own_domain: str) -> Iterator[str]:
    named = f"{' '.join(reversed(str(mail.get('References', ''))[-4000:].split()))}"
    found = _ID.finditer(f"{str(mail.get('In-Reply-To', ''))[:1000]} {named}")
    ids = dict.fromkeys(each[1] for each in found if each[2].lower() == own_domain.lower())
    for each in list(ids)[:_MAX_IDS]:
        try:
            yield str(uuid.UUID(each))
        except ValueError:
            continue


def _list_parts(mail: Message) -> Iterator[Message]:
    """Yield the parts that hold content. An attached e-mail is not opened."""
    waiting, seen = [mail], 0
    while waiting:
        part = waiting.pop(0)
        seen += 1
        if seen > _MAX_PARTS:
            raise InvalidRequest(f"it has more than {_MAX_PARTS} parts")
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting = [*(each for each in inner if isinstance(each, Message)), *waiting]
        elif not isinstance(inner, list):
            yield part


def _find_text(parts: list[Message]) -> str:
    texts = [each for each in parts if each.get_content_maintype() == "text" and _get_name(each) is None]
    plain = next((each for each in texts if each.get_content_subtype() == "plain"), None)
    if plain is not None:
        return _cut_quote(_decode_text(plain))
    page = next((each for each in texts if each.get_content_subtype() == "html"), None)
    if page is None:
        return ""
    reader = _PageText()
    reader.feed(_decode_text(page))
    return _cut_quote("".join(reader.words))


def _decode_text(part: Message) -> str:
    body = part.get_payload(decode=True)
    body = body[:_MAX_TEXT_BYTES] if isinstance(body, bytes) else b""
    try:
        return body.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def _cut_quote(text: str) -> str:
    """Return the text without quotations. What stands between them stays: people answer below what they quote."""
    text = text.replace("\r\n", "\n").replace("\xa0", " ")
    found = _END.search(text)
    text = _BEFORE_QUOTE.sub("", text if found is None else text[: found.start()])
    return _GAPS.sub("\n\n", "\n".join(line for line in text.split("\n") if not line.lstrip().startswith(">"))).strip()


def _list_files(parts: list[Message]) -> tuple[MailFile, ...]:
    files = []
    for part in parts:
        name = _get_name(part)
        shown = part.get_content_disposition() != "attachment" and "Content-ID" in part  # a logo below the text
        body = part.get_payload(decode=True)
        if name is not None and not shown and isinstance(body, bytes):
            files.append(MailFile(name, body))
    return tuple(files)


def _get_name(part: Message) -> str | None:
    name = part.get_filename()
    if name is None:
        return "file" if part.get_content_disposition() == "attachment" else None
    try:
        return str(make_header(decode_header(name)))[:255]
    except (LookupError, ValueError):
        return name[:255]


class _PageText(HTMLParser):
    """The words of a page, without what it quotes or hides."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a line, or what is hidden."""
        self._hidden += tag in _HIDDEN
        if tag in _BREAKS:
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """End what is hidden."""
        self._hidden -= tag in _HIDDEN and self._hidden > 0

    def handle_data(self, data: str) -> None:
        """Keep shown words."""
        if not self._hidden:
            self.words.append(data)
