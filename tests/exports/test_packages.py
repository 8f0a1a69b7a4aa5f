"""Tests of the step that records packages: numbers are unique, rows equal the plan, and contradictions are refused."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from pipeline.core.db import Database
from pipeline.core.errors import StepFailed
from pipeline.exports.models import Account, ExportPackage, ExportUnit
from pipeline.exports.packages import check_packages, check_plan, record_packages
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.sscc import is_sscc
from pipeline.exports.step_context import StepContext
from tests.exports.accepted import accept, open_account
from tests.support.factories import ACCOUNT, Json, change_plan, plan
from tests.support.memory import LINEAR, measure_cost_ratio
from tests.support.query_counter import record_statements

PREFIX = "0614141"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.dispose()


def run_record_packages(database: Database, context: StepContext) -> Json:
    """Run the step as `run_step` does, and return the data of its one event."""
    with database.write() as session:
        (event,) = record_packages(session, context)
    assert event.type == "PACKAGES_RECORDED"
    return dict(event.data)


def rows(database: Database) -> list[ExportPackage]:
    with database.read() as session:
        return list(
            session.exec(select(ExportPackage).order_by(col(ExportPackage.unit_no), col(ExportPackage.position)))
        )


def counters(database: Database) -> tuple[int, int]:
    with database.read() as session:
        account = session.get_one(Account, ACCOUNT)
        return account.packages_numbered, account.ssccs_issued


def test_package_row_equals_the_plan(database: Database) -> None:
    open_account(database, ACCOUNT)
    (context,) = accept(database, plan())
    data = run_record_packages(database, context)
    assert data | {"customsPackageId": ""} == {
        "unitNo": 1, "unitRef": "U1", "customsPackageId": "", "packageNumber": "CP-000001", "packages": 2, "ssccsIssued": 0,
    }  # fmt: skip
    first, second = rows(database)
    assert first.model_dump() == {
        "export_id": context.export_id,
        "unit_no": 1,
        "package_ref": "P1",
        "account_id": ACCOUNT,
        "position": 1,
        "type": "CTN",
        "sscc": None,
        "sscc_issued": False,
        "released": False,
        "lpn": "LPN-001-00001",
        "parent_ref": None,
        "length_cm": "60",
        "width_cm": "40",
        "height_cm": "40",
        "gross_weight_kg": "8.000",
        "tare_weight_kg": "0.050",
        "tracking_number": None,
        "order_id": "ord_1",
        "contents": [{"lineRef": "L1", "quantity": "4"}, {"lineRef": "L3", "quantity": "4"}],
    }
    assert (second.package_ref, second.position) == ("P2", 2)


def test_account_with_prefix_issues_missing_ssccs(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    given = "106141412345678908"
    (context,) = accept(database, change_plan(plan(1, 3, 3), "/units/0/packages/1/sscc", given))
    assert run_record_packages(database, context)["ssccsIssued"] == 2
    assert [(row.sscc, row.sscc_issued) for row in rows(database)] == [
        ("006141410000000012", True),
        (given, False),
        ("006141410000000029", True),
    ]
    assert all(is_sscc(row.sscc or "") for row in rows(database))
    assert counters(database) == (1, 2)


def test_units_of_concurrent_exports_have_unique_numbers(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    contexts = [context for batch in range(4) for context in accept(database, plan(5, 2, 3, batch=f"batch_{batch}"))]
    with ThreadPoolExecutor(8) as pool:
        numbers = [
            data["packageNumber"] for data in pool.map(lambda context: run_record_packages(database, context), contexts)
        ]
    assert len(set(numbers)) == 20
    assert len({row.sscc for row in rows(database)}) == 60
    with database.read() as session:
        assert set(session.exec(select(ExportUnit.package_number))) == set(numbers)


def test_accounts_number_packages_separately(database: Database) -> None:
    open_account(database, ACCOUNT)
    open_account(database, "acc_other")
    (mine,) = accept(database, plan())
    (theirs,) = accept(database, plan(account="acc_other"))
    assert [run_record_packages(database, context)["packageNumber"] for context in (mine, theirs)] == ["CP-000001"] * 2


def test_rolled_back_step_releases_its_numbers(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    (context,) = accept(database, plan())
    with database.write() as session:
        record_packages(session, context)
        session.rollback()
    assert rows(database) == []
    assert counters(database) == (0, 0)
    assert run_record_packages(database, context)["packageNumber"] == "CP-000001"


def test_numbered_unit_keeps_its_number(database: Database) -> None:
    open_account(database, ACCOUNT)
    (context,) = accept(database, plan())
    with database.write() as session:
        session.get_one(ExportUnit, (context.export_id, 1)).package_number = "CP-000042"
    assert run_record_packages(database, context)["packageNumber"] == "CP-000042"
    assert counters(database) == (0, 0)


def test_used_up_prefix_fails_the_step_and_writes_nothing(database: Database) -> None:
    open_account(database, ACCOUNT, "0614141000")
    (context,) = accept(database, plan())
    with database.write() as session:
        session.get_one(Account, ACCOUNT).ssccs_issued = 999_998
    with pytest.raises(StepFailed, match="no SSCC can be issued"), database.write() as session:
        record_packages(session, context)
    assert rows(database) == []
    assert counters(database) == (0, 999_998)


def test_record_packages_uses_a_constant_number_of_statements(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)

    def count(packages: int) -> int:
        (context,) = accept(database, plan(1, 3, packages, batch=f"batch_{packages}"))
        with record_statements(database) as statements:
            run_record_packages(database, context)
        return len(statements)

    assert count(2) == count(2_000)


def test_step_records_only_its_own_unit(database: Database) -> None:
    open_account(database, ACCOUNT)
    _, second = accept(database, plan(2, 3, 2))
    run_record_packages(database, second)
    assert [(row.unit_no, row.lpn) for row in rows(database)] == [(2, "LPN-002-00001"), (2, "LPN-002-00002")]


def test_recording_twice_raises_integrity_error(database: Database) -> None:
    open_account(database, ACCOUNT)
    (context,) = accept(database, plan())
    run_record_packages(database, context)
    with pytest.raises(IntegrityError), database.write() as session:
        record_packages(session, context)
    assert len(rows(database)) == 2


P = "/units/0/packages"
PALLET: Json = {
    "packageRef": "PLT1", "type": "PLT", "sscc": "106141412345678908", "lpn": None, "parentRef": None, "lengthCm": "120",
    "widthCm": "100", "heightCm": "110", "grossWeightKg": "30.000", "tareWeightKg": "18.000", "trackingNumber": None,
    "orderId": None, "contents": [],
}  # fmt: skip


def list_findings(made: Json) -> list[tuple[str, str]]:
    found = check_plan(Plan.model_validate(made))
    assert all(finding.severity == "block" for finding in found)
    assert all(finding.remedy.endswith(".") for finding in found)
    return [(finding.rule, finding.pointer) for finding in found]


def with_changes(*changes: tuple[str, Any], made: Json | None = None) -> Json:
    made = made or plan()
    for pointer, value in changes:
        made = change_plan(made, pointer, value)
    return made


def put_on_pallet() -> Json:
    return with_changes((f"{P}/-", PALLET), (f"{P}/0/parentRef", "PLT1"), (f"{P}/1/parentRef", "PLT1"))


@pytest.mark.parametrize(("units", "lines", "packages"), [(1, 3, 2), (1, 2, 5), (1, 7, 3), (3, 4, 4)])
def test_valid_plan_has_no_findings(units: int, lines: int, packages: int) -> None:
    assert list_findings(plan(units, lines, packages)) == []


def test_cartons_on_a_pallet_have_no_findings() -> None:
    assert list_findings(put_on_pallet()) == []


BREACHES: dict[str, tuple[list[tuple[str, Any]], list[tuple[str, str]]]] = {
    "P01 a package twice": ([(f"{P}/1/packageRef", "P1")], [("P01", f"{P}/1/packageRef")]),
    "P02 a parent that is not there": ([(f"{P}/1/parentRef", "PLT9")], [("P02", f"{P}/1/parentRef")]),
    "P03 a package inside itself": (
        [(f"{P}/1/parentRef", "P2"), (f"{P}/1/grossWeightKg", "4.000")],
        [("P03", f"{P}/1/parentRef")],
    ),
    "P03 two packages inside each other": (
        [(f"{P}/0/parentRef", "P2"), (f"{P}/1/parentRef", "P1"), (f"{P}/1/grossWeightKg", "8.000")],
        [("P03", f"{P}/0/parentRef"), ("P03", f"{P}/1/parentRef")],
    ),
    "P04 a wrong check digit": ([(f"{P}/0/sscc", "106141412345678907")], [("P04", f"{P}/0/sscc")]),
    "P05 an SSCC twice": (
        [(f"{P}/0/sscc", "106141412345678908"), (f"{P}/1/sscc", "106141412345678908")],
        [("P05", f"{P}/1/sscc")],
    ),
    "P05 an LPN twice": ([(f"{P}/1/lpn", "LPN-001-00001")], [("P05", f"{P}/1/lpn")]),
    "P06 heavier empty than full": ([(f"{P}/0/tareWeightKg", "8.001")], [("P06", f"{P}/0/tareWeightKg")]),
    "P07 an empty carton": ([(f"{P}/-", PALLET | {"type": "CTN", "packageRef": "P9"})], [("P07", f"{P}/2/contents")]),
    "P08 goods of no line": (
        [(f"{P}/0/contents/-", {"lineRef": "L9", "quantity": "1"})],
        [("P08", f"{P}/0/contents/2/lineRef")],
    ),
    "P09 a line twice in one carton": (
        [(f"{P}/0/contents/0/quantity", "3"), (f"{P}/0/contents/-", {"lineRef": "L1", "quantity": "1"})],
        [("P09", f"{P}/0/contents/2/lineRef")],
    ),
    "P10 a piece too few": ([(f"{P}/0/contents/0/quantity", "3")], [("P10", "/units/0/lines/0/quantity")]),
    "P10 a trace too much": ([(f"{P}/0/contents/0/quantity", "4.000001")], [("P10", "/units/0/lines/0/quantity")]),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_breach_is_found_at_its_pointer(breach: str) -> None:
    changes, expected = BREACHES[breach]
    assert list_findings(with_changes(*changes)) == expected


def test_pallet_lighter_than_its_cartons_is_found() -> None:
    made = with_changes((f"{P}/2/grossWeightKg", "11.999"), (f"{P}/2/tareWeightKg", "1"), made=put_on_pallet())
    assert list_findings(made) == [("P06", f"{P}/2/grossWeightKg")]


def test_number_used_twice_in_the_plan_is_found() -> None:
    assert list_findings(change_plan(plan(2), "/units/1/packages/0/lpn", "LPN-001-00001")) == [
        ("P05", "/units/1/packages/0/lpn")
    ]


def test_equal_quantities_with_different_digits_agree() -> None:
    assert list_findings(with_changes((f"{P}/0/contents/0/quantity", "4.000000"))) == []


def test_finding_points_into_the_checked_unit() -> None:
    unit = Plan.model_validate(with_changes((f"{P}/0/contents/0/quantity", "3"))).units[0]
    (finding,) = check_packages(unit, 7)
    assert finding.pointer == "/units/7/lines/0/quantity"
    assert finding.message == "Line L1 invoices 4 NO of PAN-00001, but the packages hold 3: P1 holds 3."


def test_different_quantities_name_the_packages_of_the_line() -> None:
    made = plan(1, 1, 7)
    for package in made["units"][0]["packages"]:
        package["contents"] = [{"lineRef": "L1", "quantity": "1"}]
    (finding,) = [each for each in check_plan(Plan.model_validate(made)) if each.rule == "P10"]
    refs = [package["packageRef"] for package in made["units"][0]["packages"]]
    named = ", ".join(f"{ref} holds 1" for ref in refs[:4])
    assert finding.message.endswith(f"but the packages hold 7: {named}, and 3 more packages hold the rest.")


def test_line_without_package_is_named_in_the_finding() -> None:
    made = plan(1, 2)
    for package in made["units"][0]["packages"]:
        package["contents"] = [held for held in package["contents"] if held["lineRef"] != "L1"]
    (finding,) = [each for each in check_plan(Plan.model_validate(made)) if each.rule == "P10"]
    assert finding.message.endswith("but the packages hold 0: no package names the line.")


@pytest.mark.system
def test_check_time_grows_linearly_with_packages() -> None:
    some, many = (Plan.model_validate(plan(1, lines, 2 * lines)) for lines in (400, 4_000))
    assert check_plan(many) == []
    assert measure_cost_ratio(check_plan, some, many) < LINEAR


def build_tower(height: int) -> Json:
    """Return a plan with one carton on top of a tower of `height` packages."""
    made = plan(1, 1, 1)
    packages = made["units"][0]["packages"]
    packages[0]["parentRef"] = "T0"
    packages += [
        PALLET | {"packageRef": f"T{n}", "sscc": None, "parentRef": f"T{n + 1}" if n + 1 < height else None}
        for n in range(height)
    ]
    return made


@pytest.mark.system
def test_high_tower_of_packages_is_checked_in_linear_time() -> None:
    low, high = build_tower(399), build_tower(3_999)
    small, circle = (
        Plan.model_validate(change_plan(made, f"{P}/{top}/parentRef", f"T{(top + 1) // 2}"))
        for made, top in ((low, 399), (high, 3_999))
    )
    assert list_findings(high) == []
    cyclic = [finding.pointer for finding in check_plan(circle) if finding.rule == "P03"]
    assert cyclic == [f"{P}/{n}/parentRef" for n in range(2_001, 4_000)]
    assert measure_cost_ratio(check_plan, *map(Plan.model_validate, (low, high))) < LINEAR
    assert measure_cost_ratio(check_plan, small, circle) < LINEAR
