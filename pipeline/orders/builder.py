"""Builds a plan from orders, products and a plan template. It guesses nothing: what no datum says is named as missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from pipeline.exports.schemas.plan import MAX_LINES, MAX_PACKAGES, as_json
from pipeline.orders.facts import SYNC_AGAIN, BuiltLine, PlanFacts
from pipeline.orders.packing import count_packages, find_packing
from pipeline.orders.schemas import ProductItem, SyncedOrder, TemplateItem
from pipeline.orders.units import USD, KnownOrder, Shipment, UnitKey, build_unit, describe_unit, find_export_date
from pipeline.orders.views import ExcludedOrder, ExportUnitView, MissingDatum, ValidationMessage

#: How orders become units and packages, in the answer to a plan request.
STRATEGY: Final = (
    "One unit for each entry type, currency, buyer and ship-to party, and for each order with charges, discounts, rebates"
    " or assists of its own. One line for each item of an order. The order's own cartons, else cartons of each product's"
    " packing."
)

#: What a line needs of its product: the member, and the name that the caller knows.
_OF_PRODUCT: Final = {
    "description": "description",
    "hts_code": "htsCode",
    "country_of_origin": "countryOfOrigin",
    "manufacturer": "manufacturer",
    "unit": "unit",
    "net_weight_kg": "netWeightKg",
    "gross_weight_kg": "grossWeightKg",
    "treatment": "treatment",
}
#: The member of the plan template that says who answers for its plans: a dry run does without.
APPROVED_BY: Final = "approvedBy"
#: What every plan needs of its template.
_OF_TEMPLATE: Final = {
    "export_country": "exportCountry",
    "seller": "seller",
    "importer_of_record": "importerOfRecord",
    "exporter_contact": "exporterContact",
}
_OF_ENTRY: Final = {"port_of_entry": "entry.portOfEntry", "mode_of_transport": "entry.modeOfTransport"}
_OF_INVOICE: Final = {
    "incoterm": "invoice.incoterm",
    "incoterm_place": "invoice.incotermPlace",
    "reason_for_export": "invoice.reasonForExport",
    "related_parties": "invoice.relatedParties",
    "assists": "invoice.assists",
}


@dataclass
class Draft:
    """A plan as far as it could be built; `raw` is None if something is missing that every plan needs."""

    raw: dict[str, Any] | None = None
    expires_at: datetime | None = None
    included: list[KnownOrder] = field(default_factory=list)
    excluded: list[ExcludedOrder] = field(default_factory=list)
    missing: list[MissingDatum] = field(default_factory=list)
    units: list[ExportUnitView] = field(default_factory=list)
    facts: PlanFacts | None = None
    notes: list[ValidationMessage] = field(default_factory=list)

    @property
    def missing_approval(self) -> bool:
        """Whether nobody answers for the plan."""
        return any(each.field == APPROVED_BY for each in self.missing)


def build_plan(shipment: Shipment, orders: Sequence[KnownOrder], products: Mapping[str, ProductItem]) -> Draft:
    """Return the plan of the orders, with the orders that it leaves out and the data that it misses.

    `products` are by the productId that items of orders name.
    """
    draft = Draft()
    complete = _exclude_incomplete(draft, orders, products)
    draft.missing += _find_missing_facts(shipment, complete)
    if shipment.template is None:
        draft.excluded += [_exclude(each, "MISSING_DATA", *_NO_TEMPLATE) for each in complete]
        return draft
    template = shipment.template
    by_unit: dict[str, tuple[UnitKey, list[KnownOrder]]] = {}
    for each in complete:
        key = _find_unit(each, template)
        if key is None:
            draft.excluded.append(_exclude(each, "MISSING_DATA", *_NO_UNIT))
            continue
        name = (
            f"{key.entry_type} {key.currency} {key.buyer.model_dump_json()} {key.ship_to.model_dump_json()} {key.alone}"
        )
        by_unit.setdefault(name, (key, []))[1].append(each)
        draft.included.append(each)
    needed = [each.field for each in draft.missing if each.subject == "plan_template" and not each.orders]
    if not draft.included or {*needed} - {APPROVED_BY}:
        return draft
    shared = template.invoice.list_terms()
    if len(by_unit) > 1 and shared:
        draft.missing.append(
            _missing_fact(shipment, f"invoice.{shared[0]}", _TERMS_OF_SEVERAL_UNITS, _PLAN_UNITS_APART)
        )
        return draft
    built = [
        build_unit(f"U{number}", key, members, shipment, template, products)
        for number, (key, members) in enumerate(by_unit.values(), start=1)
    ]
    draft.units = [
        describe_unit(unit, key, members, shipment.destination_country)
        for unit, (key, members) in zip(built, by_unit.values(), strict=True)
    ]
    draft.expires_at = datetime.combine(
        find_export_date(template.entry, shipment.today) + timedelta(days=1), time(), shipment.zone
    ).astimezone(UTC)
    draft.raw = _build_plan(shipment, template, built, draft.expires_at)
    lines = [
        [
            BuiltLine(known, place, products[item.product_id])
            for known in members
            for place, item in enumerate(known.order.items)
        ]
        for _, members in by_unit.values()
    ]
    draft.facts = PlanFacts(draft.raw, lines, template)
    for number, (key, members) in enumerate(by_unit.values()):
        draft.notes += _find_other_destinations(number, key, members, template)
    return draft


_BY_PRODUCTS: Final = SYNC_AGAIN["product"]
_BY_ORDERS: Final = SYNC_AGAIN["order"]
_BY_TEMPLATES: Final = SYNC_AGAIN["plan_template"]

_NO_TEMPLATE: Final = (
    "no plan template has the facts that all plans to its country share",
    f"sync a plan template for the country {_BY_TEMPLATES}",
)
_NO_UNIT: Final = (
    "neither the order nor the plan template has its entry type, buyer and ship-to party",
    f"sync the order with what missing_data names {_BY_ORDERS}",
)
_TERMS_OF_SEVERAL_UNITS: Final = "charges, discounts, rebates and assists of the plan template belong to one invoice, and the orders make several units"
_PLAN_UNITS_APART: Final = "plan the orders of each unit in a batch of its own"


def _exclude(known: KnownOrder, reason: Any, message: str, remedy: str) -> ExcludedOrder:
    return ExcludedOrder(
        order_id=known.id,
        external_id=known.external_id,
        reason=reason,
        message=f"Order {known.external_id}: {message}.",
        remedy=_sentence(remedy),
    )


def _exclude_incomplete(
    draft: Draft, orders: Sequence[KnownOrder], products: Mapping[str, ProductItem]
) -> list[KnownOrder]:
    """Return the orders whose lines and packages can be written; add the others, and why, to the draft."""
    complete: list[KnownOrder] = []
    missing: dict[tuple[str, str], list[str]] = {}
    lines = packages = 0
    for known in orders:
        unknown = sorted({item.product_id for item in known.order.items} - products.keys())
        if unknown:
            for product_id in unknown:
                missing.setdefault((product_id, ""), []).append(known.id)
            why = f"product {unknown[0]} is not synced" + (f", and {len(unknown) - 1} more" if unknown[1:] else "")
            draft.excluded.append(
                _exclude(
                    known, "UNKNOWN_PRODUCT", why, f"sync {'them' if unknown[1:] else 'the product'} {_BY_PRODUCTS}"
                )
            )
            continue
        lacking = [*_find_missing_members(known.order, products)]
        if lacking:
            for place in lacking:
                missing.setdefault(place, []).append(known.id)
            product_id, name = lacking[0]
            more = f", and {len(lacking) - 1} more facts are missing" if lacking[1:] else ""
            why = f"product {product_id} has no {name}{more}"
            draft.excluded.append(
                _exclude(known, "MISSING_DATA", why, f"sync the product with what missing_data names {_BY_PRODUCTS}")
            )
            continue
        own_packages = count_packages(known.order, products)
        if own_packages > MAX_PACKAGES:
            why = f"it has {own_packages} packages, and a plan may have {MAX_PACKAGES}"
            draft.excluded.append(_exclude(known, "TOO_MANY_LINES", why, f"sync it as several orders {_BY_ORDERS}"))
            continue
        if lines + len(known.order.items) > MAX_LINES or packages + own_packages > MAX_PACKAGES:
            why = f"with it the plan would have more than {MAX_LINES} lines or {MAX_PACKAGES} packages"
            draft.excluded.append(_exclude(known, "TOO_MANY_LINES", why, "plan it in a batch of its own"))
            continue
        lines += len(known.order.items)
        packages += own_packages
        complete.append(known)
    draft.missing += [
        MissingDatum(
            subject="product",
            id=product_id,
            field=name,
            message=f"Product {product_id} {f'has no {name}' if name else 'is not synced'}.",
            remedy=_sentence(f"sync the product {f'with {name} ' if name else ''}{_BY_PRODUCTS}"),
            orders=waiting,
        )
        for (product_id, name), waiting in missing.items()
    ]
    return complete


def _find_missing_members(order: SyncedOrder, products: Mapping[str, ProductItem]) -> Iterator[tuple[str, str]]:
    """Yield the product and the name of each datum that the lines and packages of the order need and do not have."""
    seen: set[str] = set()
    for item in order.items:
        product = products[item.product_id]
        if item.product_id not in seen:
            seen.add(item.product_id)
            for member, name in _OF_PRODUCT.items():
                if getattr(product, member) is None:
                    yield product.external_id, name
        if not order.packages and find_packing(item, product) is None:
            yield product.external_id, "packing"


def _find_missing_facts(shipment: Shipment, orders: Sequence[KnownOrder]) -> Iterator[MissingDatum]:
    template = shipment.template
    if template is None:
        country = shipment.destination_country
        yield _missing_fact(shipment, "", f"no plan template for {country} is synced", f"sync it {_BY_TEMPLATES}")
        return
    for source, names in ((template, _OF_TEMPLATE), (template.entry, _OF_ENTRY), (template.invoice, _OF_INVOICE)):
        for member, name in names.items():
            if getattr(source, member) is None:
                yield _missing_fact(shipment, name)
    if template.approved_by is None:
        yield _missing_fact(
            shipment,
            APPROVED_BY,
            "nobody answers for plans from these data, so they need an approval",
            "have the plan of a dry run approved and register it, or sync approvedBy in the plan template",
        )
    if template.entry.export_date is None and template.entry.export_after_days is None:
        yield _missing_fact(
            shipment, "entry.exportDate", "neither exportDate nor exportAfterDays says the day of export"
        )
    for name, member, given in (
        ("entry.type", "entry_type", template.entry.type),
        ("buyer", "buyer", template.buyer),
        ("shipTo", "ship_to", template.ship_to),
    ):
        waiting = [each.id for each in orders if getattr(each.order, member) is None]
        if given is None and waiting:
            why = f"neither the plan template nor the order has {name}"
            yield _missing_fact(shipment, name, why, orders=waiting)


def _missing_fact(
    shipment: Shipment, name: str, why: str | None = None, remedy: str | None = None, *, orders: Sequence[str] = ()
) -> MissingDatum:
    country = shipment.destination_country
    message = why or f"the plan template for {country} has no {name}"
    return MissingDatum(
        subject="plan_template",
        id=country,
        field=name,
        message=_sentence(message),
        remedy=_sentence(remedy or f"sync the plan template with {name} {_BY_TEMPLATES}"),
        orders=[*orders],
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _find_unit(known: KnownOrder, template: TemplateItem) -> UnitKey | None:
    """Return the unit that the order belongs to; None if its entry type or a party is unknown."""
    order = known.order
    entry_type, buyer = order.entry_type or template.entry.type, order.buyer or template.buyer
    ship_to = order.ship_to or template.ship_to
    if entry_type is None or buyer is None or ship_to is None:
        return None
    return UnitKey(entry_type, order.currency or USD, buyer, ship_to, known.id if order.list_terms() else None)


def _find_other_destinations(
    number: int, key: UnitKey, orders: Sequence[KnownOrder], template: TemplateItem
) -> Iterator[ValidationMessage]:
    """Yield a note if orders of the unit go elsewhere than the party of the plan that receives their goods."""
    elsewhere = []
    for known in orders:
        consignee = known.order.ultimate_consignee or template.ultimate_consignee
        address = key.ship_to.address if consignee is None else consignee.address
        places = (
            (known.order.destination_region, address.region),
            (known.order.destination_postal_code, address.postal_code),
        )
        if any(given and there and _normalize(given) != _normalize(there) for given, there in places):
            elsewhere.append(known)
    if elsewhere:
        first, more = elsewhere[0], len(elsewhere) - 1
        others = f"; {more} more {'does' if more == 1 else 'do'} so too" if more else ""
        place = " ".join(each for each in (first.order.destination_region, first.order.destination_postal_code) if each)
        yield ValidationMessage(
            code="OTHER_ADDRESS",
            severity="note",
            path=f"order.{first.external_id}.shipTo",
            pointer=f"/units/{number}/parties/shipTo/address",
            message=f"Order {first.external_id} goes to {place}, and not to the address of the party that receives its"
            f" goods{others}.",
            remedy=f"If the goods go there, give the order its ultimateConsignee or shipTo {_BY_ORDERS}.",
        )


def _normalize(place: str) -> str:
    """Return a region or postal code to compare: a ZIP code without its four last digits."""
    return place.replace(" ", "").upper().partition("-")[0]


def _build_plan(
    shipment: Shipment, template: TemplateItem, units: Sequence[dict[str, Any]], expires_at: datetime
) -> dict[str, Any]:
    approval = None
    if template.approved_by is not None:
        approval = {
            "approvedBy": template.approved_by,
            "approvedAt": _format_instant(shipment.now),
            # The plan is judged for its day of export.
            "expiresAt": _format_instant(expires_at),
        }
    return {
        "schemaVersion": "1",
        "accountId": shipment.account_id,
        "batchId": shipment.batch_id,
        "approval": approval,
        "destinationCountry": shipment.destination_country,
        "exportCountry": template.export_country,
        "warehouse": {"id": shipment.warehouse_id},
        "broker": {"id": shipment.broker_id},
        "ruleset": as_json(template.ruleset or shipment.ruleset),
        "units": [*units],
    }


def _format_instant(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
