"""The places of a process: each door has its own, and one network, key or person has only a part."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from pipeline.core.errors import BodyTooSlow, RateLimited
from pipeline.interfaces.api import limits
from pipeline.interfaces.api.dependencies import get_caller
from pipeline.interfaces.api.fair_threads import DOOR
from pipeline.interfaces.api.places import BODY_SECONDS, COUNT, KEY_PART, PERSON_PART, RequestLimit, find_door
from pipeline.interfaces.app import ROUTERS
from pipeline.interfaces.pages.pages import open_visit
from pipeline.interfaces.portal.pages import open_portal_visit

#: The address of each door, and what stops there together in a process of 500 places.
ADDRESSES: Final = {
    "/console/sign-in": 25,
    "/console/links/lnk": 25,
    "/portal/open": 25,
    "/answers/none": 25,
    "/metrics": 25,
    "/api/broker-submissions/sub/acknowledgements": 100,
    "/sandbox/webhooks/acc/br": 100,
    "/api/schemas/plan": 25,
    "/api/exports": 25,
    "/console/exports": 25,
    "/docs": 25,
}
NOTHING: Final = Headers()
KEYED: Final = [
    ("/api/exports", Headers({"authorization": "Bearer k"})),
    ("/console/me/account", Headers({"cookie": "exports_console=c"})),
    ("/portal/verify", Headers({"cookie": "exports_portal=c"})),
]
#: account, actor and part of the account's places
Caller = tuple[str, str, int]
#: They call what reads key, signature or token as their first act.
CHECK_IN_THEIR_BODIES: Final = {
    "/api/broker-submissions/{id}/acknowledgements",
    "/api/broker-submissions/{id}/attachments",
    "/api/broker-submissions/{id}/links",
    "/sandbox/borderbuddy/handoffs",
}
NETWORKS: Final = [f"198.51.{number}.1" for number in range(200)]


class Process:
    """A process of 500 places, in which requests wait that say so."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks
        self.limit = RequestLimit(self.answer, max_requests=500, max_per_account=250)
        self.seconds: object = None
        self.door = ""

    async def answer(self, scope: Scope, _: Receive, send: Send) -> None:
        self.seconds, self.door = scope.get(BODY_SECONDS), DOOR.get()
        if scope["caller"] is not None:
            scope[COUNT](*scope["caller"])
        await scope["wait"]()
        await send({"type": "http.response.start", "status": 200})

    async def hold(self, path: str, client: str, *, headers: Headers = NOTHING, caller: Caller | None = None) -> None:
        """Hold a request open."""
        self.tasks.start_soon(lambda: self.ask(path, client, headers=headers, caller=caller, wait=anyio.sleep_forever))
        await anyio.wait_all_tasks_blocked()

    async def ask(
        self,
        path: str,
        client: str = "192.0.2.1",
        *,
        headers: Headers = NOTHING,
        caller: Caller | None = None,
        wait: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> str:
        """Return the status of the answer and, if it is a refusal, its body."""
        answer: list[str] = []

        async def receive() -> Message:
            raise AssertionError("the limit reads no body")

        async def send(message: Message) -> None:
            answer.append(str(message["status"]) if "status" in message else message["body"].decode())

        scope = {"type": "http", "path": path, "headers": headers.raw, "client": (client, 1)}
        await self.limit(scope | {"caller": caller, "wait": wait}, receive, send)
        return " ".join(answer)


@asynccontextmanager
async def run_process() -> AsyncIterator[Process]:
    async with anyio.create_task_group() as tasks:
        yield Process(tasks)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "places"), ADDRESSES.items())
async def test_full_door_closes_no_other(path: str, places: int) -> None:
    async with run_process() as process:
        for client in NETWORKS[:places]:
            await process.hold(path, client)
        assert (await process.ask(path))[:3] == "503"
        others = {each: await process.ask(each) for each in ADDRESSES if each != path}
        keyed = [await process.ask(each, headers=headers) for each, headers in KEYED]
    assert (set(others.values()), keyed) == ({"200"}, ["200"] * 3)


@pytest.mark.anyio
async def test_network_takes_a_quarter_of_a_door() -> None:
    async with run_process() as process:
        for number in range(6):
            await process.hold("/console/sign-in", f"198.51.100.{number}")
        refused = await process.ask("/console/sign-in", "198.51.100.77")
        assert refused.startswith("429")
        assert "your network has 6 sign-ins in progress here; try again in 1 s" in refused
        assert await process.ask("/console/sign-in", "198.51.101.1") == "200"
        assert (process.seconds, process.door) == (10, "sign-ins")
        assert await process.ask("/portal/open", "198.51.100.77") == "200"
        assert await process.ask("/api/exports", headers=KEYED[0][1]) == "200"
        assert process.seconds is None


@pytest.mark.anyio
@pytest.mark.parametrize(("part", "places"), [(PERSON_PART, 31), (KEY_PART, 125)])
async def test_caller_takes_a_part_of_its_account(part: int, places: int) -> None:
    async with run_process() as process:
        for _ in range(places):
            await process.hold("/console/exports", "192.0.2.1", headers=KEYED[1][1], caller=("acc", "one", part))
        with pytest.raises(
            RateLimited, match=f"one of account acc has {places} requests in progress here, its maximum"
        ):
            await process.ask("/console/exports", headers=KEYED[1][1], caller=("acc", "one", part))
        assert await process.ask("/console/exports", headers=KEYED[1][1], caller=("acc", "two", part)) == "200"
        assert await process.ask("/console/exports", headers=KEYED[1][1], caller=("other", "one", part)) == "200"
        assert await process.ask("/console/live", headers=KEYED[1][1], caller=("acc", "one", part)) == "200"


@pytest.mark.anyio
async def test_form_of_a_stranger_arrives_sooner_than_other_bodies() -> None:
    async def app(_: Scope, receive: Receive, __: Send) -> None:
        await receive()

    async def wait(*_: object) -> Any:
        await anyio.sleep_forever()
        raise AssertionError

    limited = limits.BodyLimit(app, max_bytes=9, max_total_bytes=9, seconds=60)
    scope = {"type": "http", "path": "/console/sign-in", "query_string": b"", "headers": [], BODY_SECONDS: 0.01}
    with pytest.raises(BodyTooSlow, match=r"within 0\.01 s"):
        await limited(scope, wait, wait)


def list_dependencies(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from list_dependencies(each)


def test_routes_beside_the_doors_know_their_caller_first() -> None:
    checked = []
    for route in (each for router in ROUTERS for each in router.routes):
        assert isinstance(route, APIRoute)
        door = find_door(route.path, Headers({"authorization": "k", "cookie": "c"}))
        if door is None and "GET" not in (route.methods or ()):
            knows = {get_caller, open_visit, open_portal_visit} & {*list_dependencies(route.dependant)}
            assert knows or route.path in CHECK_IN_THEIR_BODIES, route.path
            checked.append(route.path)
    assert len(checked) > 60
