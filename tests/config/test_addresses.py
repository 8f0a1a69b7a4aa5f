"""Addresses of several servers: understood, or refused with what to write instead."""

from typing import Any

import pytest
from pydantic import ValidationError

from config.settings import Settings
from pipeline.core.db import Database
from pipeline.ops.doctor import run_checks
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import PostgreSQL


@pytest.mark.parametrize(
    ("given", "hosts", "ports", "attrs"),
    [
        ("postgresql://svc:p%2Cw@a:5432,b:5433/exports", "a,b", "5432,5433", "read-write"),
        ("postgresql+psycopg://svc:p,w@a:5432,b,c/exports?sslmode=verify-full", "a,b,c", "5432,,", "read-write"),
        ("postgres://a:5432,b:5433/exports?target_session_attrs=any", "a,b", "5432,5433", "any"),
        ("postgresql://svc:pw@/exports?host=a:5432&host=b:5433&target_session_attrs=any", "a,b", "5432,5433", "any"),
    ],
)
def test_several_servers_of_a_database_are_understood(given: str, hosts: str, ports: str, attrs: str) -> None:
    database = Database(Settings.model_validate({"database_url": given}).database_url)
    dialect: Any = database.engine.dialect
    _, options = dialect.create_connect_args(database.url)
    assert (options["host"], options["port"], options["target_session_attrs"]) == (hosts, ports, attrs)
    assert (options["dbname"], options.get("sslmode")) == ("exports", "verify-full" if "sslmode" in given else None)
    assert options.get("password") in {None, "p,w", "pw"}


def test_service_follows_to_the_server_that_answers(postgres_server: PostgreSQL) -> None:
    one = postgres_server.fresh_url()
    server = f"{LOOPBACK}:{postgres_server.port}"
    assert server in one
    two = Settings.model_validate({"database_url": one.replace(server, f"{LOOPBACK}:{free_port()},{server}")})
    checks = {check.name: check for check in run_checks(two)}
    assert checks["database"].ok
    assert checks["database"].found.startswith("PostgreSQL 1")
    assert f", {LOOPBACK}/" in checks["database"].found


@pytest.mark.parametrize(
    "given",
    ["sqlite:///var/a,b.db", "postgresql://svc:p,w@a:5432/exports", "postgresql://a/exports?options=-c%20a=b,c"],
)
def test_other_addresses_of_a_database_are_unchanged(given: str) -> None:
    assert Settings.model_validate({"database_url": given}).database_url == given


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("redis://:p@a:6379/0;redis://:p@b:6379/0", "follows only one Redis.*or use RabbitMQ"),
        ("redis://:p@a:6379,b:6379/0", "by commas.*follows only one Redis.*or use RabbitMQ"),
        ("sentinel://:p@a:26379;sentinel://:p@b:26379", "follows only one Redis.*or use RabbitMQ"),
        ("redis+sentinel://:p@a:26379/0", "follows only one Redis.*or use RabbitMQ"),
        ("amqp://svc:p,w@a:5672,b:5672//", "by commas; separate the addresses by semicolons, as in amqp://"),
    ],
)
def test_several_servers_that_no_message_broker_has_are_refused(given: str, remedy: str) -> None:
    with pytest.raises(ValidationError, match=f"BROKER_URL names several .*{remedy}"):
        Settings.model_validate({"broker_url": given})


def test_several_servers_of_rabbitmq_are_accepted() -> None:
    given = "amqp://svc:p,w@a:5672//;amqp://svc:p,w@b:5672//"
    assert Settings.model_validate({"broker_url": given}).message_broker == "amqp"
