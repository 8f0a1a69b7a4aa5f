"""Tables of agency flags and duty cases: read whole or refused, in force by day beside the tariff, and compared."""

import csv
import json
from datetime import date
from io import StringIO
from pathlib import Path
from time import thread_time
from typing import Any

import pytest

from pipeline.core.errors import InvalidRequest, InvalidState
from pipeline.core.runtime import Runtime
from pipeline.customs.models import DutyCase, TariffEdition
from pipeline.customs.tariff import editions
from pipeline.customs.tariff.cases import CasesOnDay, format_case, load_cases, parse_case, read_cases
from pipeline.customs.tariff.diff import TariffChange, compare_editions
from pipeline.customs.tariff.flags import load_flags, read_flags
from pipeline.customs.tariff.queries import show_number
from tests.support.query_counter import record_statements
from tests.support.tariff import AGENCY_FLAGS, DUTY_CASES, REVISION_6, import_revision, import_table

JULY, NOVEMBER = date(2026, 7, 1), date(2026, 11, 26)


def test_tables_are_in_force_beside_the_tariff(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, JULY)
    flags = import_table(runtime, AGENCY_FLAGS, JULY)
    cases = import_table(runtime, DUTY_CASES, JULY, date(2026, 12, 31))
    assert (flags.rows, flags.numbers, flags.chapters) == (9, 7, ["04", "34", "61", "73", "99"])
    assert (cases.rows, cases.numbers, cases.chapters) == (7, 5, [])
    with runtime.db.read() as session, record_statements(runtime.db) as statements:
        found = editions.find_editions(session, NOVEMBER)
        assert {kind: each.name for kind, each in found.items()} == {
            "tariff": "hts_2026_revision_6", "agency-flags": "agency_flags", "duty-cases": "duty_cases",
        }  # fmt: skip
        assert {*editions.find_editions(session, date(2027, 1, 1))} == {"tariff", "agency-flags"}
        assert editions.find_editions(session, date(2026, 6, 30)) == {}
    assert len([each for each in statements if "tariff_editions" in str(each)]) == 3, "one query a day"
    with pytest.raises(InvalidState, match="begins on 2026-07-01"):
        editions.import_edition(
            runtime, AGENCY_FLAGS, kind="agency-flags", name="other", effective_from=JULY, source="a test"
        )
    editions.remove_edition(runtime, "agency_flags")
    with runtime.db.read() as session:
        assert {each.edition.kind for each in editions.list_editions(session)} == {"tariff", "duty-cases"}


def test_flag_of_more_digits_counts(runtime: Runtime) -> None:
    edition = import_table(runtime, AGENCY_FLAGS, JULY)
    with runtime.db.read() as session:
        flags = load_flags(session, edition, {"0402100500", "0402910000", "7323930045", "8888000000"})
    by_number = {
        number: {row.flag: row.requirement for row in flags.list_flags(number)}
        for number in ("0402100500", "0402910000", "7323930045", "73239300", "8888000000")
    }
    assert by_number == {
        "0402100500": {"FD4": "may", "AM3": "may"},
        "0402910000": {"FD4": "must"},
        "7323930045": {"FW1": "", "FD1": "may"},
        "73239300": {"FW1": ""},
        "8888000000": {},
    }


def test_case_is_as_it_was_on_the_day(runtime: Runtime) -> None:
    edition = import_table(runtime, DUTY_CASES, JULY)

    def rates(on: date) -> dict[str, tuple[str, str]]:
        with runtime.db.read() as session:
            cases = load_cases(session, edition, on, {"CA", "CN"}, set())
        return {row.case_number: (row.status, row.rate) for row in cases.cases}

    assert rates(JULY)["A122857000"] == ("active", "7.66%")
    assert rates(NOVEMBER)["A122857000"] == ("active", "20.56%")
    assert "A122857012" not in rates(JULY)
    assert rates(NOVEMBER)["A570779000"] == ("active", "1.50%")
    assert rates(date(2026, 12, 1))["A570779000"] == ("revoked", "")
    with runtime.db.read() as session:
        declared = load_cases(session, edition, NOVEMBER, {"DE"}, {"A122857", "C122858000"})
    assert [row.case_number for row in declared.cases] == ["A122857000", "A122857012", "C122858000"]
    assert declared.find_case("A122857").rate == "20.56%"  # type: ignore[union-attr]
    assert declared.find_case("A122857099") is None
    assert [row.case_number for row in declared.list_in_scope("4407110013", "CA")] == ["A122857000", "C122858000"]
    assert declared.list_in_scope("4407910000", "CA") == declared.list_in_scope("4407110013", "US") == []


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("A-122-857-000", "A122857000"), ("c122858", "C122858"), ("A-122-857", "A122857"), ("B-122-857-000", None),
        ("A-122-857-00", None), ("A-12\u0662-857", None), ("", None),
    ],
)  # fmt: skip
def test_case_number_has_a_letter_and_nine_digits(text: str, case: str | None) -> None:
    assert parse_case(text) == case
    if case is not None:
        assert parse_case(format_case(case)) == case


def test_csv_and_json_of_a_table_are_the_same(tmp_path: Path) -> None:
    headers = ["Case Number", "Case Name", "Country", "HTS Numbers", "Status", "Deposit Rate", "From", "Source"]
    rows = json.loads(DUTY_CASES.read_text(encoding="utf-8"))
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(headers)
    writer.writerows([", ".join(cell) if isinstance(cell, list) else cell for cell in row.values()] for row in rows)
    path = tmp_path / "cases.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    assert list(read_cases(path)) == list(read_cases(DUTY_CASES))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case": "A-122-857"}, "row 1: case 'A-122-857' is not valid"),
        ({"country": "Canada"}, "row 1: country 'Canada'"),
        ({"status": "pending"}, "row 1: status 'pending'"),
        ({"from": "01/08/2026"}, "row 1: from '01/08/2026'"),
        ({"numbers": ["44.07"]}, None),
        ({"numbers": ["44"]}, "row 1: numbers '44'"),
        ({"numbers": [4407]}, "row 1: numbers must be a list of texts"),
        ({"rate": 7.66}, "row 1: rate must be text"),
    ],
)
def test_wrong_case_is_refused_with_its_row(tmp_path: Path, changes: dict[str, Any], message: str | None) -> None:
    row = json.loads(DUTY_CASES.read_text(encoding="utf-8"))[0] | changes
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    if message is None:
        assert len(list(read_cases(path))) == 1
        return
    with pytest.raises(InvalidRequest) as refused:
        list(read_cases(path))
    assert refused.value.message.startswith(message)
    assert "Load the tariff" in refused.value.message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("7323,FDA1,FDA,must,", "row 1: flag 'FDA1'"),
        ("73,FD1,FDA,must,", "row 1: htsno '73'"),
        ("7323,FD1,Food,must,", "row 1: agency 'Food'"),
        ("7323,FD1,FDA,perhaps,", "row 1: requirement 'perhaps'"),
        ("7323,FD1,FDA,must,\n7323,FD1,FDA,may,", "row 2: 7323 has flag FD1 twice; remove one row"),
        ("", "the file has no rows"),
    ],
)
def test_wrong_flag_is_refused_with_its_row(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "flags.csv"
    path.write_text(f"HTS Number,Agency Tariff Code,Agency,Requirement,Meaning\n{rows}\n", encoding="utf-8")
    with pytest.raises(InvalidRequest) as refused:
        list(read_flags(path))
    assert refused.value.message.startswith(message)


def test_table_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flags.csv"
    path.write_text("HTS Number,Agency\n7323,FDA\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="nor a CSV with these columns: Agency Tariff Code"):
        list(read_flags(path))
    path.write_text('[{"htsno": "7323", "agency": "FDA"}]', encoding="utf-8")
    with pytest.raises(InvalidRequest, match="row 1 lacks flag"):
        list(read_flags(path))


def test_comparison_is_within_one_kind(runtime: Runtime, tmp_path: Path) -> None:
    before, flags = import_table(runtime, DUTY_CASES, JULY), import_table(runtime, AGENCY_FLAGS, JULY)
    rows = json.loads(DUTY_CASES.read_text(encoding="utf-8"))
    rows[2]["rate"] = "10%"
    path = tmp_path / "duty_cases_2.json"
    path.write_text(json.dumps(rows[:-1]), encoding="utf-8")
    after = import_table(runtime, path, NOVEMBER)
    with runtime.db.read() as session:
        assert list(compare_editions(session, before, after)) == [
            TariffChange("A122857012", "changed", "deposit rate", "9.65%", "10%"),
            TariffChange("A570100000", "removed", before="Paper bags from China"),
        ]
        with pytest.raises(
            InvalidRequest, match="is an edition of the kind duty-cases, and agency_flags of agency-flags"
        ):
            list(compare_editions(session, before, flags))


def test_number_is_shown_with_its_flags(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, JULY)
    with runtime.db.read() as session:
        assert show_number(session, "7323930045", NOVEMBER).agency_flags == []
    import_table(runtime, AGENCY_FLAGS, date(2026, 8, 1))
    with runtime.db.read() as session:
        flags = show_number(session, "7323930045", NOVEMBER).agency_flags
        assert show_number(session, "7323930045", JULY).agency_flags == []
    assert [(each.flag, each.agency, each.requirement, each.edition) for each in flags] == [
        ("FW1", "FWS", None, "agency_flags"), ("FD1", "FDA", "may", "agency_flags"),
    ]  # fmt: skip


def test_number_is_shown_with_the_cases_that_name_it(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, JULY)

    def cases(number: str, on: date) -> list[tuple[str, str, str, str | None, str]]:
        with runtime.db.read() as session:
            shown = show_number(session, number, on).duty_cases
        return [(row.case_number, row.country, row.status, row.rate, row.edition) for row in shown]

    assert cases("7323930045", NOVEMBER) == []
    import_table(runtime, DUTY_CASES, JULY, date(2026, 12, 31))
    assert cases("7323930045", NOVEMBER) == [("A-570-779-000", "CN", "active", "1.50%", "duty_cases")]
    assert cases("7323930045", date(2026, 12, 1)) == [("A-570-779-000", "CN", "revoked", None, "duty_cases")]
    assert cases("73239300", NOVEMBER) == [], "a case that names a suffix is not one of the whole number"
    assert cases("7323930045", date(2027, 1, 1)) == [], "the table has ended"
    assert cases("6115940000", NOVEMBER) == []


def test_products_of_a_number_have_one_case_each(runtime: Runtime, tmp_path: Path) -> None:
    import_revision(runtime, REVISION_6, JULY)

    def state(case: str, country: str, number: str, status: str, first_day: str) -> dict[str, Any]:
        texts = {"name": "Cookware", "rate": "5%", "source": "a test, not a rate in force"}
        return texts | {"case": case, "country": country, "numbers": [number], "status": status, "from": first_day}

    rows = [
        state("A-570-901-000", "CN", "7323.93", "revoked", "2026-01-01"),
        state("A-570-901-007", "CN", "7323.93", "active", "2026-01-01"),
        state("A-570-901-009", "CN", "7323.93", "active", "2026-01-01"),
        state("C-201-902-000", "MX", "7323", "active", "2026-01-01"),
        state("A-533-903-000", "IN", "7323.93.00.45", "active", "2026-01-01"),
        state("A-533-903-000", "IN", "7323.93.00.60", "active", "2026-11-01"),
        state("A-533-904-000", "IN", "7323.93.00.45", "active", "2026-12-01"),
    ]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    import_table(runtime, path, JULY)
    with runtime.db.read() as session:
        shown = show_number(session, "7323930045", NOVEMBER).duty_cases
        before = show_number(session, "7323930045", JULY).duty_cases
    assert [row.case_number for row in shown] == ["A-570-901-007", "C-201-902-000"], "the scope of 903 has changed"
    assert [row.case_number for row in before] == ["A-533-903-000", "A-570-901-007", "C-201-902-000"]


def test_many_cases_and_numbers_are_compared_in_seconds_at_most() -> None:
    edition = TariffEdition(
        id="trf_1",
        kind="duty-cases",
        name="many",
        effective_from=JULY,
        content_hash="",
        source="",
        rows=0,
        numbers=0,
        chapters=[],
    )
    rows = [
        DutyCase(
            edition_id="trf_1", position=n, case_number=f"A570{n:06d}", root=f"A570{n // 1000:03d}", name="", country="CN",
            numbers=[f"{73000000 + n * 20 + part}" for part in range(20)], status="active", rate="5%", effective_from=JULY, source="",
        )
        for n in range(3_000)
    ]  # fmt: skip
    cases, started = CasesOnDay(edition, rows), thread_time()
    assert {len(each) for each in [cases.list_in_scope(f"{73000000 + n}00", "CN") for n in range(3_000)]} == {1}
    assert thread_time() - started < 5
