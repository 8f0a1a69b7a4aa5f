"""A manufacturer in China has a valid postal code; one in Xinjiang is named before the goods leave."""

import pytest

from tests.customs.cases import UNIT, enter_on, findings, with_changes

MAKERS = f"{UNIT}/parties/manufacturers"


def check_maker(country: str, code: str | None, on: str = "2026-11-26") -> list[tuple[str, str]]:
    """Return where rule V37 finds a manufacturer in the country with this postal code, and with which remedy."""
    plan = with_changes(
        (f"{MAKERS}/0/address/country", country), (f"{MAKERS}/0/address/postalCode", code), *enter_on(on)
    )
    found = [each for each in findings(plan) if each.rule == "V37"]
    assert all(each.severity == "warn" and "CSMS 55403002" in (each.source or "") for each in found)
    return [(each.pointer, each.message) for each in found]


@pytest.mark.parametrize("code", ["518000", "100871"])
def test_chinese_postal_code_has_no_finding(code: str) -> None:
    assert check_maker("CN", code) == []


@pytest.mark.parametrize("code", [None, "51800", "5180001", "51800A", "M5J 1H8"])
def test_missing_or_other_postal_code_is_named(code: str | None) -> None:
    ((pointer, message),) = check_maker("CN", code)
    assert pointer == f"{MAKERS}/0/address/postalCode"
    assert message.endswith("has no postal code." if code is None else f"has postal code {code}.")


@pytest.mark.parametrize("code", ["830000", "844500"])
def test_postal_code_of_xinjiang_is_named(code: str) -> None:
    ((_, message),) = check_maker("CN", code)
    assert "of Xinjiang: customs presumes forced labor" in message


@pytest.mark.parametrize("country", ["CA", "HK", "TW", "US"])
def test_manufacturer_elsewhere_needs_no_chinese_code(country: str) -> None:
    assert check_maker(country, None) == []


def test_rule_begins_with_its_day() -> None:
    assert check_maker("CN", None, "2023-03-17") == []
    assert len(check_maker("CN", None, "2023-03-18")) == 1
