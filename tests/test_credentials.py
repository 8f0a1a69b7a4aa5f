"""Nothing starts on credentials that everybody knows, where other machines can use them too."""

from __future__ import annotations

import pytest

from config.credentials import asks_for_none, everybody_knows
from config.settings import Settings
from pipeline.doctor import examine
from pipeline.errors import UnsafeSettings
from pipeline.runtime import ensure_own_credentials

OWN = {"secret_key": "k" * 32}


def settings(**changes: str) -> Settings:
    return Settings.model_validate(OWN | changes)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://guest:guest@mq.example//",
        "amqp://mq.example//",
        "amqps://guest:long-and-random-8ac1@mq.example//",
        "amqp://exports:exports@mq.example//",
        "amqp://rabbit:CHANGEME@10.0.0.4:5672//",
        "redis://:redis@mq.example:6379/0",
        "rediss://default:default@mq.example/0",
    ],
)
def test_message_broker_that_anybody_signs_in_to_is_refused(url: str) -> None:
    with pytest.raises(UnsafeSettings, match=r"BROKER_URL signs in as .*make a user of its own"):
        ensure_own_credentials(settings(broker_url=url))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:postgres@db.example/exports",
        "postgres://exports:exports@db.example/exports",
        "postgresql+psycopg://exports:password@db.example/exports",
        "postgresql://maple:m%61ple@db.example/exports",
    ],
)
def test_database_that_anybody_signs_in_to_is_refused(url: str) -> None:
    with pytest.raises(UnsafeSettings, match="DATABASE_URL signs in as"):
        ensure_own_credentials(settings(database_url=url))
    (found,) = (check for check in examine(settings(database_url=url)) if check.name == "database")
    assert (found.ok, "everybody knows" in found.found) == (False, True)


def test_a_password_never_shows_in_what_is_said() -> None:
    said = everybody_knows("amqp://rabbit:CHANGEME@mq.example//")
    assert said == "signs in as rabbit with a password that everybody knows"


@pytest.mark.parametrize(
    ("database_url", "broker_url"),
    [
        ("sqlite:///var/exports.db", "memory://"),
        ("postgresql://exports:7Yq-long-and-random@db.example/exports", "amqp://exports:Qm2-long@mq.example//"),
        ("postgresql://exports@db.example/exports", "redis://:7Yq-long-and-random@mq.example/0"),
        # On this machine alone: RabbitMQ itself takes guest from nowhere else.
        ("postgresql://postgres:postgres@127.0.0.1/exports", "amqp://guest:guest@localhost//"),
        ("postgresql://postgres:postgres@[::1]/exports", "amqp://127.0.0.1//"),
    ],
)
def test_own_credentials_and_those_of_one_machine_are_taken(database_url: str, broker_url: str) -> None:
    ensure_own_credentials(settings(database_url=database_url, broker_url=broker_url))


def test_doctor_finds_a_redis_that_takes_whoever_comes() -> None:
    assert asks_for_none("redis://mq.example:6379/0")
    assert not asks_for_none("redis://:secret-and-long@mq.example:6379/0")
    assert not asks_for_none("redis://127.0.0.1:6379/0")
    (found,) = (
        check for check in examine(settings(broker_url="redis://mq.example:6379/0")) if check.name == "message broker"
    )
    assert (found.ok, "without a password" in found.found) == (False, True)
