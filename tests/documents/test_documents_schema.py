"""The invoice's JSON matches its published schema, and the schema accepts nothing else."""

import json
from typing import Any

import jsonschema_rs
import pytest
from jsonschema_rs import Draft202012Validator

from pipeline.documents.formats.invoice import invoice_json
from pipeline.documents.schemas.invoice import Invoice
from pipeline.interfaces.api.system import read_json_schema
from tests.customs.transport_cases import canadian_export, trip
from tests.documents.samples import file_entry, sample

NAME = "commercial-customs-invoice"


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    result = read_json_schema(NAME)
    jsonschema_rs.meta.validate(result)
    return result


def facts(invoice: Invoice) -> dict[str, Any]:
    return dict(json.loads(invoice_json(invoice)))


def remove_sale(data: dict[str, Any]) -> None:
    data["invoice"] |= {
        "reasonForExport": "sample",
        "valuationBasis": "Price of a like sale, invoice INV-10001",
        "usmcaStatement": "The goods of this invoice originate under USMCA.",
        "rebates": [{"name": "Excise refunded on export", "amount": "3.20"}],
        "assists": "declared",
        "assistItems": [{"name": "Die lent by the buyer", "amount": "350.00"}, {"name": "Drawings"}],
    }
    data["entry"]["part"] = {"number": "1", "of": "2"}
    data["invoice"]["charges"][0]["dutiable"] = False
    data["lines"][0]["entryQuantities"] = [{"quantity": "12", "unit": "NO"}, {"quantity": "14.4", "unit": "KG"}]
    data["lines"][0]["chapter98"] = {
        "provision": "9802.00.40",
        "exemptValue": "250.00",
        "dutiableValue": "50.00",
        "exportedOn": "2026-09-01",
        "proof": "Export declaration of the United States, filed 2026-09-01",
    }
    file_entry(data)
    data["entry"]["trip"] = trip()
    data["canadianExport"] = {**canadian_export(), "cargoControlNumber": "1234DEMO20112"}
    for charge in data["invoice"]["charges"]:
        charge["dutiable"] = False


@pytest.mark.parametrize("lines", [1, 3, 12])
def test_invoice_matches_published_schema(published: dict[str, Any], lines: int) -> None:
    Draft202012Validator(published).validate(facts(sample(lines, test=True)))


def test_unsold_goods_state_valuation_basis_and_rebates(published: dict[str, Any]) -> None:
    result = facts(sample(3, change=remove_sale))
    Draft202012Validator(published).validate(result)
    assert result["header"]["valuationBasis"] == "Price of a like sale, invoice INV-10001"
    assert result["rebates"] == [{"name": "Excise refunded on export", "amount": "3.20"}]
    assert result["assistItems"] == [
        {"name": "Die lent by the buyer", "amount": "350.00"},
        {"name": "Drawings", "amount": None},
    ]
    assert result["totals"] == facts(sample(3))["totals"]


def test_schema_names_its_version(published: dict[str, Any]) -> None:
    assert published["$id"] == "urn:exports:schema:commercial-customs-invoice:1"
    assert published["properties"]["schemaVersion"]["const"] == "1"


def test_schema_has_exactly_the_facts_of_invoice(published: dict[str, Any]) -> None:
    seen: list[str] = []

    def compare(value: Any, node: dict[str, Any], where: str) -> None:
        node = next((each for each in node.get("anyOf", [node]) if each.get("type") != "null"), node)
        if "$ref" in node:
            node = published["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        if isinstance(value, dict) and "properties" in node:
            assert value.keys() == node["properties"].keys(), where
            seen.append(where)
            for name, inner in value.items():
                compare(inner, node["properties"][name], f"{where}/{name}")
        elif isinstance(value, list) and value:
            compare(value[0], node["items"], f"{where}/0")

    compare(facts(sample(12, change=remove_sale)), published, "")
    assert {"", "/header", "/parties/seller", "/lines/0", "/lines/0/treatment", "/packages/0", "/certificates/0"} <= {
        *seen
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schemaVersion",), "2"),
        (("lines", 0, "quantity"), 12),
        (("lines", 0, "treatment", "section232", 0, "metalWeightKg"), "heavy"),
        (("header", "invoiceDate"), 20261124),
        (("totals", "invoiceTotal"), None),
    ],
)
def test_schema_rejects_other_values(published: dict[str, Any], path: tuple[Any, ...], value: object) -> None:
    document = facts(sample(3))
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not Draft202012Validator(published).is_valid(document)


def test_reader_ignores_facts_of_later_versions(published: dict[str, Any]) -> None:
    document = facts(sample(3))
    document["surprise"] = document["lines"][0]["surprise"] = "x"
    Draft202012Validator(published).validate(document)


def test_schema_rejects_missing_fact(published: dict[str, Any]) -> None:
    document = facts(sample(3))
    del document["provenance"]["treatmentDigest"]
    assert not Draft202012Validator(published).is_valid(document)
