"""Which editions check a plan: their ids by day of entry, as the row of the plan records them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Self

from sqlalchemy import select
from sqlmodel import Session

from pipeline.customs.models import TariffEdition
from pipeline.exports.plans import canonical_json


def record_editions(by_day: Mapping[date, Iterable[TariffEdition]]) -> str:
    """Return the ids of the editions by day of entry, as canonical JSON."""
    return canonical_json({str(on): sorted(edition.id for edition in found) for on, found in by_day.items()})


@dataclass(frozen=True)
class StoredEditions:
    """All stored editions, read once for many plans."""

    editions: Sequence[TariffEdition]

    @classmethod
    def load(cls, session: Session) -> Self:
        """Return the editions of the database."""
        return cls(session.scalars(select(TariffEdition)).all())

    def find_on(self, on: date) -> dict[str, TariffEdition]:
        """Return the edition of each kind that is in force on the day."""
        newest: dict[str, TariffEdition] = {}
        for edition in self.editions:
            other = newest.get(edition.kind)
            if edition.effective_from <= on and (other is None or other.effective_from < edition.effective_from):
                newest[edition.kind] = edition
        return {kind: each for kind, each in newest.items() if each.effective_to is None or each.effective_to >= on}

    def read(self, record: str | None) -> dict[date, dict[str, TariffEdition]]:
        """Return the recorded editions by day; those that were removed are left out, and None has none."""
        by_id = {edition.id: edition for edition in self.editions}
        return {
            date.fromisoformat(on): {by_id[each].kind: by_id[each] for each in ids if each in by_id}
            for on, ids in json.loads(record or "{}").items()
        }

    def name(self, record: str | None) -> list[str] | None:
        """Return the names of the recorded editions; None without a record, or if one of them was removed."""
        if record is None:
            return None
        known = {each.name for found in self.read(record).values() for each in found.values()}
        recorded = {each for ids in json.loads(record).values() for each in ids}
        return sorted(known) if len(known) == len(recorded) else None

    def is_outdated(self, record: str) -> bool:
        """Return whether other editions than the recorded ones are in force on a recorded day."""
        days = map(date.fromisoformat, json.loads(record))
        return record_editions({on: self.find_on(on).values() for on in days}) != record
