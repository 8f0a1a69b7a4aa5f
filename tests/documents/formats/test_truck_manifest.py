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
from tests.customs.transport_cases import member, trip
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


def test_trip_truck_and_crew_are_as_in_the_plan() -> None:
    tables = read_tables(build_truck_invoice())
    (carried,) = tables["trip.csv"]
    assert (carried["trip_number"], carried["carrier_scac"], carried["port_of_entry"]) == (
        "ABCD261126A",
        "ABCD",
        "0901",
    )
    assert (carried["truck_plate"], carried["truck_plate_state"], carried["loading_city"]) == (
        "DEMO 100",
        "ON",
        "Toronto",
    )
    assert (carried["estimated_arrival"], carried["test"]) == ("2026-11-27T18:00:00Z", "Y")
    (trailer,) = tables["equipment.csv"]
    assert (trailer["number"], trailer["seals"]) == ("DT53001", "SEAL-1|SEAL-2")
    (driver,) = tables["crew.csv"]
    assert (driver["role"], driver["family_name"], driver["date_of_birth"]) == ("driver", "Driver", "1961-02-03")
    assert (driver["document_types"], driver["document_expiries"]) == ("fast_card", "2029-06-30")


def test_shipment_and_goods_are_those_of_the_invoice() -> None:
    tables = read_tables(build_truck_invoice())
    (shipment,) = tables["shipments.csv"]
    assert shipment["shipment_control_number"] == "ABCD1234567"
    assert (shipment["quantity"], shipment["gross_weight_kg"]) == ("6", "74.400")
    assert shipment["no_declaration_code"] == "NDR1"
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


def test_same_invoice_gives_the_same_bytes() -> None:
    assert truck_manifest(build_truck_invoice()) == truck_manifest(build_truck_invoice())


def test_formula_in_a_name_is_escaped() -> None:
    def change(data: dict[str, Any]) -> None:
        data["entry"]["trip"] = trip(crew=[member(familyName='=cmd|" /C calc"!A0')])

    (driver,) = read_tables(build_truck_invoice(change))["crew.csv"]
    assert driver["family_name"].startswith("'=")


def test_partner_gets_manifest_only_by_name() -> None:
    assert not is_wanted("truck_manifest", None)
    assert is_wanted("truck_manifest", ["truck_manifest"])
    assert is_wanted("cci_json", None)
    assert not is_wanted("cci_json", ["truck_manifest"])


def test_no_other_document_identifies_the_crew_beyond_the_name() -> None:
    def change(data: dict[str, Any]) -> None:
        data["entry"]["trip"] = trip(number="ABCD1", crew=[member(dateOfBirth="1961-02-03", givenName="Zebulon")])

    printed = set()
    for document in render_documents(build_truck_invoice(change)):
        texts = " ".join(list_texts(document.body, document.media_type))
        secret = {word for word in ("1961-02-03", "DEMO41999", "fast_card") if word in texts}
        assert secret == (
            set() if document.artifact_type != "truck_manifest" else {"1961-02-03", "DEMO41999", "fast_card"}
        )
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
