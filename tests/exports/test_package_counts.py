"""One number and one weight of a unit's packages in each message, paper and file, whether or not they stand on pallets."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from io import BytesIO, StringIO
from typing import Any, Final
from zipfile import ZipFile

import pytest
from lxml import etree
from openpyxl import load_workbook

from pipeline.deliveries.email.packages import build_package
from pipeline.deliveries.outbox.entry_facts import add_estimate
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandedUnit
from pipeline.documents import broker_profile as profiles
from pipeline.documents.formats import invoice_pdf, paps_cover_sheet, truck_manifest
from pipeline.documents.formats.invoice_columns import INVOICE_COLUMNS
from pipeline.documents.registry import KINDS
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MessageProfile
from pipeline.exports import examples
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.portal.handoff_views import _show_unit
from pipeline.workflow.render_documents import build_plan_invoice
from tests.deliveries.support import exports
from tests.documents.formats import test_universal_shipment as shipment
from tests.documents.formats.test_x12 import pick, read_segments
from tests.documents.formats.test_x12 import render as render_x12
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import read_messages

Json = dict[str, Any]
_UBL: Final = "{urn:oasis:names:specification:ubl:schema:xsd:Common%sComponents-2}"
DAY: Final = date(2026, 12, 1)


@dataclass(frozen=True)
class Sums:
    """What a unit has: packages with goods and what they weigh without pallets, and what is loaded, with pallets."""

    counted: int
    without: Decimal
    loaded: int
    packed: Decimal

    @classmethod
    def of(cls, unit: Json) -> "Sums":
        loaded = [each for each in unit["packages"] if each["parentRef"] is None]
        with_goods = [each for each in unit["packages"] if each["contents"]]
        weight = sum(Decimal(each["grossWeightKg"]) for each in unit["lines"])
        assert weight == sum(Decimal(each["grossWeightKg"]) for each in with_goods)
        packed = sum(Decimal(each["grossWeightKg"]) for each in loaded)
        return cls(len(with_goods), Decimal(weight), len(loaded), Decimal(packed))


def load(name: str) -> Json:
    return examples.load_plan(name, DAY) | {"accountId": factories.ACCOUNT, "broker": {"id": factories.BROKER}}


def load_uncounted() -> Json:
    """Return a truck whose plan does not say the manifest's quantity."""
    raw = load("consolidated-truck")
    assert raw["units"][0]["entry"].pop("manifestQuantity") == "45"
    return raw


def load_mixed() -> Json:
    """Return a truck with cartons on pallets, and cartons beside them."""
    raw = load_uncounted()
    cartons = [each for each in raw["units"][0]["packages"] if each["contents"]]
    for each in cartons[:2]:
        each["parentRef"] = None
    return raw


PLANS: Final[dict[str, Callable[[], Json]]] = {
    "cartons": partial(load, "cookware"),
    "units": partial(load, "three-units"),
    "pallets": partial(load, "consolidated-truck"),
    "pallets, counted by the service": load_uncounted,
    "pallets and loose cartons": load_mixed,
    "consignees": partial(load, "multi-consignee-truck"),
    "trip": partial(load, "truck-trip"),
}


def read_table(body: bytes, name: str) -> list[dict[str, str]]:
    with ZipFile(BytesIO(body)) as archive:
        return [*csv.DictReader(StringIO(archive.read(name).decode("utf-8-sig")))]


def make(invoice: Invoice, kind: str) -> bytes:
    return next(each for each in KINDS if each.artifact_type == kind).make(invoice)


def list_message_facts(handed: HandedUnit, sums: Sums) -> Iterator[tuple[str, object, object]]:
    """Yield where the broker's message, its e-mail and its pages state a number: the place, what stands there, what must."""
    totals, rows = handed.totals, dict(build_package(handed).facts)
    yield "message", (totals.package_count, totals.gross_weight_kg), (sums.counted, sums.without)
    yield "portal and link", _show_unit(handed).packages, sums.counted
    said = re.search(r" in ([\d,]+) package", rows["Goods"]), re.match(r"([\d.]+) kg gross", rows["Weight"])
    count, weight = (each and each[1].replace(",", "") for each in said)
    yield "e-mail", (int(count or 0), Decimal(weight or 0)), (sums.counted, sums.without)


def list_paper_facts(invoice: Invoice, sums: Sums) -> Iterator[tuple[str, object, object]]:
    """Yield where the papers and files of a unit state a number: the place, what stands there, what must."""
    manifest, loaded = (sums.counted, sums.without), (sums.loaded, sums.packed)
    columns = {name: INVOICE_COLUMNS[name](invoice) for name in ("package_count", "total_gross_kg")}
    yield "profile", tuple(Decimal(str(each)) for each in columns.values()), manifest
    (header,) = read_table(make(invoice, "entry_import"), "header.csv")
    (block,) = (row for row in read_table(make(invoice, "entry_import"), "blocks.csv") if row["block"] == "34B")
    yield (
        "entry",
        (int(header["packages"]), Decimal(header["gross_kg"]), block["value"]),
        (*manifest, f"{sums.counted}"),
    )
    packing = json.loads(make(invoice, "packing_list"))
    summary = packing["packageSummary"]
    yield "packing list", (summary["outermostCount"], Decimal(summary["grossWeightKg"])), loaded
    yield "packing list, lines", Decimal(packing["totals"]["grossWeightKg"]), sums.without
    page = make(invoice, "cci_human_readable").decode()
    said = dict(re.findall(r"<dt>(Gross w[^<]+)</dt><dd[^>]*>([\d.,]+) kg", page))
    assert {"Gross weight", "Gross with packing"} <= said.keys()
    weights = {name: Decimal(value.replace(",", "")) for name, value in said.items()}
    yield "web page", (weights["Gross weight"], weights["Gross with packing"]), (sums.without, sums.packed)
    paper = json.loads(invoice_pdf._facts(invoice, slice(None)))
    stated = (paper["totals"]["gross_weight_kg"], paper["package_summary"]["gross_weight_kg"])
    yield "invoice", tuple(Decimal(each.replace(",", "")) for each in stated), (sums.without, sums.packed)
    book = list(load_workbook(BytesIO(make(invoice, "cci_xlsx")))["Totals"].iter_rows(values_only=True))
    amounts = {(row[0], row[1]): row[3] for row in book}
    yield "workbook", (amounts["packages", "manifest"], amounts["packages", "outermost"]), (sums.counted, sums.loaded)
    goods = etree.fromstring(make(invoice, "cci_ubl")).find(f".//{_UBL % 'Aggregate'}Shipment")
    names = ("TotalTransportHandlingUnitQuantity", "GrossWeightMeasure")
    units, weight = (Decimal(goods.findtext(f"{_UBL % 'Basic'}{name}")) for name in names)
    yield "UBL", (units, weight), loaded
    pallets = goods.findall(f"{_UBL % 'Aggregate'}TransportHandlingUnit")
    assert len(pallets) == sums.loaded
    (td1,) = pick(read_segments(render_x12(invoice, "856")), "TD1")
    yield "X12", (int(td1[1]), Decimal(td1[6])), loaded
    root = etree.fromstring(
        profiles.profile_document(MessageProfile.model_validate_json(shipment.EXAMPLE.read_bytes()), invoice).body
    )
    packs, weight = (shipment.find_all(root, f"Shipment/{name}")[0].text for name in ("OuterPacks", "TotalWeight"))
    yield "CargoWise", (int(packs), Decimal(weight)), loaded
    if paps_cover_sheet.is_for_truck(invoice):
        paps = json.loads(paps_cover_sheet._facts(invoice, slice(None)))["package_summary"]
        yield "PAPS", (paps["manifest_count"], Decimal(paps["manifest_weight_kg"].replace(",", ""))), manifest
    if truck_manifest.has_trip(invoice):
        (row,) = read_table(truck_manifest.truck_manifest(invoice), "shipments.csv")
        yield "truck manifest", (int(row["quantity"]), Decimal(row["gross_weight_kg"])), manifest


@pytest.mark.parametrize("load_plan", PLANS.values(), ids=PLANS.keys())
def test_each_message_and_paper_states_one_count_and_one_weight(
    workflow: WorkflowHarness, load_plan: Callable[[], Json]
) -> None:
    raw = load_plan()
    plan, sums = Plan.model_validate(raw), [Sums.of(unit) for unit in raw["units"]]
    export = exports.prepare_export(workflow.runtime, raw)
    exports.hand_off(workflow.runtime, export)
    (ready,) = read_messages(workflow, export.export_id, MessageType.HANDOFF_READY)
    (executed,) = read_messages(workflow, export.export_id, MessageType.EXPORT_EXECUTED)
    assert executed["packageCount"] == sum(each.counted for each in sums)
    wrong: list[tuple[str, object, object]] = []
    for unit_no, (unit, handed, own) in enumerate(zip(plan.units, ready["units"], sums, strict=True), start=1):
        invoice = build_plan_invoice(
            hash_plan(plan, raw), unit_no, package_number="CP-000001", revision=1, test=False, findings=[]
        )
        stated = [
            *list_message_facts(HandedUnit.model_validate(handed), own),
            *list_paper_facts(add_estimate(invoice, unit), own),
        ]
        assert len(stated) >= 13
        wrong += [(place, found, expected) for place, found, expected in stated if found != expected]
    assert wrong == []
