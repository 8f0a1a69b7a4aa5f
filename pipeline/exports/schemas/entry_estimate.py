"""The estimate for an entry: the entered value of each entry line with its arithmetic, and the duty and fees known.

Amounts are decimals as strings: those in the invoice's currency have no suffix, those in US dollars end in `usd`. Nothing here
is a decision: the filer decides the entered value, and CBP the duty.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from pipeline.core.money import format_plain, sum_exact

Money = Annotated[Decimal, PlainSerializer(format_plain, return_type=str)]
RuleStatus = Literal["confirmed", "probable", "check"]

#: The heading of the duty that the tariff has on the number of the goods.
COLUMN_1: Final = "column 1"


class EstimateModel(BaseModel):
    """A frozen object in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True, defer_build=True
    )


class Adjustment(EstimateModel):
    """A charge, discount or assist, and what it does to the value; `amount` is None if the plan does not know it.

    `included`: the prices include it, and it counts. `none`: the prices do not include it, and it does not count.
    """

    kind: Literal["charge", "discount", "assist"]
    name: str
    amount: Money | None
    effect: Literal["added", "deducted", "included", "none"]
    text: str
    source: str
    status: RuleStatus


class DutyRow(EstimateModel):
    """The duty of one heading; `amountUsd` is None if it cannot be calculated, and `note` says why.

    A rate of the tariff has its `source`, and a rate that is not free its `arithmetic`. `baseUsd` is set if the duty is on a
    part of the entered value.
    """

    heading: str
    rate: str | None
    amount_usd: Money | None
    note: str | None
    arithmetic: str | None = Field(default=None, exclude_if=lambda value: value is None)
    source: str | None = Field(default=None, exclude_if=lambda value: value is None)
    base_usd: Money | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def remarks(self) -> str | None:
        """The note, the arithmetic and the source in one text, or None if there is none."""
        return "; ".join(each for each in (self.note, self.arithmetic, self.source) if each) or None


class ValueDivision(EstimateModel):
    """The entered value of a claim of chapter 98 in its two parts, in whole US dollars, with the arithmetic."""

    provision: str
    exempt_value_usd: Money
    dutiable_value_usd: Money
    arithmetic: str


class EntryLine(EstimateModel):
    """One entry line: invoice lines with the same customs facts.

    `value` + `adjustment` = `dutiableValue`, which times the exchange rate is `dutiableValueUsd`; rounded to whole dollars it is
    `enteredValueUsd`. `chargesUsd` is the line's share of the charges that do not count. US dollars are None without a rate.
    """

    number: int
    line_numbers: tuple[int, ...]
    hts_code: str
    country_of_origin: str
    spi: str | None
    value: Money
    adjustment: Money
    dutiable_value: Money
    dutiable_value_usd: Money | None
    entered_value_usd: Money | None
    charges_usd: Money | None
    duties: tuple[DutyRow, ...]
    duty_usd: Money | None
    division: ValueDivision | None = Field(default=None, exclude_if=lambda value: value is None)


class HeadingSource(EstimateModel):
    """The source of the rate of a heading of chapter 99, as the rules have it on the day of entry."""

    heading: str
    source: str
    status: RuleStatus


class FeeRow(EstimateModel):
    """A fee of the entry, with its arithmetic."""

    code: str
    name: str
    rate: str
    base_usd: Money
    amount_usd: Money
    arithmetic: str
    source: str
    status: RuleStatus


class TaxRow(EstimateModel):
    """The internal revenue tax on an entry line. Without an amount, `rate` or the quantity is not known; `text` says so."""

    line: int
    section: str
    name: str
    rate: str | None
    amount_usd: Money | None
    arithmetic: str | None
    text: str | None
    source: str
    status: RuleStatus


class UnpricedFee(EstimateModel):
    """A fee that goods of some entry lines may have, without an amount. `text` says where to look it up."""

    code: str
    name: str
    lines: tuple[int, ...]
    text: str
    source: str
    status: RuleStatus


class BondHint(EstimateModel):
    """The least amount of a single transaction bond as far as duties are known, with its arithmetic."""

    amount_usd: Money
    arithmetic: str
    text: str
    source: str
    status: RuleStatus


class SummaryDue(EstimateModel):
    """The latest day of the entry summary, computed from the planned arrival."""

    day: date
    text: str
    source: str
    status: RuleStatus


class ModeOfTransport(EstimateModel):
    """The code of the mode of transport on the entry."""

    code: str
    source: str
    status: RuleStatus


class EntryEstimate(EstimateModel):
    """The estimate of a unit; `missing` names in words what it lacks, and it is complete only if that is empty.

    `editions` says from which imported tables the rates with a `source` are.
    """

    entry_type: str
    entered_on: date
    rules_as_of: date
    currency: str
    exchange_rate: Money | None
    rounding: str
    adjustments: tuple[Adjustment, ...]
    lines: tuple[EntryLine, ...]
    total_value: Money
    total_dutiable_value: Money
    total_entered_value_usd: Money | None
    duty_usd: Money | None
    heading_sources: tuple[HeadingSource, ...]
    fees: tuple[FeeRow, ...]
    unpriced_fees: tuple[UnpricedFee, ...] = Field(default=(), exclude_if=lambda value: not value)
    taxes: tuple[TaxRow, ...] = Field(default=(), exclude_if=lambda value: not value)
    total_usd: Money | None
    bond: BondHint | None
    summary_due: SummaryDue | None = Field(default=None, exclude_if=lambda value: value is None)
    mode_of_transport: ModeOfTransport | None = Field(default=None, exclude_if=lambda value: value is None)
    missing: tuple[str, ...]
    editions: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    disclaimer: str = "An estimate from the plan's facts, for comparison only. The filer decides the entered value; CBP decides the duty."

    @property
    def mode_code(self) -> str | None:
        """The code of the mode of transport; None if it has none."""
        return None if self.mode_of_transport is None else self.mode_of_transport.code

    @property
    def lacks_only_fees(self) -> bool:
        """Whether `missing` names nothing but unpriced fees and taxes: then the duty is complete."""
        texts = {*(fee.text for fee in self.unpriced_fees), *(tax.text for tax in self.taxes)}
        return {*self.missing} <= texts

    @property
    def tax_usd(self) -> Decimal | None:
        """The sum of the taxes; None if there is none, or one has no amount."""
        amounts = [each.amount_usd for each in self.taxes if each.amount_usd is not None]
        return sum_exact(amounts) if amounts and len(amounts) == len(self.taxes) else None


#: The estimate in an invoice: for the service's documents only, and left out of the published invoice.
InvoiceEstimate = Annotated[EntryEstimate | None, Field(exclude=True)]
