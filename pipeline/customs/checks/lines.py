"""Checks of each invoice line: its references, description, code, origin, value, weights, claims and treatment."""

from collections.abc import Iterator, Mapping
from datetime import date

from pipeline.core.findings import Finding
from pipeline.core.money import EXACT, fits_minor_unit, format_plain, minor_units, multiply, round_amount, to_decimal
from pipeline.customs.chapter99 import checks as chapter99_checks
from pipeline.customs.chapter99 import section232
from pipeline.customs.checks.chapter98 import check_chapter98
from pipeline.customs.checks.entry import in_usd
from pipeline.customs.checks.goods import check_attributes, check_description
from pipeline.customs.checks.open_rows import check_open_rows
from pipeline.customs.checks.units import check_units
from pipeline.customs.checks.usmca import check_claim, unit_claims
from pipeline.customs.pga import checks
from pipeline.customs.pga.disclaimers import check_plant_weight
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.tariff.facts import TariffFacts
from pipeline.customs.tariff.goods import GoodsRates
from pipeline.exports.schemas.plan import REFERENCES, InvoiceHeader, Line, Manufacturer, Unit

_TWO = to_decimal("2")


def check_lines(unit: Unit, pointer: str, on: date, kept: TariffFacts | None = None) -> Iterator[Finding]:
    """Yield what is wrong with the unit's lines, which are entered on the day `on`, in the order of the invoice.

    `kept` is what the unit's export keeps of the tariff: headings may depend on the rate of the goods.
    """
    makers = {manufacturer.ref: manufacturer for manufacturer in unit.parties.manufacturers}
    claims = unit_claims(unit, on)
    parties, rates = UnitParties(unit), GoodsRates.of_unit(unit, kept)
    seen: set[str] = set()
    alike: dict[object, str] = {}
    for place, line in enumerate(unit.lines):
        here = f"{pointer}/lines/{place}"
        yield from _check_references(line, here, seen, makers)
        yield from _check_repeated(line, here, alike)
        yield from check_description(line, here)
        yield from _check_code(line, here)
        yield from _check_origin(line, here, makers)
        yield from _check_value(line, here, unit.invoice)
        yield from _check_weights(line, here)
        yield from check_units(line, here)
        yield from check_chapter98(line, here, on)
        yield from check_claim(line, here, on, claims)
        yield from check_attributes(line, here, on)
        yield from _check_undetermined(line, here)
        yield from chapter99_checks.check_headings(line, here, on, rates.find_rate(line))
        yield from check_open_rows(line, here, on)
        yield from section232.check_metals(line, here, on)
        yield from checks.check_agencies(unit, line, parties, here, on)
    yield from check_plant_weight(unit, pointer, on)


def _check_references(line: Line, here: str, seen: set[str], makers: Mapping[str, Manufacturer]) -> Iterator[Finding]:
    if line.line_ref in seen:
        yield Finding.blocking(
            "V24",
            f"{here}/lineRef",
            f"Line {line.line_ref} is on the invoice twice.",
            "Give each line its own lineRef.",
            REFERENCES,
        )
    seen.add(line.line_ref)
    if line.manufacturer_ref not in makers:
        yield Finding.blocking(
            "V24",
            f"{here}/manufacturerRef",
            f"Line {line.line_ref} names manufacturer {line.manufacturer_ref}, which the unit does not have.",
            "Add the manufacturer to the unit's parties, or correct manufacturerRef.",
            REFERENCES,
        )


def _check_repeated(line: Line, here: str, alike: dict[object, str]) -> Iterator[Finding]:
    # Without an order, two equal lines may well be two sales.
    if line.order_id is None:
        return
    goods = (line.order_id, line.sku, line.description, line.hts_code, line.quantity, line.unit_price)
    first = alike.setdefault(goods, line.line_ref)
    if first != line.line_ref:
        yield Finding.warning(
            "V24",
            here,
            f"Line {line.line_ref} repeats line {first}: the same goods, order, quantity and price.",
            "Remove it from the invoice, unless the goods were ordered twice.",
            "19 CFR 141.86(a)(4)",
        )


def _check_code(line: Line, here: str) -> Iterator[Finding]:
    tariff = entry_rules().tariff
    chapter = line.hts_code[:2]
    if chapter in tariff.reserved or (chapter > tariff.last_chapter and chapter not in tariff.additional):
        yield tariff.finding(
            "V08",
            f"{here}/htsCode",
            f"Line {line.line_ref}: {line.hts_code} is not a tariff number; the tariff has no chapter {chapter}.",
            "Correct the tariff number.",
        )
    elif chapter in tariff.additional:
        yield tariff.warning(
            "V08",
            f"{here}/htsCode",
            f"Line {line.line_ref}: {line.hts_code} is in chapter {chapter}. A number of that chapter is only "
            "claimed in addition to the number of the goods.",
            f"Give the number of the goods as htsCode, and {line.hts_code} "
            + ("as chapter98." if chapter == "98" else "in the treatment's chapter99."),
        )


def _check_origin(line: Line, here: str, makers: Mapping[str, Manufacturer]) -> Iterator[Finding]:
    maker = makers.get(line.manufacturer_ref)
    if maker is None or line.country_of_origin != line.country_of_export:
        return
    if maker.address.country != line.country_of_origin:
        yield Finding.blocking(
            "V07",
            f"{here}/countryOfOrigin",
            f"Line {line.line_ref}: its origin {line.country_of_origin} is the country that ships it, but its "
            f"manufacturer {maker.name} is in {maker.address.country}.",
            f"Set countryOfOrigin to where the goods were made, or name the manufacturer in {line.country_of_origin}.",
            "19 CFR 134.1(b), 141.86(a)(10); 19 CFR 102 appendix",
        )


def _check_value(line: Line, here: str, invoice: InvoiceHeader) -> Iterator[Finding]:
    currency = invoice.currency
    product = multiply(line.quantity, line.unit_price)
    # Accept half a minor unit either way: invoices round halves up, banks round them to even.
    apart = EXACT.abs(EXACT.subtract(product, line.line_value))
    agrees = multiply(apart, _TWO).scaleb(minor_units(currency)) <= 1
    if not agrees or not fits_minor_unit(line.line_value, currency):
        yield Finding.blocking(
            "V03",
            f"{here}/lineValue",
            f"Line {line.line_ref}: {format_plain(line.quantity)} at {format_plain(line.unit_price)} {currency} are "
            f"{format_plain(round_amount(product, currency))}, but lineValue is {format_plain(line.line_value)}.",
            "Correct the quantity, the unit price or the line value.",
            "19 CFR 141.86(a)(4), (5)",
        )
    if not line.line_value:
        yield Finding.warning(
            "V15",
            f"{here}/lineValue",
            f"Line {line.line_ref} has a lineValue of 0, which customs is likely to query.",
            "Give what a buyer would pay; samples and gifts also need a fair value.",
            "19 CFR 141.86(a)(6)",
        )

    else:
        yield from _check_low_value(line, here, invoice)


def _check_low_value(line: Line, here: str, invoice: InvoiceHeader) -> Iterator[Finding]:
    rules = entry_rules().value
    described = line.description.lower()
    if any(denial in described for denial in rules.denials):
        yield rules.warning(
            "V15",
            f"{here}/description",
            f"The description of line {line.line_ref} says that the goods have no value, which customs is likely to query.",
            "Remove that from the description and give in lineValue what a buyer would pay; samples also need a fair value.",
        )
    price = in_usd(line.unit_price, invoice) if line.unit == "KG" else None
    if price is not None and price < rules.least_usd_per_kg:
        yield rules.warning(
            "V15",
            f"{here}/unitPrice",
            f"Line {line.line_ref} costs only {format_plain(line.unit_price)} {invoice.currency} per kilogram, "
            "which customs is likely to query.",
            "Check price and unit; keep proof of the price paid ready.",
        )


def _check_weights(line: Line, here: str) -> Iterator[Finding]:
    for name, weight in (("netWeightKg", line.net_weight_kg), ("grossWeightKg", line.gross_weight_kg)):
        if not weight:
            yield Finding.blocking(
                "V05",
                f"{here}/{name}",
                f"Line {line.line_ref}: {name} is 0.",
                "Give the weight of the whole line in kg.",
                "19 CFR 141.86(a)(4)",
            )
    if line.net_weight_kg > line.gross_weight_kg:
        yield Finding.blocking(
            "V05",
            f"{here}/netWeightKg",
            f"Line {line.line_ref}: its net weight, {format_plain(line.net_weight_kg)} kg, is more than its gross "
            f"weight, {format_plain(line.gross_weight_kg)} kg.",
            "Correct the net or the gross weight.",
            "19 CFR 141.86(a)(4)",
        )


def _check_undetermined(line: Line, here: str) -> Iterator[Finding]:
    if line.treatment.undetermined is not None:
        yield Finding.blocking(
            "T01",
            f"{here}/treatment/undetermined",
            f"Line {line.line_ref}: its customs treatment is undetermined: {line.treatment.undetermined.rstrip('.')}.",
            "Decide it in the plan and approve the plan again; this service does not guess.",
            "19 U.S.C. 1484(a)(1), reasonable care",
        )
