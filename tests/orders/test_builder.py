"""A plan from orders: its units, its arithmetic, and what it names as missing."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.customs.reference.ruleset import ruleset
from pipeline.exports.entry_lines import group_entry_lines
from pipeline.exports.schemas.plan import MAX_LINES, Plan, RulesetRef
from pipeline.orders.builder import Draft, build_plan
from pipeline.orders.schemas import ProductItem, SyncedOrder, TemplateItem
from pipeline.orders.units import KnownOrder, Shipment
from pipeline.workflow.preflight import check_plan_alone
from tests.support import factories, orders
from tests.support.factories import Json

PAN, SHIRT = orders.product(0, externalId="pan"), orders.product(1, externalId="shirt")


def build(*given: Json, template: Json | None = None, products: tuple[Json, ...] = (PAN, SHIRT)) -> Draft:
    rules = ruleset()
    shipment = Shipment(
        account_id=factories.ACCOUNT,
        batch_id="batch_1",
        warehouse_id=factories.WAREHOUSE,
        broker_id=factories.BROKER,
        destination_country="US",
        template=TemplateItem.model_validate(template or orders.template()),
        ruleset=RulesetRef(id=rules.id, as_of=rules.as_of),
        now=factories.NOW,
        zone=ZoneInfo("America/New_York"),
    )
    known = [
        KnownOrder(f"ord_{number}", each["externalId"], SyncedOrder.model_validate(each))
        for number, each in enumerate(given)
    ]
    return build_plan(shipment, known, {each["externalId"]: ProductItem.model_validate(each) for each in products})


def read(draft: Draft) -> Plan:
    """Return the plan of the draft; no finding blocks it."""
    plan = Plan.model_validate(draft.raw, by_alias=True, by_name=False)
    assert [each for each in check_plan_alone(plan, on=factories.TODAY) if each.severity == "block"] == []
    return plan


def of(product: str, quantity: Any = 10, price: Any = 25.5, **more: Any) -> Json:
    return {"productId": product, "quantity": quantity, "unitValueUsd": price} | more


def test_lines_and_cartons_add_up() -> None:
    plan = read(
        build(orders.order("1", items=[of("pan"), of("shirt", 3, "18.00")]), orders.order("2", items=[of("pan", 1)]))
    )
    (unit,) = plan.units
    assert [(each.line_ref, str(each.quantity), str(each.line_value)) for each in unit.lines] == [
        ("L1", "10", "255.00"),
        ("L2", "3", "54.00"),
        ("L3", "1", "25.50"),
    ]
    assert unit.invoice.total == Decimal("334.50") + Decimal("80.00")
    held = [[(content.line_ref, str(content.quantity)) for content in each.contents] for each in unit.packages]
    assert held == [[("L1", "4")], [("L1", "4")], [("L1", "2")], [("L2", "3")], [("L3", "1")]]
    assert [str(each.gross_weight_kg) for each in unit.packages] == ["4.3", "4.3", "2.3", "3.3", "1.3"]
    # The cartons are part of the gross weights of the lines that they hold.
    assert [str(each.gross_weight_kg) for each in unit.lines] == ["10.9", "3.3", "1.3"]
    assert [str(each.net_weight_kg) for each in unit.lines] == ["9", "2.7", "0.9"]
    assert [str(each.metal_weight_kg) for each in unit.lines[0].treatment.section232] == ["8"]
    assert [each.order_id for each in unit.packages] == ["ord_0"] * 4 + ["ord_1"]
    assert unit.lines[2].attributes == {"orderNumber": "2"}


@pytest.mark.parametrize(("included", "total"), [(True, "255.00"), (False, "267.00")])
def test_charge_in_the_prices_is_not_in_the_total_again(*, included: bool, total: str) -> None:
    template = orders.template()
    template["invoice"]["charges"] = []
    freight = {"code": "freight", "amount": "12.00", "includedInPrices": included, "dutiable": False}
    (unit,) = read(build(orders.order("1", items=[of("pan")], charges=[freight]), template=template)).units
    assert unit.invoice.total == Decimal(total)


def test_weight_of_a_mixed_carton_is_shared_by_the_goods() -> None:
    carton = {name: value for name, value in orders.PACKING.items() if name != "piecesPerCarton"}
    packed = carton | {"grossWeightKg": "10.0001", "contents": [{"item": 0, "quantity": 2}, {"item": 1, "quantity": 1}]}
    plan = read(build(orders.order("1", items=[of("pan", 2), of("shirt", 1)], packages=[packed])))
    (unit,) = plan.units
    weights = [each.gross_weight_kg for each in unit.lines]
    assert weights == [Decimal("6.6667"), Decimal("3.3334")]
    assert sum(weights) == unit.packages[0].gross_weight_kg


def test_unit_has_one_entry_type_currency_and_consignee() -> None:
    template = orders.template()
    template["invoice"] |= {"charges": [], "exchangeRates": {"CAD": "0.7150"}}
    dock = factories.PARTIES["shipTo"] | {"name": "Another dock"}
    canadian = {"productId": "pan", "quantity": 1, "unitValue": "30.00"}
    draft = build(
        orders.order("1", items=[of("pan")]),
        orders.order("2", items=[of("pan")], entryType="11"),
        orders.order("3", items=[canadian], currency="CAD"),
        orders.order("4", items=[of("pan")], shipTo=dock),
        orders.order("5", items=[of("pan")]),
        template=template,
    )
    plan = Plan.model_validate(draft.raw, by_alias=True, by_name=False)
    found = [(each.entry.type, each.invoice.currency, each.parties.ship_to.name) for each in plan.units]
    usual = factories.PARTIES["shipTo"]["name"]
    assert found == [("01", "USD", usual), ("11", "USD", usual), ("01", "CAD", usual), ("01", "USD", "Another dock")]
    assert [each.order_ids for each in draft.units] == [["ord_0", "ord_4"], ["ord_1"], ["ord_2"], ["ord_3"]]
    assert [each.invoice.exchange_rate for each in plan.units] == [None, None, Decimal("0.7150"), None]
    numbers = [each.invoice.number for each in plan.units]
    assert len({*numbers}) == 4
    assert all(len(each) <= 17 for each in numbers)


def test_orders_of_several_consignees_are_one_unit() -> None:
    address = factories.PARTIES["buyer"]["address"]
    one, two = (
        {"name": name, "address": address, "number": f"12-34567890{name[-1]}"} for name in ("Buyer 1", "Buyer 2")
    )
    given = [orders.order(str(number), items=[of("pan")], ultimateConsignee=two) for number in range(2)]
    draft = build(orders.order("x", items=[of("pan")]), *given, template=orders.template(ultimateConsignee=one))
    (unit,) = read(draft).units
    found = [(each.name, each.number, each.order_ids) for each in unit.parties.ultimate_consignees]
    assert found == [("Buyer 1", "12-345678901", ["ord_0"]), ("Buyer 2", "12-345678902", ["ord_1", "ord_2"])]
    assert group_entry_lines(unit) == ((1,), (2, 3))
    places = [f"/units/0/parties/ultimateConsignees/{number}/number" for number in range(2)]
    assert draft.facts is not None
    assert [draft.facts.find(each).path for each in places] == [
        "plan_template.US.ultimateConsignee.number",
        "order.0.ultimateConsignee.number",
    ]
    (alone,) = read(build(*given)).units
    assert [each.order_ids for each in alone.parties.ultimate_consignees] == [[]]


def test_item_adds_its_attributes_to_those_of_the_product_and_wins() -> None:
    product = PAN | {"attributes": {"grade": "18/10", "finish": "brushed"}}
    licensed = {"grade": "18/0", "steelImportLicense": "S24110601", "orderNumber": "other"}
    (unit,) = read(build(orders.order("1", items=[of("pan", attributes=licensed)]), products=(product,))).units
    assert unit.lines[0].attributes == {
        "grade": "18/0", "finish": "brushed", "steelImportLicense": "S24110601", "orderNumber": "1"
    }  # fmt: skip


def test_goods_of_several_orders_are_one_entry_line() -> None:
    given = [orders.order(str(number), items=[of("pan"), of("shirt")]) for number in range(3)]
    (unit,) = read(build(*given)).units
    assert [line.attributes for line in unit.lines[::2]] == [{"orderNumber": str(number)} for number in range(3)]
    assert group_entry_lines(unit) == ((1, 3, 5), (2, 4, 6))
    bundled = PAN | {"attributes": {"grade": "18/10"}}
    other = PAN | {"externalId": "other", "attributes": {"grade": "18/0"}}
    (unit,) = read(build(orders.order("1", items=[of("pan"), of("other")]), products=(bundled, other))).units
    assert group_entry_lines(unit) == ((1,), (2,))


def test_line_has_the_quantities_of_its_pieces_as_the_entry_wants_them() -> None:
    bottle = PAN | {"entryQuantities": [{"quantity": "0.75", "unit": "L"}, {"quantity": "0.9", "unit": "KG"}]}
    raw = build(orders.order("1", items=[of("pan", 3)]), products=(bottle,)).raw
    assert raw is not None
    line = Plan.model_validate(raw, by_alias=True, by_name=False).units[0].lines[0]
    assert [(str(each.quantity), each.unit) for each in line.entry_quantities] == [("2.25", "L"), ("2.7", "KG")]


def test_units_state_the_canadian_side_of_the_template() -> None:
    side = {"declaration": "not_required", "noDeclarationCode": "NDR7", "statement": "Exported to the United States"}
    draft = build(orders.order("1", items=[of("pan")]), template=orders.template(canadianExport=side))
    export = read(draft).units[0].canadian_export
    assert export is not None
    assert (export.declaration, export.no_declaration_code) == ("not_required", "NDR7")
    assert draft.facts is not None
    assert draft.facts.find("/units/0/canadianExport/statement").path == "plan_template.US.canadianExport.statement"


def test_order_that_goes_elsewhere_has_a_note() -> None:
    dock = factories.PARTIES["shipTo"]
    place = {"destinationRegion": "ny", "destinationPostalCode": dock["address"]["postalCode"] + "-1234"}
    away = {"destinationRegion": "CA", "destinationPostalCode": "94105"}
    there = {"name": "Buyer 1", "address": dock["address"] | {"region": "CA", "postalCode": "94105"}}
    draft = build(
        orders.order("here", items=[of("pan")], **place),
        orders.order("away", items=[of("pan")], **away),
        orders.order("own", items=[of("pan")], **away, ultimateConsignee=there),
        orders.order("region", items=[of("pan")], destinationRegion="CA", destinationPostalCode=None),
        orders.order("nothing", items=[of("pan")], destinationRegion=None, destinationPostalCode=None),
    )
    (note,) = draft.notes
    assert (note.code, note.severity, note.path, note.pointer) == (
        "OTHER_ADDRESS", "note", "order.away.shipTo", "/units/0/parties/shipTo/address",
    )  # fmt: skip
    assert note.message == (
        "Order away goes to CA 94105, and not to the address of the party that receives its goods; 1 more does so too."
    )
    assert build(orders.order("here", items=[of("pan")], **place)).notes == []


def test_charges_are_not_repeated_on_several_invoices() -> None:
    draft = build(orders.order("1", items=[of("pan")]), orders.order("2", items=[of("pan")], entryType="11"))
    assert draft.raw is None
    assert [each.field for each in draft.missing] == ["invoice.charges"]


def test_approval_ends_with_the_day_of_export() -> None:
    draft = build(orders.order("1", items=[of("pan")]))
    plan = read(draft)
    assert plan.units[0].entry.export_date == date(2026, 11, 26)
    assert plan.approval is not None
    assert (plan.approval.approved_by, plan.approval.approved_at) == ("ops@maple.example", factories.NOW)
    assert plan.approval.expires_at == draft.expires_at == datetime(2026, 11, 27, 5, tzinfo=UTC)


def test_packing_of_the_order_line_wins() -> None:
    packing = orders.PACKING | {"piecesPerCarton": 10, "type": "BAG"}
    plan = read(build(orders.order("1", items=[of("pan", packing=packing)])))
    assert [(each.type, len(each.contents)) for each in plan.units[0].packages] == [("BAG", 1)]


@pytest.mark.parametrize(
    "member",
    ["description", "htsCode", "countryOfOrigin", "manufacturer", "unit", "netWeightKg", "grossWeightKg", "treatment"],
)
def test_missing_member_of_a_product_is_named(member: str) -> None:
    incomplete = {name: value for name, value in PAN.items() if name != member}
    draft = build(orders.order("1", items=[of("pan")]), products=(incomplete,))
    assert draft.raw is None
    assert [(each.subject, each.id, each.field, each.orders) for each in draft.missing] == [
        ("product", "pan", member, ["ord_0"])
    ]
    assert [each.reason for each in draft.excluded] == ["MISSING_DATA"]


def test_order_that_would_make_the_plan_too_large_is_left_out() -> None:
    huge = orders.order("huge", items=[of("pan", 10**9, packing=(orders.PACKING | {"piecesPerCarton": 1}))])
    draft = build(huge, orders.order("1", items=[of("pan")]))
    assert [(each.external_id, each.reason) for each in draft.excluded] == [("huge", "TOO_MANY_LINES")]
    assert [each.external_id for each in draft.included] == ["1"]
    many = [orders.order(str(number), items=[of("pan", 1)] * 500) for number in range(21)]
    assert [each.external_id for each in build(*many).excluded] == ["20"]
    assert MAX_LINES == 20 * 500


def test_numbers_keep_the_digits_that_the_caller_wrote() -> None:
    items = [of("pan", 1, 0.1), of("pan", "2", "0.30"), of("pan", 3.0, 19.99)]
    lines = read(build(orders.order("1", items=items))).units[0].lines
    assert [str(each.unit_price) for each in lines] == ["0.1", "0.30", "19.99"]
    assert [str(each.line_value) for each in lines] == ["0.10", "0.60", "59.97"]


def test_order_with_more_packages_than_a_plan_may_have_is_to_be_split() -> None:
    draft = build(orders.order("1", items=[of("pan", 80_001)]), orders.order("2", items=[of("pan")]))
    (excluded,) = draft.excluded
    assert (excluded.external_id, excluded.reason) == ("1", "TOO_MANY_LINES")
    assert excluded.message == "Order 1: it has 20001 packages, and a plan may have 20000."
    assert excluded.remedy.startswith("Sync it as several orders with POST /api/orders/sync")
    assert [each.external_id for each in draft.included] == ["2"]


def test_unit_has_the_certifications_of_its_goods_alone() -> None:
    (own,) = orders.template()["usmcaCertificates"]
    other = own | {"ref": "OTHER", "goods": [{"description": "Chairs", "hsCode": "940161"}]}
    renewed = own | {"ref": "NEXT", "blanketFrom": "2027-01-01", "blanketTo": "2027-12-31", "signedOn": "2026-11-20"}
    draft = build(
        orders.order("1", items=[of("shirt")]), template=orders.template(usmcaCertificates=[other, own, renewed])
    )
    (unit,) = read(draft).units
    assert [each.ref for each in unit.usmca_certificates] == [own["ref"], "NEXT"]
    assert draft.facts is not None
    path = draft.facts.find("/units/0/usmcaCertificates/1/blanketTo").path
    assert path == "plan_template.US.usmcaCertificates.2.blanketTo"
    (unit,) = read(
        build(orders.order("1", items=[of("pan")]), template=orders.template(usmcaCertificates=[other]))
    ).units
    assert unit.usmca_certificates == []
