"""The codes of agency data mean what the agencies' own texts say: CFR, CBP's messages, forms, guides, and the library `pint`."""

import re
from pathlib import Path
from typing import Any, Final

import pint
import pytest
import yaml

from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.customs.reference.pga_values import ValueTable

TEXTS: Final[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("agency_texts.yaml").read_text("utf-8"))
#: Words that do not tell codes apart.
FILLER: Final = {
    "number", "the", "and", "for", "its", "any", "with", "that", "been", "has", "are", "was", "which", "this",
}  # fmt: skip
#: Tables of Form FDA 2877 and HS-7, which have one text for several codes, or one code for several texts.
GROUPED: Final = {"declarations of Form FDA 2877", "HS-7 boxes"}
#: Tables without a second text for their code: it is that of messages and samples, which the tests of records have.
WITHOUT_TEXT: Final = {
    "attestations of a certificate", "kinds of bond for vehicles", "statistical documents", "declarations of FSIS Form 9540-1",
    "wildlife certifications", "organic declarations",
}  # fmt: skip
#: Tables that `test_pga_values.py` holds to their texts.
OTHER_TEXTS: Final = yaml.safe_load(Path(__file__).with_name("agency_value_texts.yaml").read_text("utf-8"))
#: Parties without a second text, and those that only samples and messages of filings have (`tests/customs/pga`).
ROLES_WITHOUT_TEXT: Final = {
    "DEQ", "PNS", "PNT", "CAR", "DFP", "STL", "OVM", "CE", "PK", "NOL", "AP1", "CI", "AQF", "EXE", "FWE", "FWI", "LAP", "LG",
    "PE", "RGO", "SOE", "EPN", "FM", "LAB", "ITL",
}  # fmt: skip
#: Research and development, in another list than the one of the row: a broker's list of FDA's data elements for biologics.
RESEARCH: Final = ("180.000", "For Research and Development as a Non-Food Product (not as food)")


def stems(text: str) -> frozenset[str]:
    """Return the beginnings of the words that carry the meaning."""
    words = re.findall(
        r"[a-z_]+|[0-9](?:\([0-9a-z]\))+|[0-9][0-9a-z.-]*", text.lower().replace("not ", "not_").replace("non-", "not_")
    )
    return frozenset(word.rstrip("s")[:7] for word in words if len(word) > 2 and word not in FILLER)


def likeness(text: str, words: str) -> float:
    """Return the part of the words of both that they share."""
    first, second = stems(text), stems(words)
    return len(first & second) / len(first | second)


def assert_same_meanings(texts: dict[str, str], ours: dict[str, str]) -> None:
    """Each text is more like our words for its code than like those for another code, and our words more like this text."""
    for code, text in texts.items():
        found = {other: likeness(text, words) for other, words in ours.items()}
        nearest = [other for other, part in found.items() if part and part == max(found.values())]
        assert nearest == [code], (code, text, ours[code])
        back = {other: likeness(listed, ours[code]) for other, listed in texts.items()}
        assert back[code] == max(back.values()), (code, ours[code], texts[max(back, key=back.__getitem__)])


def table(name: str) -> ValueTable:
    (found,) = [each for each in pga_rules().values if each.name == name]
    return found


def meanings(name: str) -> dict[str, str]:
    return {value.code: value.text for value in table(name).allowed}


@pytest.mark.parametrize("name", [name for name in TEXTS["values"] if name not in GROUPED])
def test_values_mean_what_the_text_says(name: str) -> None:
    listed, ours = TEXTS["values"][name], meanings(name)
    assert [*ours] == sorted([*listed["codes"], *listed.get("without", ())], key=[*ours].index)
    assert_same_meanings(listed["codes"], ours)


def test_every_table_of_values_has_a_text_or_is_named() -> None:
    units = {each.name for each in pga_rules().values if each.name.startswith("units of ")}
    known = TEXTS["values"].keys() | OTHER_TEXTS["values"].keys() | WITHOUT_TEXT | units | {"source types"}
    assert known == {each.name for each in pga_rules().values}


def test_process_categories_stand_in_the_order_of_the_regulation() -> None:
    assert [*meanings("FSIS process categories")] == [*TEXTS["values"]["FSIS process categories"]["codes"]]


def test_hs7_boxes_cite_the_paragraph_that_says_the_same() -> None:
    paragraphs = TEXTS["values"]["HS-7 boxes"]["codes"]
    cited = {
        code: re.findall(r"591\.5\(([a-l])\)(?:\(([12])\))?", text) for code, text in meanings("HS-7 boxes").items()
    }
    assert {"".join(each) for some in cited.values() for each in some} == paragraphs.keys()
    for box, text in meanings("HS-7 boxes").items():
        ((letter, number),) = cited[box]
        found = {name: likeness(text.split(" (591")[0], words) for name, words in paragraphs.items()}
        assert found[letter + number] == max(found.values()) > 0, (box, found)
    # The boxes of the form, as printed, with their paragraphs.
    printed = {"1": "i", "2A": "b", "2B": "g", "7": "j"}
    assert {box: cited[box][0][0] for box in printed} == printed


def test_form_2877_declares_what_the_form_and_the_regulation_say() -> None:
    ours, listed = meanings("declarations of Form FDA 2877"), TEXTS["values"]["declarations of Form FDA 2877"]["codes"]
    assert_same_meanings({code: text for code, text in listed.items() if code in ours}, ours)
    assert {code for code in ours if code[:2] == "RA"} == {code for code in listed if code[:2] == "RA"}
    for code in ours.keys() - listed.keys():
        found = {group: likeness(ours[code], listed[group]) for group in ("RB", "RC", "RD")}
        assert found[code[:2]] == max(found.values()) > 0, (code, found)


def test_boxes_of_ds_2031_are_named_by_their_codes() -> None:
    for code, text in meanings("boxes of Form DS-2031").items():
        assert re.findall(r"box (\w+)", re.sub("[()]", "", text)) == [code]


def test_source_types_are_those_of_the_message() -> None:
    assert {code: meanings("source types")[code].lower() for code in ("30", "39")} == {
        code: text.lower() for code, text in TEXTS["source_types"]["codes"].items()
    }


REGISTRY: pint.UnitRegistry[float] = pint.UnitRegistry()
#: Codes of units that are not the symbols of `pint`.
SPELLED: Final = {"CTL": "cl", "MCG": "ug"}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (each.code, each.text)
        for some in pga_rules().values
        if some.name.startswith("units of ")
        for each in some.allowed
    ],
)
def test_unit_is_that_of_the_library(code: str, text: str) -> None:
    symbol = SPELLED.get(code, code.lower())
    power = {"Square": 2, "Cubic": 3}.get(text.split(maxsplit=1)[0], 1)
    assert (
        REGISTRY.parse_units(re.sub(r"([23])$", r"**\1", symbol))
        == REGISTRY.parse_units(text.rsplit(maxsplit=1)[-1].lower()) ** power
    )


@pytest.mark.parametrize("program", TEXTS["processing"])
def test_processing_codes_mean_what_the_guide_says(program: str) -> None:
    listed = TEXTS["processing"][program]["codes"]
    (ours,) = [each.processing for each in pga_rules().programs if f"{each.agency} {each.program}" == program]
    assert ours.keys() == listed.keys()
    assert_same_meanings(listed, {code: text or "" for code, text in ours.items()})


def test_codes_of_biologics_are_those_of_a_second_list() -> None:
    """A broker's list of FDA's data elements has ALG for allergens; two filing programs have ALE."""
    (ours,) = [each.processing for each in pga_rules().programs if (each.agency, each.program) == ("FDA", "BIO")]
    assert ours.keys() - {"ALE"} == {*"VAC HCT XEN CGT BLO BLD BDP BBA PVE BRD".split()}


def test_disclaimers_say_what_the_agencies_say() -> None:
    ours = {each.code: each.text for each in pga_rules().disclaimers}
    assert ours.keys() == {*TEXTS["disclaimers"]["codes"], "E"}
    assert_same_meanings(TEXTS["disclaimers"]["codes"], ours)
    numbers = r"[0-9]+(?:\.[0-9]+)?"
    assert re.findall(numbers, ours["G"]) == re.findall(numbers, TEXTS["disclaimers"]["codes"]["G"])
    (found,) = [each for each in pga_rules().disclaimers if each.code == "F"]
    assert ([*found.agencies], [*found.entry_types]) == (["FDA"], ["21"])


def test_codes_of_agencies_are_initials_of_their_names() -> None:
    for code, name in pga_rules().agencies.items():
        assert code in "".join(word[0] for word in re.findall(r"\b[A-Z]\w*", name)), (code, name)


def test_every_role_has_a_text_or_is_named() -> None:
    assert {each.code for each in pga_rules().roles} == TEXTS["roles"]["codes"].keys() | ROLES_WITHOUT_TEXT


def test_intended_use_of_research_is_that_of_both_lists() -> None:
    ours = {each.code: each.text or "" for each in pga_rules().intended_uses}
    code, text = RESEARCH
    assert max(ours, key=lambda each: likeness(text, ours[each])) == code


def test_roles_mean_what_the_lists_say() -> None:
    ours = {each.code: each.name for each in pga_rules().roles}
    assert_same_meanings(
        TEXTS["roles"]["codes"], {code: name for code, name in ours.items() if code in TEXTS["roles"]["codes"]}
    )


def test_affirmations_of_fda_are_those_of_its_list() -> None:
    elements = pga_rules().elements
    sent: dict[str, list[str]] = {}
    for key, places in record_rules().elements.items():
        for place in places:
            if place.record == "PG23" and "code" in place.others:
                sent.setdefault(place.others["code"], []).append(elements[key].label)
    listed = TEXTS["affirmations"]["codes"]
    # Codes after I in the list that its copy no longer has.
    assert (
        sent.keys() - listed.keys()
        == {"PFR", "PFT", "PM#", "PRN", "REG", "SFT", "VES", "VFT", "DA", "FSR"} - listed.keys()
    )
    assert listed.keys() <= sent.keys()
    assert_same_meanings(listed, {code: " ".join(labels) for code, labels in sent.items()})


@pytest.mark.parametrize("name", TEXTS["forms"])
def test_blocks_of_forms_are_those_that_are_printed(name: str) -> None:
    (form,) = [each for each in pga_rules().forms if each.name == name]
    rows = (*form.boxes, *form.line_boxes, *form.columns)
    ours = {row.box if name == "PPQ 505" and row.box else row.label: row.label for row in rows}
    listed = TEXTS["forms"][name]
    if name == "HS-7":
        assert ours.keys() == {*listed["boxes"], *listed["without"]}
    assert_same_meanings(listed["boxes"], {code: label for code, label in ours.items() if code in listed["boxes"]})
