"""What the entry summary needs of a line: the number of its license, and the declaration of softwood lumber."""

from typing import Any

import pytest

from tests.customs.cases import PAN, UNIT, enter_on, findings, with_changes

TUBE, BAR, STONE, WOOD = "7306305028", "7604293030", "7102310000", "4407120056"
ATTRIBUTES = f"{PAN}/attributes"
DECLARED = {"softwoodExportPrice": "1250.00", "softwoodExportCharge": "0", "softwoodDeclaration": "Y"}


def check(
    code: str, attributes: dict[str, str], entry_type: str = "01", *changes: tuple[str, Any]
) -> list[tuple[str, str]]:
    """Return the rules F10 and F11 that a line of this number breaks, and where."""
    plan = with_changes(
        (f"{PAN}/htsCode", code), (ATTRIBUTES, attributes), (f"{UNIT}/entry/type", entry_type), *changes
    )
    found = [each for each in findings(plan) if each.rule in {"F10", "F11"}]
    assert all(each.severity == "warn" and each.remedy and each.source for each in found)
    return [(each.rule, each.pointer.removeprefix(ATTRIBUTES)) for each in found]


@pytest.mark.parametrize(
    ("code", "attributes"),
    [
        (TUBE, {"steelImportLicense": "S24110601"}),
        (BAR, {"aluminumImportLicense": "A24110601"}),
        (STONE, {"diamondCertificate": "CA0012345"}),
        (WOOD, DECLARED),
        (WOOD, DECLARED | {"softwoodExportCharge": "62.5"}),
        ("7323930045", {}),
        ("7216910010", {}),
        ("7616995190", {}),
        ("7102390050", {}),
        ("4407910022", {}),
    ],
)
def test_declared_goods_and_goods_that_need_no_declaration_have_no_finding(
    code: str, attributes: dict[str, str]
) -> None:
    assert check(code, attributes) == []


@pytest.mark.parametrize(
    ("code", "rule"), [(TUBE, "F10"), ("7616995160", "F10"), (BAR, "F10"), (STONE, "F10"), (WOOD, "F11")]
)
def test_missing_declaration_is_named_with_its_attribute(code: str, rule: str) -> None:
    assert check(code, {}) == [(rule, "")]


def test_finding_says_who_gives_the_license_and_what_of_the_lumber_is_missing() -> None:
    licensed = with_changes((f"{PAN}/htsCode", TUBE), (ATTRIBUTES, {"aluminumImportLicense": "A24110601"}))
    (found,) = [each for each in findings(licensed) if each.rule == "F10"]
    assert found.message == "Line L1: for goods of 7306 the entry summary needs the number of a steel import license."
    assert "trade.gov/steel" in found.remedy
    assert "attribute steelImportLicense" in found.remedy
    lumber = with_changes((f"{PAN}/htsCode", WOOD), (ATTRIBUTES, {"softwoodExportPrice": "1250.00"}))
    (found,) = [each for each in findings(lumber) if each.rule == "F11"]
    assert found.message.endswith("needs the estimated export charge, 0 if none and the importer's declaration, Y.")
    assert "softwoodExportCharge and softwoodDeclaration" in found.remedy


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        (TUBE, "steelImportLicense", "S24110601, S24110602"),
        (TUBE, "steelImportLicense", "pending"*4),
        (STONE, "diamondCertificate", "12345"),
        (WOOD, "softwoodExportPrice", "CAD 1250"),
        (WOOD, "softwoodExportPrice", "-1"),
        (WOOD, "softwoodExportPrice", "1,250.00"),
        (WOOD, "softwoodExportPrice", "1e3"),
        (WOOD, "softwoodExportCharge", "none"),
        (WOOD, "softwoodExportCharge", "0.001"),
        (WOOD, "softwoodDeclaration", "N"),
    ],
)  # fmt: skip
def test_value_of_another_form_is_named(code: str, name: str, value: str) -> None:
    attributes = (DECLARED if code == WOOD else {}) | {name: value}
    assert [pointer for _, pointer in check(code, attributes)] == [f"/{name}"]


@pytest.mark.parametrize("entry_type", ["11", "06", "21", "23", "62"])
def test_license_is_for_entries_for_consumption(entry_type: str) -> None:
    assert check(TUBE, {}, entry_type) == check(BAR, {}, entry_type) == []
    assert check(TUBE, {}, "31") == [("F10", "")]


def test_lumber_is_declared_on_informal_entries_and_not_into_a_warehouse() -> None:
    assert check(WOOD, {}, "11") == [("F11", "")]
    assert check(WOOD, {}, "21") == []


def test_license_for_aluminum_begins_with_its_day() -> None:
    assert check(BAR, {}, "01", *enter_on("2021-06-27")) == []
    assert check(BAR, {}, "01", *enter_on("2021-06-28")) == [("F10", "")]
