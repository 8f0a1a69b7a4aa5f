"""A destination that does not answer keeps some threads of a process and no more; nobody else's deliveries wait for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import delivery, notifications
from pipeline.bulkhead import Bulkhead
from pipeline.notifications import Lane
from pipeline.runtime import Runtime
from tests import builders
from tests.deliveries import exports
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.endpoint import Endpoint, Script, poll

Start = Callable[..., Endpoint]

THREADS = 8  # as the Procfile's deliveries have


@pytest.fixture
def patient(opened: OpenRuntime) -> Runtime:
    """A runtime whose deliveries wait longer than any test."""
    return opened(delivery_timeout_seconds=60)


def handed_off(runtime: Runtime, warehouse: str, url: str, count: int) -> list[exports.Ready]:
    exports.register_once(runtime, builders.BROKER, "customs_broker")
    exports.register_once(runtime, warehouse, "warehouse", channels=[{"channel": "webhook", "address": url}])
    made = []
    for number in range(count):
        batch = f"{warehouse}-{number}"
        made.append(exports.ready(runtime, builders.plan(warehouse=warehouse, batch=batch, invoice=batch)))
        exports.hand_off(runtime, made[-1])
    return made


def all_delivered(runtime: Runtime, made: list[exports.Ready]) -> bool:
    return all(
        each.state == "delivered"
        for export in made
        for each in exports.deliveries(runtime, export.export_id, export.plan.warehouse.id)
    )


def test_a_partner_that_never_answers_keeps_three_threads_while_another_is_told_everything(
    patient: Runtime, endpoint: Start
) -> None:
    answers = threading.Event()
    dead, alive = endpoint(Script(until=answers)), endpoint()
    waiting = handed_off(patient, "wh_dead", dead.url, 12)
    told = handed_off(patient, "wh_alive", alive.url, 4)
    with ThreadPoolExecutor(THREADS) as workers:
        for export in [*waiting, *told]:
            workers.submit(delivery.deliver, patient, export.export_id, export.plan.warehouse.id, "webhook")
        try:
            poll(lambda: all_delivered(patient, told), 30)
            poll(lambda: len(dead.requests) == patient.settings.delivery_senders == 3)
            assert len(alive.requests) == 4 * 2, "each package of each export, once"
            lane = Lane(waiting[0].export_id, "wh_dead", "webhook")
            in_line = delivery.SENDERS.waiting(delivery.destination(builders.ACCOUNT, lane))
            poll(lambda: len(delivery.SENDERS.waiting(delivery.destination(builders.ACCOUNT, lane))) == 9)
            assert set(in_line) <= {Lane(each.export_id, "wh_dead", "webhook") for each in waiting}
        finally:
            answers.set()
    assert all_delivered(patient, waiting), "those that had a place have sent what stood in line behind them"
    assert set(Counter(request.headers["webhook-id"] for request in dead.requests).values()) == {1}
    assert len(dead.requests) == 12 * 2


def test_no_step_waits_where_all_places_are_taken_and_what_it_leaves_is_woken(
    patient: Runtime, endpoint: Start
) -> None:
    answers = threading.Event()
    dead = endpoint(Script(until=answers))
    waiting = handed_off(patient, "wh_dead", dead.url, 4)
    with ThreadPoolExecutor(THREADS) as workers:
        first = [workers.submit(delivery.tell, patient, each.context, notifications.WAREHOUSE) for each in waiting[:3]]
        try:
            poll(lambda: len(dead.requests) == 3, 30)
            left = Lane(waiting[3].export_id, "wh_dead", "webhook")
            assert delivery.tell(patient, waiting[3].context, notifications.WAREHOUSE) == [left]
            assert delivery.deliver(patient, left.export_id, left.partner_id, left.channel) == delivery.DeliveryReport()
        finally:
            answers.set()
        passed_on = [lane for each in first for lane in each.result()]
    assert passed_on == [left], "the first that leaves passes on what stood in line, once"
    assert delivery.deliver(patient, left.export_id, left.partner_id, left.channel).delivered == 2


def test_two_accounts_that_call_their_partner_alike_do_not_wait_for_each_other() -> None:
    lane = Lane("exp_1", "br_1", "webhook")
    assert delivery.destination("acc_1", lane) != delivery.destination("acc_2", lane)


@pytest.mark.parametrize("channel", ["email", "borderbuddy"])
def test_what_goes_through_a_server_of_the_installation_shares_its_places(channel: str) -> None:
    assert delivery.destination("acc_1", Lane("exp_1", "br_1", channel)) == delivery.destination(
        "acc_2", Lane("exp_2", "br_2", channel)
    )


def test_what_stands_in_line_is_done_in_order_and_once() -> None:
    bulkhead: Bulkhead[str, int] = Bulkhead()
    assert bulkhead.enter("there", 1)
    assert not bulkhead.enter("there", 1)
    done: list[int] = []
    for item in (1, 2, 1, 3):
        assert bulkhead.work("there", item, 1, done.append) == []
    assert bulkhead.waiting("there") == [1, 2, 3]
    assert bulkhead.work("elsewhere", 9, 1, done.append) == [None]
    assert bulkhead.leave("there") == 1, "who leaves passes the first on"
    assert len(bulkhead.work("there", 4, 1, done.append)) == 3
    assert done == [9, 4, 2, 3]
    assert (bulkhead.waiting("there"), bulkhead.enter("there", 1)) == ([], True)


def test_what_raises_gives_its_place_back_and_keeps_the_line() -> None:
    bulkhead: Bulkhead[str, int] = Bulkhead()

    def do(item: int) -> int:
        if item == 1:
            bulkhead.work("there", 2, 1, do)  # lines up behind itself
            raise ValueError("broken")
        return item

    with pytest.raises(ValueError, match="broken"):
        bulkhead.work("there", 1, 1, do)
    assert bulkhead.waiting("there") == [2]
    assert bulkhead.work("there", 3, 1, do) == [3, 2]
