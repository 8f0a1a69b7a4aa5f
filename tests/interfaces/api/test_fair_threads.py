"""Accounts share the threads of the API: one that sends many requests, or slow ones, does not hold up another."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from pipeline.accounts.api_keys import Caller, find_caller
from pipeline.core import deadline, tenancy
from pipeline.core.deadline import ServiceBusy
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import NO_ACCOUNT
from pipeline.interfaces.api import dependencies, limits
from pipeline.interfaces.api import exports as export_routes
from pipeline.interfaces.api.fair_threads import DOOR, SHARE, SHARED_SECONDS, THREADS, FairThreads
from pipeline.workflow import acceptance
from tests.interfaces.api.conftest import ApiHarness, execution
from tests.interfaces.api.test_limits import EXECUTE
from tests.support import factories
from tests.support.servers import poll

pytestmark = pytest.mark.anyio


class Callers:
    """Calls of accounts that keep a thread until they are ended; `running` has those that got one, in order."""

    def __init__(self, threads: FairThreads) -> None:
        self.threads = threads
        self.running: list[str] = []
        self._ends: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def call(self, account: str, count: int = 1) -> None:
        """Start so many calls, and let them come as far as they can."""
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._call(account)))
        await anyio.wait_all_tasks_blocked()

    async def end(self, account: str) -> None:
        """End the oldest running call of the account."""
        self._ends[account].pop(0).set()
        self.running.remove(account)
        await anyio.wait_all_tasks_blocked()

    async def _call(self, account: str) -> None:
        at_door = account.startswith("/")
        DOOR.set(account if at_door else NO_ACCOUNT)
        with tenancy.account_scope(NO_ACCOUNT if at_door else account):
            async with self.threads:
                ended = asyncio.Event()
                self._ends.setdefault(account, []).append(ended)
                self.running.append(account)
                await ended.wait()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_account_with_many_calls_gets_a_share_while_another_has_some() -> None:
    now = [0.0]
    callers = Callers(FairThreads(8, 2, lambda: now[0]))
    await callers.call("a", 20)
    assert callers.running == 6 * ["a"]  # never all of them
    await callers.call("b", 3)
    assert callers.running == [*6 * ["a"], *2 * ["b"]]
    for _ in range(4):  # all calls of b that may run do; a has more than its share
        await callers.end("a")
    assert callers.running == [*2 * ["a"], *2 * ["b"]]
    await callers.end("a")
    await callers.end("b")
    assert sorted(callers.running) == ["a", "a", "b", "b"]
    await callers.end("b")
    await callers.end("b")
    now[0] += SHARED_SECONDS + 1
    await callers.end("a")
    assert callers.running == 6 * ["a"]
    for task in callers.tasks:
        task.cancel()
    await asyncio.gather(*callers.tasks, return_exceptions=True)
    assert callers.threads.borrowed_tokens == 0


async def test_free_thread_goes_to_the_account_or_door_with_the_fewest_in_turns() -> None:
    callers = Callers(FairThreads(3, 2, lambda: 0.0))
    for account in ("a", "b", "b", "b", "b", "/sign-in", NO_ACCOUNT, "/sign-in"):
        await callers.call(account)
    order = []
    while len(callers.running) == 3:
        before = list(callers.running)
        await callers.end(before[0])
        order += callers.running[2:]
    assert order == ["/sign-in", NO_ACCOUNT, "b", "/sign-in", "b"]
    for task in callers.tasks:
        task.cancel()


async def test_wait_for_a_thread_ends_at_the_deadline() -> None:
    threads = FairThreads(3, 2, lambda: 0.0)
    callers = Callers(threads)
    await callers.call("a", 2)

    async def ask() -> None:
        deadline.set_deadline(0)
        await callers._call("a")

    with pytest.raises(ServiceBusy, match="this process is busy with other requests"):
        await asyncio.create_task(ask())
    await callers.end("a")
    assert (callers.running, threads.borrowed_tokens) == (["a"], 1)
    callers.tasks[1].cancel()


@pytest.mark.system
async def test_accounts_calls_that_hang_leave_threads_to_others(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More requests than threads hang; another account's question is answered, and the hanging ones say why they end."""
    monkeypatch.setattr(limits, "REQUEST_WAIT_SECONDS", 0.5)
    hanging, go_on = [], threading.Event()
    accept_plan = acceptance.accept_plan

    def hang(*arguments: Any, **named: Any) -> Any:
        hanging.append(1)
        go_on.wait(60)
        return accept_plan(*arguments, **named)

    monkeypatch.setattr(acceptance, "accept_plan", hang)
    body = execution(factories.plan())
    client, other = harness.client("execute"), harness.client(account="acc_other")
    with ThreadPoolExecutor(2 * THREADS) as pool:
        asked = [pool.submit(client.post, EXECUTE, json=body) for _ in range(THREADS + 5)]
        try:
            poll(lambda: sum(each.done() for each in asked) > 0, 60, "no request ends at its deadline")
            assert other.get("/api/exports").status_code == 200
        finally:
            go_on.set()
        answers = [each.result() for each in asked]
    assert len(hanging) == THREADS - SHARE
    # Those that got a thread too late for SQLite's one writer may have another reason.
    busy = [each for each in answers if each.status_code == 503 and each.json()["errorCode"] == "BUSY"]
    assert len(busy) >= len(answers) - len(hanging)
    assert {each.headers["retry-after"] for each in busy} == {"1"}


async def test_requests_that_come_together_look_their_key_up_once(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = [], threading.Event()

    def hang(runtime: Runtime, bearer: str) -> Caller:
        asked.append(bearer)
        go_on.wait(60)
        return find_caller(runtime, bearer)

    monkeypatch.setattr(dependencies, "find_caller", hang)
    monkeypatch.setattr(dependencies, "_CACHE_SECONDS", 3_600)
    clients = [harness.client_with_key(harness.key("read").bearer), harness.client_with_key(harness.key("read").bearer)]
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(clients[number % 2].get, "/api/exports") for number in range(20)]
        try:
            poll(lambda: len(asked) == 2, 60, "a key is not looked up")
        finally:
            go_on.set()
        assert {each.result().status_code for each in answers} == {200}
    assert len(asked) == len(set(asked)) == 2


async def test_accepted_export_is_answered_by_a_busy_process(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ServiceBusy("this process is busy with other requests")

    monkeypatch.setattr(export_routes, "_read_export_body", refuse)
    body = execution(factories.plan())
    answer = harness.client("execute").post(EXECUTE, json=body, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.json()["state"]) == (202, "accepted")
