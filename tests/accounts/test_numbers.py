"""Skipped numbers after a restore: none is issued twice, and a rebuild from the log does not issue them again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlmodel import col, select

from config.settings import Settings
from pipeline.accounts.numbers import MAX_SKIPPED, NextNumbers, skip_numbers
from pipeline.core.errors import NotFound, ValidationFailed
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.exports.models import Account, ExportPackage, ExportUnit
from pipeline.exports.numbers import reserve_block
from pipeline.exports.packages import record_packages
from pipeline.exports.step_context import StepContext
from tests.exports.accepted import accept, open_account
from tests.support.factories import ACCOUNT, plan

PREFIX = "0614141"


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    settings = Settings.model_validate({"database_url": database_url, "artifacts_url": f"file:{tmp_path}"})
    opened = open_runtime(settings)
    yield opened
    opened.close()


def read_counters(runtime: Runtime) -> tuple[int, int]:
    with runtime.db.read() as session:
        account = session.get_one(Account, ACCOUNT)
        return account.packages_numbered, account.ssccs_issued


def number(runtime: Runtime, context: StepContext) -> None:
    with runtime.db.write() as session:
        record_packages(session, context)


def read_given_numbers(runtime: Runtime) -> tuple[list[str | None], list[str | None]]:
    with runtime.db.read() as session:
        numbers = session.scalars(select(ExportUnit.package_number).order_by(col(ExportUnit.package_number))).all()
        return list(numbers), list(session.scalars(select(ExportPackage.sscc).order_by(col(ExportPackage.sscc))).all())


def test_skip_numbers_returns_numbers_of_next_export(runtime: Runtime) -> None:
    open_account(runtime.db, ACCOUNT, PREFIX)
    open_account(runtime.db, "acc_other", PREFIX)
    (before,) = accept(runtime.db, plan(batch="batch_1"))
    number(runtime, before)
    following = skip_numbers(runtime, ACCOUNT, packages=40, ssccs=100)
    assert following == NextNumbers("CP-000042", "006141410000001033")
    assert read_counters(runtime) == (41, 102)
    (after,) = accept(runtime.db, plan(batch="batch_2"))
    number(runtime, after)
    assert read_given_numbers(runtime) == (
        ["CP-000001", "CP-000042"],
        ["006141410000000012", "006141410000000029", "006141410000001033", "006141410000001040"],
    )
    with runtime.db.read() as session:
        assert session.get_one(Account, "acc_other").packages_numbered == 0


def test_skip_numbers_drops_the_numbers_of_reserved_blocks(runtime: Runtime) -> None:
    open_account(runtime.db, ACCOUNT, PREFIX)
    with runtime.db.write() as session:
        reserve_block(session, ACCOUNT, packages=1, ssccs=2)
    assert skip_numbers(runtime, ACCOUNT, packages=40, ssccs=100) == NextNumbers("CP-000141", "006141410000003013")
    (after,) = accept(runtime.db, plan())
    number(runtime, after)
    assert read_given_numbers(runtime) == (["CP-000141"], ["006141410000003013", "006141410000003020"])


def test_skip_numbers_while_workers_run_issues_no_number_twice(runtime: Runtime) -> None:
    open_account(runtime.db, ACCOUNT, PREFIX)
    contexts = [context for batch in range(3) for context in accept(runtime.db, plan(4, batch=f"batch_{batch}"))]
    with ThreadPoolExecutor(6) as pool:
        skipping = [pool.submit(skip_numbers, runtime, ACCOUNT, packages=10, ssccs=10) for _ in range(6)]
        list(pool.map(lambda context: number(runtime, context), contexts))
    results = [each.result() for each in skipping]
    numbers, ssccs = read_given_numbers(runtime)
    assert (len(set(numbers)), len(set(ssccs))) == (12, 24)
    assert len({each.package_number for each in results}) == 6


@pytest.mark.parametrize(
    ("packages", "ssccs", "field", "why"),
    [
        (0, 0, "/packages", "nothing to skip"),
        (-1, 0, "/packages", "a count to skip must be from 0 to 1000000, not -1"),
        (1, -1, "/ssccs", "a count to skip must be from 0 to 1000000, not -1"),
        (MAX_SKIPPED + 1, 0, "/packages", "a count to skip must be from 0 to 1000000, not 1000001"),
        (1, 3, "/ssccs", "has issued 999996 SSCCs, and could issue none afterwards"),
    ],
)
def test_skip_numbers_with_invalid_count_is_refused(
    runtime: Runtime, packages: int, ssccs: int, field: str, why: str
) -> None:
    open_account(runtime.db, ACCOUNT, "0614141000")
    with runtime.db.write() as session:
        session.get_one(Account, ACCOUNT).ssccs_issued = 999_996
    with pytest.raises(ValidationFailed, match=why) as refused:
        skip_numbers(runtime, ACCOUNT, packages=packages, ssccs=ssccs)
    assert refused.value.field == field
    assert read_counters(runtime) == (0, 999_996)


def test_skip_numbers_up_to_last_serial_is_allowed(runtime: Runtime) -> None:
    open_account(runtime.db, ACCOUNT, "0614141000")
    with runtime.db.write() as session:
        session.get_one(Account, ACCOUNT).ssccs_issued = 999_996
    assert skip_numbers(runtime, ACCOUNT, ssccs=2) == NextNumbers("CP-000001", "006141410009999997")


def test_skip_numbers_without_gs1_prefix_allows_only_packages(runtime: Runtime) -> None:
    open_account(runtime.db, ACCOUNT)
    with pytest.raises(ValidationFailed, match="has no GS1 company prefix"):
        skip_numbers(runtime, ACCOUNT, packages=1, ssccs=1)
    assert skip_numbers(runtime, ACCOUNT, packages=1) == NextNumbers("CP-000002", None)
    assert read_counters(runtime) == (1, 0)


def test_skip_numbers_of_unknown_account_is_not_found(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="there is no account acc_nobody"):
        skip_numbers(runtime, "acc_nobody", packages=1)
