"""The manufacturer identification code, by the worked examples of the regulation and of customs guides."""

from __future__ import annotations

import pytest

from pipeline.customs.mid import country_of, derive
from pipeline.schemas.plan import Address


def address(line1: str, city: str, country: str = "US", region: str | None = None, line2: str | None = None) -> Address:
    return Address(line1=line1, line2=line2, city=city, region=region, postal_code=None, country=country)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Amalgamated Plastics Corp", "AMAPLA"),
        ("Bergstrom", "BER"),
        ("A.B.C. Company", "ABCCOM"),
        ("A B C Company", "ABCCOM"),
        ("O.A.S.I.S. Corp.", "OASCOR"),
        ("Dr. S.A. Smith", "DRSA"),
        ("Shavings B L Inc.", "SHABL"),
        ("ABC 2000 Company", "ABC200"),
        ("The House of the Rising Dough", "HOURIS"),
        ("Éclair & Fils", "ECLFIL"),
    ],
)
def test_the_name_gives_three_letters_of_two_words(name: str, part: str) -> None:
    assert derive(name, address("1 Main Street", "Erlanger")) == f"US{part}1ERL"


def test_the_largest_number_of_the_street_line_counts() -> None:
    assert derive("DHL Express", address("236 Wendell Ford Blvd Ste 1304", "Erlanger")) == "USDHLEXP1304ERL"


@pytest.mark.parametrize(
    ("line1", "line2", "number"),
    [
        ("Suite 1000, 236 Main Street", None, "1000"),
        ("123456 Main Street", None, "1234"),
        ("5 250th Street", None, "5"),
        ("Harbour House", "Unit 14", "14"),
        ("Harbour House", None, ""),
    ],
)
def test_the_number_has_at_most_four_digits_and_is_no_street_name(line1: str, line2: str | None, number: str) -> None:
    assert derive("Bergstrom", address(line1, "Erlanger", line2=line2)) == f"USBER{number}ERL"


@pytest.mark.parametrize(
    ("region", "code"),
    [("AB", "XA"), ("BC", "XC"), ("MB", "XM"), ("NB", "XB"), ("NL", "XW"), ("NT", "XT"), ("NS", "XN"), ("NU", "XV"),
     ("ON", "XO"), ("PE", "XP"), ("QC", "XQ"), ("SK", "XS"), ("YT", "XY"), ("Québec", "XQ"), ("Ontario", "XO")],
)  # fmt: skip
def test_canada_is_coded_by_province(region: str, code: str) -> None:
    made = derive("Maple Goods Ltd", address("120 Wellington Street West", "Toronto", "CA", region))
    assert made == f"{code}MAPGOO120TOR"
    assert country_of(made) == "CA"


def test_a_canadian_address_without_a_province_gives_no_code() -> None:
    assert derive("Maple Goods Ltd", address("120 Wellington Street West", "Toronto", "CA")) is None


@pytest.mark.parametrize(("name", "city"), [("株式会社", "Osaka"), ("Bergstrom", "大阪"), ("& .", "Osaka")])
def test_what_has_no_latin_letters_gives_no_code(name: str, city: str) -> None:
    assert derive(name, address("1-2-3 Chuo", city, "JP")) is None


def test_no_code_is_longer_than_fifteen_characters() -> None:
    made = derive("Amalgamated Plastics Corp", address("99999 Long Street", "St. Catharines", "CA", "ON"))
    assert made == "XOAMAPLA9999STC"
