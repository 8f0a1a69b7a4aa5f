"""The invoice model: sums, wording and look-ups are right, and equal for equal plans."""

import json
from decimal import Decimal

import pytest

from pipeline.core.errors import StepFailed
from pipeline.documents.invoice.builder import build_invoice
from pipeline.documents.schemas.invoice import Mark
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import build_facts, digest, put, sample, unit_data


def test_totals_are_exact_sums_of_lines() -> None:
    totals = sample(3).totals
    assert (totals.goods_value.exact, totals.goods_value.shown) == (Decimal("849.00"), "849.00")
    assert (totals.invoice_total.exact, totals.net_weight_kg.exact) == (Decimal("916.50"), Decimal("44.4"))
    assert totals.gross_weight_kg.exact == Decimal("47.4")
    assert [(row.unit, row.quantity.shown) for row in totals.quantities] == [("NO", "36")]


def test_amounts_keep_every_digit_and_are_grouped_for_people() -> None:
    price = sample(1, change={"lines/0/unitPrice": "1234567.1234"}).lines[0].unit_price
    assert (price.exact, price.shown, str(price)) == (Decimal("1234567.1234"), "1,234,567.1234", "1,234,567.1234")


def test_currency_without_minor_units_prints_no_decimals() -> None:
    assert (
        sample(1, change={"invoice/currency": "JPY", "lines/0/unitPrice": "2500"}).lines[0].unit_price.shown == "2,500"
    )


def test_marks_follow_order_of_plan() -> None:
    assert sample(3).lines[1].marks == (
        Mark(kind="chapter99", code="9903.05.29", text="S301_FORCED_LABOUR · 10 % of the full value"),
        Mark(kind="chapter99", code="9903.82.09", text="Section 232, metals · 25 % of the full value"),
        Mark(kind="metal", code="Steel", text="70.000 kg · melted and poured CA · US metal 0 %"),
        Mark(kind="pga", code="FDA FD1", text="disclaimed A · Reason: not a food contact surface claim"),
        Mark(kind="preference", code="SPI S", text="USMCA certificate CERT-1"),
    )
    assert sample(3).lines[2].marks == ()


def test_undetermined_treatment_is_reported() -> None:
    assert sample(1, change={"lines/0/treatment": {"undetermined": "no smelt country"}}).lines[0].marks == (
        Mark(kind="undetermined", code="Undetermined", text="no smelt country"),
    )


def test_pallet_precedes_its_cartons_and_has_issued_sscc() -> None:
    packages = sample(3).packages
    assert [(box.number, box.package_ref, box.depth, box.parent_number) for box in packages] == [
        (1, "PLT-001", 0, None), (2, "CTN-00001", 1, 1), (3, "CTN-00002", 1, 1), (4, "CTN-00003", 1, 1),
    ]  # fmt: skip
    assert (packages[0].mark.shown, packages[1].mark.shown) == ("SSCC 106141412345678908", "LPN C-00001")


def test_packages_count_once_and_outermost_are_weighed() -> None:
    summary = sample(20).package_summary
    assert (summary.count, summary.outermost_count, summary.gross_weight_kg.exact) == (22, 2, Decimal("421.000"))
    assert (summary.volume_m3.shown, summary.shown) == ("0.389", "20 cartons, 2 pallets; 2 handling units to load")


def test_line_names_its_packages() -> None:
    line = sample(2, 6).lines[1]
    assert line.package_refs == ("CTN-00004", "CTN-00005", "CTN-00006")
    assert line.packages_shown == "5-7"


def test_importer_without_name_is_buyer() -> None:
    importer = sample(1).parties.importer_of_record
    assert (importer.name, importer.importer_number.exact) == ("Lakeside Kitchen Supply Inc.", "12-3456789XX")


def test_classification_rows_sum_lines_by_code_origin_and_headings() -> None:
    rows = sample(6).classifications
    assert [(row.hts_code.shown, row.country_of_origin, row.line_count, row.value.shown) for row in rows] == [
        ("3924.10.2000", "CA", 2, "102.00"),
        ("7323.93.0045", "CN", 2, "600.00"),
        ("7323.93.0060", "CA", 2, "996.00"),
    ]


def test_order_of_members_keeps_invoice() -> None:
    data = unit_data(2)
    put(data, {"lines/0/attributes": {"a": "1", "b": "2"}, "lines/0/treatment/pga/0/data": {"x": "1", "y": ["2", "3"]}})
    turned = json.loads(json.dumps(data), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    one, other = Unit.model_validate(data), Unit.model_validate(turned)
    left, right = build_invoice(one, build_facts(one)), build_invoice(other, build_facts(other))
    assert left.model_dump_json() == right.model_dump_json()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("lines/0/manufacturerRef", "M9"),
        ("lines/0/usmcaCertificateRef", "C9"),
        ("packages/1/contents/0/lineRef", "L9"),
        ("packages/1/parentRef", "P9"),
        ("packages/0/parentRef", "CTN-00001"),  # a circle
    ],
)
def test_unknown_or_circular_reference_is_rejected(place: str, value: str) -> None:
    with pytest.raises(StepFailed, match=f"{value}|parentRef"):
        sample(1, change={place: value})


def test_line_has_own_treatment_digest() -> None:
    assert [line.treatment_digest for line in sample(2).lines] == [digest("L1"), digest("L2")]
