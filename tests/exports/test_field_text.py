"""The places of a plan in words."""

import pytest

from pipeline.exports.field_text import LINE_FIELDS, UNIT_FIELDS, describe_field
from tests.support import factories


@pytest.mark.parametrize(
    ("pointer", "words"),
    [
        ("", "the whole plan"),
        ("/batchId", "batch id"),
        ("/units", "units"),
        ("/units/0", "unit 1"),
        ("/units/1/invoice/total", "unit 2, invoice total"),
        ("/units/0/lines/2/htsCode", "unit 1, line 3, HTS code"),
        ("/units/0/lines/2/treatment/chapter99/0/code", "unit 1, line 3, chapter 99, no. 1, code"),
        ("/units/0/packages/3/grossWeightKg", "unit 1, package 4, gross weight kg"),
        ("/units/*/lines/*/htsCode", "HTS code of a line"),
        ("/units/*/lines/*/treatment/section232/*/countryOfMelt", "metals (section 232), country of melt of a line"),
        ("/units/*/invoice/number", "invoice number of a unit"),
        ("/units/0/lines/*", "unit 1, a line"),
        # A customs broker may write what it likes.
        ("/units/x/lines/0", "units, x, lines, no. 1"),
        ("/units/0/a~1b", "unit 1, a/b"),
        (f"/units/{'9' * 200}", f"units, {'9' * 200}"),
        ("/", "/"),
        ("HTS code", "HTS code"),
    ],
)
def test_pointer_has_words(pointer: str, words: str) -> None:
    assert describe_field(pointer) == words


def test_plan_names_its_own_units_lines_and_packages() -> None:
    plan = factories.plan()
    plan["units"][0]["lines"][1]["lineRef"] = "PO-7"
    assert describe_field("/units/0/lines/1/htsCode", plan) == "unit U1, line PO-7, HTS code"
    assert describe_field("/units/0/packages/0", plan) == "unit U1, package P1"
    assert describe_field("/units/7/lines/0/sku", plan) == "unit 8, line 1, SKU"


def test_fields_that_a_customs_broker_may_name_have_their_words() -> None:
    for fields, place, prefix in (
        (UNIT_FIELDS, "/units/0", "unit 1"),
        (LINE_FIELDS, "/units/0/lines/0", "unit 1, line 1"),
    ):
        for words, pointer in fields.items():
            assert describe_field(f"{place}{pointer}") == f"{prefix}, {words}"
