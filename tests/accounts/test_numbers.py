"""Skipped numbers after a restore: none is issued twice, and a rebuild from the log does not issue them again."""

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
from pipeline.exports.numbers import Reserved, most_reserved, reserve_blocks
from pipeline.exports.packages import package_number, record_packages
from pipeline.exports.sscc import issue_sscc
from pipeline.exports.step_context import StepContext
from tests.exports.accepted import accept, open_account
from tests.support import stored
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


def read_reserved(runtime: Runtime, prefix: str = PREFIX) -> Reserved:
    with runtime.db.read() as session:
        return most_reserved(session, prefix)


def test_skipped_counts_include_what_blocks_may_have_had(runtime: Runtime) -> None:
    open_account(runtime.db, ACCOUNT, PREFIX)
    open_account(runtime.db, "acc_other", PREFIX)
    reserved = read_reserved(runtime)
    assert reserved == (Reserved(0, 0) if runtime.db.is_sqlite else Reserved(5_000, 9_999_999))
    (before,) = accept(runtime.db, plan(batch="batch_1"))
    number(runtime, before)
    skipped = skip_numbers(runtime, ACCOUNT, packages=40, ssccs=100)
    package, serial = 42 + reserved.packages, 103 + reserved.ssccs
    assert skipped == NextNumbers(package - 2, serial - 3, package_number(package), issue_sscc(PREFIX, serial))
    (after,) = accept(runtime.db, plan(batch="batch_2"))
    number(runtime, after)
    assert read_given_numbers(runtime) == (
        ["CP-000001", package_number(package)],
        [issue_sscc(PREFIX, each) for each in (1, 2, serial, serial + 1)],
    )
    assert stored.get(runtime, Account, "acc_other").packages_numbered == 0


@pytest.mark.parametrize(("above", "above_sscc"), [("CP-000202", "006141410000003013"), ("202", "301")])
def test_next_numbers_are_above_the_highest_that_a_partner_has(runtime: Runtime, above: str, above_sscc: str) -> None:
    open_account(runtime.db, ACCOUNT, PREFIX)
    with runtime.db.write() as session:
        reserve_blocks(session, ACCOUNT, packages=1, ssccs=2)
    assert skip_numbers(runtime, ACCOUNT, above=above) == NextNumbers(102, 0, "CP-000203", "006141410000002016")
    skipped = skip_numbers(runtime, ACCOUNT, above=above, above_sscc=above_sscc)
    assert skipped == NextNumbers(0, 101, "CP-000203", "006141410000003020")
    # The numbers of the reserved blocks are lower, and are not given.
    (after,) = accept(runtime.db, plan())
    number(runtime, after)
    assert read_given_numbers(runtime) == (["CP-000203"], ["006141410000003020", "006141410000003037"])


@pytest.mark.parametrize(
    ("above", "above_sscc", "field", "why"),
    [
        ("CP-1x", None, "/above", "'CP-1x' is not a package number; give one such as CP-000202"),
        ("CP-1000001", None, "/above", "1000001 is 1000001 above 0, the last that the account knows"),
        (None, "006141420000003010", "/aboveSscc", "neither an SSCC with the account's GS1 company prefix 0614141"),
        (None, "006141410000003010", "/aboveSscc", "nor a serial; correct it"),  # wrong check digit
    ],
)
def test_highest_number_that_cannot_be_is_refused(
    runtime: Runtime, above: str | None, above_sscc: str | None, field: str, why: str
) -> None:
    open_account(runtime.db, ACCOUNT, PREFIX)
    with pytest.raises(ValidationFailed, match=why) as refused:
        skip_numbers(runtime, ACCOUNT, above=above, above_sscc=above_sscc)
    assert refused.value.field == field
    assert read_counters(runtime) == (0, 0)


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
    skipped = skip_numbers(runtime, ACCOUNT, above_sscc="999998")
    assert skipped == NextNumbers(0, 2, "CP-000001", "006141410009999997")


def test_skip_numbers_without_gs1_prefix_allows_only_packages(runtime: Runtime) -> None:
    open_account(runtime.db, ACCOUNT)
    for ssccs in ({"ssccs": 1}, {"above_sscc": "1"}):
        with pytest.raises(ValidationFailed, match="has no GS1 company prefix"):
            skip_numbers(runtime, ACCOUNT, **ssccs)
    assert skip_numbers(runtime, ACCOUNT, above="1") == NextNumbers(1, 0, "CP-000002", None)
    assert read_counters(runtime) == (1, 0)


def test_skip_numbers_of_unknown_account_is_not_found(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="there is no account acc_nobody"):
        skip_numbers(runtime, "acc_nobody", packages=1)
