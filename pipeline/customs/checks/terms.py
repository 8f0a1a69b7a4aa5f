"""Checks of the head of a commercial invoice: number, sale, terms, currency and total."""

from collections.abc import Iterator
from decimal import Decimal

from pipeline.core.findings import Finding
from pipeline.core.money import EXACT, divide_exact, fits_minor_unit, format_plain, multiply, sum_exact, to_decimal
from pipeline.customs.reference.base import combine_evidence, join_words
from pipeline.customs.reference.entry import RateRange, entry_rules
from pipeline.exports.schemas.plan import Unit

_ONE, _HUNDRED = to_decimal("1"), to_decimal("100")


def check_terms(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield what is wrong with the head of the unit's invoice."""
    here = f"{pointer}/invoice"
    yield from _check_number(unit, here)
    yield from _check_sale(unit, here)
    yield from _check_incoterm(unit, here)
    yield from _check_rate(unit, here)
    yield from _check_total(unit, here)


def _check_number(unit: Unit, here: str) -> Iterator[Finding]:
    written = entry_rules().invoice_number
    if not written.pattern.fullmatch(unit.invoice.number):
        yield written.finding(
            "V21",
            f"{here}/number",
            f"Invoice number {unit.invoice.number} is longer than 17 characters, or has characters other than "
            "letters, digits and dashes.",
            "Use at most 17 letters, digits and dashes.",
        )


def _check_sale(unit: Unit, here: str) -> Iterator[Finding]:
    invoice = unit.invoice
    sale = entry_rules().sale
    if invoice.reason_for_export in sale.reasons:
        for name, value, word in (("saleDate", invoice.sale_date, "when"), ("salePlace", invoice.sale_place, "where")):
            if value is None:
                yield sale.finding(
                    "V33",
                    f"{here}/{name}",
                    f"Invoice {invoice.number} does not say {word} its goods were sold.",
                    "Give saleDate and salePlace, or correct the reason for export.",
                )
    elif invoice.valuation_basis is None:
        yield Finding.warning(
            "V35",
            f"{here}/valuationBasis",
            f"The goods of invoice {invoice.number} are not sold, and it does not say how their values were found.",
            "Say in valuationBasis what a buyer would have paid and how that is known, such as from a similar sale.",
            "19 CFR 141.86(a)(6)",
        )
    if invoice.related_parties:
        yield Finding.note(
            "V18",
            f"{here}/relatedParties",
            f"Seller and buyer of invoice {invoice.number} are related.",
            "Keep proof ready of how the price was set; customs may ask.",
            "19 CFR 152.103(l)",
        )
    yield from _check_assists(unit, here)


def _check_assists(unit: Unit, here: str) -> Iterator[Finding]:
    invoice = unit.invoice
    source = "19 CFR 141.86(a)(11), 152.103(d)"
    if invoice.assists == "none":
        if invoice.assist_items:
            yield Finding.blocking(
                "V32",
                f"{here}/assists",
                f"Invoice {invoice.number} says that there were no assists, but lists some in assistItems.",
                "Correct assists, or remove assistItems.",
                source,
            )
        return
    if not invoice.assist_items:
        yield Finding.warning(
            "V32",
            f"{here}/assists",
            f"Invoice {invoice.number} declares assists (goods or services that the buyer gave for production) "
            "but lists none.",
            "List each assist and its worth in assistItems; it is part of the customs value.",
            source,
        )
    for place, item in enumerate(invoice.assist_items):
        if item.amount is None:
            yield Finding.warning(
                "V32",
                f"{here}/assistItems/{place}/amount",
                f"Invoice {invoice.number} does not give the worth of an assist: {item.name}.",
                "Give its worth as amount, or have the broker ask the importer; it is part of the customs value.",
                source,
            )


def _check_incoterm(unit: Unit, here: str) -> Iterator[Finding]:
    invoice = unit.invoice
    terms = entry_rules().incoterms
    incoterm = invoice.incoterm
    charged = {charge.code for charge in invoice.charges}
    missing = []
    if incoterm in terms.freight | terms.freight_and_insurance and not charged & {"freight", "inland_freight"}:
        missing.append("freight")
    if incoterm in terms.freight_and_insurance and "insurance" not in charged:
        missing.append("insurance")
    if incoterm in terms.duty and "duty" not in charged:
        missing.append("duty")
    if missing:
        yield Finding.warning(
            "V17",
            f"{here}/charges",
            f"Invoice {invoice.number} is {incoterm} {invoice.incoterm_place} but shows no charge for "
            f"{join_words(missing)}.",
            "Itemise the charge, included in the prices or not; otherwise it stays part of the customs value.",
            "19 CFR 141.86(a)(8)",
        )
    for place, charge in enumerate(invoice.charges):
        if charge.code == "freight" and charge.included_in_prices and incoterm in terms.without_freight:
            yield Finding.warning(
                "V17",
                f"{here}/charges/{place}/includedInPrices",
                f"Invoice {invoice.number} is {incoterm}: the buyer pays the carriage. "
                "But it says that its prices include freight.",
                "Correct the incoterm, or set includedInPrices of the freight to false.",
                "Incoterms 2020; 19 CFR 141.86(a)(8)",
            )
    if incoterm in terms.by_water and unit.entry.mode_of_transport != "vessel":
        yield Finding.warning(
            "V17",
            f"{here}/incoterm",
            f"Invoice {invoice.number} is {incoterm}, a term for transport by water, "
            f"but the goods go by {unit.entry.mode_of_transport}.",
            "Use FCA, CPT or CIP instead, or correct the mode of transport.",
            "Incoterms 2020",
        )


def _check_rate(unit: Unit, here: str) -> Iterator[Finding]:
    invoice = unit.invoice
    rate = invoice.exchange_rate
    pointer = f"{here}/exchangeRate"
    source = "19 CFR 141.86(a)(7), 152.1(c), 159.32"
    if invoice.currency == "USD":
        if rate not in (None, _ONE):
            yield Finding.warning(
                "V16",
                pointer,
                f"Invoice {invoice.number} is in USD but has the exchange rate {format_plain(rate)}, not 1.",
                "Set exchangeRate to null, or correct the currency.",
                source,
            )
        return
    if rate is None:
        yield Finding.blocking(
            "V16",
            pointer,
            f"Invoice {invoice.number} is in {invoice.currency} but has no exchange rate.",
            f"Give as exchangeRate the US dollars that one {invoice.currency} is worth on the day of export.",
            source,
        )
        return
    rules = entry_rules().exchange_rates
    usual = rules.usual.get(invoice.currency)
    if usual is not None and not usual.least <= rate <= usual.most:
        yield Finding.warning(
            "V16",
            pointer,
            f"Invoice {invoice.number} says that one {invoice.currency} is worth {format_plain(rate)} US dollars; "
            f"the usual range is {format_plain(usual.least)} to {format_plain(usual.most)}.",
            f"Give the US dollars that one {invoice.currency} is worth, not the reverse.",
            source,
        )
        return
    quarter = rules.find_quarter(unit.entry.export_date)
    known = None if quarter is None else quarter.per_dollar.get(invoice.currency)
    if quarter is not None and known is not None and _varies(rate, known, quarter.variance_percent):
        yield Finding.warning(
            "V16",
            pointer,
            f"Invoice {invoice.number} says that one {invoice.currency} is worth {format_plain(rate)} US dollars. "
            f"From {quarter.effective_from} to {quarter.known_to} one US dollar was {format_plain(known.least)} to "
            f"{format_plain(known.most)} {invoice.currency}: the rate differs by {format_plain(quarter.variance_percent)} % or more.",
            f"Give the rate of the day of export, {unit.entry.export_date}. If it is that rate, the warning is only "
            "the age of the known rates.",
            f"{source}; {combine_evidence(quarter).cited}",
        )


def _varies(rate: Decimal, known: RateRange, percent: Decimal) -> bool:
    """Return whether a rate in US dollars for one unit differs by so many percent or more from all known units for one dollar."""
    lowest, highest = multiply(rate, known.most), multiply(rate, known.least)
    share = divide_exact(percent, _HUNDRED)
    return lowest <= EXACT.subtract(_ONE, share) or highest >= EXACT.add(_ONE, share)


def _check_total(unit: Unit, here: str) -> Iterator[Finding]:
    invoice = unit.invoice
    goods = sum_exact(line.line_value for line in unit.lines)
    charges = sum_exact(charge.amount for charge in invoice.charges if not charge.included_in_prices)
    discounts = sum_exact(discount.amount for discount in invoice.discounts)
    computed = EXACT.subtract(EXACT.add(goods, charges), discounts)
    if computed != invoice.total:
        yield Finding.blocking(
            "V03",
            f"{here}/total",
            f"Invoice {invoice.number}: lines, charges and discounts add up to {format_plain(computed)} "
            f"{invoice.currency}, but its total is {format_plain(invoice.total)}.",
            "Correct the total, or the lines, charges or discounts.",
            "19 CFR 141.86(a)(5), (8), (9)",
        )
    amounts = (
        *((f"charges/{place}/amount", charge.amount) for place, charge in enumerate(invoice.charges)),
        *((f"discounts/{place}/amount", discount.amount) for place, discount in enumerate(invoice.discounts)),
        *((f"rebates/{place}/amount", rebate.amount) for place, rebate in enumerate(invoice.rebates)),
        *(
            (f"assistItems/{place}/amount", item.amount)
            for place, item in enumerate(invoice.assist_items)
            if item.amount
        ),
    )
    for where, amount in amounts:
        if not fits_minor_unit(amount, invoice.currency):
            yield Finding.blocking(
                "V03",
                f"{here}/{where}",
                f"Invoice {invoice.number}: {format_plain(amount)} has more decimals than {invoice.currency} allows.",
                "Round the amount to the smallest unit of the currency.",
                "19 CFR 141.86(a)(7), (8)",
            )
