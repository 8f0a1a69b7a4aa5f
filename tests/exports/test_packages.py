"""Tests of the step that records packages: numbers are unique, and rows equal the plan."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from pipeline.core.db import Database
from pipeline.core.errors import StepFailed
from pipeline.exports.models import Account, ExportPackage, ExportUnit
from pipeline.exports.packages import record_packages
from pipeline.exports.sscc import is_sscc
from pipeline.exports.step_context import StepContext
from tests.exports.accepted import accept, open_account
from tests.support.factories import ACCOUNT, Json, change_plan, plan
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
