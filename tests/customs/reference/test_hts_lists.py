"""The dated lists of provisions: their content by day, and the errors for which they are rejected."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.customs.reference.hts_lists import HtsList, ListVersion, find_matching_lists, resolve_versions
from pipeline.customs.reference.ruleset import ruleset
from tests.support.tables import table

APRIL, JUNE, AUTUMN, LATER = date(2026, 4, 6), date(2026, 6, 8), date(2026, 11, 24), date(2028, 1, 1)
SOURCED = {"source": "a note", "confidence": "high", "status": "confirmed"}


def version(**given: Any) -> ListVersion:
    return ListVersion.model_validate({"effective_from": "2026-01-01", **SOURCED, **given})


def build_list(*versions: ListVersion, chapters: tuple[str, ...] = ("73", "76")) -> HtsList:
    return HtsList(id="a", title="A list", chapters=frozenset(chapters), versions=versions)


def metals(hts_code: str, on: date) -> list[str]:
    return [found.list.id.removeprefix("16(c)") for found in ruleset().find_lists(hts_code, on) if found.list.metal]


def test_april_lists_have_published_number_of_provisions() -> None:
    counts = {
        held.list.id.removeprefix("16(c)"): len(held.codes)
        for held in ruleset().resolved_lists
        if held.list.metal and held.version.in_force(APRIL)
    }
    assert counts == {
        "(i)": 9, "(ii)": 17, "(iii)": 39, "(iv)": 139, "(v)": 76, "(vi)": 105, "(vii)": 301, "(viii)": 4,
        "(ix)": 13, "(x)": 35,
    }  # fmt: skip


def test_metal_lists_before_april_have_published_number_of_provisions() -> None:
    before = date(2026, 4, 5)
    counts = {
        held.list.id: len(held.codes)
        for held in ruleset().resolved_lists
        if held.list.metal and held.version.in_force(before)
    }
    assert {name: count for name, count in counts.items() if name.startswith("19")} == {
        "19(g)": 8, "19(i)": 6, "19(j)": 24, "19(k)": 224,
    }  # fmt: skip
    assert {name.removesuffix(" until April 2026"): count for name, count in counts.items() if name[:2] != "19"} == {
        "16(j)": 39, "16(l)": 9, "16(m)": 158, "16(n)": 411, "36(b)": 80,
    }  # fmt: skip


def test_first_metal_lists_of_2025_have_the_number_of_provisions_that_others_counted() -> None:
    march = [held for held in ruleset().resolved_lists if held.version.in_force(date(2025, 3, 12))]
    counts = {held.list.id: len(held.codes) for held in march}
    # A forwarder counted the Annexes of Proclamations 10895 and 10896 outside chapters 76 and 73.
    assert (counts["19(k)"], counts["16(n) until April 2026"]) == (104, 12)


def test_provision_is_on_one_tier_per_metal() -> None:
    for on in (APRIL, JUNE, AUTUMN, LATER):
        found: dict[tuple[str, str], str] = {}
        for held in ruleset().resolved_lists:
            if held.list.id.startswith("16(c)") and held.version.in_force(on):
                for code in held.codes.values():
                    other = found.setdefault((code, str(held.list.metal)), held.list.id)
                    assert other == held.list.id, f"{code} is on {other} and {held.list.id} on {on}"


def test_june_moves_provisions_to_lower_tier_and_own_list() -> None:
    counts = {
        held.list.id.removeprefix("16(c)"): len(held.codes)
        for held in ruleset().resolved_lists
        if held.list.metal and held.version.in_force(JUNE)
    }
    assert counts == {
        "(i)": 9, "(ii)": 17, "(iii)": 39, "(iv)": 139, "(v)": 76, "(vi)": 101, "(vii)": 242, "(viii)": 4,
        "(ix)": 18, "(x)": 69, "(xi)": 28,
    }  # fmt: skip


@table(
    ("hts_code", "on", "lists"),
    [
        ("7323930045", AUTUMN, ["(vii)"]),
        ("7606123091", AUTUMN, ["(i)"]),  # by its heading, 7606
        ("7302100000", AUTUMN, ["(iii)"]),  # by its subheading, 7302.10
        ("7308200035", AUTUMN, ["(ii)", "(iv)"]),  # ten digits before eight
        ("8302106030", AUTUMN, ["(vi)", "(vii)"]),
        ("7614101000", AUTUMN, ["(ii)", "(iv)"]),  # wire of aluminum with a steel core
        ("7326908688", AUTUMN, ["(iv)"]),
        ("7326908680", AUTUMN, []),  # the codes next to it are listed with ten digits, this one is not
        ("6105100010", AUTUMN, []),
        ("8427201000", date(2026, 6, 7), []),
        ("8427208090", date(2026, 6, 7), ["(vii)"]),
        ("8427208090", JUNE, ["(xi)"]),
        ("8433200000", date(2026, 6, 7), ["(vii)"]),
        ("8433200000", JUNE, ["(x)"]),
        ("8433200000", LATER, ["(vii)"]),  # the temporary tier is over
        ("3701300000", date(2026, 6, 7), []),
        ("3701300000", JUNE, ["(vi)"]),  # lithographic plates
        ("9403200075", JUNE, ["(vii)"]),  # racks
        ("7323930045", date(2026, 4, 5), ["16(m) until April 2026"]),
        ("7323930045", date(2025, 3, 12), ["16(m) until April 2026"]),
        ("8418100000", date(2025, 6, 22), []),
        ("8418100000", date(2025, 6, 23), ["16(n) until April 2026"]),
        ("7614101000", date(2025, 8, 17), []),
        ("7614101000", date(2025, 8, 18), ["19(j)", "16(n) until April 2026"]),
        ("7615107180", date(2026, 4, 5), ["19(j)"]),
        ("3304995000", date(2026, 4, 5), ["19(k)", "16(n) until April 2026"]),  # cosmetics in metal, until April
        ("3304995000", APRIL, []),
        ("3304995000", date(2025, 8, 17), []),
        ("6105100010", date(2026, 4, 5), []),
    ],
)
def test_code_matches_longest_listed_prefix_of_its_day(hts_code: str, on: date, lists: list[str]) -> None:
    assert metals(hts_code, on) == lists


def test_excepted_provision_is_not_on_list() -> None:
    on = date(2026, 11, 24)
    assert [found.list.id for found in ruleset().find_lists("9401614001", on) if found.list.id == "20(g)"] == []
    assert [found.list.id for found in ruleset().find_lists("9401614031", on) if found.list.id == "20(g)"] == ["20(g)"]


@pytest.mark.parametrize("code", ["73", "7323.9", "7323930045", "7323.93.00.45", "steel", "7323.93.004"])
def test_provision_without_dots_is_rejected(code: str) -> None:
    with pytest.raises(ValidationError, match="is not an HTS provision"):
        version(codes=[code])


def test_list_rejects_code_of_other_chapter() -> None:
    with pytest.raises(ValidationError, match=r"list a has 7614\.10\.10, which is not in one of its chapters"):
        build_list(version(codes=["7614.10.10"]), chapters=("72", "73"))


@pytest.mark.parametrize("chapter", ["00", "77", "98", "99", "7a"])
def test_list_rejects_chapter_without_goods(chapter: str) -> None:
    with pytest.raises(ValidationError, match=f"'{chapter}' is not a chapter of goods"):
        build_list(version(codes=["7323.93"]), chapters=("73", chapter))


@pytest.mark.parametrize("given", [{}, {"codes": ["7323.93"], "add": ["7323.94"]}])
def test_version_needs_either_codes_or_changes(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must give either its codes or its changes"):
        version(**given)


def test_version_rejects_repeated_code() -> None:
    with pytest.raises(ValidationError, match=r"codes has 7323\.93 twice"):
        version(codes=["7323.93", "7323.94", "7323.93"])


def test_overlapping_versions_are_rejected() -> None:
    first, second = version(codes=["7323.93"]), version(effective_from="2026-06-01", add=["7323.94"])
    remedy = "End each version on the day before the next begins, and write them in that order."
    assert resolve_versions((build_list(first, second),))[1] == [
        ("a", f"has a version from 2026-06-01 that begins before the one above it ends. {remedy}")
    ]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"remove": ["7323.94"]}, "removes 7323.94, which it does not have. Delete it from `remove`."),
        ({"add": ["7323.93"]}, "adds 7323.93, which it already has. Delete it from `add`."),
        ({"add_lists": ["b"]}, "adds list b, which is not defined. Define it, or correct the name."),
    ],
)
def test_impossible_change_is_rejected(change: dict[str, Any], wrong: str) -> None:
    first = version(effective_to="2026-05-31", codes=["7323.93"])
    assert resolve_versions((build_list(first, version(effective_from="2026-06-01", **change)),))[1] == [("a", wrong)]


def test_excepted_code_stays_excepted_in_later_versions() -> None:
    first = version(effective_to="2026-12-31", codes=["7323.93"])
    later = version(effective_from="2027-01-01", add=["7323.94"], except_codes=["7323.93.0045"])
    held, _ = resolve_versions((build_list(first, later),))
    found = [[item.code for item in find_matching_lists(held, "7323930045", date(year, 1, 1))] for year in (2026, 2027)]
    assert found == [["7323.93"], []]


def test_changes_without_codes_and_repeated_list_ids_are_rejected() -> None:
    assert resolve_versions((build_list(version(add=["7323.93"])),))[1] == [
        ("a", "has only changes in its first version. Give that version all of its codes.")
    ]
    twice = (build_list(version(codes=["7323.93"])), build_list(version(codes=["7323.94"])))
    assert resolve_versions(twice)[1] == [("a", "is defined twice. Give one of them another id.")]


def test_new_list_version_needs_only_data() -> None:
    first = version(effective_to="2026-12-31", codes=["7323.93"])
    held, wrong = resolve_versions((build_list(first, version(effective_from="2027-01-01", add=["7615.10"])),))
    assert wrong == []
    assert [found.code for found in find_matching_lists(held, "7615107180", date(2026, 12, 31))] == []
    assert [found.code for found in find_matching_lists(held, "7615107180", date(2027, 1, 1))] == ["7615.10"]
