"""Tests of the plan schema: it accepts valid plans and refuses invalid fields."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.exports.schemas.plan import Plan, as_json
from tests.support import factories


def test_valid_plan_round_trips_unchanged() -> None:
    sent = factories.plan(units=2)
    sent["units"][0]["invoice"]["exchangeRate"] = "0.00000012"
    assert as_json(Plan.model_validate(sent)) == sent


def test_newer_fields_are_serialised_only_if_sent() -> None:
    sent = factories.plan()
    assert not {"valuationBasis", "usmcaStatement", "rebates", "assistItems"} & {*sent["units"][0]["invoice"]}
    sent["units"][0]["invoice"] |= {
        "valuationBasis": "Price of a like sale",
        "usmcaStatement": "The goods originate under USMCA.",
        "rebates": [{"name": "Excise refunded on export", "amount": "3.20"}],
        "assists": "declared",
        "assistItems": [{"name": "Die lent by the buyer", "amount": None}],
    }
    assert as_json(Plan.model_validate(sent)) == sent


@pytest.mark.parametrize(
    ("pointer", "value", "message"),
    [
        ("/approval/approvedAt", "1700000000", "ISO 8601"),
        ("/approval/approvedAt", "2026-11-24T15:04:05", "timezone"),
        ("/units/0/invoice/date", "20261124", "ISO 8601"),
        ("/units/0/invoice/date", "2026-13-01", "month"),
        ("/units/0/lines/0/unitPrice", 12.5, "decimal in a string"),
        ("/units/0/lines/0/unitPrice", "1e3", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "NaN", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "007.50", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "-0.00", "plain decimal"),
        ("/units/0/lines/0/unitPrice", ".5", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "5.", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "5\n", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "\uff11\uff12", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "-1", "greater than or equal"),
        ("/units/0/lines/0/quantity", "0", "greater than 0"),
        ("/units/0/lines/0/unitPrice", "1" * 25, "24 characters"),
        ("/units/0/invoice/currency", "XXX", "ISO 4217"),
        ("/units/0/parties/buyer/name", "Line\nbreak", "control character"),
        ("/units/0/parties/buyer/name", " Spaced", "space"),
        ("/units/0/lines/0/htsCode", "7323.93.0045", "pattern"),
        ("/units/0/lines/0/surprise", "x", "Extra inputs"),
        ("/units/0/packages/0/sscc", "12345", "pattern"),
    ],
)
def test_invalid_field_is_refused(pointer: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        Plan.model_validate(factories.change_plan(factories.plan(), pointer, value))
    (error,) = refused.value.errors()
    assert "/" + "/".join(str(part) for part in error["loc"]) == pointer
