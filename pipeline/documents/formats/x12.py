"""ANSI X12 004010: segments, the texts and numbers that they can carry, and the envelope of an interchange."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final

from pipeline.core.errors import ValidationFailed
from pipeline.documents.schemas.profile import X12Envelope

#: The characters between elements, between the components of an element, and at the end of a segment.
ELEMENT, COMPONENT, TERMINATOR = "*", ">", "~"

_STANDARD, _RELEASE = "00401", "004010"
_NO_TIME: Final = "0000"

#: Spellings of characters that do not decompose into ASCII and marks; the rest that ASCII lacks becomes `UNKNOWN`.
_SPELLINGS: Final[Mapping[str, str]] = {
    "Æ": "AE", "æ": "ae", "Ø": "O", "ø": "o", "Œ": "OE", "œ": "oe", "ß": "ss", "Ł": "L", "ł": "l", "Đ": "D", "đ": "d",
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "«": '"', "»": '"', "`": "'",
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
    "€": "EUR", "\u00d7": "x", "°": " deg ", "\u2022": "-", "^": " ",
    ELEMENT: " ", COMPONENT: " ", TERMINATOR: " ",
}  # fmt: skip
UNKNOWN: Final = "?"

#: The code of element 355 with the same meaning as a unit of quantity; others are written as mutually defined.
UNITS: Final[Mapping[str, str]] = {
    "NO": "EA", "PCS": "PC", "DOZ": "DZ", "PRS": "PR", "KG": "KG", "G": "GR", "GM": "GR", "T": "MP", "L": "LT",
    "ML": "ML", "CM": "CM", "M": "MR", "CM2": "SC", "M2": "SM", "CM3": "CC", "M3": "CR", "K": "TH", "THS": "TH", "GR": "GS",
    "DPR": "DP", "HUN": "HU", "CAR": "CD", "KWH": "KH", "MWH": "T9",
}  # fmt: skip
MUTUALLY_DEFINED: Final = "ZZ"

#: The code of element 91 for each mode of transport that it has a code for.
MODES: Final[Mapping[str, str]] = {"truck": "M", "rail": "R", "air": "A", "vessel": "S"}

Element = str | int | Decimal | date | None


@dataclass
class TransactionSet:
    """The segments of one transaction set, without its header and trailer."""

    code: str
    group: str
    segments: list[str] = field(default_factory=list)

    def add(self, tag: str, *elements: Element) -> None:
        """Add a segment; empty elements at its end are left out."""
        written = [_write_element(each) for each in elements]
        while written and not written[-1]:
            written.pop()
        self.segments.append(ELEMENT.join((tag, *written)))

    def add_texts(self, tag: str, before: Sequence[str], text: str | None, width: int, most: int) -> None:
        """Add a segment for each part of a long text, `most` at the most; `before` are the elements before the text."""
        for part in split_text(text, width)[:most]:
            self.add(tag, *before, part)

    def add_reference(self, qualifier: str, value: object, name: str = "") -> None:
        """Add the REF segment of a value with its name, nothing for None.

        A value of more than 30 characters changes places with its name, which has room for 80.
        """
        text = spell_text("" if value is None else _plain(value))
        if text and len(text) <= REFERENCE:
            self.add("REF", qualifier, text, name)
        elif text:
            self.add("REF", qualifier, name[:REFERENCE] or text[:REFERENCE], text[:DESCRIPTION])

    def add_fact(self, name: str, value: object) -> None:
        """Add a value of any length with its name, as REF segments of one qualifier; a long value goes on in the next."""
        text = spell_text(_plain(value))
        if len(text) <= REFERENCE:
            self.add_reference(MUTUALLY_DEFINED, text, name)
            return
        label, text = (name, text) if len(name) <= REFERENCE else ("FACT", f"{name}: {text}")
        self.add_texts("REF", (MUTUALLY_DEFINED, label), text, DESCRIPTION, len(text))


#: The most characters of elements 127 and 352, 234, 93, 166, and 324 or 76.
REFERENCE, DESCRIPTION, PRODUCT, NAME, STREET, NUMBER = 30, 80, 48, 60, 55, 22
#: The most digits of elements 358, 382 and 280, of 212, and of 384.
QUANTITY_DIGITS, PRICE_DIGITS, WEIGHT_DIGITS = 10, 17, 9


@dataclass(frozen=True)
class Control:
    """The control numbers of an interchange: equal for each rendering of one revision of one customs package."""

    interchange: int
    group: str

    @classmethod
    def of_package(cls, package_number: str, revision: int) -> "Control":
        """Return the control numbers of a customs package: its serial, then two digits of the revision."""
        serial = int("".join(sign for sign in package_number if sign.isdecimal()) or "0")
        part = revision % 100
        return cls(serial % 10**7 * 100 + part, f"{serial % 10**6:06d}{part:02d}")


def build_interchange(
    envelope: X12Envelope, sets: Sequence[TransactionSet], control: Control, on: date, *, test: bool
) -> bytes:
    """Return the interchange in ASCII, each transaction set in its own functional group; `on` is its date."""
    return "".join(f"{line}{TERMINATOR}\n" for line in _lines(envelope, sets, control, on, test=test)).encode("ascii")


def _lines(
    envelope: X12Envelope, sets: Sequence[TransactionSet], control: Control, on: date, *, test: bool
) -> Iterator[str]:
    number = f"{control.interchange:09d}"
    sender = (envelope.sender_qualifier, f"{envelope.sender_id:15}")
    receiver = (envelope.receiver_qualifier, f"{envelope.receiver_id:15}")
    usage = "T" if test else "P"
    yield ELEMENT.join(
        ("ISA", "00", " " * 10, "00", " " * 10, *sender, *receiver, f"{on:%y%m%d}", _NO_TIME, "U", _STANDARD, number, "0",
         usage, COMPONENT)
    )  # fmt: skip
    for place, each in enumerate(sets, start=1):
        group = str(int(f"{control.group}{place}"))
        yield ELEMENT.join(
            (
                "GS",
                each.group,
                envelope.sender_id,
                envelope.receiver_id,
                _format_date(on),
                _NO_TIME,
                group,
                "X",
                _RELEASE,
            )
        )
        yield ELEMENT.join(("ST", each.code, "0001"))
        yield from each.segments
        yield ELEMENT.join(("SE", str(len(each.segments) + 2), "0001"))
        yield ELEMENT.join(("GE", "1", group))
    yield ELEMENT.join(("IEA", str(len(sets)), number))


def spell_text(text: str) -> str:
    """Return `text` in the characters of an interchange, without its delimiters; `?` for what has no spelling."""
    return " ".join("".join(map(_spell, unicodedata.normalize("NFC", text))).split())


def has_unknown(text: str) -> bool:
    """Return whether a character of `text` has no spelling in an interchange."""
    return any(_spell(sign) == UNKNOWN != sign for sign in unicodedata.normalize("NFC", text))


def _spell(sign: str) -> str:
    if sign in _SPELLINGS:
        return _SPELLINGS[sign]
    if sign.isascii():
        return sign if sign.isprintable() else " "
    if unicodedata.category(sign) == "Cf":
        return ""
    decomposed = unicodedata.normalize("NFKD", sign)
    plain = "".join(_SPELLINGS.get(part, part) for part in decomposed if not unicodedata.combining(part))
    if plain.isspace():
        return " "
    return plain if plain.isascii() and plain.isprintable() else UNKNOWN


def split_text(text: str | None, width: int) -> list[str]:
    """Return `text` in parts of at most `width` characters, between words if possible; empty for None."""
    rest = spell_text(text or "")
    parts = []
    while len(rest) > width:
        cut = rest.rfind(" ", 1, width + 1)
        cut = cut if cut > 0 else width
        parts.append(rest[:cut])
        rest = rest[cut:].lstrip()
    return [*parts, rest] if rest else parts


def format_cents(amount: Decimal, what: str) -> int:
    """Return an amount as element type N2, an integer with two implied decimals.

    Raises ValidationFailed if the amount is finer, with `what` as its name.
    """
    cents = amount.scaleb(2)
    if cents != cents.to_integral_value():
        raise ValidationFailed(f"{what} is {amount:f}, and X12 carries two decimals; choose another format")
    return int(cents)


def ensure_digits(value: Decimal, most: int, what: str) -> Decimal:
    """Return a number of at most `most` digits. Raises ValidationFailed for another, with `what` as its name."""
    if count_digits(value) > most:
        raise ValidationFailed(
            f"{what} is {value:f}, which has more than {most} digits, and X12 carries {most}; choose another format"
        )
    return value


def count_digits(value: Decimal) -> int:
    """Return the length of a number in an interchange, which counts neither sign nor decimal point."""
    return len(_plain(value).replace(".", "").replace("-", ""))


def _write_element(value: Element) -> str:
    if value is None:
        return ""
    return spell_text(value) if isinstance(value, str) else _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, date):
        return _format_date(value)
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") or "0" if "." in text else text
    return str(value)


def _format_date(day: date) -> str:
    return f"{day:%Y%m%d}"
