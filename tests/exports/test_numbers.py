"""Tests of an account's numbers on PostgreSQL: transactions do not wait for each other, and no number is given twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from sqlmodel import Session, col, select

from pipeline.core.db import Database
from pipeline.exports.models import Account
from pipeline.exports.numbers import (
    BLOCK_UNITS,
    MOST_RESERVED_PACKAGES,
    NumberBlock,
    SerialBlock,
    TakenNumbers,
    most_reserved,
    reserve_blocks,
    take_numbers,
)
from pipeline.exports.sscc import last_serial
from pipeline.ops.migrations.runner import upgrade_database
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


def reserve(database: Database, ssccs: int = 2, *, packages: int = 1) -> TakenNumbers:
    with database.write() as session:
        return reserve_blocks(session, ACCOUNT, packages=packages, ssccs=ssccs)


def read_blocks(database: Database) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the last number and how many are left, of each block of package numbers and of serials."""
    with database.read() as session:
        packages = session.exec(select(NumberBlock).order_by(col(NumberBlock.last_package))).all()
        serials = session.exec(select(SerialBlock).order_by(col(SerialBlock.last_serial))).all()
        return (
            [(each.last_package, each.packages_left) for each in packages],
            [(each.last_serial, each.serials_left) for each in serials],
        )


def read_counters(database: Database) -> tuple[int, int]:
    with database.read() as session:
        account = session.get_one(Account, ACCOUNT)
        return account.packages_numbered, account.ssccs_issued


def test_account_without_concurrent_units_reserves_no_block(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    assert take(database) == TakenNumbers(1, 2, PREFIX)
    assert take(database, packages=0, ssccs=5) == TakenNumbers(1, 7, PREFIX)
    assert read_blocks(database) == ([], [])
    assert read_counters(database) == (1, 7)


def test_transaction_waits_for_the_account_only_to_reserve_a_block(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    with ThreadPoolExecutor(1) as pool:
        with held(database) as first:
            waiting = pool.submit(take, database)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        assert (first, waiting.result(5)) == (TakenNumbers(1, 2, PREFIX), TakenNumbers(2, 4, PREFIX))
    assert read_blocks(database) == (
        [(1 + BLOCK_UNITS, BLOCK_UNITS - 1)],
        [(2 + 2 * BLOCK_UNITS, 2 * (BLOCK_UNITS - 1))],
    )


def test_transactions_with_a_block_each_do_not_wait(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    assert [each.package for each in [reserve(database) for _ in range(3)]] == [1, 101, 201]
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
        reserve_blocks(session, ACCOUNT, packages=1, ssccs=2)
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
    assert take(database, ssccs=200) == TakenNumbers(2, 803, PREFIX)
    assert take(database, ssccs=99) == TakenNumbers(3, 100, PREFIX)
    assert take(database, ssccs=1_000) == TakenNumbers(4, 1_900, PREFIX)
    assert read_blocks(database) == ([(100, 96), (200, 99), (300, 99)], [(100, 0), (600, 495), (900, 97)])


def test_rest_of_a_block_serves_later_units(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    reserve(database, 1_000)
    for _ in range(BLOCK_UNITS):
        take(database, ssccs=5)
    # The package numbers of the block are used up, most of its serials are not.
    assert read_blocks(database) == ([(100, 0)], [(100_000, 98_500)])
    reserve(database, packages=1, ssccs=0)
    assert read_blocks(database) == ([(201, 99)], [(100_000, 98_500)])
    assert take(database, ssccs=98_500) == TakenNumbers(103, 100_000, PREFIX)
    assert read_counters(database)[1] == 100_000


@pytest.mark.parametrize(
    ("prefix", "unit", "block"),
    [
        ("0614141", 5, 500), ("0614141234", 5, 500), ("0614141234", 7, 700), ("0614141234", 30, 990),
        ("0614141234", 499, 998), ("0614141234", 500, 500), ("0614141234", 1_000, 1_000), ("061414123456", 5, 5),
    ],
)  # fmt: skip
def test_block_of_serials_is_small_beside_the_prefix(database: Database, prefix: str, unit: int, block: int) -> None:
    open_account(database, ACCOUNT, prefix)
    assert reserve(database, unit).sscc == unit
    assert read_counters(database) == (BLOCK_UNITS, block)
    assert read_blocks(database)[1] == ([(block, block - unit)] if block > unit else [])


def test_blocks_of_an_account_have_a_most_in_all(database: Database) -> None:
    prefix = "0614141234"
    open_account(database, ACCOUNT, prefix)
    for _ in range(60):
        reserve(database, 5)
    packages, serials = read_blocks(database)
    with database.read() as session:
        most = most_reserved(session, prefix)
    assert most == (MOST_RESERVED_PACKAGES, 9_999)
    assert (len(packages), len(serials)) == (50, 20)
    assert read_counters(database) == (50 * BLOCK_UNITS + 10, 20 * 500 + 40 * 5)


def test_last_serials_of_a_prefix_are_not_reserved(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    with database.write() as session:
        session.get_one(Account, ACCOUNT).ssccs_issued = last_serial(PREFIX) - 150
    assert reserve(database).sscc == last_serial(PREFIX) - 148
    assert take(database).sscc == last_serial(PREFIX) - 146
    assert read_blocks(database)[1] == []


def test_transaction_with_a_used_up_block_may_wait_for_the_account(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)
    reserve(database)
    for _ in range(BLOCK_UNITS - 1):
        take(database)
    with ThreadPoolExecutor(1) as pool, database.write() as session:
        # As if it had locked the blocks before their last numbers were taken.
        session.execute(select(NumberBlock).with_for_update())
        session.execute(select(SerialBlock).with_for_update())
        assert pool.submit(reserve, database).result(10).package == 101
        assert reserve_blocks(session, ACCOUNT, packages=1, ssccs=2).package == 201


def test_concurrent_transactions_take_each_number_once(database: Database) -> None:
    open_account(database, ACCOUNT, PREFIX)

    def take_some(number: int) -> list[tuple[int, range]]:
        return [take_with_pause(database, number, turn) for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        taken = [each for some in pool.map(take_some, range(8)) for each in some]
    packages, ssccs = [each[0] for each in taken], [serial for _, serials in taken for serial in serials]
    assert (len(set(packages)), len(set(ssccs))) == (160, len(ssccs))
    # What is left in blocks and what was given is all that was reserved.
    left = [sum(each for _, each in blocks) for blocks in read_blocks(database)]
    assert read_counters(database) == (160 + left[0], len(ssccs) + left[1])


def take_with_pause(database: Database, number: int, turn: int) -> tuple[int, range]:
    """Take numbers of units of several sizes, and let others run before the end of the transaction."""
    ssccs = (1, 2, 300)[(number * turn) % 3]
    with database.write() as session:
        taken = take_numbers(session, ACCOUNT, packages=1, ssccs=ssccs)
        pause(session, (number + turn) % 3)
        return taken.package, range(taken.sscc - ssccs + 1, taken.sscc + 1)


def pause(session: Session, milliseconds: int) -> None:
    session.connection().exec_driver_sql(f"SELECT pg_sleep({milliseconds / 1000})")


def test_upgrade_keeps_the_serials_of_blocks(postgres_server: PostgreSQL) -> None:
    database = Database(postgres_server.fresh_url())
    upgrade_database(database, "0001")
    with database.write() as session:
        connection = session.connection()
        connection.exec_driver_sql(
            "INSERT INTO accounts (id, name, gs1_prefix, packages_numbered, ssccs_issued, blocks_dropped_to, prints_french,"
            " created_at) VALUES (%s, 'Maple', %s, 300, 700, 100, false, now())",
            (ACCOUNT, PREFIX),
        )
        for block in ((100, 50, 200, 100), (200, 0, 400, 150), (300, 40, 700, 120)):
            connection.exec_driver_sql("INSERT INTO number_blocks VALUES (%s, %s, %s, %s, %s)", (ACCOUNT, *block))
    upgrade_database(database)
    # The numbers of a block that was dropped stay dropped.
    assert read_blocks(database) == ([(100, 50), (200, 0), (300, 40)], [(400, 150), (700, 120)])
    assert take(database, ssccs=130) == TakenNumbers(261, 380, PREFIX)
    assert take(database, ssccs=120) == TakenNumbers(262, 700, PREFIX)
    database.dispose()
