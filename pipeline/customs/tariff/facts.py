"""What an export keeps of the tariff from its acceptance, so that its documents never depend on a later edition."""

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from pipeline.customs.models import TariffEdition
from pipeline.customs.tariff.deposits import DeclaredCase, find_deposit_rate, list_all_declared
from pipeline.customs.tariff.lines import TariffOnDay
from pipeline.exports.plans import canonical_json
from pipeline.exports.schemas.plan import Line, Unit

#: A footnote such as: Imports under this subheading may be subject to Federal Excise Tax (26 U.S.C. 5041).
_TAX: Final = re.compile(r"excise tax.*?26 ?U\.? ?S\.? ?C\.?[ §]*([0-9]{4})", re.IGNORECASE)


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


def cite_edition(edition: TariffEdition | KeptEdition) -> str:
    """Return the edition as a source."""
    return f"edition {edition.name} from {edition.effective_from}, {edition.content_hash[:19]}"


class KeptRate(KeptFacts):
    """The texts of column 1 for a tariff number; `special` is kept only if the line claims a program.

    The rates stand beside the number with its statistical `suffix`, or beside its first eight digits. The number itself is
    not kept: the log outlives the plan. `tax` is the section of 26 USC whose tax a footnote names.
    """

    suffix: bool
    general: str
    special: str | None = None
    tax: str | None = None


class TariffFacts(KeptFacts):
    """The editions of a unit, and its rates.

    `rates` has one for each pair of number and program, in the order of `list_pairs`; None if the edition lacks the number.
    `deposits` has one for each declared duty case, in the order of `list_all_declared`; None if the edition has no rate.
    """

    edition: KeptEdition | None = None
    rates: tuple[KeptRate | None, ...] = ()
    cases: KeptEdition | None = None
    deposits: tuple[str | None, ...] = ()

    def to_json(self) -> str:
        """Return the facts as canonical JSON."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))

    def map_rates(self, unit: Unit) -> dict[tuple[str, str | None], KeptRate | None]:
        """Return the rate of each pair of tariff number and claimed program of the unit; empty without an edition."""
        return {} if self.edition is None else dict(zip(list_pairs(unit.lines), self.rates, strict=True))

    def map_deposits(self, unit: Unit) -> dict[DeclaredCase, str | None]:
        """Return the deposit rate of each declared case of the unit; empty without an edition."""
        return {} if self.cases is None else dict(zip(list_all_declared(unit.lines), self.deposits, strict=True))

    def cite(self) -> Iterator[str]:
        """Yield the editions as sources."""
        for what, edition in (("Rates of column 1", self.edition), ("Deposit rates", self.cases)):
            if edition is not None:
                yield f"{what}: {cite_edition(edition)}"


def read_facts(stored: str | None) -> TariffFacts | None:
    """Return the facts that a unit's export keeps as JSON; None if it keeps none."""
    return None if stored is None else TariffFacts.model_validate_json(stored)


def list_pairs(lines: Sequence[Line]) -> list[tuple[str, str | None]]:
    """Return each pair of tariff number and claimed program once, in the order of the lines."""
    return list(dict.fromkeys((line.hts_code, line.spi) for line in lines))


def keep_facts(unit: Unit, tariff: TariffOnDay) -> TariffFacts | None:
    """Return what the unit's export keeps of the editions on its day of entry; None without one that it needs."""
    declared = list_all_declared(unit.lines)
    cases = tariff.cases if declared else None
    if tariff.edition is None and cases is None:
        return None
    pairs = [] if tariff.edition is None else list_pairs(unit.lines)
    return TariffFacts(
        edition=None if tariff.edition is None else keep_edition(tariff.edition),
        rates=tuple(keep_rate(tariff, number, spi) for number, spi in pairs),
        cases=None if cases is None else keep_edition(cases.edition),
        deposits=() if cases is None else tuple(find_deposit_rate(cases, case) for case in declared),
    )


def keep_edition(edition: TariffEdition) -> KeptEdition:
    """Return what an export keeps of the edition itself."""
    return KeptEdition(name=edition.name, effective_from=edition.effective_from, content_hash=edition.content_hash)


def keep_rate(tariff: TariffOnDay, number: str, spi: str | None) -> KeptRate | None:
    """Return the rates of column 1 for a number and a claimed program; None if the edition does not have the number."""
    found = tariff.find_number(number)
    if found is None:
        return None
    row = found.rate_row
    named = (_TAX.search(text) for text in (*found.row.footnotes, *row.footnotes))
    return KeptRate(
        suffix=row.number == number,
        general=row.general,
        special=None if spi is None else row.special,
        tax=next((f"26 USC {each[1]}" for each in named if each), None),
    )
