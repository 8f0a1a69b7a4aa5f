"""The clients' types as a type checker sees them; mypy checks this file, and the test only shows that it runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from typing import assert_type

from pipeline.accounts.schemas import PartnerView
from pipeline.client import AsyncExports, Execution, ExportFile, Exports, ExportVersion
from pipeline.customs.schemas import WaiverView
from pipeline.deliveries.schemas.views import NotificationTrace
from pipeline.exports.schemas.export import EventView, ExportSummary, ExportView
from pipeline.exports.schemas.feed import FeedEventView
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.client.conftest import ScriptedServer, json_answer


def check_sync_types(api: Exports, plan: dict[str, object]) -> None:
    """Assert the type of each kind of call."""
    export = assert_type(api.inspect("exp_1"), ExportView)
    assert_type(api.execute(plan, idempotency_key="k", wait_seconds=1), Execution)
    assert_type(api.inspect_if_changed("exp_1", '"tag"'), ExportVersion | None)
    assert_type(api.waivers(), Sequence[WaiverView])
    assert_type(api.partners(), Iterator[PartnerView])
    assert_type(api.exports(state="executed"), Iterator[ExportSummary])
    assert_type(api.events("exp_1", after=3), Iterator[EventView])
    assert_type(api.account_events(types=["HANDED_OFF"]), Iterator[FeedEventView])
    assert_type(api.follow_account(), Iterator[FeedEventView])
    assert_type(api.files(export), Iterator[ExportFile])
    api.inspect(1)  # type: ignore[arg-type]
    api.execute(plan, key="k")  # type: ignore[call-arg]


async def check_async_types(api: AsyncExports, plan: dict[str, object]) -> None:
    """Assert the type of each kind of asynchronous call."""
    assert_type(await api.inspect("exp_1"), ExportView)
    assert_type(api.trace("m-1"), Awaitable[NotificationTrace])
    assert_type(await api.execute(plan, idempotency_key="k", wait_seconds=1), Execution)
    assert_type(api.exports(state="executed"), AsyncIterator[ExportSummary])
    async for event in api.events("exp_1"):
        assert_type(event, EventView)
    await api.inspect(1)  # type: ignore[arg-type]


def test_checked_types_match_the_answers(server: ScriptedServer) -> None:
    server.answer_with(json_answer(read_example("export")))
    with Exports(server.url, "key") as api:
        assert type(api.inspect("exp_1")) is ExportView

    async def awaited() -> ExportView:
        async with AsyncExports(server.url, "key") as api:
            return await api.inspect("exp_1")

    assert type(asyncio.run(awaited())) is ExportView
