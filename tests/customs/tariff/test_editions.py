"""Editions of the tariff in the database: imported whole or not at all, in force by day, compared and removed."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from pipeline.core.errors import InvalidRequest, InvalidState, NotFound
from pipeline.core.runtime import Runtime
from pipeline.customs.models import TariffEdition, TariffRow
from pipeline.customs.tariff import editions
from pipeline.customs.tariff.diff import TariffChange, compare_editions
from pipeline.customs.tariff.editions import find_editions
from pipeline.customs.tariff.in_force import StoredEditions
from pipeline.customs.tariff.queries import format_number, parse_number, show_number
from tests.support.tariff import REVISION_6, REVISION_7, import_revision

MARCH, JULY = date(2026, 3, 1), date(2026, 7, 1)


def count_rows(runtime: Runtime) -> tuple[int, int]:
    with runtime.db.read() as session:
        counts = [session.scalar(select(func.count()).select_from(model)) or 0 for model in (TariffEdition, TariffRow)]
    return counts[0], counts[1]


def test_edition_is_imported_once(runtime: Runtime) -> None:
    edition = import_revision(runtime)
    assert (edition.rows, edition.numbers, edition.chapters) == (
        39, 36, ["01", "04", "28", "34", "61", "73", "91", "98", "99"],
    )  # fmt: skip
    again = editions.import_edition(
        runtime, REVISION_6, name=REVISION_6.stem, effective_from=edition.effective_from, source="again"
    )
    assert (again.created, again.edition.id) == (False, edition.id)
    assert count_rows(runtime) == (1, 39)


def test_edition_is_in_force_until_its_last_day_or_the_next_edition(runtime: Runtime) -> None:
    first = import_revision(runtime, REVISION_6, MARCH)
    second = import_revision(runtime, REVISION_7, JULY, date(2026, 12, 31))
    with runtime.db.read() as session:
        days = [date(2026, 2, 28), MARCH, date(2026, 6, 30), JULY, date(2026, 12, 31), date(2027, 1, 1)]
        found = [editions.find_edition(session, day) for day in days]
        assert [each and each.id for each in found] == [None, first.id, first.id, second.id, second.id, None]
        assert [(each.edition.id, each.last_day) for each in editions.list_editions(session)] == [
            (second.id, date(2026, 12, 31)),
            (first.id, date(2026, 6, 30)),
        ]
        assert editions.get_edition(session, "2026-03-09").id == first.id
        for name in ("nothing", "2026-02-30", "2025-01-01"):
            with pytest.raises(NotFound, match=f"no edition {name}"):
                editions.get_edition(session, name)


def test_other_file_in_the_place_of_an_edition_is_refused(runtime: Runtime) -> None:
    import_revision(runtime)
    with pytest.raises(InvalidState, match="begins on 2026-01-01; remove it first by `exports tariff remove hts_2026_"):
        import_revision(runtime, REVISION_7)
    with pytest.raises(InvalidState, match="is named hts_2026_revision_6"):
        import_revision(runtime, REVISION_6, MARCH)
    editions.remove_edition(runtime, "hts_2026_revision_6")
    assert count_rows(runtime) == (0, 0)
    import_revision(runtime, REVISION_7)
    assert count_rows(runtime) == (1, 39)


def test_wrong_file_name_or_period_leaves_nothing(runtime: Runtime, tmp_path: Path) -> None:
    rows = json.loads(REVISION_6.read_text(encoding="utf-8"))
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps([*rows, rows[0] | {"htsno": "x"}]), encoding="utf-8")
    with pytest.raises(InvalidRequest, match="row 40: htsno 'x'"):
        import_revision(runtime, wrong)
    wrong.write_text(json.dumps([rows[1]]), encoding="utf-8")
    with pytest.raises(InvalidRequest, match="no tariff number in any row"):
        import_revision(runtime, wrong)
    with wrong.open("wb") as large:
        large.truncate(101 * 1024 * 1024)
    with pytest.raises(InvalidRequest, match="at most 104,857,600 are read"):
        import_revision(runtime, wrong)
    with pytest.raises(InvalidRequest, match="the last day 2026-01-01 is before the first day 2026-03-01"):
        import_revision(runtime, REVISION_6, MARCH, date(2026, 1, 1))
    for name in ("", "2026-01-01", "a b", "x" * 81):
        with pytest.raises(InvalidRequest, match="give another one"):
            editions.import_edition(runtime, REVISION_6, name=name, effective_from=MARCH, source="a test")
    assert count_rows(runtime) == (0, 0)


def test_comparison_names_every_change(runtime: Runtime) -> None:
    older, newer = import_revision(runtime, REVISION_6, MARCH), import_revision(runtime, REVISION_7, JULY)
    with runtime.db.read() as session:
        changes = list(compare_editions(session, older, newer))
        assert list(compare_editions(session, older, older)) == []
        back = list(compare_editions(session, newer, older))
    # A CSV has no footnotes, so none of them seems to be removed.
    assert changes == [
        TariffChange("0101300000", "removed", before="Asses"),
        TariffChange("6115940000", "changed", "general rate", "11.3%", "9%"),
        TariffChange("7323930060", "changed", "units of quantity", "No., kg", "doz."),
        TariffChange("7323930085", "added", after="Other"),
    ]
    assert {(each.number, each.what) for each in back if each.column is None} == {
        ("0101300000", "added"), ("7323930085", "removed"),
    }  # fmt: skip


def test_footnotes_of_two_json_editions_are_compared(runtime: Runtime, tmp_path: Path) -> None:
    rows = json.loads(REVISION_6.read_text(encoding="utf-8"))
    (steel,) = (row for row in rows if row["htsno"] == "7323.93.00")
    steel["footnotes"] = [{"columns": ["general"], "value": "See 9903.88.15. ", "type": "endnote"}]
    path = tmp_path / "next.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    older, newer = import_revision(runtime, REVISION_6, MARCH), import_revision(runtime, path, JULY)
    with runtime.db.read() as session:
        assert list(compare_editions(session, older, newer)) == [
            TariffChange("73239300", "changed", "footnotes", "See 9903.88.15, 9903.82.09.", "See 9903.88.15.")
        ]


def test_number_is_shown_as_it_was_on_the_day(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, MARCH)
    import_revision(runtime, REVISION_7, JULY)
    with runtime.db.read() as session:
        socks = show_number(session, "6115940000", MARCH)
        assert socks.general is not None
        assert (socks.units, socks.general.text, socks.rates_from) == (["doz. pr.", "kg"], "11.3%", "6115940000")
        assert show_number(session, "6115940000", JULY).general != socks.general
        steel = show_number(session, "7323930045", MARCH)
        assert steel.descriptions == [
            "Table, kitchen or other household articles and parts thereof, of iron or steel:",
            "Of stainless steel",
            "Other cooking ware",
        ]
        assert (steel.units, steel.rates_from, steel.general and steel.general.text) == (
            ["No.", "kg"],
            "73239300",
            "2%",
        )
        assert steel.footnotes == ["See 9903.88.15, 9903.82.09."]
        assert "S" in steel.special[0].programs
        assert show_number(session, "73239300", MARCH).suffixes == ["7323930045", "7323930060"]
        # The file's indents skip a level here.
        assert show_number(session, "2826909010", MARCH).descriptions[1:3] == ["Other:", "Other"]
        assert show_number(session, "0101210010", MARCH).descriptions[1] == "Horses:"
        china = show_number(session, "99038803", MARCH)
        assert (china.additional_duties, china.general and china.general.kind) == ("25% ad valorem", "text")
        with pytest.raises(
            NotFound, match=r"does not have the number 7323\.93\.00\.99; below .* it has 7323\.93\.00\.45, "
        ):
            show_number(session, "7323930099", MARCH)
        with pytest.raises(NotFound, match=r"does not have the number 8888\.88; correct it"):
            show_number(session, "888888", MARCH)
        with pytest.raises(
            NotFound, match="in force on 2025-01-01; the operator imports one by `exports tariff import FILE"
        ):
            show_number(session, "6115940000", date(2025, 1, 1))


@pytest.mark.parametrize("text", ["", "61159", "6115.94.00.00.00", "socks", "\u0666\u0661\u0661\u0665", "611\x005"])
def test_text_that_is_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"give 4, 6, 8 or 10 digits, such as 6115\.94\.00\.00"):
        parse_number(text)


def test_number_has_points_where_the_tariff_has_them() -> None:
    assert [format_number(parse_number(text)) for text in ("6115", "611594", "61159400", "6115 94.00.00")] == [
        "6115", "6115.94", "6115.94.00", "6115.94.00.00",
    ]  # fmt: skip


#: kind, first day, last day: a gap, an edition that ends before the next begins, one in the future.
PERIODS = (
    ("tariff", "2026-01-01", None), ("tariff", "2026-07-01", "2026-07-31"), ("tariff", "2026-09-01", None),
    ("agency-flags", "2026-07-15", None), ("duty-cases", "2026-03-01", "2026-12-31"),
    ("duty-cases", "2026-06-01", "2026-06-30"), ("duty-cases", "2027-01-01", "2027-01-01"),
)  # fmt: skip


@pytest.fixture
def stored(runtime: Runtime) -> Runtime:
    """A runtime whose database has an edition for each period."""
    with runtime.db.write() as session:
        for number, (kind, first, last) in enumerate(PERIODS):
            session.add(
                TariffEdition(
                    id=f"ed_{number}", kind=kind, name=f"edition {number}", effective_from=date.fromisoformat(first),
                    effective_to=None if last is None else date.fromisoformat(last), content_hash=f"sha256:{number}",
                    source="a test", rows=0, numbers=0, chapters=[],
                )
            )  # fmt: skip
    return runtime


def test_both_ways_find_the_same_editions(stored: Runtime) -> None:
    days = {date.fromisoformat(day) for _, *period in PERIODS for day in period if day is not None}
    with stored.db.read() as session:
        read = StoredEditions.load(session)
        found = {
            on: {kind: each.id for kind, each in find_editions(session, on).items()}
            for day in days
            for on in (day - timedelta(days=1), day, day + timedelta(days=1))
        }
    assert found == {on: {kind: each.id for kind, each in read.find_on(on).items()} for on in found}
    # Of the newest that has begun: one that has ended is not replaced by an older one.
    assert found[date(2026, 7, 31)] == {"tariff": "ed_1", "agency-flags": "ed_3"}
    assert found[date(2026, 8, 1)] == {"agency-flags": "ed_3"}
    assert found[date(2025, 12, 31)] == {}
