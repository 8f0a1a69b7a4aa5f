"""An answer that costs is found by one at a time and told again for a while; who fails keeps nothing from anybody."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.interfaces.api.single_flight import SingleFlight
from tests.support.servers import poll


def count_finds(hands: list[float], **kept: float) -> SingleFlight[int]:
    """Return what finds 1, then 2, and so on, by a clock that shows these times one after another."""
    clock: Iterator[float] = iter(hands)
    found = iter(range(1, 100))
    return SingleFlight(lambda: next(found), clock=lambda: next(clock), **kept)


@pytest.mark.parametrize(
    ("kept", "hands", "expected_answers"),
    [
        ({}, [0, 2, 9.9, 10, 10, 10], [1, 1, 2]),
        ({"most_seconds": 1.0}, [0, 2, 2.9, 3, 3, 3], [1, 1, 2]),
        ({"most_seconds": 1.0}, [0, 0.1, 0.4, 0.5, 0.5, 0.5], [1, 1, 2]),
    ],
)
def test_an_answer_is_cached_for_four_times_as_long_as_it_took_and_for_no_longer_than_it_may(
    kept: dict[str, float], hands: list[float], expected_answers: list[int]
) -> None:
    lately = count_finds(hands, **kept)
    assert [lately.get() for _ in expected_answers] == expected_answers


class HeldAnswer:
    """A question that is answered when it is let go; it remembers how often it was asked."""

    def __init__(self, answers: list[Callable[[], str]]) -> None:
        self.asked = 0
        self.let_go = threading.Semaphore(0)
        self._answers = answers

    def __call__(self) -> str:
        answer = self._answers[self.asked]
        self.asked += 1
        assert self.let_go.acquire(timeout=30)
        return answer()


def fail_unreachable() -> str:
    raise ConnectionError("away")


def test_one_loads_and_the_others_get_the_last_answer() -> None:
    held = HeldAnswer([lambda: "first", lambda: "second"])
    lately = SingleFlight(held, max_seconds=0)  # what is found is old at once
    with ThreadPoolExecutor(1) as one:
        held.let_go.release()
        assert lately.get() == "first"
        asking = one.submit(lately.get)
        poll(lambda: held.asked == 2, 30, "nobody asks")
        assert [lately.get() for _ in range(3)] == ["first"] * 3
        held.let_go.release()
        assert asking.result(timeout=30) == "second"
    assert held.asked == 2


def test_where_there_is_no_answer_all_wait_for_the_one_who_asks() -> None:
    held = HeldAnswer([lambda: "first"])
    hands = itertools.chain([0.0], itertools.repeat(1.0))  # it takes a second, and no time passes after that
    lately = SingleFlight(held, clock=lambda: next(hands))
    with ThreadPoolExecutor(4) as four:
        asking = [four.submit(lately.get) for _ in range(4)]
        poll(lambda: held.asked == 1, 30, "nobody asks")
        held.let_go.release()
        assert [each.result(timeout=30) for each in asking] == ["first"] * 4
    assert held.asked == 1


def test_an_error_is_raised_to_waiters_and_not_cached() -> None:
    held = HeldAnswer([lambda: "first", fail_unreachable, lambda: "third"])
    lately = SingleFlight(held, max_seconds=0)
    for _ in range(3):
        held.let_go.release()
    assert lately.get() == "first"
    with pytest.raises(ConnectionError, match="away"):
        lately.get()
    assert lately.get() == "third"
