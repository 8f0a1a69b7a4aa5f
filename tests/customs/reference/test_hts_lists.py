"""The dated lists of provisions: what they hold, when, and which slips stop the program that would load them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.customs.reference.hts_lists import HtsList, ListVersion, find_matching_lists, resolve_versions
from pipeline.customs.reference.ruleset import ruleset

APRIL, JUNE, AUTUMN, LATER = date(2026, 4, 6), date(2026, 6, 8), date(2026, 11, 24), date(2028, 1, 1)
SOURCED = {"source": "a note", "confidence": "high", "status": "confirmed"}


def version(**given: Any) -> ListVersion:
    return ListVersion.model_validate({"effective_from": "2026-01-01", **SOURCED, **given})


def build_list(*versions: ListVersion, chapters: tuple[str, ...] = ("73", "76")) -> HtsList:
    return HtsList(id="a", title="A list", chapters=frozenset(chapters), versions=versions)


def metals(hts_code: str, on: date) -> list[str]:
    return [found.list.id.removeprefix("16(c)") for found in ruleset().find_lists(hts_code, on) if found.list.metal]


def test_the_lists_of_april_hold_as_many_provisions_as_were_published() -> None:
    counts = {
        held.list.id.removeprefix("16(c)"): len(held.codes)
        for held in ruleset().resolved_lists
        if held.list.metal and held.version.in_force(APRIL)
    }
    # List (iv) was published with 139: one of them, of chapter 76, stands on list (ii) where it belongs.
    assert counts == {
        "(i)": 9, "(ii)": 17, "(iii)": 39, "(iv)": 138, "(v)": 76, "(vi)": 105, "(vii)": 301, "(viii)": 4,
        "(ix)": 13, "(x)": 35,
    }  # fmt: skip


def test_the_lists_of_metals_before_april_hold_as_many_provisions_as_were_published() -> None:
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
        "16(j)": 39, "16(l)": 9, "16(m)": 158, "16(n)": 410, "36(b)": 80,
    }  # fmt: skip


def test_no_provision_is_on_two_tiers_of_one_metal() -> None:
    for on in (APRIL, JUNE, AUTUMN, LATER):
        found: dict[tuple[str, str], str] = {}
        for held in ruleset().resolved_lists:
            if held.list.id.startswith("16(c)") and held.version.in_force(on):
                for code in held.codes.values():
                    other = found.setdefault((code, str(held.list.metal)), held.list.id)
                    assert other == held.list.id, f"{code} is on {other} and {held.list.id} on {on}"


def test_june_moves_provisions_to_the_lower_tier_and_to_a_list_of_their_own() -> None:
    counts = {
        held.list.id.removeprefix("16(c)"): len(held.codes)
        for held in ruleset().resolved_lists
        if held.list.metal and held.version.in_force(JUNE)
    }
    assert counts == {
        "(i)": 9, "(ii)": 17, "(iii)": 39, "(iv)": 138, "(v)": 76, "(vi)": 101, "(vii)": 242, "(viii)": 4,
        "(ix)": 18, "(x)": 69, "(xi)": 28,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hts_code", "on", "lists"),
    [
        ("7323930045", AUTUMN, ["(vii)"]),
        ("7606123091", AUTUMN, ["(i)"]),  # by its heading, 7606
        ("7302100000", AUTUMN, ["(iii)"]),  # by its subheading, 7302.10
        ("7308200035", AUTUMN, ["(ii)", "(iv)"]),  # ten digits before eight
        ("8302106030", AUTUMN, ["(vi)", "(vii)"]),
        ("7614101000", AUTUMN, ["(ii)"]),
        ("7326908688", AUTUMN, ["(iv)"]),
        ("7326908680", AUTUMN, []),  # its neighbours are listed by ten digits, it is not
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
        ("7323930045", date(2025, 8, 17), ["steel until 2025-08-17?"]),  # its lists were not read
        ("7615107180", date(2026, 4, 5), ["19(j)"]),
        ("3304995000", date(2026, 4, 5), ["19(k)", "16(n) until April 2026"]),  # cosmetics in metal, until April
        ("3304995000", APRIL, []),
        ("3304995000", date(2025, 8, 17), []),
        ("6105100010", date(2026, 4, 5), []),
    ],
)
def test_a_code_is_looked_up_on_its_day_by_its_longest_listed_beginning(
    hts_code: str, on: date, lists: list[str]
) -> None:
    assert metals(hts_code, on) == lists


def test_a_provision_that_a_note_leaves_out_is_not_on_its_list() -> None:
    on = date(2026, 11, 24)
    assert [found.list.id for found in ruleset().find_lists("9401614001", on) if found.list.id == "20(g)"] == []
    assert [found.list.id for found in ruleset().find_lists("9401614031", on) if found.list.id == "20(g)"] == ["20(g)"]


@pytest.mark.parametrize("code", ["73", "7323.9", "7323930045", "7323.93.00.45", "steel", "7323.93.004"])
def test_a_provision_is_written_with_its_dots(code: str) -> None:
    with pytest.raises(ValidationError, match="is no HTS provision"):
        version(codes=[code])


def test_a_list_refuses_a_code_of_another_chapter() -> None:
    with pytest.raises(ValidationError, match=r"list a holds 7614\.10\.10, which is of none of its chapters"):
        build_list(version(codes=["7614.10.10"]), chapters=("72", "73"))


@pytest.mark.parametrize("chapter", ["00", "77", "98", "99", "7a"])
def test_a_list_refuses_a_chapter_that_no_goods_have(chapter: str) -> None:
    with pytest.raises(ValidationError, match=f"there are no goods of chapter {chapter}"):
        build_list(version(codes=["7323.93"]), chapters=("73", chapter))


@pytest.mark.parametrize("given", [{}, {"codes": ["7323.93"], "add": ["7323.94"]}])
def test_a_version_gives_codes_or_changes(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="gives its codes, or its changes"):
        version(**given)


def test_a_version_refuses_a_code_twice() -> None:
    with pytest.raises(ValidationError, match=r"codes holds 7323\.93 twice"):
        version(codes=["7323.93", "7323.94", "7323.93"])


def test_versions_that_overlap_are_refused() -> None:
    first, second = version(codes=["7323.93"]), version(effective_from="2026-06-01", add=["7323.94"])
    remedy = "End a version the day before the next begins, and write them in that order."
    assert resolve_versions((build_list(first, second),))[1] == [
        ("a", f"has a version from 2026-06-01 that begins before the one above it ends. {remedy}")
    ]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"remove": ["7323.94"]}, "removes 7323.94, which it does not hold. Take it out of `remove`."),
        ({"add": ["7323.93"]}, "adds 7323.93, which it holds already. Take it out of `add`."),
        ({"add_lists": ["b"]}, "takes in list b, which is not defined. Define it, or correct the name."),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(change: dict[str, Any], wrong: str) -> None:
    first = version(effective_to="2026-05-31", codes=["7323.93"])
    assert resolve_versions((build_list(first, version(effective_from="2026-06-01", **change)),))[1] == [("a", wrong)]


def test_what_a_later_version_leaves_out_is_left_out_from_then_on() -> None:
    first = version(effective_to="2026-12-31", codes=["7323.93"])
    later = version(effective_from="2027-01-01", add=["7323.94"], except_codes=["7323.93.0045"])
    held, _ = resolve_versions((build_list(first, later),))
    found = [[item.code for item in find_matching_lists(held, "7323930045", date(year, 1, 1))] for year in (2026, 2027)]
    assert found == [["7323.93"], []]


def test_changes_to_nothing_and_lists_of_one_name_are_refused() -> None:
    assert resolve_versions((build_list(version(add=["7323.93"])),))[1] == [
        ("a", "begins with changes, to nothing. Give its first version all its codes.")
    ]
    twice = (build_list(version(codes=["7323.93"])), build_list(version(codes=["7323.94"])))
    assert resolve_versions(twice)[1] == [("a", "is defined twice. Give one of them another id.")]


def test_a_new_version_of_a_list_is_data_alone() -> None:
    first = version(effective_to="2026-12-31", codes=["7323.93"])
    held, wrong = resolve_versions((build_list(first, version(effective_from="2027-01-01", add=["7615.10"])),))
    assert wrong == []
    assert [found.code for found in find_matching_lists(held, "7615107180", date(2026, 12, 31))] == []
    assert [found.code for found in find_matching_lists(held, "7615107180", date(2027, 1, 1))] == ["7615.10"]
