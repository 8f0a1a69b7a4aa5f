"""The fees on goods that an entry may have: each is named once, with the lines that it concerns."""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from pipeline.customs.reference.valuation import GoodsFee, ValuationRules, valuation_rules
from pipeline.customs.valuation.estimate import build_estimate, list_unpriced_fees
from pipeline.exports.schemas.entry_estimate import EntryEstimate
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import unit_data

DAY = date(2026, 11, 27)


def estimate(
    *codes: str,
    entry_type: str = "01",
    chapter98: dict[str, Any] | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    currency: str = "USD",
) -> EntryEstimate:
    """Return the estimate of lines with these HTS codes; the first of them claims `chapter98`."""
    data = unit_data(len(codes))
    data["invoice"] |= {"charges": [], "discounts": [], "assists": "none", "currency": currency, "exchangeRate": None}
    data["entry"]["type"] = entry_type
    for line, code in zip(data["lines"], codes, strict=True):
        line |= {"htsCode": code, "treatment": {"chapter99": [], "section232": [], "pga": []}}
    if chapter98 is not None:
        data["lines"][0]["chapter98"] = chapter98
    unit = Unit.model_validate(data)
    return build_estimate(unit, DAY, groups or [[number] for number in range(1, len(codes) + 1)])


def claim(provision: str) -> dict[str, Any]:
    return {"provision": provision, "exemptValue": "300.00", "dutiableValue": "0.00"}


def test_each_fee_is_named_once_with_its_lines() -> None:
    found = estimate("6109100012", "0406909900", "6302600020", "7323930045")
    assert [(fee.code, fee.lines, fee.status) for fee in found.unpriced_fees] == [
        ("056", (1, 3), "probable"),
        ("110", (2,), "probable"),
    ]
    assert [text for text in found.missing if "fee" in text] == [
        "the cotton fee (056), which 2 lines may have: look it up in 7 CFR 1205.510(b)",
        "the dairy product fee (110), which 1 line may have: look it up in 7 CFR 1150.152(b)",
    ]
    assert all(fee.source for fee in found.unpriced_fees)


def test_goods_without_such_a_fee_name_none() -> None:
    found = estimate("7323930045", "2007994800")
    assert found.unpriced_fees == ()
    assert "unpricedFees" not in json.loads(found.model_dump_json(by_alias=True))


def test_invoice_lines_of_one_entry_line_count_once() -> None:
    found = estimate("6109100012", "6109100012", "6109100012", groups=[[1, 3], [2]])
    (fee,) = found.unpriced_fees
    assert fee.lines == (1, 2)
    assert "which 2 lines may have" in fee.text


def test_line_may_have_two_fees_of_different_rows() -> None:
    found = estimate("4407120056", "1601002090", "1601004090")
    assert [fee.code for fee in found.unpriced_fees] == ["053", "054", "105"]


@pytest.mark.parametrize(("entry_type", "codes"), [("01", ["056", "106"]), ("03", ["056", "106"]), ("11", ["106"])])
def test_informal_entry_has_no_cotton_fee(entry_type: str, codes: list[str]) -> None:
    assert [fee.code for fee in estimate("6109100012", "0810400029", entry_type=entry_type).unpriced_fees] == codes


@pytest.mark.parametrize(
    ("provision", "codes"),
    [("9802.00.40", []), ("9802.00.50", []), ("9813.00.05", []), ("9801.00.10", ["056"]), ("9802.00.80", ["056"])],
)
def test_claims_of_chapter_98_that_the_section_names_have_no_fee(provision: str, codes: list[str]) -> None:
    assert [fee.code for fee in estimate("6109100012", chapter98=claim(provision)).unpriced_fees] == codes


def test_fee_is_named_also_without_an_exchange_rate() -> None:
    found = estimate("6109100012", currency="CAD")
    assert ([fee.code for fee in found.unpriced_fees], found.fees) == (["056"], ())
    assert not found.lacks_only_fees


def test_only_rows_in_force_are_named_and_stored_rules_without_rows_name_none() -> None:
    rules, lines = valuation_rules(), Unit.model_validate(unit_data(1)).lines
    row = GoodsFee(
        code="099", name="pot fee", section="7 CFR 1", numbers=(lines[0].hts_code[:6],), effective_from=DAY,
        effective_to=DAY, source="7 CFR 1", confidence="low", status="check",
    )  # fmt: skip
    dated = rules.model_copy(update={"goods_fees": (row,)})

    def count(rules: ValuationRules, on: date) -> int:
        return len(list(list_unpriced_fees(rules, "01", on, lines)))

    assert [count(dated, date(2026, 11, day)) for day in (26, 27, 28)] == [0, 1, 0]
    assert count(rules.model_copy(update={"goods_fees": ()}), DAY) == 0


def test_duty_is_complete_if_only_fees_on_goods_lack() -> None:
    found = estimate("6109100012")
    # Without the tariff, column 1 is missing too.
    assert not found.lacks_only_fees
    only = found.model_copy(update={"missing": tuple(fee.text for fee in found.unpriced_fees)})
    assert only.lacks_only_fees
    assert found.model_copy(update={"missing": ()}).lacks_only_fees
