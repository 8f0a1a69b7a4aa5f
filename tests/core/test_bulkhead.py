"""Tests of the bulkhead: a silent destination holds only some threads, and other deliveries do not wait for it."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.accounts.models import PartnerChannel
from pipeline.core.bulkhead import Bulkhead, BulkheadLimits
from pipeline.core.errors import Fenced
from pipeline.core.runtime import Runtime
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import sender, streams
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script
from tests.support.servers import poll
from tests.system.faults.matrix import mark_own_stack

Start = Callable[..., Endpoint]

THREADS = 8  # half of the threads of the Procfile's process for deliveries


@pytest.fixture
def patient_runtime(make_runtime: OpenRuntime) -> Runtime:
    """A runtime whose deliveries wait longer than any test."""
    return make_runtime(delivery_timeout_seconds=60)


def hand_off_exports(runtime: Runtime, warehouse: str, url: str, count: int) -> list[exports.PreparedExport]:
    exports.register_once(runtime, factories.BROKER, "customs_broker")
    exports.register_once(runtime, warehouse, "warehouse", channels=[{"channel": "webhook", "address": url}])
    made = []
    for number in range(count):
        batch = f"{warehouse}-{number}"
        made.append(exports.prepare_export(runtime, factories.plan(warehouse=warehouse, batch=batch, invoice=batch)))
        exports.hand_off(runtime, made[-1])
    return made


def are_all_delivered(runtime: Runtime, made: list[exports.PreparedExport]) -> bool:
    return all(
        each.state == "delivered"
        for export in made
        for each in exports.list_deliveries(runtime, export.export_id, export.plan.warehouse.id)
    )


@mark_own_stack("F20")
def test_silent_partner_holds_three_threads_while_another_gets_all_messages(
    patient_runtime: Runtime, endpoint: Start
) -> None:
    answers = threading.Event()
    dead, alive = endpoint(Script(until=answers)), endpoint()
    waiting = hand_off_exports(patient_runtime, "wh_dead", dead.url, 12)
    delivered = hand_off_exports(patient_runtime, "wh_alive", alive.url, 4)
    with ThreadPoolExecutor(THREADS) as workers:
        for export in [*waiting, *delivered]:
            workers.submit(
                sender.deliver_stream, patient_runtime, export.export_id, export.plan.warehouse.id, "webhook"
            )
        try:
            poll(lambda: are_all_delivered(patient_runtime, delivered), 30)
            poll(lambda: len(dead.requests) == patient_runtime.settings.delivery_senders == 3)
            assert len(alive.requests) == 4 * 2, "each package of each export must be sent once"
            stream = DeliveryStream(waiting[0].export_id, "wh_dead", "webhook")
            queued = sender.SENDERS.queued(sender.resolve_destination(factories.ACCOUNT, stream))
            poll(lambda: len(sender.SENDERS.queued(sender.resolve_destination(factories.ACCOUNT, stream))) == 9)
            assert set(queued) <= {DeliveryStream(each.export_id, "wh_dead", "webhook") for each in waiting}
        finally:
            answers.set()
    assert are_all_delivered(patient_runtime, waiting), "the threads with a slot must send the queued streams too"
    assert set(Counter(request.headers["webhook-id"] for request in dead.requests).values()) == {1}
    assert len(dead.requests) == 12 * 2


def test_step_without_free_slot_does_not_wait_and_its_stream_is_passed_on(
    patient_runtime: Runtime, endpoint: Start
) -> None:
    answers = threading.Event()
    dead = endpoint(Script(until=answers))
    waiting = hand_off_exports(patient_runtime, "wh_dead", dead.url, 4)
    with ThreadPoolExecutor(THREADS) as workers:
        first = [
            workers.submit(sender.notify_audience, patient_runtime, each.context, outbox.WAREHOUSE)
            for each in waiting[:3]
        ]
        try:
            poll(lambda: len(dead.requests) == 3, 30)
            left = DeliveryStream(waiting[3].export_id, "wh_dead", "webhook")
            assert sender.notify_audience(patient_runtime, waiting[3].context, outbox.WAREHOUSE) == [left]
            assert (
                sender.deliver_stream(patient_runtime, left.subject_id, left.partner_id, left.channel)
                == sender.DeliveryReport()
            )
        finally:
            answers.set()
        passed_on = [stream for each in first for stream in each.result()]
    assert passed_on == [left], "the first thread that releases its slot must pass on the queued stream, once"
    assert sender.deliver_stream(patient_runtime, left.subject_id, left.partner_id, left.channel).delivered == 2


def test_step_that_raises_passes_on_the_queued_stream_and_releases_its_slot(
    patient_runtime: Runtime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = endpoint()
    export, queued = hand_off_exports(patient_runtime, "wh_broken", broken.url, 2)
    waiting = DeliveryStream(queued.export_id, "wh_broken", "webhook")

    def lose_lease(*_: object) -> None:
        where = sender.resolve_destination(factories.ACCOUNT, waiting)
        limits = BulkheadLimits(per_destination=1, unhealthy=1)
        assert sender.SENDERS.run(where, waiting, limits, lambda _: sender.DeliveryReport()) == []
        raise Fenced

    with monkeypatch.context() as patched:
        patched.setattr(streams, "claim_stream", lose_lease)
        assert sender.notify_audience(patient_runtime, export.context, outbox.WAREHOUSE) == [waiting]
    assert sender.notify_audience(patient_runtime, export.context, outbox.WAREHOUSE) == [], "its slot must be free"
    assert len(broken.requests) == 2


def test_partners_of_two_accounts_with_same_id_are_different_destinations() -> None:
    stream = DeliveryStream("exp_1", "br_1", "webhook")
    assert sender.resolve_destination("acc_1", stream) != sender.resolve_destination("acc_2", stream)


@pytest.mark.parametrize("channel", ["email", "borderbuddy"])
def test_channel_through_installation_server_is_one_destination_for_all_accounts(channel: str) -> None:
    assert sender.resolve_destination("acc_1", DeliveryStream("exp_1", "br_1", channel)) == sender.resolve_destination(
        "acc_2", DeliveryStream("exp_2", "br_2", channel)
    )


def test_queued_items_run_once_and_in_order() -> None:
    bulkhead: Bulkhead[str, int] = Bulkhead()
    one = BulkheadLimits(per_destination=1, unhealthy=1)
    there = bulkhead.acquire("there", one)
    assert there is not None
    assert bulkhead.acquire("there", one) is None
    done: list[int] = []
    for item in (1, 2, 1, 3):
        assert bulkhead.run("there", item, one, done.append) == []
    assert bulkhead.queued("there") == [1, 2, 3]
    assert bulkhead.run("elsewhere", 9, one, done.append) == [None]
    assert bulkhead.release(there) == 1, "release must return the first queued item"
    assert len(bulkhead.run("there", 4, one, done.append)) == 3
    assert done == [9, 4, 2, 3]
    assert bulkhead.queued("there") == []
    assert bulkhead.acquire("there", one) is not None, "every slot must be released"


def test_thread_releases_its_own_slot_in_any_order() -> None:
    """Two threads hold slots at one destination; releasing one does not remove the other."""
    now = [0.0]
    bulkhead: Bulkhead[str, int] = Bulkhead(lambda: now[0])
    two = BulkheadLimits(per_destination=2, unhealthy=1, slow_seconds=5)
    first = bulkhead.acquire("there", two)
    assert first is not None
    now[0] = 1

    def do(_: int) -> int:
        now[0] += 1
        bulkhead.release(first)
        return 0

    assert bulkhead.run("there", 1, two, do) == [0]
    now[0] += 6
    assert [bulkhead.acquire("there", two) is not None for _ in range(3)] == [True, True, False], (
        "the destination must not be unhealthy"
    )


def test_run_that_passes_on_neither_waits_nor_runs_queued_items() -> None:
    bulkhead: Bulkhead[str, int] = Bulkhead()
    one = BulkheadLimits(per_destination=1, unhealthy=1)

    def do(item: int) -> int:
        for waiting in (2, 3):
            assert bulkhead.run("there", waiting, one, do) == []
        assert bulkhead.run("there", 4, one, do, pass_on=int.__neg__) == [-4], "the caller must get the item back"
        return item

    assert bulkhead.run("there", 1, one, do, pass_on=int.__neg__) == [1, -2]
    assert bulkhead.queued("there") == [3], "the run of the passed item runs the others"
    assert bulkhead.acquire("there", one) is not None, "the slot must be released"


def test_run_that_raises_releases_its_slot_and_keeps_the_queue() -> None:
    bulkhead: Bulkhead[str, int] = Bulkhead()
    one = BulkheadLimits(per_destination=1, unhealthy=1)

    def do(item: int) -> int:
        if item == 1:
            bulkhead.run("there", 2, one, do)  # queued behind this item
            raise ValueError("broken")
        return item

    with pytest.raises(ValueError, match="broken"):
        bulkhead.run("there", 1, one, do)
    assert bulkhead.queued("there") == [2]
    assert bulkhead.run("there", 3, one, do) == [3, 2]


def test_unhealthy_destinations_share_a_limit_and_healthy_ones_keep_their_slots() -> None:
    now = [0.0]
    bulkhead: Bulkhead[str, int] = Bulkhead(lambda: now[0])
    limits = BulkheadLimits(per_destination=3, unhealthy=2, slow_seconds=5)
    first, hangs, second = (
        bulkhead.acquire("sick", limits, unhealthy=True),
        bulkhead.acquire("hangs", limits),
        bulkhead.acquire("ill", limits, unhealthy=True),
    )
    assert first is not None
    assert hangs is not None
    assert second is not None, "two unhealthy destinations must get a slot"
    assert bulkhead.acquire("sick", limits, unhealthy=True) is None
    assert bulkhead.acquire("hangs", limits) is not None, "it does not count as unhealthy yet"
    assert bulkhead.acquire("worse", limits, unhealthy=True) is None
    now[0] = 6.0
    assert bulkhead.acquire("hangs", limits) is None, "it has held two threads for longer than slow_seconds"
    bulkhead.release(first)
    bulkhead.release(second)
    assert bulkhead.acquire("worse", limits, unhealthy=True) is None, (
        "the hanging destination holds both slots of the unhealthy ones"
    )
    assert [bulkhead.acquire("well", limits) is not None for _ in range(4)] == [True, True, True, False]
    bulkhead.release(hangs)
    assert bulkhead.acquire("worse", limits, unhealthy=True) is not None


def test_unhealthy_destination_without_threads_queues_nothing_and_slow_one_keeps_one_thread() -> None:
    now = [0.0]
    bulkhead: Bulkhead[str, str] = Bulkhead(lambda: now[0])
    limits = BulkheadLimits(per_destination=3, unhealthy=1, slow_seconds=5)
    held = [bulkhead.acquire("sick", limits, unhealthy=True)]
    assert bulkhead.run("ill", "left", limits, str.upper, unhealthy=True) == []
    assert bulkhead.queued("ill") == [], "no thread would run it"

    def slowly(item: str) -> str:
        if item == "first":
            # Another thread is at the destination too, and a third item arrives while both are slow.
            held.append(bulkhead.acquire("slow", limits))
            now[0] += 6
            assert bulkhead.run("slow", "third", limits, slowly) == []
        return item

    assert bulkhead.run("slow", "first", limits, slowly) == ["first"], "the other thread must run the queued item"
    assert held[1] is not None
    assert bulkhead.release(held[1]) == "third"


def test_hanging_partners_leave_half_of_the_threads_to_a_healthy_one(patient_runtime: Runtime, endpoint: Start) -> None:
    answers = threading.Event()
    hanging, alive = endpoint(Script(until=answers)), endpoint()
    waiting = [
        each for n in range(THREADS) for each in hand_off_exports(patient_runtime, f"wh_unhealthy_{n}", hanging.url, 1)
    ]
    stored.change(
        patient_runtime, update(PartnerChannel).where(col(PartnerChannel.channel) == "webhook").values(failures=1)
    )
    delivered = hand_off_exports(patient_runtime, "wh_alive", alive.url, 4)
    with ThreadPoolExecutor(THREADS) as workers:
        for export in [*waiting, *delivered]:
            workers.submit(
                sender.deliver_stream, patient_runtime, export.export_id, export.plan.warehouse.id, "webhook"
            )
        try:
            poll(lambda: are_all_delivered(patient_runtime, delivered), 30)
            poll(lambda: len(hanging.requests) == patient_runtime.settings.delivery_unhealthy_max == THREADS // 2)
        finally:
            answers.set()
    for export in waiting:
        sender.deliver_stream(patient_runtime, export.export_id, export.plan.warehouse.id, "webhook")
    assert are_all_delivered(patient_runtime, waiting), "deliveries without a slot must stay pending and be sent later"
    assert set(Counter(request.headers["webhook-id"] for request in hanging.requests).values()) == {1}
