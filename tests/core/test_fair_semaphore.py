"""Tests of the fair semaphore: permits are given in the order of requests, and none is lost or given twice."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pipeline.core.fair_semaphore import FairSemaphore
from tests.support.servers import poll


def wait_for_waiters(semaphore: FairSemaphore, count: int) -> None:
    poll(lambda: len(semaphore._waiting) == count, 60, "a thread does not wait")


def test_permits_are_given_in_the_order_of_requests() -> None:
    semaphore, served = FairSemaphore(1), list[int]()
    assert semaphore.acquire(0)

    def ask(number: int) -> None:
        assert semaphore.acquire(60)
        served.append(number)
        semaphore.release()

    with ThreadPoolExecutor(5) as threads:
        for number in range(5):
            threads.submit(ask, number)
            wait_for_waiters(semaphore, number + 1)
        semaphore.release()
    assert served == [*range(5)]


def test_thread_that_asks_again_waits_behind_others() -> None:
    semaphore = FairSemaphore(1)
    assert semaphore.acquire(0)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(semaphore.acquire, 60)
        wait_for_waiters(semaphore, 1)
        semaphore.release()
        assert not semaphore.acquire(0)
        assert other.result(60)
    semaphore.release()
    assert semaphore.acquire(0)


def test_thread_that_times_out_leaves_its_permit_to_others() -> None:
    semaphore = FairSemaphore(2)
    assert semaphore.acquire(0)
    assert semaphore.acquire(0)
    assert not semaphore.acquire(0)
    assert not semaphore.acquire(0.01)
    semaphore.release()
    assert semaphore.acquire(0)
    assert not semaphore.acquire(0)


def test_timeouts_at_the_last_moment_lose_no_permit() -> None:
    semaphore, lock, held, most = FairSemaphore(3), threading.Lock(), 0, 0

    def ask(timeout: float) -> bool:
        nonlocal held, most
        if not semaphore.acquire(timeout):
            return False
        with lock:
            held += 1
            most = max(most, held)
        time.sleep(0.0005)
        with lock:
            held -= 1
        semaphore.release()
        return True

    with ThreadPoolExecutor(16) as threads:
        had = [*threads.map(ask, (number % 41 * 0.00005 for number in range(2000)))]
    assert most == 3
    assert {True, False} <= set(had)
    assert [semaphore.acquire(0) for _ in range(4)] == [True, True, True, False]
