"""The customs rules that a plan is held to before anything is made of it: one finding a breach, with its remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from pipeline.customs import lines, mid
from pipeline.customs.entry_rules import entry_rules
from pipeline.customs.rules import spoken
from pipeline.documents.fonts import unsupported_characters
from pipeline.money import EXACT, ZERO, decimal, plain, times, total
from pipeline.schemas.plan import Package, Party, Plan, Unit
from pipeline.schemas.problems import Finding

_HUNDRED = decimal("100")


def check_plan(plan: Plan, *, on: date) -> list[Finding]:
    """Return what customs would refuse, query or want explained, unit by unit.

    Effective-dated rules are judged by the day that each unit is expected to be entered, so that a plan is judged alike
    whenever it is looked at. `on` is the day of looking: it tells whether that day has passed.
    """
    return list(_plan(plan, on))


def entry_date(unit: Unit) -> date:
    """Return the day that the unit is expected to be entered: its arrival where that is known, else its export."""
    arrival = unit.entry.estimated_arrival_at
    return arrival.date() if arrival is not None else unit.entry.export_date


def _plan(plan: Plan, on: date) -> Iterator[Finding]:
    destination = entry_rules().destination
    if plan.destination_country != destination:
        yield Finding(
            rule="V25",
            severity="block",
            pointer="/destinationCountry",
            message=f"The plan goes to {plan.destination_country}; its rules are those of {destination}.",
            remedy=f"Execute exports to {destination} here.",
        )
    refs: set[str] = set()
    numbers: set[str] = set()
    for index, unit in enumerate(plan.units):
        pointer = f"/units/{index}"
        if unit.unit_ref in refs:
            yield Finding(
                rule="V24",
                severity="block",
                pointer=f"{pointer}/unitRef",
                message=f"Unit {unit.unit_ref} is in the plan twice.",
                remedy="Give every unit a unitRef of its own.",
            )
        if unit.invoice.number in numbers:
            yield Finding(
                rule="V24",
                severity="warn",
                pointer=f"{pointer}/invoice/number",
                message=f"Invoice number {unit.invoice.number} is used by more than one unit.",
                remedy="Give every commercial invoice a number of its own.",
            )
        refs.add(unit.unit_ref)
        numbers.add(unit.invoice.number)
        yield from _unit(unit, pointer, on)


def _unit(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    entered_on = entry_date(unit)
    yield from _entry(unit, pointer, entered_on, on)
    yield from _importer(unit, pointer, entered_on)
    yield from _parties(unit, pointer)
    yield from mid.check_unit(unit, pointer)
    yield from _terms(unit, pointer)
    yield from _money(unit, pointer)
    yield from lines.check_lines(unit, pointer, entered_on)
    yield from _package_weights(unit, pointer)
    yield from _characters(unit, pointer)


def _entry(unit: Unit, pointer: str, entered_on: date, on: date) -> Iterator[Finding]:
    rules = entry_rules()
    for ended in rules.ended_entry_types:
        if unit.entry.type == ended.type and ended.holds(entered_on):
            yield Finding(
                rule="V22",
                severity=ended.severity,
                pointer=f"{pointer}/entry/type",
                message=f"Entry type {ended.type} ({ended.name}) ended on {ended.effective_from}.",
                remedy="Use informal entry (11) up to $2,500, or formal entry (01).",
                source=ended.source,
            )
    if entered_on < on:
        yield Finding(
            rule="V26",
            severity="warn",
            pointer=f"{pointer}/entry/estimatedArrivalAt",
            message=f"Unit {unit.unit_ref} is expected to be entered on {entered_on}, which has passed.",
            remedy="Correct the dates if the goods have not crossed yet: rules and rates go by the day of entry.",
        )
    informal = rules.informal
    rate = unit.invoice.exchange_rate if unit.invoice.currency != "USD" else decimal("1")
    if unit.entry.type == informal.type and rate is not None:
        usd = times(total(line.line_value for line in unit.lines), rate)
        if usd > informal.limit_usd:
            yield Finding(
                rule="V27",
                severity=informal.severity,
                pointer=f"{pointer}/entry/type",
                message=f"Unit {unit.unit_ref} is worth about ${usd:,.2f}, "
                f"above the ${informal.limit_usd:,} of informal entry.",
                remedy="Ask the broker whether it needs formal entry (01).",
                source=informal.source,
            )


def _importer(unit: Unit, pointer: str, entered_on: date) -> Iterator[Finding]:
    # The number itself is never repeated: it may be a person's Social Security number.
    rules = entry_rules()
    importer = unit.parties.importer_of_record
    here = f"{pointer}/parties/importerOfRecord"
    form = rules.importer_number(importer.importer_number)
    if form is None:
        forms = spoken(f"{form.example} ({form.name})" for form in rules.importer_numbers)
        yield Finding(
            rule="V20",
            severity="block",
            pointer=f"{here}/importerNumber",
            message=f"The importer's number of unit {unit.unit_ref} has none of the forms that CBP knows.",
            remedy=f"Write it like one of {forms}; an IRS number ends in its two-character suffix, mostly 00.",
            source="CBP Form 5106; CATAIR AE record 47",
        )
    abroad = importer.address is not None and importer.address.country != rules.destination
    barred = rules.foreign_importer
    if ((form is not None and form.foreign) or abroad) and unit.entry.type in barred.entry_types:
        in_force = barred.holds(entered_on)
        yield Finding(
            rule="V20",
            severity=barred.severity if in_force else "warn",
            pointer=f"{here}/importerNumber",
            message=f"Unit {unit.unit_ref} is an informal entry of an importer outside the United States, "
            f"{'barred since' if in_force else 'which ends on'} {barred.effective_from}.",
            remedy="Name an importer of record in the United States, or ask the broker about formal entry (01).",
            source=barred.source,
        )


def _parties(unit: Unit, pointer: str) -> Iterator[Finding]:
    parties = unit.parties
    destination = entry_rules().destination
    here = f"{pointer}/parties/shipTo/address"
    address = parties.ship_to.address
    if address.country != destination:
        yield Finding(
            rule="V25",
            severity="block",
            pointer=f"{here}/country",
            message=f"Unit {unit.unit_ref} is shipped to {address.country}, not to {destination}.",
            remedy="Correct the address, or take the unit out of the plan.",
        )
    for name, value in (("region", address.region), ("postalCode", address.postal_code)):
        if value is None:
            yield Finding(
                rule="V25",
                severity="block",
                pointer=f"{here}/{name}",
                message=f"The ship-to address of unit {unit.unit_ref} lacks its "
                f"{'state' if name == 'region' else 'ZIP code'}.",
                remedy="Complete the address of the consignee.",
                source="19 CFR 141.86(a)(2)",
            )
    for name, value in (("email", parties.exporter_contact.email), ("phone", parties.exporter_contact.phone)):
        if value is None:
            yield Finding(
                rule="V19",
                severity="warn",
                pointer=f"{pointer}/parties/exporterContact/{name}",
                message=f"The exporter's contact of unit {unit.unit_ref} has no {name}.",
                remedy="Add it, so that the broker can ask before the goods are held.",
                source="19 CFR 141.86(j)",
            )
    seen: set[str] = set()
    for place, manufacturer in enumerate(parties.manufacturers):
        if manufacturer.ref in seen:
            yield Finding(
                rule="V24",
                severity="block",
                pointer=f"{pointer}/parties/manufacturers/{place}/ref",
                message=f"Manufacturer {manufacturer.ref} is in unit {unit.unit_ref} twice.",
                remedy="Give every manufacturer a ref of its own.",
            )
        seen.add(manufacturer.ref)


def _terms(unit: Unit, pointer: str) -> Iterator[Finding]:
    rules = entry_rules()
    invoice = unit.invoice
    here = f"{pointer}/invoice"
    if not re.fullmatch(rules.invoice_number.pattern, invoice.number):
        yield Finding(
            rule="V21",
            severity=rules.invoice_number.severity,
            pointer=f"{here}/number",
            message=f"Invoice number {invoice.number} is longer than 17 characters, or has other than letters, "
            "digits and dashes.",
            remedy="Shorten it to 17 letters, digits and dashes.",
            source=rules.invoice_number.source,
        )
    charged = {charge.code for charge in invoice.charges}
    terms = rules.incoterms
    missing = []
    if invoice.incoterm in terms.freight | terms.freight_and_insurance and not charged & {"freight", "inland_freight"}:
        missing.append("freight")
    if invoice.incoterm in terms.freight_and_insurance and "insurance" not in charged:
        missing.append("insurance")
    if missing:
        yield Finding(
            rule="V17",
            severity="warn",
            pointer=f"{here}/charges",
            message=f"Invoice {invoice.number} is {invoice.incoterm} {invoice.incoterm_place} "
            f"but shows no {spoken(missing)}.",
            remedy="Itemise the charge, included in the prices or not: only then is it left out of customs value.",
            source="19 CFR 141.86(a)(8)",
        )
    if invoice.related_parties:
        yield Finding(
            rule="V18",
            severity="note",
            pointer=f"{here}/relatedParties",
            message=f"Seller and buyer of invoice {invoice.number} are related.",
            remedy="Have at hand how the price was set: customs may ask.",
            source="19 CFR 152.103(l)",
        )


def _money(unit: Unit, pointer: str) -> Iterator[Finding]:
    invoice = unit.invoice
    here = f"{pointer}/invoice"
    goods = total(line.line_value for line in unit.lines)
    charges = total(charge.amount for charge in invoice.charges if not charge.included_in_prices)
    discounts = total(discount.amount for discount in invoice.discounts)
    made = EXACT.subtract(EXACT.add(goods, charges), discounts)
    if made != invoice.total:
        yield Finding(
            rule="V03",
            severity="block",
            pointer=f"{here}/total",
            message=f"Invoice {invoice.number}: lines, charges and discounts add up to {plain(made)} "
            f"{invoice.currency}, its total says {plain(invoice.total)}.",
            remedy="Correct the total, or the lines, charges and discounts that make it.",
            source="19 CFR 141.86(a)(5), (8), (9)",
        )
    if invoice.currency != "USD" and invoice.exchange_rate is None:
        yield Finding(
            rule="V16",
            severity="block",
            pointer=f"{here}/exchangeRate",
            message=f"Invoice {invoice.number} is in {invoice.currency}, without an exchange rate.",
            remedy=f"Give the US dollars that one {invoice.currency} is worth.",
            source="19 CFR 141.86(a)(7), 159.32",
        )
    if invoice.currency == "USD" and invoice.exchange_rate not in (None, decimal("1")):
        yield Finding(
            rule="V16",
            severity="warn",
            pointer=f"{here}/exchangeRate",
            message=f"Invoice {invoice.number} is in USD, yet carries an exchange rate other than 1.",
            remedy="Set the exchange rate to null, or correct the currency.",
            source="19 CFR 141.86(a)(7), 159.32",
        )


def _outermost(unit: Unit) -> Iterator[Package]:
    """Yield the packages that count as the goods' gross weight: those with goods in them, in no other such package."""
    # A pallet is no part of the goods' weight. What is known of a holder is kept: a tower of packages is walked once.
    by_ref = {package.package_ref: package for package in unit.packages}
    holds_goods: dict[str, bool] = {}
    for package in unit.packages:
        path: dict[str, None] = {}
        ref = package.parent_ref
        found = False
        while ref is not None and ref in by_ref and ref not in path:
            if ref in holds_goods:
                found = holds_goods[ref]
                break
            path[ref] = None
            if by_ref[ref].contents:
                found = True
                break
            ref = by_ref[ref].parent_ref
        holds_goods.update(dict.fromkeys(path, found))
        if package.contents and not found:
            yield package


def _package_weights(unit: Unit, pointer: str) -> Iterator[Finding]:
    packed = total(package.gross_weight_kg for package in _outermost(unit))
    invoiced = total(line.gross_weight_kg for line in unit.lines)
    tolerance = entry_rules().weights
    apart = EXACT.abs(EXACT.subtract(packed, invoiced))
    if apart > tolerance.least_kg and times(apart, _HUNDRED) > times(max(packed, invoiced, ZERO), tolerance.percent):
        yield Finding(
            rule="V04",
            severity="block",
            pointer=f"{pointer}/packages",
            message=f"Weights of unit {unit.unit_ref} disagree: lines {plain(invoiced)} kg gross, "
            f"packages {plain(packed)} kg.",
            remedy="Correct the gross weights of the lines or of the packages that hold them; pallets do not count.",
            source="19 CFR 141.86(a)(4), (e)",
        )


def _characters(unit: Unit, pointer: str) -> Iterator[Finding]:
    if unit.model_dump_json().isascii():
        return  # as most are; to ask that of the whole costs a tenth of asking it of every text
    for where, text in _texts(unit):
        lacking = unsupported_characters(text or "")
        if lacking:
            yield Finding(
                rule="D01",
                severity="warn",
                pointer=f"{pointer}/{where}",
                message=f"The fonts of the PDF documents lack {' '.join(lacking)}; a reader will see an empty box.",
                remedy="Write the name in Latin letters too, or install a font that has the characters.",
            )


def _texts(unit: Unit) -> Iterator[tuple[str, str | None]]:
    parties = unit.parties
    named: tuple[tuple[str, Party], ...] = (
        ("seller", parties.seller),
        ("buyer", parties.buyer),
        ("shipTo", parties.ship_to),
    )
    for name, party in named:
        yield f"parties/{name}/name", party.name
        for key, text in party.address:
            yield f"parties/{name}/address/{'postalCode' if key == 'postal_code' else key}", text
        if party.contact is not None:
            yield f"parties/{name}/contact/name", party.contact.name
    yield "parties/importerOfRecord/name", parties.importer_of_record.name
    yield "parties/exporterContact/name", parties.exporter_contact.name
    yield "parties/exporterContact/title", parties.exporter_contact.title
    for place, manufacturer in enumerate(parties.manufacturers):
        yield f"parties/manufacturers/{place}/name", manufacturer.name
        for key, text in manufacturer.address:
            yield f"parties/manufacturers/{place}/address/{'postalCode' if key == 'postal_code' else key}", text
    invoice = unit.invoice
    yield "invoice/incotermPlace", invoice.incoterm_place
    yield "invoice/salePlace", invoice.sale_place
    yield "invoice/paymentTerms", invoice.payment_terms
    yield "invoice/purchaseOrder", invoice.purchase_order
    for place, charge in enumerate(invoice.charges):
        yield f"invoice/charges/{place}/name", charge.name
    for place, discount in enumerate(invoice.discounts):
        yield f"invoice/discounts/{place}/name", discount.name
    for place, line in enumerate(unit.lines):
        yield f"lines/{place}/sku", line.sku
        yield f"lines/{place}/description", line.description
    for place, certificate in enumerate(unit.usmca_certificates):
        yield f"usmcaCertificates/{place}/certifierName", certificate.certifier_name
