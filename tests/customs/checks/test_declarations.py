"""What the entry summary needs of a line: the number of its license, and the declaration of softwood lumber."""

from typing import Any

from tests.customs.cases import PAN, UNIT, enter_on, findings, with_changes
from tests.support.tables import table

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


@table(
    ("code", "attributes", "rules"),
    [
        (TUBE, {"steelImportLicense": "S24110601"}, []),
        (BAR, {"aluminumImportLicense": "A24110601"}, []),
        (STONE, {"diamondCertificate": "CA0012345"}, []),
        (WOOD, DECLARED, []),
        (WOOD, DECLARED | {"softwoodExportCharge": "62.5"}, []),
        *((code, {}, []) for code in ("7323930045", "7216910010", "7616995190", "7102390050", "4407910022")),
        *((code, {}, ["F10"]) for code in (TUBE, "7616995160", BAR, STONE)),
        (WOOD, {}, ["F11"]),
    ],
)
def test_only_goods_that_lack_their_declaration_have_a_finding(
    code: str, attributes: dict[str, str], rules: list[str]
) -> None:
    assert check(code, attributes) == [(rule, "") for rule in rules]


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


@table(
    ("code", "name", "values"),
    [
        (TUBE, "steelImportLicense", ("S24110601, S24110602", "pending" * 4)),
        (STONE, "diamondCertificate", ("12345",)),
        (WOOD, "softwoodExportPrice", ("CAD 1250", "-1", "1,250.00", "1e3")),
        (WOOD, "softwoodExportCharge", ("none", "0.001")),
        (WOOD, "softwoodDeclaration", ("N",)),
    ],
)
def test_value_of_another_form_is_named(code: str, name: str, values: tuple[str, ...]) -> None:
    for value in values:
        attributes = (DECLARED if code == WOOD else {}) | {name: value}
        assert [pointer for _, pointer in check(code, attributes)] == [f"/{name}"]


@table("entry_type", ["11", "06", "21", "23", "62"])
def test_license_is_for_entries_for_consumption(entry_type: str) -> None:
    assert check(TUBE, {}, entry_type) == check(BAR, {}, entry_type) == []
    assert check(TUBE, {}, "31") == [("F10", "")]


def test_lumber_is_declared_on_informal_entries_and_not_into_a_warehouse() -> None:
    assert (check(WOOD, {}, "11"), check(WOOD, {}, "21")) == ([("F11", "")], [])


def test_license_for_aluminum_begins_with_its_day() -> None:
    assert check(BAR, {}, "01", *enter_on("2021-06-27")) == []
    assert check(BAR, {}, "01", *enter_on("2021-06-28")) == [("F10", "")]
