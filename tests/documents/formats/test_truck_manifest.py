"""The truck manifest as CSV files: trip, equipment, crew, shipment and goods; other documents have no data of the crew."""

import csv
import re
from collections.abc import Iterator
from io import BytesIO, StringIO
from typing import Any
from zipfile import ZipFile

import pytest
from pypdf import PdfReader

from pipeline.documents.formats.truck_manifest import has_trip, truck_manifest
from pipeline.documents.registry import is_wanted, render_documents
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.samples import build_truck_invoice, sample
from tests.support.doc_tables import read_yaml


def read_tables(invoice: Invoice) -> dict[str, list[dict[str, str]]]:
    with ZipFile(BytesIO(truck_manifest(invoice))) as archive:
        return {
            name: list(csv.DictReader(StringIO(archive.read(name).decode("utf-8-sig")))) for name in archive.namelist()
        }


def list_texts(body: bytes, media_type: str) -> Iterator[str]:
    if media_type == "application/pdf":
        yield from (page.extract_text() for page in PdfReader(BytesIO(body)).pages)
    elif body[:2] == b"PK":
        with ZipFile(BytesIO(body)) as archive:
            yield from (archive.read(name).decode(errors="replace") for name in archive.namelist())
    else:
        yield body.decode(errors="replace")


def test_files_have_the_documented_columns() -> None:
    documented = read_yaml("docs/columns.yaml")["truck_manifest"]
    found = read_tables(build_truck_invoice())
    assert found.keys() == documented.keys()
    for name in documented.keys() - {"shipments.csv"}:  # whose parties are documented once
        assert re.findall(r"`([^`]+)`", documented[name]) == list(found[name][0]), name


def test_trip_truck_crew_and_shipment_are_as_in_the_plan() -> None:
    tables = read_tables(build_truck_invoice())
    expected = {
        "trip.csv": {
            "trip_number": "ABCD261126A", "carrier_scac": "ABCD", "port_of_entry": "0901", "truck_plate": "DEMO 100",
            "truck_plate_state": "ON", "loading_city": "Toronto", "estimated_arrival": "2026-11-27T18:00:00Z", "test": "Y",
        },
        "equipment.csv": {"number": "DT53001", "seals": "SEAL-1|SEAL-2"},
        "crew.csv": {
            "role": "driver", "family_name": "Driver", "date_of_birth": "1961-02-03", "document_types": "fast_card",
            "document_expiries": "2029-06-30",
        },
        "shipments.csv": {
            "shipment_control_number": "ABCD1234567", "quantity": "6", "gross_weight_kg": "74.400", "no_declaration_code": "NDR1",
        },
    }  # fmt: skip
    for name, facts in expected.items():
        (row,) = tables[name]
        assert facts.items() <= row.items(), name
    goods = tables["commodities.csv"]
    assert [row["line_no"] for row in goods] == ["1", "2", "3", "4", "5"]
    assert {row["shipment_control_number"] for row in goods} == {"ABCD1234567"}
    assert all(row["description"] and row["hts10"] and row["gross_weight_kg"] for row in goods)


def test_what_the_plan_lacks_is_empty() -> None:
    def change(data: dict[str, Any]) -> None:
        data["entry"]["trip"] = {"crew": [{"role": "driver", "givenName": "A", "familyName": "B"}]}
        data["entry"]["shipmentControlNumber"] = data["entry"]["carrierScac"] = None
        data["lines"][0]["attributes"] = {"unNumber": "UN3481"}

    tables = read_tables(build_truck_invoice(change))
    assert tables["equipment.csv"] == []
    (shipment,), (driver,) = tables["shipments.csv"], tables["crew.csv"]
    assert (shipment["shipment_control_number"], shipment["loading_city"], driver["document_numbers"]) == ("", "", "")
    assert [row["un_number"] for row in tables["commodities.csv"]] == ["UN3481", "", "", "", ""]


def test_only_truck_with_trip_has_manifest() -> None:
    assert has_trip(build_truck_invoice())
    assert not has_trip(sample())
    assert not has_trip(build_truck_invoice(lambda data: data["entry"].update(modeOfTransport="rail")))
    with pytest.raises(ValueError, match="needs an invoice with a trip"):
        truck_manifest(sample())


def test_formula_in_a_name_is_escaped() -> None:
    named = build_truck_invoice(lambda data: data["entry"]["trip"]["crew"][0].update(familyName='=cmd|" /C calc"!A0'))
    assert [row["family_name"] for row in read_tables(named)["crew.csv"]] == ['\'=cmd|" /C calc"!A0']


def test_partner_gets_manifest_only_by_name() -> None:
    assert not is_wanted("truck_manifest", None)
    assert is_wanted("truck_manifest", ["truck_manifest"])
    assert is_wanted("cci_json", None)
    assert not is_wanted("cci_json", ["truck_manifest"])


def test_no_other_document_identifies_the_crew_beyond_the_name() -> None:
    secrets = {"1961-02-03", "DEMO41999", "fast_card"}
    printed = set()
    invoice = build_truck_invoice(lambda data: data["entry"]["trip"]["crew"][0].update(givenName="Zebulon"))
    for document in render_documents(invoice):
        texts = " ".join(list_texts(document.body, document.media_type))
        found = {word for word in secrets if word in texts}
        assert found == (secrets if document.artifact_type == "truck_manifest" else set())
        printed |= {document.artifact_type} if "Zebulon" in texts else set()
    assert printed == {"truck_manifest", "paps_cover_sheet", "entry_import", "entry_worksheet"}


def test_goods_name_their_consignees() -> None:
    def change(data: dict[str, Any]) -> None:
        address = data["parties"]["shipTo"]["address"]
        data["lines"][0]["orderId"] = "PO-1"
        data["parties"]["ultimateConsignees"] = [
            {"name": "North Shop", "address": address, "orderIds": ["PO-1"]},
            {"name": "South Shop", "address": address, "orderIds": ["PO-2"]},
        ]

    assert read_tables(build_truck_invoice(change))["commodities.csv"][0]["consignees"] == "North Shop"
    assert {row["consignees"] for row in read_tables(build_truck_invoice())["commodities.csv"]} == {""}
