"""What an export keeps of the tariff from its acceptance, so that its documents never depend on a later edition."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from pipeline.customs.models import TariffEdition
from pipeline.customs.tariff.lines import TariffOnDay
from pipeline.exports.plans import canonical_json
from pipeline.exports.schemas.plan import Line, Unit


class KeptFacts(BaseModel):
    """A frozen object in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True, defer_build=True
    )


class KeptEdition(KeptFacts):
    """The edition that was in force on the day of entry."""

    name: str
    effective_from: date
    content_hash: str

    def cite(self) -> str:
        """Return the edition as a source."""
        return f"Rates of column 1: edition {self.name} of the tariff, from {self.effective_from}, {self.content_hash[:19]}"


class KeptRate(KeptFacts):
    """The texts of column 1 for a tariff number; `special` is kept only if the line claims a program.

    The rates stand beside the number with its statistical `suffix`, or beside its first eight digits. The number itself is
    not kept: the log outlives the plan.
    """

    suffix: bool
    general: str
    special: str | None = None


class TariffFacts(KeptFacts):
    """The edition of a unit, and a rate for each pair of number and program, in the order of `list_pairs`.

    A rate is None if the edition does not have the number.
    """

    edition: KeptEdition
    rates: tuple[KeptRate | None, ...]

    def to_json(self) -> str:
        """Return the facts as canonical JSON."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    def find_rate(self, unit: Unit, line: Line) -> KeptRate | None:
        """Return the rate of a line of the unit, or None if the edition does not have its number."""
        return self.rates[list_pairs(unit.lines).index((line.hts_code, line.spi))]


def list_pairs(lines: Sequence[Line]) -> list[tuple[str, str | None]]:
    """Return each pair of tariff number and claimed program once, in the order of the lines."""
    return list(dict.fromkeys((line.hts_code, line.spi) for line in lines))


def keep_facts(unit: Unit, tariff: TariffOnDay) -> TariffFacts | None:
    """Return what the unit's export keeps of the tariff on its day of entry; None without an edition."""
    if tariff.edition is None:
        return None
    rates = tuple(_keep_rate(tariff, number, spi) for number, spi in list_pairs(unit.lines))
    return TariffFacts(edition=_keep_edition(tariff.edition), rates=rates)


def _keep_edition(edition: TariffEdition) -> KeptEdition:
    return KeptEdition(name=edition.name, effective_from=edition.effective_from, content_hash=edition.content_hash)


def _keep_rate(tariff: TariffOnDay, number: str, spi: str | None) -> KeptRate | None:
    found = tariff.find_number(number)
    if found is None:
        return None
    row = found.rate_row
    return KeptRate(suffix=row.number == number, general=row.general, special=None if spi is None else row.special)
