"""Kept values: those used last stay, and those that take long are built once each, waited for by a few threads only."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.core.cache import BuildCache, Kept
from pipeline.core.errors import NotReady


def test_value_is_built_once_for_all_that_wait() -> None:
    cache: BuildCache[str, list[str]] = BuildCache("the samples", most_kept=2)
    open_door, built = threading.Event(), []

    def build() -> list[str]:
        built.append("a")
        open_door.wait()
        return ["a"]

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cache.get, "a", build) for _ in range(4)]
        open_door.set()
        values = [each.result() for each in waiting]
    assert (built, all(each is values[0] for each in values)) == (["a"], True)


def test_one_more_than_may_wait_is_refused_and_kept_values_are_not() -> None:
    cache: BuildCache[str, list[str]] = BuildCache("the samples", most_kept=2, most_waiting=1)
    kept = cache.get("kept", lambda: ["kept"])
    open_door, arrived = threading.Event(), threading.Barrier(2)

    def build() -> list[str]:
        arrived.wait()
        open_door.wait()
        return ["a"]

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get, "a", build)
        arrived.wait()
        with pytest.raises(NotReady, match="others wait for the samples"):
            cache.get("b", lambda: ["b"])
        assert cache.get("kept", lambda: ["other"]) is kept
        open_door.set()
        assert first.result() == ["a"]
    assert cache.get("b", lambda: ["b"]) == ["b"]


def test_failed_build_keeps_nothing_and_the_oldest_value_leaves() -> None:
    cache: BuildCache[int, list[int]] = BuildCache("the samples", most_kept=2)

    def fail() -> list[int]:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        cache.get(0, fail)
    first = [cache.get(number, lambda number=number: [number]) for number in range(3)]  # type: ignore[misc]
    assert cache.get(2, list) is first[2]
    assert cache.get(0, lambda: [7]) == [7]


def test_values_used_last_are_kept_up_to_their_size() -> None:
    kept: Kept[str, bytes] = Kept(5, size=len)
    for key, size in (("a", 2), ("b", 1), ("c", 2)):
        kept.put(key, bytes(size))
    assert kept.get("a") == bytes(2)  # so that b was used longest ago
    kept.put("c", bytes(3))
    assert [kept.get(key) for key in "abc"] == [bytes(2), None, bytes(3)]
    kept.put("d", bytes(6))
    assert [kept.get(key) for key in "acd"] == [None, None, None]
