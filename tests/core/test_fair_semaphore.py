"""Turns are given in the order of asking, none is lost, and none is given twice."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pipeline.core.fair_semaphore import FairSemaphore
from tests.support.servers import poll


def wait_for_waiters(turns: FairSemaphore, count: int) -> None:
    poll(lambda: len(turns._waiting) == count, 60, "a thread does not wait")


def test_turns_are_given_in_the_order_of_asking() -> None:
    turns, served = FairSemaphore(1), list[int]()
    assert turns.acquire(0)

    def ask(number: int) -> None:
        assert turns.acquire(60)
        served.append(number)
        turns.release()

    with ThreadPoolExecutor(5) as threads:
        for number in range(5):
            threads.submit(ask, number)
            wait_for_waiters(turns, number + 1)
        turns.release()
    assert served == [*range(5)]


def test_thread_that_asks_again_comes_after_those_that_wait() -> None:
    turns = FairSemaphore(1)
    assert turns.acquire(0)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(turns.acquire, 60)
        wait_for_waiters(turns, 1)
        turns.release()
        assert not turns.acquire(0)
        assert other.result(60)
    turns.release()
    assert turns.acquire(0)


def test_thread_that_gives_up_leaves_its_turn_to_others() -> None:
    turns = FairSemaphore(2)
    assert turns.acquire(0)
    assert turns.acquire(0)
    assert not turns.acquire(0)
    assert not turns.acquire(0.01)
    turns.release()
    assert turns.acquire(0)
    assert not turns.acquire(0)


def test_no_turn_is_lost_or_given_twice_where_threads_give_up_at_the_last_moment() -> None:
    turns, lock, held, most = FairSemaphore(3), threading.Lock(), 0, 0

    def ask(timeout: float) -> bool:
        nonlocal held, most
        if not turns.acquire(timeout):
            return False
        with lock:
            held += 1
            most = max(most, held)
        time.sleep(0.0005)
        with lock:
            held -= 1
        turns.release()
        return True

    with ThreadPoolExecutor(16) as threads:
        had = [*threads.map(ask, (number % 41 * 0.00005 for number in range(2000)))]
    assert most == 3
    assert {True, False} <= set(had)
    assert [turns.acquire(0) for _ in range(4)] == [True, True, True, False]
