"""The units of a plan that is built from orders: entry, parties, invoice, lines and packages."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from pipeline.core.money import EXACT, ZERO, format_plain, multiply, round_amount, sum_exact, to_decimal
from pipeline.exports.entry_lines import ORDER_NUMBER
from pipeline.exports.schemas.plan import Party, RulesetRef, Treatment, UsmcaCertificate, as_json
from pipeline.orders.packing import OrderLine, apportion_weights, format_weight, pack_order
from pipeline.orders.schemas import PriceTerms, ProductItem, SyncedOrder, TemplateEntry, TemplateInvoice, TemplateItem
from pipeline.orders.views import ExportUnitView

#: The currency of `unitValueUsd`.
USD: Final = "USD"


@dataclass(frozen=True)
class KnownOrder:
    """A synced order that no other batch has."""

    id: str
    external_id: str
    order: SyncedOrder


@dataclass(frozen=True)
class Shipment:
    """What the plan is for, apart from the orders: the request, the template, and the instant of planning."""

    account_id: str
    batch_id: str
    warehouse_id: str
    broker_id: str
    destination_country: str
    template: TemplateItem | None
    ruleset: RulesetRef
    now: datetime
    zone: ZoneInfo

    @property
    def today(self) -> date:
        """The day of planning, in the zone of the days of entry."""
        return self.now.astimezone(self.zone).date()


@dataclass(frozen=True)
class UnitKey:
    """What all orders of a unit have in common; an order with terms of its own is `alone`, named by its id.

    An invoice's charges, discounts, rebates and assists count for all its lines: those of one order must not change the
    values of another's goods.
    """

    entry_type: str
    currency: str
    buyer: Party
    ship_to: Party
    alone: str | None = None


def find_export_date(entry: TemplateEntry, today: date) -> date:
    """Return the day of export: the given one, else so many days after today."""
    return entry.export_date or today + timedelta(days=entry.export_after_days or 0)


def build_unit(
    unit_ref: str,
    key: UnitKey,
    orders: Sequence[KnownOrder],
    shipment: Shipment,
    template: TemplateItem,
    products: Mapping[str, ProductItem],
) -> dict[str, Any]:
    """Return the unit of these orders as a plan has it. Each product and the template must be complete."""
    makers: dict[str, dict[str, Any]] = {}
    lines: list[dict[str, Any]] = []
    packages: list[dict[str, Any]] = []
    for known in orders:
        packed = [
            OrderLine(f"L{number}", item, products[item.product_id])
            for number, item in enumerate(known.order.items, start=len(lines) + 1)
        ]
        lines += [
            _build_line(line, known, template, _find_maker(makers, line.product), key.currency) for line in packed
        ]
        packages += pack_order(known.order, known.id, packed)
    goods = {
        line["lineRef"]: EXACT.divide(to_decimal(line["grossWeightKg"]), to_decimal(line["quantity"])) for line in lines
    }
    terms = _join_terms(template.invoice, *(known.order for known in orders))
    weights = apportion_weights(packages, goods)
    for line in lines:
        line["grossWeightKg"] = format_weight(weights.get(line["lineRef"], ZERO))
    return {
        "unitRef": unit_ref,
        "entry": _build_entry(template.entry, key.entry_type, shipment.today),
        "parties": {
            "seller": template.seller and as_json(template.seller),
            "buyer": as_json(key.buyer),
            "shipTo": as_json(key.ship_to),
            "importerOfRecord": template.importer_of_record and as_json(template.importer_of_record),
            "exporterContact": template.exporter_contact and as_json(template.exporter_contact),
            "manufacturers": [*makers.values()],
            **_list_consignees(orders, template),
        },
        "invoice": {
            "number": _number_invoice(shipment.batch_id, unit_ref),
            "date": shipment.today.isoformat(),
            "currency": key.currency,
            "total": format_plain(_compute_total(lines, terms)),
            **_build_terms(template.invoice, terms, key.currency),
        },
        "lines": lines,
        "usmcaCertificates": [as_json(each) for each in _choose_certificates(lines, template)],
        "packages": [{"packageRef": f"P{number}", **each} for number, each in enumerate(packages, start=1)],
        **({} if template.canadian_export is None else {"canadianExport": as_json(template.canadian_export)}),
    }


def describe_unit(unit: Mapping[str, Any], key: UnitKey, orders: Sequence[KnownOrder], country: str) -> ExportUnitView:
    """Return the summary of a built unit."""
    return ExportUnitView(
        unit_ref=unit["unitRef"],
        entry_type=key.entry_type,
        destination_country=country,
        currency=key.currency,
        total=unit["invoice"]["total"],
        order_ids=[each.id for each in orders],
        lines=len(unit["lines"]),
        packages=len(unit["packages"]),
    )


def _list_consignees(orders: Sequence[KnownOrder], template: TemplateItem) -> dict[str, Any]:
    """Return the ultimate consignees, each with its orders; one that has all orders needs to name none."""
    consignees: dict[str, dict[str, Any]] = {}
    for known in orders:
        consignee = known.order.ultimate_consignee or template.ultimate_consignee
        if consignee is not None:
            made = consignees.setdefault(consignee.model_dump_json(), {**as_json(consignee), "orderIds": []})
            made["orderIds"].append(known.id)
    found = [*consignees.values()]
    if len(found) == 1 and len(found[0]["orderIds"]) == len(orders):
        found[0]["orderIds"] = []
    return {"ultimateConsignees": found} if found else {}


def _number_invoice(batch_id: str, unit_ref: str) -> str:
    """Return the number of the unit's invoice, of at most 17 characters: the same for each plan of the batch."""
    digest = base64.b32encode(hashlib.sha256(batch_id.encode()).digest()).decode()
    return f"INV{digest[:9]}-{unit_ref.removeprefix('U')}"


def _build_entry(entry: TemplateEntry, entry_type: str, today: date) -> dict[str, Any]:
    given = as_json(entry)
    del given["exportAfterDays"]
    return {**given, "type": entry_type, "exportDate": find_export_date(entry, today).isoformat()}


def _choose_certificates(lines: Sequence[Mapping[str, Any]], template: TemplateItem) -> list[UsmcaCertificate]:
    """Return the certifications that a line names or whose goods a line has: the invoice prints no others."""
    named = {line["usmcaCertificateRef"] for line in lines}
    codes = {line["htsCode"][:6] for line in lines}
    return [
        each
        for each in template.usmca_certificates
        if each.ref in named or codes & {goods.hs_code for goods in each.goods}
    ]


def _join_terms(*sources: PriceTerms) -> PriceTerms:
    """Return the charges, discounts, rebates and assists of all sources, in their order."""
    return PriceTerms.model_construct(
        None, **{name: [row for source in sources for row in getattr(source, name)] for name in PriceTerms.model_fields}
    )


def _build_terms(invoice: TemplateInvoice, terms: PriceTerms, currency: str) -> dict[str, Any]:
    rate = invoice.exchange_rates.get(currency)
    optional = {"valuationBasis": invoice.valuation_basis, "usmcaStatement": invoice.usmca_statement}
    return {
        "exchangeRate": None if rate is None else format_plain(rate),
        "incoterm": invoice.incoterm,
        "incotermPlace": invoice.incoterm_place,
        "saleDate": None if invoice.sale_date is None else invoice.sale_date.isoformat(),
        "salePlace": invoice.sale_place,
        "reasonForExport": invoice.reason_for_export,
        "relatedParties": invoice.related_parties,
        "paymentTerms": invoice.payment_terms,
        "purchaseOrder": None,
        "charges": [],
        "discounts": [],
        **as_json(terms),
        "assists": "declared" if terms.assist_items and not invoice.assist_items else invoice.assists,
        **{name: text for name, text in optional.items() if text is not None},
    }


def _compute_total(lines: Sequence[Mapping[str, Any]], terms: PriceTerms) -> Decimal:
    goods = [to_decimal(line["lineValue"]) for line in lines]
    charges = [each.amount for each in terms.charges if not each.included_in_prices]
    return EXACT.subtract(sum_exact([*goods, *charges]), sum_exact(each.amount for each in terms.discounts))


def _find_maker(makers: dict[str, dict[str, Any]], product: ProductItem) -> str | None:
    """Return the reference of the product's manufacturer in the unit; add it to `makers` at its first line."""
    if product.manufacturer is None:
        return None
    name = product.manufacturer.model_dump_json()
    made = makers.setdefault(name, {"ref": f"M{len(makers) + 1}", **as_json(product.manufacturer)})
    return str(made["ref"])


def _build_line(
    line: OrderLine, known: KnownOrder, template: TemplateItem, maker: str | None, currency: str
) -> dict[str, Any]:
    item, product = line.item, line.product
    entry_quantities = [
        {"quantity": format_plain(multiply(item.quantity, each.quantity)), "unit": each.unit}
        for each in product.entry_quantities
    ]
    return {
        "lineRef": line.line_ref,
        "orderId": known.id,
        "sku": product.sku or product.external_id,
        "description": product.description,
        "htsCode": product.hts_code,
        "countryOfOrigin": product.country_of_origin,
        "countryOfExport": template.export_country,
        "manufacturerRef": maker,
        "quantity": format_plain(item.quantity),
        "unit": product.unit,
        "unitPrice": format_plain(item.price),
        "lineValue": format_plain(round_amount(multiply(item.quantity, item.price), currency)),
        "netWeightKg": _weigh(item.quantity, product.net_weight_kg),
        "grossWeightKg": _weigh(item.quantity, product.gross_weight_kg),
        **({"entryQuantities": entry_quantities} if entry_quantities else {}),
        **({} if item.chapter98 is None else {"chapter98": as_json(item.chapter98)}),
        "spi": product.spi,
        "usmcaCertificateRef": product.usmca_certificate_ref,
        "attributes": {**product.attributes, **item.attributes, ORDER_NUMBER: known.external_id},
        "treatment": _build_treatment(product.treatment, item.quantity),
    }


def _build_treatment(treatment: Treatment | None, quantity: Decimal) -> dict[str, Any] | None:
    """Return the treatment of so many pieces: the metals of one piece, times their number."""
    if treatment is None:
        return None
    built = as_json(treatment)
    for metal, given in zip(built["section232"], treatment.section232, strict=True):
        metal["metalWeightKg"] = _weigh(quantity, given.metal_weight_kg)
    return built


def _weigh(pieces: Decimal, weight_kg: Decimal | None) -> str | None:
    return None if weight_kg is None else format_weight(multiply(pieces, weight_kg))
