"""SingleFlight: one caller loads a value, all get it for a while, and errors are not cached."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.interfaces.api.single_flight import SingleFlight
from tests.support.servers import poll


def count_finds(hands: list[float], **kept: float) -> SingleFlight[int]:
    """Return a single flight that loads 1, then 2, and so on, with a clock that shows these times in turn."""
    clock: Iterator[float] = iter(hands)
    found = iter(range(1, 100))
    return SingleFlight(lambda: next(found), clock=lambda: next(clock), **kept)


@pytest.mark.parametrize(
    ("kept", "hands", "expected_answers"),
    [
        ({}, [0, 2, 9.9, 10, 10, 10], [1, 1, 2]),
        ({"max_seconds": 1.0}, [0, 2, 2.9, 3, 3, 3], [1, 1, 2]),
        ({"max_seconds": 1.0}, [0, 0.1, 0.4, 0.5, 0.5, 0.5], [1, 1, 2]),
    ],
)
def test_value_is_cached_for_four_times_its_load_time_up_to_the_maximum(
    kept: dict[str, float], hands: list[float], expected_answers: list[int]
) -> None:
    flight = count_finds(hands, **kept)
    assert [flight.get() for _ in expected_answers] == expected_answers


class HeldAnswer:
    """A load function that waits until it is released, and counts its calls."""

    def __init__(self, answers: list[Callable[[], str]]) -> None:
        self.calls = 0
        self.let_go = threading.Semaphore(0)
        self._answers = answers

    def __call__(self) -> str:
        answer = self._answers[self.calls]
        self.calls += 1
        assert self.let_go.acquire(timeout=30)
        return answer()


def fail_unreachable() -> str:
    raise ConnectionError("away")


def test_callers_during_a_load_get_the_cached_value() -> None:
    held = HeldAnswer([lambda: "first", lambda: "second"])
    flight = SingleFlight(held, max_seconds=0)  # a loaded value expires at once
    with ThreadPoolExecutor(1) as one:
        held.let_go.release()
        assert flight.get() == "first"
        asking = one.submit(flight.get)
        poll(lambda: held.calls == 2, 30, "there was no call")
        assert [flight.get() for _ in range(3)] == ["first"] * 3
        held.let_go.release()
        assert asking.result(timeout=30) == "second"
    assert held.calls == 2


def test_callers_without_a_cached_value_wait_for_one_load() -> None:
    held = HeldAnswer([lambda: "first"])
    hands = itertools.chain([0.0], itertools.repeat(1.0))  # loading takes a second, and no time passes after that
    flight = SingleFlight(held, clock=lambda: next(hands))
    with ThreadPoolExecutor(4) as four:
        asking = [four.submit(flight.get) for _ in range(4)]
        poll(lambda: held.calls == 1, 30, "there was no call")
        held.let_go.release()
        assert [each.result(timeout=30) for each in asking] == ["first"] * 4
    assert held.calls == 1


def test_error_is_raised_to_waiters_and_not_cached() -> None:
    held = HeldAnswer([lambda: "first", fail_unreachable, lambda: "third"])
    flight = SingleFlight(held, max_seconds=0)
    for _ in range(3):
        held.let_go.release()
    assert flight.get() == "first"
    with pytest.raises(ConnectionError, match="away"):
        flight.get()
    assert flight.get() == "third"
