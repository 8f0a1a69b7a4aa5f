"""S10: how many units a second one account can have numbered, against a thousand accounts, on distant machines.

The statements of the unit's first steps are recorded from the service, and sent again for other exports by 32 bare
connections. So the processor of this machine limits the rate as late as possible. Each round trip takes 0.5 ms longer,
which a proxy would also do, but would need more processor time than the database.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final
from unittest.mock import patch

import psycopg
from sqlalchemy import StaticPool, create_engine
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.exports.models import Account
from pipeline.exports.numbers import reserve_blocks
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import STEPS
from tests.conftest import Stack
from tests.support import factories
from tests.support.task_by_task import task_by_task
from tests.system.benchmarks.bulk import copy_export, copy_id
from tests.system.benchmarks.environments import REDIS, BenchmarkServers
from tests.system.benchmarks.exports import accept_exports
from tests.system.benchmarks.figures import compare
from tests.system.benchmarks.goals import Extent, Goal, at_least

CONNECTIONS: Final = 32
ACCOUNTS: Final = 1_000
ROUND_TRIP_SECONDS: Final = 0.0005
ROUNDS: Final = 3
_RATE: Final = "units/s"
_TITLE: Final = f"units/s of one account against {ACCOUNTS:,} accounts, {CONNECTIONS} connections, 0.5 ms a round trip"


def measure(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """Send the statements for exports of one account, then of a thousand, in turns."""
    stack = servers.stack(REDIS)
    unlimited = stack.settings.model_copy(update={"max_open_exports": 10 * extent.numbered})
    with closing(open_runtime(unlimited)) as runtime, servers.connect(stack) as administrator:
        (template,) = accept_exports(runtime, 1)
        account = f"CASE WHEN n <= {extent.numbered} THEN account_id ELSE 'acc_' || mod(n, {ACCOUNTS}) END"
        columns = [each.name for each in table(Account).columns]
        values = ["'acc_' || n" if name == "id" else name for name in columns]
        administrator.execute(
            f"INSERT INTO accounts ({', '.join(columns)}) SELECT {', '.join(values)}"  # noqa: S608 - our own names
            f" FROM accounts, generate_series(0, {ACCOUNTS - 1}) n".encode()
        )
        copy_export(administrator, template, 2 * extent.numbered, changes={"account_id": account})
        recorded = _record_unit(runtime)
    with ExitStack() as open_:
        open_.enter_context(_distant_database())
        sessions = [open_.enter_context(_connect(stack)) for _ in range(CONNECTIONS)]
        send = partial(_send_for_some_seconds, sessions, recorded, template, extent.numbering_seconds)
        one, many = count(1), count(extent.numbered + 1)
        sides = {
            "one": lambda: {_RATE: send(one, lambda _: factories.ACCOUNT)},
            "many": lambda: {_RATE: send(many, lambda number: f"acc_{number % ACCOUNTS}")},
        }
        found = compare(sides, ROUNDS)
    rates = f"{found.median('one', _RATE):.0f} against {found.median('many', _RATE):.0f} units/s"
    return [at_least("S10", _TITLE, 0.6, found.ratio(_RATE, "one", "many"), rates)]


@dataclass(frozen=True)
class _Recorded:
    """The calls of psycopg for one unit, and its values that differ from unit to unit."""

    calls: Sequence[tuple[str, Any, Any]]
    export_id: str
    numbers: Sequence[str]

    def send(self, session: Session, export_id: str, account: str, number: int) -> None:
        """Repeat the calls for another export of another account, and reserve a block if the service would."""
        other = {self.export_id: export_id, factories.ACCOUNT: account}
        other |= {each: f"{position}-{number}" for position, each in enumerate(self.numbers)}
        connection = session.connection().connection.driver_connection
        assert connection is not None
        cursor = connection.cursor()
        for call, query, values in self.calls:
            if call == "commit":
                connection.commit()
                continue
            getattr(cursor, call)(_replace(query, other), _replace(values, other))
            if "number_blocks" in query:
                taken = cursor.fetchone()
                lacks = {
                    kind: values[kind] if taken[at] is None else 0 for at, kind in enumerate(("packages", "ssccs"))
                }
                if any(lacks.values()):
                    reserve_blocks(session, account, **lacks)


def _replace(value: Any, other: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for old, new in other.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, Mapping):
        return {name: _replace(each, other) for name, each in value.items()}
    return [_replace(each, other) for each in value] if isinstance(value, list | tuple) else value


def _record_unit(runtime: Runtime) -> _Recorded:
    """Run the first steps of an export, which number its packages, and return the calls."""
    (export_id,) = accept_exports(runtime, 1)
    calls: list[tuple[str, Any, Any]] = []

    def watch(of: type, name: str) -> Any:
        original = getattr(of, name)

        def record(self: Any, query: Any = None, values: Any = None, **rest: Any) -> Any:
            calls.append((name, query, values))
            return original(self) if query is None else original(self, query, values, **rest)

        return patch.object(of, name, record)

    with (
        watch(psycopg.Cursor, "execute"),
        watch(psycopg.Cursor, "executemany"),
        watch(psycopg.Connection, "commit"),
        task_by_task(),
    ):
        run_step(runtime, export_id, 1, STEPS[0].name)
    with runtime.db.read() as session:
        driver = session.connection()
        numbers = driver.exec_driver_sql(
            "SELECT package_number FROM units WHERE export_id = %(id)s"
            " UNION ALL SELECT sscc FROM packages WHERE export_id = %(id)s AND sscc IS NOT NULL",
            {"id": export_id},
        )
        return _Recorded(calls, export_id, list(numbers.scalars()))


@contextmanager
def _distant_database() -> Iterator[None]:
    wait = psycopg.Connection.wait

    def wait_longer(self: Any, *given: Any, **named: Any) -> Any:
        time.sleep(ROUND_TRIP_SECONDS)
        return wait(self, *given, **named)

    with patch.object(psycopg.Connection, "wait", wait_longer):
        yield


@contextmanager
def _connect(stack: Stack) -> Iterator[Session]:
    """Yield a session that only sends: the recorded calls begin and end the transactions."""
    engine = create_engine(stack.database_url, poolclass=StaticPool, isolation_level="AUTOCOMMIT")
    with Session(engine) as session:
        yield session
    engine.dispose()


def _send_for_some_seconds(
    sessions: Sequence[Session],
    recorded: _Recorded,
    template: str,
    seconds: float,
    numbers: Iterator[int],
    account_of: Callable[[int], str],
) -> float:
    """Return the units a second of all connections together."""
    began = time.perf_counter()
    lock = threading.Lock()

    def work(session: Session) -> int:
        done = 0
        while time.perf_counter() - began < seconds:
            with lock:
                number = next(numbers)
            recorded.send(session, copy_id(template, number), account_of(number), number)
            done += 1
        return done

    with ThreadPoolExecutor(len(sessions)) as threads:
        done = sum(threads.map(work, sessions))
    return done / (time.perf_counter() - began)
