"""The fees on goods are those of title 7 of the CFR, with the codes of CBP's table."""

import csv
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import ValidationError

from pipeline.customs.reference.valuation import GoodsFee, ValuationRules, valuation_rules

FOLDER: Final = Path(__file__).parent
PRINTED: Final[dict[str, Any]] = yaml.load((FOLDER / "cfr_7_goods_fees.yaml").read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - keeps numbers as text
FEES: Final = valuation_rules().goods_fees


def bare(number: str) -> str:
    return number.replace(".", "")


def numbers_of(fee: GoodsFee) -> set[str]:
    """Return the numbers of the fee's section, as printed and as replaced."""
    printed = PRINTED["sections"][fee.section.removeprefix("7 CFR ").partition("(")[0]].split()
    return {bare(each) for each in (*printed, *(PRINTED["replaced"].get(number, number) for number in printed))}


def read_tariff() -> set[str]:
    """Return the provisions that U.S. notes of the tariff print."""
    found: set[str] = set()
    for name in ("hts_2026_revision_6_notes.csv", "hts_notes_by_day.csv"):
        with (FOLDER / name).open(newline="") as file:
            found |= {bare(code) for row in csv.DictReader(file) for code in row["provisions"].split()}
    return found


def test_codes_and_sections_are_those_of_the_texts() -> None:
    assert {fee.code: f"{fee.name}".lower() for fee in FEES} == {
        code: f"{name} fee".lower() for code, name in PRINTED["codes"].items()
    }
    sections = [fee.section.removeprefix("7 CFR ").partition("(")[0] for fee in FEES]
    assert sorted(sections) == sorted(PRINTED["sections"])
    assert all(fee.section in fee.source for fee in FEES)


@pytest.mark.parametrize("fee", FEES, ids=[fee.name for fee in FEES])
def test_fee_covers_the_numbers_of_its_section_and_no_prefix_without_one(fee: GoodsFee) -> None:
    listed = numbers_of(fee)
    gone = {bare(number) for number in PRINTED["replaced"]}
    assert [number for number in sorted(listed - gone) if not fee.may_cover(number, None)] == []
    for prefix in fee.numbers:
        # A number of the section is in the prefix, or the prefix is in a heading of the section.
        assert any(number.startswith(prefix) or prefix.startswith(number) for number in listed), prefix
    covered = {code[:4] for code in read_tariff() if len(code) >= 4 and fee.may_cover(code, None)}
    assert covered <= {number[:4] for number in listed}


@pytest.mark.parametrize("fee", FEES, ids=[fee.name for fee in FEES])
def test_each_prefix_begins_a_number_of_the_tariff_of_today(fee: GoodsFee) -> None:
    # No note prints these; copies of the tariff of 2025 do.
    tariff = read_tariff() | {"94044010", "2106909888"}
    assert len(tariff) > 5000
    lacking = [
        prefix
        for prefix in fee.numbers
        if not any(code.startswith(prefix) or prefix.startswith(code) for code in tariff)
    ]
    assert lacking == []


def test_neighbors_of_the_lists_have_no_fee() -> None:
    # A chocolate bar without milk, food preparations, jam, oak, cotton waste, synthetic yarn, flags, peppers, moldings of pine.
    without = (
        "1806329000", "2106909998", "2007994800", "4407910063", "5202990000", "5402200000", "6307909891", "0709600000",
        "4409104500",
    )  # fmt: skip
    assert [number for number in without if any(fee.may_cover(number, None) for fee in FEES)] == []


def test_cotton_has_the_exceptions_of_its_section() -> None:
    (cotton,) = (fee for fee in FEES if fee.code == "056")
    # (b)(4): "Any entry of cotton that qualifies for informal entry ... will not be subject to the assessment."
    assert cotton.except_entry_types == {"11", "12"}
    # (b)(8): "the Harmonized Tariff Schedule heading which begins with '9813'"; (9): "subheadings 9802.00.40 and 9802.00.50".
    assert set(cotton.except_chapter98) == {"9802.00.40", "9802.00.50", "9813"}
    (lumber,) = (fee for fee in FEES if fee.code == "105")
    # 1217.52(k): "an exemption is claimed under subchapter XIII of chapter 98".
    assert (lumber.except_entry_types, lumber.except_chapter98) == (frozenset(), ("9813",))
    others = [fee for fee in FEES if fee.code not in {"056", "105"}]
    assert not any(fee.except_entry_types or fee.except_chapter98 for fee in others)


def test_fee_has_one_row_for_a_day() -> None:
    table = valuation_rules().model_dump(by_alias=True)
    table["goods_fees"] = (*table["goods_fees"], table["goods_fees"][0])
    with pytest.raises(ValidationError, match="fee 053 has two rows for one day"):
        ValuationRules.model_validate(table)


def test_rules_that_were_stored_before_have_no_fees_on_goods() -> None:
    table = valuation_rules().model_dump(by_alias=True)
    del table["goods_fees"]
    assert ValuationRules.model_validate(table).goods_fees == ()
