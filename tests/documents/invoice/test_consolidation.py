"""Merged lines have equal customs data, keep every digit, and name the lines that they replace."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from decimal import Decimal
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.documents.schemas.declarations import Consolidation
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.entry_lines import group_entry_lines
from pipeline.exports.schemas.plan import Line, Unit
from tests.documents.samples import sample, unit_data

#: A different value of each fact that entry lines add up, list or leave out.
MERGED: Final[Mapping[str, Any]] = {
    "lineRef": "L9", "orderId": "PO-9", "sku": "POT-05", "description": "Sauce pan", "quantity": "7", "unitPrice": "9.00",
    "lineValue": "9.00", "netWeightKg": "9", "grossWeightKg": "9", "entryQuantities.quantity": "9",
    "chapter98.exemptValue": "1.00", "chapter98.dutiableValue": "9.00", "treatment.section232.metalWeightKg": "9",
}  # fmt: skip

#: A different value of each fact that an entry line has only once.
SEPARATE: Final[Mapping[str, Any]] = {
    "htsCode": "7323930060",
    "countryOfOrigin": "MX",
    "countryOfExport": "MX",
    "manufacturerRef": "M2",
    "unit": "KG",
    "spi": "S",
    "usmcaCertificateRef": "C9",
    "attributes": {"finish": "matt"},
    "entryQuantities.unit": "DOZ",
    "chapter98.provision": "9802.00.50",
    "chapter98.exportedOn": "2026-01-01",
    "chapter98.proof": "declaration",
    "treatment.chapter99.heading": "9903.82.19",
    "treatment.chapter99.program": "S301_CN",
    "treatment.chapter99.ratePercent": "9",
    "treatment.chapter99.basis": "us_content",
    "treatment.section232.metal": "copper",
    "treatment.section232.countryOfMeltAndPour": "MX",
    "treatment.section232.primaryCountryOfSmelt": "MX",
    "treatment.section232.secondaryCountryOfSmelt": "MX",
    "treatment.section232.countryOfCast": "MX",
    "treatment.section232.usMetalPercent": "9",
    "treatment.pga.flag": "FD1",
    "treatment.pga.agency": "EPA",
    "treatment.pga.program": "BIO",
    "treatment.pga.processing": "NSF",
    "treatment.pga.disclaimer": "B",
    "treatment.pga.intendedUse": "081.001",
    "treatment.pga.data": {"productName": "Pan"},
    "treatment.undetermined": "origin of the steel",
}


def consolidation(invoice: Invoice) -> Consolidation:
    assert invoice.consolidation is not None
    return invoice.consolidation


def test_different_lines_are_not_merged() -> None:
    assert sample(3).consolidation is None


def test_equal_lines_are_merged() -> None:
    merged = consolidation(sample(12))
    assert (merged.line_count, merged.merged_line_count, merged.lines_saved) == (12, 6, 6)
    first = merged.lines[0]
    assert (first.line_numbers, first.line_refs, first.lines_shown) == ((1, 7), ("L1", "L7"), "1, 7")
    assert (first.quantity.exact, first.line_value.exact, first.net_weight_kg.exact, first.gross_weight_kg.exact) == (
        Decimal(24), Decimal("600.00"), Decimal("28.8"), Decimal("30.8"),
    )  # fmt: skip
    assert first.unit_price is not None
    assert first.unit_price.exact == Decimal("25.00")
    assert first.treatment.section232[0].metal_weight_kg == Decimal("140.000")
    assert first.descriptions == ("Frying pan, stainless steel, for household cooking",)


def list_leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the path of each field of the model that holds no other model."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = [each for each in _list_types(field.annotation) if issubclass(each, BaseModel)]
        if inner:
            yield from list_leaves(inner[0], f"{path}.")
        else:
            yield path


def _list_types(annotation: Any) -> Iterator[type]:
    for each in get_args(annotation):
        yield from _list_types(each)
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation


def group_with(path: str, value: Any) -> tuple[tuple[int, ...], ...]:
    """Return the entry lines of two lines that are equal except for the value at the path."""
    data = unit_data(1)
    line = data["lines"][0]
    line |= {
        "entryQuantities": [{"quantity": "1", "unit": "NO"}],
        "chapter98": {"provision": "9801.00.10", "exemptValue": "300.00", "dutiableValue": "0"},
    }
    line["treatment"] = {
        "chapter99": [{"heading": "9903.82.09", "program": "S232_METALS", "ratePercent": "25", "basis": "full_value"}],
        "section232": [{"metal": "steel", "metalWeightKg": "1"}],
        "pga": [{"flag": "FD2", "agency": "FDA", "disclaimer": "A"}],
    }
    other = deepcopy(line) | {"lineRef": "L2"}
    *parents, name = path.split(".")
    place: Any = other
    for parent in parents:
        place = place[parent][0] if isinstance(place[parent], list) else place[parent]
    place[name] = value
    data["lines"] = [line, other]
    return group_entry_lines(Unit.model_validate(data))


def test_every_fact_of_a_line_is_either_merged_or_separate() -> None:
    assert sorted(list_leaves(Line)) == sorted([*MERGED, *SEPARATE])


@pytest.mark.parametrize("path", MERGED)
def test_difference_that_adds_up_or_is_listed_is_merged(path: str) -> None:
    assert group_with(path, MERGED[path]) == ((1, 2),)


@pytest.mark.parametrize("path", SEPARATE)
def test_customs_difference_prevents_merge(path: str) -> None:
    assert group_with(path, SEPARATE[path]) == ((1,), (2,))


def test_metal_countries_prevent_merge_but_weights_add_up() -> None:
    def change(data: dict[str, Any]) -> None:
        for number in (2, 3):
            data["lines"][number - 1] = {**data["lines"][0], "lineRef": f"L{number}"}
        row = {"metal": "steel", "metalWeightKg": "0.0001", "countryOfMeltAndPour": "CA", "usMetalPercent": "0"}
        treatment = data["lines"][0]["treatment"]
        data["lines"][1]["treatment"] = {**treatment, "section232": [row]}
        data["lines"][2]["treatment"] = {**treatment, "section232": [{**row, "countryOfMeltAndPour": "US"}]}

    merged = consolidation(sample(3, change=change))
    assert [line.line_numbers for line in merged.lines] == [(1, 2), (3,)]
    assert merged.lines[0].treatment.section232[0].metal_weight_kg == Decimal("70.0001")


def test_entry_quantities_and_parts_of_the_value_add_up() -> None:
    def change(data: dict[str, Any]) -> None:
        quantities = [{"quantity": "1.17", "unit": "DOZ"}, {"quantity": "14.40", "unit": "KG"}]
        claim = {"provision": "9802.00.50", "exemptValue": "280.00", "dutiableValue": "20.00", "proof": "declaration"}
        data["lines"][0] |= {"entryQuantities": quantities, "chapter98": claim}
        data["lines"][1] = {**data["lines"][0], "lineRef": "L2"}

    (merged,) = consolidation(sample(2, change=change)).lines
    assert [(each.quantity.exact, each.unit) for each in merged.entry_quantities] == [
        (Decimal("2.34"), "DOZ"),
        (Decimal("28.80"), "KG"),
    ]
    assert merged.chapter98 is not None
    assert (merged.chapter98.provision, merged.chapter98.exempt_value.exact, merged.chapter98.dutiable_value.exact) == (
        "9802.00.50", Decimal("560.00"), Decimal("40.00"),
    )  # fmt: skip


def test_merged_line_omits_different_prices() -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][1] = {**data["lines"][0], "lineRef": "L2", "unitPrice": "26.00", "lineValue": "312.00"}

    assert consolidation(sample(2, change=change)).lines[0].unit_price is None


AMOUNT = st.decimals(0, 999_999_999, places=6).map(str)
WEIGHT = st.decimals(0, 999_999, places=4).map(str)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(AMOUNT, WEIGHT, WEIGHT, st.sampled_from(["7323930045", "7323930060"])), min_size=2, max_size=8)
)
def test_merging_keeps_value_weight_and_quantity_exactly(rows: list[tuple[str, str, str, str]]) -> None:
    def change(data: dict[str, Any]) -> None:
        for line, (value, net, gross, code) in zip(data["lines"], rows, strict=True):
            line.update(
                lineValue=value, netWeightKg=net, grossWeightKg=gross, htsCode=code, manufacturerRef="M1", attributes={},
                countryOfOrigin="CA", spi=None, usmcaCertificateRef=None, treatment={},
            )  # fmt: skip

    invoice = sample(len(rows), change=change)
    merged = invoice.consolidation.lines if invoice.consolidation else invoice.lines
    for name in ("line_value", "net_weight_kg", "gross_weight_kg", "quantity"):
        before = sum((Decimal(str(getattr(line, name).exact)) for line in invoice.lines), Decimal(0))
        assert sum((Decimal(str(getattr(line, name).exact)) for line in merged), Decimal(0)) == before
    if invoice.consolidation:
        numbers = sorted(number for line in invoice.consolidation.lines for number in line.line_numbers)
        assert numbers == list(range(1, len(rows) + 1))
