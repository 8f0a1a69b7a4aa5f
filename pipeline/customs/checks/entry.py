"""Checks of the entry of a unit: its type, its dates, and its importer."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Final

from pipeline.core.findings import Finding
from pipeline.core.money import multiply, sum_exact, to_decimal
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.declarations import check_declarations
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.ports import port_rules
from pipeline.exports.schemas.plan import InvoiceHeader, Unit

_ONE = to_decimal("1")
#: After more days than these on the way, one of the dates is probably wrong.
_LONGEST_DAYS: Final = {"vessel": 120}
_LONGEST_DAYS_ELSE: Final = 21


def in_usd(amount: Decimal, invoice: InvoiceHeader) -> Decimal | None:
    """Return the invoice's amount in US dollars, or None if the invoice has no exchange rate."""
    rate = invoice.exchange_rate if invoice.currency != "USD" else _ONE
    return None if rate is None else multiply(amount, rate)


def goods_in_usd(unit: Unit) -> Decimal | None:
    """Return the value of the unit's goods in US dollars, or None if the invoice has no exchange rate."""
    return in_usd(sum_exact(line.line_value for line in unit.lines), unit.invoice)


def is_foreign_importer(unit: Unit) -> bool:
    """Return whether the importer of record is outside the United States, by its number or its address."""
    rules = entry_rules()
    importer = unit.parties.importer_of_record
    form = rules.match_importer_number(importer.importer_number)
    # An importer without an address is the buyer.
    address = importer.address or unit.parties.buyer.address
    return (form is not None and form.foreign) or address.country != rules.destination


def check_entry(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the unit's entry; `on` is the day of the check."""
    entered_on = entry_date(unit)
    yield from _check_type(unit, f"{pointer}/entry/type", entered_on)
    yield from _check_port(unit, f"{pointer}/entry/portOfEntry")
    yield from check_declarations(unit, pointer, entered_on)
    yield from _check_days(unit, pointer, entered_on, on)
    yield from _check_importer(unit, pointer, entered_on)


def _check_type(unit: Unit, here: str, entered_on: date) -> Iterator[Finding]:
    rules = entry_rules()
    ended = [each for each in rules.ended_entry_types if each.type == unit.entry.type and each.in_force(entered_on)]
    for each in ended:
        yield each.finding(
            "V22",
            here,
            f"Entry type {each.type} ({each.name}) ended on {each.effective_from}.",
            "Use informal entry (11) up to $2,500, or formal entry (01).",
        )
    if not ended and unit.entry.type not in rules.entry_types.types:
        yield rules.entry_types.warning(
            "V22",
            here,
            f"Entry type {unit.entry.type} of unit {unit.unit_ref} is not known to these rules.",
            "Use formal entry (01) or informal entry (11), or ask the broker.",
        )
    cases = rules.trade_remedy_cases
    case = next((line for line in unit.lines if cases.attribute in line.attributes), None)
    if case is not None and unit.entry.type not in cases.entry_types:
        yield cases.warning(
            "V22",
            here,
            f"Line {case.line_ref} names an antidumping or countervailing duty case, "
            f"but the entry type is {unit.entry.type}.",
            f"Use an entry type for such goods ({join_words(sorted(cases.entry_types))}), or ask the broker.",
        )
    yield from _check_informal(unit, here)


def _check_port(unit: Unit, here: str) -> Iterator[Finding]:
    rules, port = port_rules(), unit.entry.port_of_entry
    if port in rules.ports.ports:
        return
    similar = join_words(rules.ports.find_similar(port))
    yield rules.ports.warning(
        "E05",
        here,
        f"Port {port} of unit {unit.unit_ref} is not a port of entry in the list of {rules.as_of} (Schedule D).",
        f"Correct it{f'; the most similar ones are {similar}' if similar else ''}. Ask the broker if the port is newer.",
    )


def _check_informal(unit: Unit, here: str) -> Iterator[Finding]:
    informal = entry_rules().informal
    if unit.entry.type != informal.type:
        return
    usd = goods_in_usd(unit)
    if usd is not None and usd > informal.limit_usd:
        yield informal.warning(
            "V27",
            here,
            f"Unit {unit.unit_ref} is worth about ${usd:,.2f}, "
            f"above the ${informal.limit_usd:,} limit of informal entry ({informal.type}).",
            "Use formal entry (01). Several informal entries need a reason of 19 CFR 141.52, such as separate bills of "
            "lading: ask the broker.",
        )


def _check_days(unit: Unit, pointer: str, entered_on: date, on: date) -> Iterator[Finding]:
    if entered_on < on:
        yield Finding.warning(
            "V26",
            f"{pointer}/entry/estimatedArrivalAt",
            f"Unit {unit.unit_ref} is expected to be entered on {entered_on}, which is in the past.",
            "Correct the dates if the goods have not crossed yet; rules and rates depend on the day of entry.",
            "19 CFR 141.68, 141.69",
        )
    exported_on, mode = unit.entry.export_date, unit.entry.mode_of_transport
    days = (entered_on - exported_on).days
    # The arrival and the export date may use different UTC offsets, so one day of difference is allowed.
    if days < -1:
        yield Finding.warning(
            "V31",
            f"{pointer}/entry/exportDate",
            f"Unit {unit.unit_ref} arrives on {entered_on}, before its export on {exported_on}.",
            "Correct the export date or the arrival.",
            "19 CFR 152.1(c)",
        )
    if days > _LONGEST_DAYS.get(mode, _LONGEST_DAYS_ELSE):
        yield Finding.warning(
            "V31",
            f"{pointer}/entry/exportDate",
            f"Unit {unit.unit_ref} leaves on {exported_on}, {days} days before it arrives; its mode of transport is {mode}.",
            "Correct the export date or the arrival: the rate of exchange is that of the day of export.",
            "19 CFR 152.1(c), 159.32",
        )
    invoice = unit.invoice
    for name, verb, day in (("date", "dated", invoice.date), ("saleDate", "sold on", invoice.sale_date)):
        if day is not None and day > max(exported_on, entered_on):
            yield Finding.warning(
                "V31",
                f"{pointer}/invoice/{name}",
                f"Invoice {invoice.number} is {verb} {day}, after its goods crossed the border.",
                "Correct the date; if the invoice will be issued later, send a pro forma invoice until then.",
                "19 CFR 141.83, 141.86(a)(2)",
            )


def _check_importer(unit: Unit, pointer: str, entered_on: date) -> Iterator[Finding]:
    # A message must never repeat the number: it may be a person's Social Security number.
    rules = entry_rules()
    importer = unit.parties.importer_of_record
    here = f"{pointer}/parties/importerOfRecord/importerNumber"
    form = rules.match_importer_number(importer.importer_number)
    if form is None:
        forms = join_words(f"{form.example} ({form.name})" for form in rules.importer_numbers.forms)
        yield rules.importer_numbers.finding(
            "V20",
            here,
            f"The importer number of unit {unit.unit_ref} has none of the forms that CBP accepts.",
            f"Write it in one of these forms: {forms}. An IRS number ends in a two-character suffix, mostly 00.",
        )
    if not is_foreign_importer(unit):
        return
    barred = rules.foreign_importer
    if unit.entry.type in barred.entry_types and not barred.has_ended(entered_on):
        yield Finding(
            rule="V20",
            severity=barred.severity if barred.in_force(entered_on) else "warn",
            pointer=here,
            message=f"Unit {unit.unit_ref} is an informal entry (type {unit.entry.type}) of an importer outside the United "
            f"States. An executive order wants that to end on {barred.effective_from}.",
            remedy="Name an importer of record in the United States, or ask the broker about formal entry (01).",
            source=barred.source,
        )
    formal = rules.foreign_importer_formal
    if unit.entry.type in formal.entry_types and formal.in_force(entered_on):
        yield formal.finding(
            "V20",
            here,
            f"The importer of unit {unit.unit_ref} is outside the United States. Since {formal.effective_from} "
            "its formal entries are said to require that the importer or its broker is CTPAT-validated.",
            "Ask the broker whether it is CTPAT-validated and which bond it will use.",
        )
