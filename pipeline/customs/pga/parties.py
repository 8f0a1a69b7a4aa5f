"""Finds the party of a unit that an agency's datum names, with its address."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.exports.schemas.plan import Address, Contact, Manufacturer, Unit

#: The parts of a party that is written out, divided by semicolons; contact, telephone and e-mail may follow.
_WRITTEN = ("name", "street", "city", "region", "postal code", "country")
_WORD_END = re.compile(r"[^\w.]|$")


@dataclass(frozen=True)
class NamedParty:
    """A party of the unit, as the message-set records need it."""

    name: str
    address: Address
    contact: Contact | None
    identifiers: Mapping[str, str]


class UnitParties:
    """The parties of one unit, found by name; capitals, accents and spaces do not matter."""

    def __init__(self, unit: Unit) -> None:
        self._makers = {maker.ref: maker for maker in reversed(unit.parties.manufacturers)}
        parties = unit.parties
        importer = parties.importer_of_record
        known = [_manufacturer_party(maker) for maker in parties.manufacturers]
        known += [
            NamedParty(party.name, party.address, party.contact, party.identifiers)
            for party in (parties.seller, parties.buyer, parties.ship_to)
        ]
        known.append(
            NamedParty(
                importer.name or parties.buyer.name,
                importer.address or parties.buyer.address,
                importer.contact or parties.buyer.contact,
                parties.buyer.identifiers if importer.name is None else {},
            )
        )
        # Of two parties with one name the later wins, because it has more data: a seller has a contact, a manufacturer not.
        self._by_name = {_fold(party.name): party for party in known}

    def find(self, text: str, maker_ref: str | None = None) -> NamedParty | None:
        """Return the party whose name `text` begins with, or that it writes out; None without one.

        The longest name wins; of equal names the manufacturer of the line wins.
        """
        if text.count(";") >= len(_WRITTEN) - 1:
            return _read_party(text)
        folded = _fold(text)
        ends = sorted({match.start() for match in _WORD_END.finditer(folded)}, reverse=True)
        maker = self._makers.get(maker_ref or "")
        for end in ends:
            name = folded[:end].rstrip()
            if maker is not None and name == _fold(maker.name):
                return _manufacturer_party(maker)
            if name in self._by_name:
                return self._by_name[name]
        return None


def _read_party(text: str) -> NamedParty | None:
    # A party that is none of the unit, such as a laboratory: its name, address, and perhaps its contact.
    name, line1, city, region, postal_code, country, *contact = (part.strip() or None for part in text.split(";"))
    who, phone, email = (*contact, None, None, None)[:3]
    try:
        address = Address.model_validate(
            {"line1": line1, "city": city, "region": region, "postalCode": postal_code, "country": country}
        )
        person = Contact.model_validate({"name": who or name, "phone": phone, "email": email}) if contact else None
    except ValidationError:
        return None
    return None if name is None else NamedParty(name, address, person, {})


def _manufacturer_party(maker: Manufacturer) -> NamedParty:
    return NamedParty(maker.name, maker.address, None, {})


def _fold(text: str) -> str:
    return " ".join(record_rules().spell(text)[0].split())
