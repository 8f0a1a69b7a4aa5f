"""Where a drill is held: a folder, a database and a message broker that nobody else has to do with."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from config.settings import Settings
from pipeline.simulation.drill import scratch
from pipeline.simulation.drill.processes import DrillFailed

EMBEDDED: Final = "memory://"
_NAMES: Final = {"memory": "embedded", "redis": "Redis", "rediss": "Redis", "amqp": "RabbitMQ", "amqps": "RabbitMQ"}
_CONNECT_SECONDS: Final = 5


@dataclass(frozen=True)
class Place:
    """One drill's own; `remove` leaves nothing of it."""

    folder: Path
    database_url: str
    broker_url: str = EMBEDDED

    @property
    def stack(self) -> str:
        """The database and the message broker, in words."""
        database, broker = (url.split(":", 1)[0] for url in (self.database_url, self.broker_url))
        return f"{'SQLite' if database == 'sqlite' else 'PostgreSQL'}, {_NAMES[broker]}"

    @property
    def kept(self) -> str:
        """Where everything lies until it is removed, as a sentence."""
        if self.broker_url == EMBEDDED:
            return f"Its database, documents and logs are kept in {self.folder}."
        name = make_url(self.database_url).database
        return f"Its database {name} is kept on the server, what was left in its queues there, its documents and logs in {self.folder}."

    def remove(self) -> None:
        """Take everything away again: the folder, the database, the queues."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.broker_url != EMBEDDED:
            url = make_url(self.database_url)
            with _administrator(url.set(database="postgres")) as connection:
                name = sql.Identifier(str(url.database))
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            scratch.cleared(_settings(self.broker_url))


def embedded() -> Place:
    """Return a place that needs no server."""
    folder = Path(tempfile.mkdtemp(prefix="exports-drill-"))
    return Place(folder, f"sqlite:///{folder / 'exports.db'}")


def served(database_url: str, broker_url: str) -> Place:
    """Return a place on servers: a new database of the PostgreSQL at `database_url`, and the message broker, if nobody uses it.

    Raises DrillFailed where one of them is not to be had, and MessageBrokerDown.
    """
    url = _postgresql(database_url)
    if not _names_a_message_broker(broker_url):
        raise DrillFailed(
            "--broker-url names no message broker; give redis://HOST/NUMBER or amqp://USER:PASSWORD@HOST/VHOST"
        )
    if scratch.used(_settings(broker_url)):
        raise DrillFailed(
            "the message broker is in use; give an empty one, such as another Redis database or virtual host"
        )
    name = f"exports_drill_{secrets.token_hex(4)}"
    try:
        with _administrator(url) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise DrillFailed(f"PostgreSQL makes no database: {str(error).splitlines()[0]}") from error
    folder = Path(tempfile.mkdtemp(prefix="exports-drill-"))
    own = url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    return Place(folder, own, broker_url)


def _postgresql(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.drivername.startswith("postgres"):
        raise DrillFailed("--database-url names no PostgreSQL; give one as in postgresql://user:password@host/postgres")
    return url


def _names_a_message_broker(text: str) -> bool:
    try:
        scheme, _ = urlsplit(text).scheme, urlsplit(text).port
    except ValueError:
        return False
    return scheme in _NAMES and text != EMBEDDED


def _administrator(url: URL) -> psycopg.Connection[tuple[str]]:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        return psycopg.connect(address, autocommit=True, connect_timeout=_CONNECT_SECONDS)
    except (
        psycopg.OperationalError,
        psycopg.ProgrammingError,
    ) as error:  # the latter of parameters that it does not know
        raise DrillFailed(f"PostgreSQL does not answer: {str(error).splitlines()[0]}") from error


def _settings(broker_url: str) -> Settings:
    return Settings.model_construct(broker_url=SecretStr(broker_url))
