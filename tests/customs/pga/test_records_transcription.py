"""The layouts of the records agree with a second transcription of the chapter, and what is sent fits its classes."""

import re
from pathlib import Path

import yaml

from pipeline.customs.reference.pga_layouts import RecordField, record_rules
from tests.support.tables import table

RULES = record_rules()
SECOND: dict[str, str] = yaml.safe_load(Path(__file__).with_name("record_layouts.yaml").read_text("utf-8"))
FIELD = re.compile(r"(?P<span>[0-9]+-[0-9]+) (?P<kind>A|AN|X|N)(?P<decimals>[0-9]?) (?P<need>[MC])")

#: The only fields that the second program needs and `pga_records.yaml` does not: no record of the service has the first two.
NEEDED = {"PG00 6-9", "PG27 5-24", "PG34 5-7"}
#: A field that it has in three parts, of four digits each; a datum of one to three parts fills the same columns.
PARTS = {"PG28 5-16": ["5-8", "9-12", "13-16"]}
#: Codes that the second program has as numbers of one digit, and `pga_records.yaml` as characters.
DIGITS = {"PG14 42-42", "PG18 73-73", "PG35 38-38"}

ALLOWED = {"A": r"[A-Z ]*", "AN": r"[A-Z0-9 ]*", "X": r"[ -~]*", "N": r"[0-9]*"}


def span(field: RecordField) -> str:
    return f"{field.first}-{field.last}"


def second(record: str) -> dict[str, re.Match[str]]:
    """Return the fields of the second transcription by their columns."""
    return {match["span"]: match for match in FIELD.finditer(SECOND[record])}


def ours(record: str) -> dict[str, RecordField]:
    return {span(field): field for field in RULES.fields_of(record)}


@table("record", SECOND)
def test_columns_agree(record: str) -> None:
    expected = [part for each in ours(record) for part in PARTS.get(f"{record} {each}", [each])]
    assert [*second(record)] == expected


def test_both_have_the_same_records() -> None:
    assert SECOND.keys() == RULES.layouts.keys()


@table("record", SECOND)
def test_numbers_and_their_decimals_agree(record: str) -> None:
    theirs = second(record)
    for each, field in ours(record).items():
        if f"{record} {each}" in DIGITS | PARTS.keys():
            continue
        assert (field.kind == "N") is (theirs[each]["kind"] == "N"), each
        assert field.decimals == int(theirs[each]["decimals"] or 0), each


@table("record", SECOND)
def test_needs_agree(record: str) -> None:
    theirs = second(record)
    for each, field in ours(record).items():
        place = f"{record} {each}"
        if place not in PARTS:
            assert field.mandatory is (theirs[each]["need"] == "M" and place not in NEEDED), place


def test_every_code_that_is_sent_fits_the_class_of_the_second_transcription() -> None:
    sent = {
        (place.record, name, value)
        for places in RULES.elements.values()
        for place in places
        for some in (place.others, *place.codes.values())
        for name, value in some.items()
    }
    assert len(sent) > 100
    for record, name, value in sorted(sent):
        field = RULES.find_field(record, name)
        assert re.fullmatch(ALLOWED[second(record)[span(field)]["kind"]], value), (record, name, value)
        assert len(value) <= field.width, (record, name, value)
