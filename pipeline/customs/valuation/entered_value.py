"""Apportions the invoice's charges, discounts and assists over the entry lines; exact until the last rounding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.core.money import ZERO, divide_exact, multiply, round_cents, round_dollars, sum_exact
from pipeline.customs.reference.valuation import ValuationRules, ValueRule
from pipeline.exports.schemas.entry_estimate import Adjustment
from pipeline.exports.schemas.plan import InvoiceHeader


@dataclass(frozen=True)
class LineValue:
    """The values of one entry line in the invoice's currency (exact), and in US dollars if the rate is known."""

    value: Decimal
    adjustment: Decimal
    usd: Decimal | None
    entered_usd: Decimal | None
    charges_usd: Decimal | None

    @property
    def dutiable(self) -> Decimal:
        """The value of the goods after the adjustment."""
        return sum_exact((self.value, self.adjustment))


def list_adjustments(rules: ValuationRules, header: InvoiceHeader) -> Iterator[Adjustment]:
    """Yield what each charge, discount and assist of the invoice does to the value, in the order of the plan."""
    for charge in header.charges:
        rule = rules.find_charge(charge.code)
        counts = rule.counts(charge.dutiable)
        if counts:
            effect = "included" if charge.included_in_prices else "added"
        else:
            effect = "deducted" if charge.included_in_prices else "none"
        name = charge.name or charge.code.replace("_", " ").capitalize()
        if counts != rule.dutiable:
            text = f"The plan says that it {'counts' if counts else 'does not count'}: {rule.unless}"
            rule = rule.model_copy(update={"text": text})
        yield _adjustment("charge", name, charge.amount, effect, rule)
    for discount in header.discounts:
        yield _adjustment("discount", discount.name, discount.amount, "deducted", rules.discount)
    for assist in header.assist_items:
        yield _adjustment("assist", assist.name, assist.amount, "added", rules.assist)


def _adjustment(kind: str, name: str, amount: Decimal | None, effect: str, rule: ValueRule) -> Adjustment:
    return Adjustment.model_validate(
        {
            "kind": kind,
            "name": name,
            "amount": amount,
            "effect": effect,
            "text": rule.text,
            "source": rule.source,
            "status": rule.status,
        }
    )


def total_adjustment(adjustments: Sequence[Adjustment]) -> Decimal:
    """Return the sum of what is added, less what is deducted; an amount that is not known does not count."""
    known = [(row.effect, row.amount) for row in adjustments if row.amount is not None]
    added = (amount for effect, amount in known if effect == "added")
    deducted = (amount.copy_negate() for effect, amount in known if effect == "deducted")
    return sum_exact((*added, *deducted))


def total_charges(rules: ValuationRules, header: InvoiceHeader) -> Decimal:
    """Return the sum of the charges of the international shipment, which the entered value does not contain."""
    shipping = (
        row.amount
        for row in header.charges
        if rules.find_charge(row.code).shipping and not rules.find_charge(row.code).counts(row.dutiable)
    )
    return sum_exact(shipping)


def apportion(values: Sequence[Decimal], amount: Decimal) -> list[Decimal]:
    """Return the shares of `amount` by value, to the cent; they add up to `amount`. Without any value, all are zero.

    Each share is rounded down the line: the difference of the running totals, so that no cent is lost or made.
    """
    whole = sum_exact(values)
    if not whole:
        return [ZERO] * len(values)
    shares, running, given = [], ZERO, ZERO
    for value in values:
        running = sum_exact((running, value))
        until = amount if running == whole else round_cents(divide_exact(multiply(amount, running), whole))
        shares.append(sum_exact((until, given.copy_negate())))
        given = until
    return shares


def line_values(
    values: Sequence[Decimal], adjustment: Decimal, charges: Decimal, rate: Decimal | None
) -> list[LineValue]:
    """Return the values of the entry lines; `rate` is in US dollars for one unit of the invoice's currency."""
    shares, shipping = apportion(values, adjustment), apportion(values, charges)
    return [_line_value(*row, rate) for row in zip(values, shares, shipping, strict=True)]


def _line_value(value: Decimal, share: Decimal, shipping: Decimal, rate: Decimal | None) -> LineValue:
    if rate is None:
        return LineValue(value, share, None, None, None)
    usd = multiply(sum_exact((value, share)), rate)
    return LineValue(value, share, round_cents(usd), round_dollars(usd), round_dollars(multiply(shipping, rate)))
