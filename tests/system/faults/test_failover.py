"""A standby that lacks the last commits is promoted; after the documented recipe no number is given twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from config.settings import Settings
from pipeline.accounts.numbers import skip_numbers
from pipeline.core.db import Database
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.exports.numbers import take_numbers
from pipeline.exports.packages import package_number
from pipeline.exports.sscc import issue_sscc
from pipeline.ops.migrations.runner import upgrade_database
from tests.conftest import SERVERS, _start_own_server
from tests.exports.accepted import open_account
from tests.support.factories import ACCOUNT
from tests.support.servers import PostgreSQL, poll

pytestmark = SERVERS

PREFIX = "0614141234"
#: Sizes of units: most are small, a few are large.
SIZES = (1, 5, 5, 5, 60, 5, 5, 800)
WORKERS = 8
#: The units that are numbered after the standby's last commit.
LOST = 24

Given = list[tuple[int, range]]
Recipe = Callable[[Runtime, Given], None]


class Standby(PostgreSQL):
    """An asynchronous standby of another cluster, on a copy of its folder."""

    def __init__(self, primary: PostgreSQL) -> None:
        super().__init__()
        self.primary = primary

    def start(self) -> Self:
        """Copy the primary at the first start."""
        if not (self.folder / "data").exists():
            program = str(Path(self.initdb).with_name("pg_basebackup"))
            source = ["-h", "127.0.0.1", "-p", str(self.primary.port), "-U", self.user]
            copied = self.spawn([program, *source, "-D", "data", "-R", "-X", "stream", "--checkpoint=fast"], {}).wait()
            assert copied == 0, self.log()
        return super().start()

    def promote(self) -> None:
        """Make it the primary."""
        with self.connection() as connection:
            assert connection.execute("SELECT pg_promote()::text").fetchone() == ("true",)


@pytest.fixture
def primary() -> Iterator[PostgreSQL]:
    with _start_own_server(PostgreSQL) as server:
        yield server


def give(database: Database, units: int) -> Given:
    """Number so many units by several workers at once; return the package number and the serials of each."""

    def number(unit: int) -> tuple[int, range]:
        ssccs = SIZES[unit % len(SIZES)]
        with database.write() as session:
            taken = take_numbers(session, ACCOUNT, packages=1, ssccs=ssccs)
            session.connection().exec_driver_sql("SELECT pg_sleep(0.005)")
        return taken.package, range(taken.sscc - ssccs + 1, taken.sscc + 1)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(number, range(units)))


def skip_above_the_highest(runtime: Runtime, given: Given) -> None:
    highest = max(package for package, _ in given), max(serials[-1] for _, serials in given)
    above_sscc = issue_sscc(PREFIX, highest[1])
    skip_numbers(runtime, ACCOUNT, above=package_number(highest[0]), above_sscc=above_sscc)


def skip_twice_as_many(runtime: Runtime, given: Given) -> None:
    lost = given[-LOST:]
    skip_numbers(runtime, ACCOUNT, packages=2 * len(lost), ssccs=2 * sum(len(serials) for _, serials in lost))


@pytest.mark.parametrize("recipe", [skip_above_the_highest, skip_twice_as_many])
@pytest.mark.parametrize("before", [0, 40])
def test_promoted_standby_gives_no_number_twice(
    primary: PostgreSQL, recipe: Recipe, before: int, tmp_path: Path
) -> None:
    url = primary.fresh_url()
    database = Database(url)
    upgrade_database(database)
    open_account(database, ACCOUNT, PREFIX)
    with _start_own_server(Standby, primary) as standby:
        given = give(database, before)
        poll(lambda: has_all(primary, standby), 30, "the standby does not follow")
        standby.stop()
        given += give(database, LOST)
        database.dispose()
        primary.kill()
        standby.start()
        standby.promote()
        settings = {"database_url": standby.database_url(url.rpartition("/")[2]), "artifacts_url": f"file:{tmp_path}"}
        runtime = open_runtime(Settings.model_validate(settings))
        recipe(runtime, given)
        given += give(runtime.db, 8 * LOST)
        runtime.close()
    packages, serials = Counter(package for package, _ in given), Counter(each for _, unit in given for each in unit)
    assert (len(given), max(packages.values()), max(serials.values())) == (before + 9 * LOST, 1, 1)


def has_all(primary: PostgreSQL, standby: PostgreSQL) -> bool:
    """Return whether the standby has replayed what the primary has written."""
    with primary.connection() as here, standby.connection() as there:
        written = here.execute("SELECT pg_current_wal_lsn()").fetchone()
        assert written is not None
        query = "SELECT (pg_last_wal_replay_lsn() >= %s::pg_lsn)::text"
        return there.execute(query, written).fetchone() == ("true",)
