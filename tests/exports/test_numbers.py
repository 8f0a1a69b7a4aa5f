"""Tests of an account's numbers on PostgreSQL: transactions do not wait for each other, and no number is given twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from sqlmodel import Session, col, select

from pipeline.core.db import Database
from pipeline.exports.models import Account, NumberBlock
from pipeline.exports.numbers import BLOCK_UNITS, TakenNumbers, reserve_block, take_numbers
from pipeline.exports.sscc import last_serial
from tests.conftest import SERVERS
from tests.exports.accepted import open_account
from tests.support.factories import ACCOUNT
from tests.support.servers import PostgreSQL

pytestmark = SERVERS

PREFIX = "0614141"


@pytest.fixture
def database(postgres_server: PostgreSQL, postgres_template: str) -> Iterator[Database]:
    opened = Database(postgres_server.fresh_url(postgres_template))
    yield opened
    opened.dispose()


@contextmanager
def held(database: Database, *, packages: int = 1, ssccs: int = 2) -> Iterator[TakenNumbers]:
    """Take numbers in a transaction that is open until the block ends; fail if another makes it wait."""
    with database.write() as session:
        session.connection().exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        yield take_numbers(session, ACCOUNT, packages=packages, ssccs=ssccs)


def take(database: Database, *, packages: int = 1, ssccs: int = 2) -> TakenNumbers:
    with held(database, packages=packages, ssccs=ssccs) as taken:
        return taken


def reserve(database: Database, ssccs: int = 2) -> TakenNumbers:
    with database.write() as session:
        return reserve_block(session, ACCOUNT, packages=1, ssccs=ssccs)


def read_blocks(database: Database) -> list[tuple[int, int, int, int]]:
    with database.read() as session:
        blocks = session.exec(select(NumberBlock).order_by(col(NumberBlock.last_package))).all()
        return [(each.last_package, each.packages_left, each.last_sscc, each.ssccs_left) for each in blocks]


def read_counters(database: Database) -> tuple[int, int]:
    with database.read() as session:
        account = session.get_one(Account, ACCOUNT)
        return account.packages_numbered, account.ssccs_issued


def test_account_without_concurrent_units_reserves_no_block(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    assert take(database) == TakenNumbers(1, 2, PREFIX)
    assert take(database, packages=0, ssccs=5) == TakenNumbers(1, 7, PREFIX)
    assert read_blocks(database) == []
    assert read_counters(database) == (1, 7)


def test_transaction_waits_for_the_account_only_to_reserve_a_block(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    with ThreadPoolExecutor(1) as pool:
        with held(database) as first:
            waiting = pool.submit(take, database)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        assert (first, waiting.result(5)) == (TakenNumbers(1, 2, PREFIX), TakenNumbers(2, 4, PREFIX))
    assert read_blocks(database) == [(1 + BLOCK_UNITS, BLOCK_UNITS - 1, 2 + 2 * BLOCK_UNITS, 2 * (BLOCK_UNITS - 1))]


def test_transactions_with_a_block_each_do_not_wait(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    starts = [reserve(database) for _ in range(3)]
    assert [each.package for each in starts] == [1, 101, 201]
    with ExitStack() as stack:
        taken = [stack.enter_context(held(database)) for _ in range(3)]
    assert sorted((each.package, each.sscc) for each in taken) == [(2, 4), (102, 204), (202, 404)]


def test_rollback_releases_the_numbers_of_a_block(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    reserve(database)
    with database.write() as session:
        assert take_numbers(session, ACCOUNT, packages=1, ssccs=2).package == 2
        session.rollback()
    with database.write() as session:
        reserve_block(session, ACCOUNT, packages=1, ssccs=2)
        session.rollback()
    assert take(database).package == 2
    assert read_counters(database) == (100, 200)


def test_block_is_used_to_its_end_before_the_account(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    first = reserve(database)
    rest = [take(database) for _ in range(BLOCK_UNITS)]
    assert [each.package for each in (first, *rest)] == list(range(1, BLOCK_UNITS + 2))
    assert [each.sscc for each in (first, *rest)] == list(range(2, 2 * BLOCK_UNITS + 3, 2))
    assert read_counters(database) == (101, 202)


def test_unit_takes_from_the_smallest_block_that_suffices(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    for ssccs in (1, 5, 3):
        reserve(database, ssccs)
    assert take(database, ssccs=200) == TakenNumbers(202, 803, PREFIX)
    assert take(database, ssccs=99) == TakenNumbers(2, 100, PREFIX)
    assert take(database, ssccs=1_000) == TakenNumbers(301, 1_900, PREFIX)
    assert [each[1::2] for each in read_blocks(database)] == [(98, 0), (99, 495), (98, 97)]


def test_reserving_deletes_blocks_that_are_used_up(database: Database) -> None:
    open_account(database, ACCOUNT)
    for _ in range(BLOCK_UNITS):
        reserve(database) if not read_blocks(database) else take(database)
    assert read_blocks(database) == [(100, 0, 0, 0)]
    assert reserve(database) == TakenNumbers(101, 0, None)
    assert read_blocks(database) == [(200, 99, 0, 0)]


def test_last_serials_of_a_prefix_are_not_reserved(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    with database.write() as session:
        session.get_one(Account, ACCOUNT).ssccs_issued = last_serial(PREFIX) - 150
    assert reserve(database).sscc == last_serial(PREFIX) - 148
    assert take(database).sscc == last_serial(PREFIX) - 146
    assert [each[3] for each in read_blocks(database)] == [0]


def test_transaction_with_a_used_up_block_may_wait_for_the_account(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    reserve(database)
    for _ in range(BLOCK_UNITS - 1):
        take(database)
    with ThreadPoolExecutor(1) as pool, database.write() as session:
        # As if it had locked the block before its last number was taken.
        session.execute(select(NumberBlock).with_for_update())
        assert pool.submit(reserve, database).result(10).package == 101
        assert reserve_block(session, ACCOUNT, packages=1, ssccs=2).package == 201


def test_concurrent_transactions_take_each_number_once(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)

    def take_some(number: int) -> list[TakenNumbers]:
        return [take_with_pause(database, number, turn) for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        taken = [each for some in pool.map(take_some, range(8)) for each in some]
    packages, ssccs = [each.package for each in taken], [each.sscc for each in taken]
    assert (len(set(packages)), len(set(ssccs))) == (160, 160)
    # What is left in blocks and what was given is all that was reserved.
    left = read_blocks(database)
    assert read_counters(database) == (160 + sum(each[1] for each in left), 320 + sum(each[3] for each in left))


def take_with_pause(database: Database, number: int, turn: int) -> TakenNumbers:
    """Take numbers and let others run before the end of the transaction."""
    with database.write() as session:
        taken = take_numbers(session, ACCOUNT, packages=1, ssccs=2)
        pause(session, (number + turn) % 3)
        return taken


def pause(session: Session, milliseconds: int) -> None:
    session.connection().exec_driver_sql(f"SELECT pg_sleep({milliseconds / 1000})")
