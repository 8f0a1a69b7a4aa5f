"""Tests of turns: each goes to one of the processes that ask for it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from config.settings import Settings
from pipeline.core import heartbeats
from pipeline.core.db import database_now, table
from pipeline.core.runtime import Runtime, open_runtime
from tests.support import stored

pytestmark = pytest.mark.databases


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    settings = {"database_url": database_url, "artifacts_url": f"file:{tmp_path}"}
    with closing(open_runtime(Settings.model_validate(settings))) as opened:
        yield opened


def make_older(runtime: Runtime, seconds: float) -> None:
    stored.change(runtime, update(table(heartbeats.Heartbeat)).values(arrived_at=database_now(-seconds)))


def test_turn_is_free_again_only_after_its_seconds(runtime: Runtime) -> None:
    assert heartbeats.take_turn(runtime, "sweep", 30)
    assert not heartbeats.take_turn(runtime, "sweep", 30)
    assert heartbeats.take_turn(runtime, "other", 30)
    make_older(runtime, 29)
    assert not heartbeats.take_turn(runtime, "sweep", 30)
    make_older(runtime, 31)
    assert heartbeats.take_turn(runtime, "sweep", 30)
    assert not heartbeats.take_turn(runtime, "sweep", 30)


def test_turn_is_free_if_the_clock_was_set_back(runtime: Runtime) -> None:
    assert heartbeats.take_turn(runtime, "sweep", 30)
    make_older(runtime, -3600)
    assert heartbeats.take_turn(runtime, "sweep", 30)
    assert not heartbeats.take_turn(runtime, "sweep", 30)


@pytest.mark.parametrize("seconds_ago", [None, 31])
def test_one_of_several_processes_takes_the_turn(runtime: Runtime, seconds_ago: int | None) -> None:
    if seconds_ago is not None:
        heartbeats.take_turn(runtime, "sweep", 30)
        make_older(runtime, seconds_ago)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: heartbeats.take_turn(runtime, "sweep", 30), range(8))).count(True) == 1
