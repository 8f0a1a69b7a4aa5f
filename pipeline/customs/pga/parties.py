"""Who in the unit an agency's datum names: a name, or a name and more, becomes the party with its address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.exports.schemas.plan import Address, Contact, Manufacturer, Unit

_WORD_END = re.compile(r"[^\w.]|$")


@dataclass(frozen=True)
class Named:
    """A party of the unit as records name it."""

    name: str
    address: Address
    contact: Contact | None
    identifiers: Mapping[str, str]


class UnitParties:
    """The parties of one unit, found by their names; capitals, accents and spaces do not matter."""

    def __init__(self, unit: Unit) -> None:
        self._makers = {maker.ref: maker for maker in reversed(unit.parties.manufacturers)}
        parties = unit.parties
        importer = parties.importer_of_record
        known = [_made(maker) for maker in parties.manufacturers]
        known += [
            Named(party.name, party.address, party.contact, party.identifiers)
            for party in (parties.seller, parties.buyer, parties.ship_to)
        ]
        known.append(
            Named(
                importer.name or parties.buyer.name,
                importer.address or parties.buyer.address,
                importer.contact or parties.buyer.contact,
                parties.buyer.identifiers if importer.name is None else {},
            )
        )
        # Of two with one name, the one that is named later says more: a seller has a contact, a manufacturer none.
        self._by_name = {_folded(party.name): party for party in known}

    def find(self, text: str, maker_ref: str | None = None) -> Named | None:
        """Return the party that `text` begins with the name of, the longest name first; the line's maker before others."""
        said = _folded(text)
        ends = sorted({found.start() for found in _WORD_END.finditer(said)}, reverse=True)
        maker = self._makers.get(maker_ref or "")
        for end in ends:
            name = said[:end].rstrip()
            if maker is not None and name == _folded(maker.name):
                return _made(maker)
            if name in self._by_name:
                return self._by_name[name]
        return None


def _made(maker: Manufacturer) -> Named:
    return Named(maker.name, maker.address, None, {})


def _folded(text: str) -> str:
    return " ".join(record_rules().spell(text)[0].split())
