"""Each place of a built plan leads back to the datum that the caller can correct."""

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.core.findings import Finding, Severity
from pipeline.core.json_input import json_pointer
from pipeline.orders.builder import Draft
from pipeline.orders.facts import PlanFacts
from tests.orders.test_builder import PAN, SHIRT, build, of
from tests.support import factories, orders

CARTON = {name: value for name, value in orders.PACKING.items() if name != "piecesPerCarton"}
PACKED = CARTON | {"grossWeightKg": "2.6", "contents": [{"item": 0, "quantity": 2}]}


def read_facts(draft: Draft) -> PlanFacts:
    assert draft.facts is not None
    return draft.facts


def build_two_units() -> PlanFacts:
    template = orders.template()
    template["invoice"] |= {"charges": [], "exchangeRates": {"CAD": "0.7150"}}
    dock = factories.PARTIES["shipTo"] | {"name": "Another dock"}
    canadian = {"productId": "shirt", "quantity": 2, "unitValue": "30.00"}
    return read_facts(
        build(
            orders.order("1", items=[of("pan"), of("shirt", 3, packing=orders.PACKING)]),
            orders.order("2", items=[of("pan", 2, attributes={"steelImportLicense": "S1"})], packages=[PACKED]),
            orders.order("3", items=[canadian], currency="CAD", entryType="11", shipTo=dock, buyer=dock),
            template=template,
        )
    )


@pytest.mark.parametrize(
    ("pointer", "path"),
    [
        ("/units/0/lines/0/htsCode", "product.pan.htsCode"),
        ("/units/0/lines/1/treatment/section232/0/countryOfCast", "product.shirt.treatment.section232.0.countryOfCast"),
        ("/units/0/lines/1/attributes/a~1b", "product.shirt.attributes.a/b"),
        ("/units/0/lines/2/attributes/steelImportLicense", "order.2.items.0.attributes.steelImportLicense"),
        ("/units/0/lines/2/attributes/grade", "product.pan.attributes.grade"),
        ("/units/0/lines/1/quantity", "order.1.items.1.quantity"),
        ("/units/0/lines/2/lineValue", "order.2.items.0.unitValueUsd"),
        ("/units/1/lines/0/unitPrice", "order.3.items.0.unitValue"),
        ("/units/0/lines/2/manufacturerRef", "product.pan.manufacturer"),
        ("/units/0/lines/0/countryOfExport", "plan_template.US.exportCountry"),
        ("/units/0/packages/0/lengthCm", "product.pan.packing"),
        ("/units/0/packages/3", "order.1.items.1.packing"),
        ("/units/0/packages/4/grossWeightKg", "order.2.packages.0.grossWeightKg"),
        ("/units/0/parties/manufacturers/0/mid", "product.pan.manufacturer.mid"),
        ("/units/0/parties/shipTo/address/city", "plan_template.US.shipTo.address.city"),
        ("/units/1/parties/shipTo/address/city", "order.3.shipTo.address.city"),
        ("/units/1/parties/buyer", "order.3.buyer"),
        ("/units/0/entry/type", "plan_template.US.entry.type"),
        ("/units/1/entry/type", "order.3.entryType"),
        ("/units/1/invoice/exchangeRate", "plan_template.US.invoice.exchangeRates.CAD"),
        ("/units/0/invoice/saleDate", "plan_template.US.invoice.saleDate"),
        ("/units/0/usmcaCertificates/0/goods", "plan_template.US.usmcaCertificates.0.goods"),
        ("/units/0/invoice/date", "plan_template.US.entry.exportDate"),
        ("/units/0/invoice/total", "orderIds"),
        ("/units/0/lines/1", "order.1.items.1"),
        ("/units/0/lines", "orderIds"),
        ("/units/0", "orderIds"),
        ("/warehouse/id", "warehouseId"),
        ("/broker/id", "brokerId"),
        ("/approval/expiresAt", "plan_template.US.approvedBy"),
        ("/ruleset/asOf", "plan_template.US.ruleset.asOf"),
        ("/destinationCountry", "destinationCountry"),
        ("", ""),
    ],
)
def test_place_of_the_plan_has_its_fact(pointer: str, path: str) -> None:
    assert build_two_units().find(pointer).path == path


def list_pointers(tree: Any, *here: str | int) -> Iterator[str]:
    yield json_pointer(here)
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, member in members:
        yield from list_pointers(member, *here, name)


def test_every_place_of_a_plan_has_a_fact() -> None:
    facts = build_two_units()
    unnamed = [each for each in list_pointers(dict(facts.raw)) if not facts.find(each).path]
    assert unnamed == ["", "/schemaVersion", "/accountId", "/units"]


def find(pointer: str, severity: Severity = "block") -> Finding:
    return Finding(rule="V09", severity=severity, pointer=pointer, message="A fact is missing.", remedy="Give it.")


def test_blocking_finding_at_an_empty_place_is_missing_data() -> None:
    bare = PAN | {"treatment": PAN["treatment"] | {"section232": []}}
    facts = read_facts(
        build(orders.order("1", items=[of("pan"), of("pan")]), orders.order("2", items=[of("pan")]), products=(bare,))
    )
    metals = [f"/units/0/lines/{line}/treatment/section232" for line in range(3)]
    found = facts.find_missing([find(each) for each in metals])
    assert [(each.subject, each.id, each.field, each.orders) for each in found] == [
        ("product", "pan", "treatment.section232", ["ord_0", "ord_1"])
    ]
    assert found[0].remedy.startswith("Give it. Sync it with POST /api/products/sync (or")


def test_other_findings_are_not_missing_data() -> None:
    facts = read_facts(build(orders.order("1", items=[of("pan")]), products=(PAN, SHIRT)))
    findings = [
        find("/units/0/lines/0/spi", "warn"),
        find("/units/0/lines/0/spi").model_copy(update={"waived_by": "waiver_1"}),
        find("/units/0/lines/0/treatment/section232/0/metalWeightKg"),
        find("/broker/id"),
    ]
    assert facts.find_missing(findings) == []


def test_terms_of_an_order_stand_behind_those_of_the_template() -> None:
    template = orders.template()
    charges = template["invoice"]["charges"]
    order = orders.order("1", items=[of("pan")], charges=charges, assistItems=[{"name": "Mould"}])
    facts = read_facts(build(order, template=template))
    last = len(charges)
    found = {
        "/units/0/invoice/charges/0/amount": "plan_template.US.invoice.charges.0.amount",
        f"/units/0/invoice/charges/{last}/amount": "order.1.charges.0.amount",
        "/units/0/invoice/assistItems/0/amount": "order.1.assistItems.0.amount",
        "/units/0/invoice/assists": "order.1.assistItems",
        "/units/0/invoice/rebates": "plan_template.US.invoice.rebates",
    }
    assert {each: facts.find(each).path for each in found} == found
    cheaper = build(orders.order("1", items=[of("pan")], discounts=[{"name": "Coupon", "amount": "999.00"}]))
    assert read_facts(cheaper).find("/units/0/invoice/total").path == "order.1.discounts"
    incomplete = [find("/units/0/invoice/assistItems/0/amount", "warn"), find("/units/0/entry/carrierScac", "warn")]
    assert [each.field for each in facts.find_missing(incomplete)] == ["assistItems.0.amount"]
