"""The manufacturer identification code (MID), derived from name and address, and its checks (19 CFR 102 appendix)."""

import re
import unicodedata
from collections.abc import Iterator

from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import mid_rules
from pipeline.exports.schemas.plan import Address, Manufacturer, Unit

_LETTERS_OR_DIGITS = re.compile(r"[A-Z0-9]+")
_LETTERS = re.compile(r"[A-Z]+")
# A hyphen joins two words into one, with or without spaces around it: Rawles - Aden is Rawles-Aden.
_HYPHEN = re.compile(r"\s*[-\u2010-\u2015]\s*")
# Punctuation between digits is ignored: 12-34-56 is the number 123456. A space separates numbers.
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])[^\w\s]+(?=[0-9])")
# 250th names a street, not a house number; so does French 250e before Rue and similar words.
_ORDINAL = re.compile(
    r"(?<![A-Z0-9])[0-9]+(?:(?:ST|ND|RD|TH|ER|RE|EME|IEME)(?![A-Z0-9])|E(?=\s+(?:RUE|AVENUE|AV|RANG|ETAGE|BOULEVARD|BOUL)\b))"
)
# Canadian and British postal codes contain digits that are not house numbers.
_POSTAL_CODE = re.compile(
    r"(?<![A-Z0-9])(?:[A-Z][0-9][A-Z] ?[0-9][A-Z][0-9]|[A-Z]{1,2}[0-9][A-Z0-9]? [0-9][A-Z]{2})(?![A-Z0-9])"
)
_NUMBER = re.compile(r"[0-9]+")
_NUMBER_ALONE = re.compile(r"(?<![A-Z0-9])[0-9]+(?![A-Z0-9])")


def check_mids(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield what is wrong with the MIDs of the unit's manufacturers (V01)."""
    origins: dict[str, set[str]] = {}
    textile_makers: set[str] = set()
    for line in unit.lines:
        origins.setdefault(line.manufacturer_ref, set()).add(line.country_of_origin)
        if mid_rules().textiles.cover(line.hts_code):
            textile_makers.add(line.manufacturer_ref)
    for place, manufacturer in enumerate(unit.parties.manufacturers):
        here = f"{pointer}/parties/manufacturers/{place}/mid"
        ref = manufacturer.ref
        yield from _check_mid(manufacturer, here, origins.get(ref, set()), exactly=ref in textile_makers)


def _check_mid(manufacturer: Manufacturer, here: str, origins: set[str], *, exactly: bool) -> Iterator[Finding]:
    rules = mid_rules()
    row = rules.textiles if exactly else rules
    build = row.finding if exactly else row.warning
    mid, name = manufacturer.mid, manufacturer.name
    expected = derive_mid(name, manufacturer.address)
    if mid.startswith("CA"):
        yield Finding.blocking(
            "V01",
            here,
            f"MID {mid} of {name} begins with CA; the MID of a Canadian manufacturer begins with its province.",
            f"Use {expected}." if expected else "Begin it with the code of the province, such as XO for Ontario.",
            rules.source,
        )
        return
    if not mid[:2].isalpha():
        yield Finding.blocking(
            "V01",
            here,
            f"MID {mid} of {name} does not begin with a country code.",
            f"Use {expected}." if expected else "Begin it with the two letters of the country of origin.",
            rules.source,
        )
        return
    if expected is not None and mid != expected:
        # The regulation does not say how a number beside a letter counts, so the other reading only warns.
        unsure = mid == derive_mid(name, manufacturer.address, alone=True)
        yield (row.warning if unsure else build)(
            "V01",
            here,
            f"MID {mid} does not match manufacturer {name}; its name and address give {expected}.",
            f"Use {expected}."
            if exactly and not unsure
            else f"Use {expected}, unless customs has registered the manufacturer as {mid}.",
        )
    if expected is None:
        yield rules.warning(
            "V01",
            here,
            f"MID {mid} of {name} cannot be checked: name and address are not sufficient to derive a MID.",
            "Give the province of a Canadian address, and write name and city in Latin letters.",
        )
    for origin in sorted(origins - {country_of_mid(mid)}):
        yield build(
            "V01",
            here,
            f"MID {mid} of {name} is for {country_of_mid(mid)}, but lines of this manufacturer originate in {origin}.",
            "Name the manufacturer in the country of origin, or correct the origin of the lines.",
        )


def derive_mid(name: str, address: Address, *, alone: bool = False) -> str | None:
    """Return the MID that the regulation gives, or None if name and address are not sufficient.

    The parts are: two letters for the country (each Canadian province has its own), and up to six characters of the name.
    Then up to four digits of the largest number in the street line, and three letters of the city.
    The number of 120A is 120. With `alone`, a number that touches a letter does not count. The regulation covers neither.
    """
    country = mid_country_code(address)
    name_part = _name_part(name, address.country)
    city = _city_part(address)
    if country is None or not name_part or not city:
        return None
    return f"{country}{name_part}{_number_part(address, alone=alone)}{city}"[: mid_rules().longest]


def mid_country_code(address: Address) -> str | None:
    """Return the first two letters of the MID, or None for a Canadian address whose province is not known."""
    if address.country != "CA":
        return address.country
    return mid_rules().province(_fold(address.region or "").removeprefix("CA-"))


def country_of_mid(mid: str) -> str:
    """Return the ISO 3166-1 alpha-2 country that a MID begins with; a Canadian province is CA."""
    return "CA" if mid[:2] in mid_rules().provinces else mid[:2]


def _name_part(name: str, country: str) -> str:
    rules = mid_rules()
    words = _words(name)
    for prefix in rules.ignored_prefixes.get(country, ()):
        prefix_words = prefix.split()
        if len(words) > len(prefix_words) and words[: len(prefix_words)] == prefix_words:
            words = words[len(prefix_words) :]
    telling = [word for word in words if word.lower() not in rules.ignored_words]
    # A single initial is ignored, unless the name has nothing else.
    longer = [word for word in telling if len(word) > 1 or word.isdigit()] or telling
    return "".join(word[:3] for word in longer[:2])


def _words(name: str) -> list[str]:
    # Punctuation inside a word is dropped. Successive initials are one word, written A.B.C. or A B C.
    words: list[str] = []
    initials = ""
    for piece in _HYPHEN.sub("-", _fold(name)).replace("/", " ").split():
        word = "".join(_LETTERS_OR_DIGITS.findall(piece))
        if len(word) == 1 and word.isalpha():
            initials += word
        elif word:
            words += [initials, word] if initials else [word]
            initials = ""
    return [*words, initials] if initials else words


def _number_part(address: Address, *, alone: bool) -> str:
    street = f"{address.line1} {address.line2 or ''}"
    # A fraction such as one half does not belong to the number before it.
    whole = "".join(" " if unicodedata.category(c) == "No" else c for c in street)
    joined = _BETWEEN_DIGITS.sub("", _fold(whole))
    numbers = (
        _NUMBER_ALONE.findall(joined) if alone else _NUMBER.findall(_ORDINAL.sub(" ", _POSTAL_CODE.sub(" ", joined)))
    )
    return str(max(numbers, key=int))[:4] if numbers else ""


def _city_part(address: Address) -> str:
    rules = mid_rules()
    words = _LETTERS.findall(_fold(address.city))
    if len(words) > 1 and words[0] in rules.ignored_in_city:
        words = words[1:]
    return rules.city_states.get(address.country) or "".join(words)[:3]


def _fold(text: str) -> str:
    if text.isascii():
        return text.upper()
    # Accents are dropped: Québec and Quebec are one city.
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).upper()
