"""A scratch instance of the service on this machine, with its own database, documents and processes."""

import json
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from kombu.exceptions import KombuError
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from config.network import LOOPBACK
from config.queues import BINDINGS, DEAD, HEARTBEAT, TASK_QUEUES
from config.settings import Settings
from pipeline.accounts import api_keys, partners, service
from pipeline.accounts.channels import PartnerKind, WebhookEndpoint
from pipeline.accounts.schemas import NewPartner
from pipeline.client import NO_RETRIES, Exports
from pipeline.core.errors import MessageBrokerDown
from pipeline.core.message_broker import make_connection
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.ops.migrations.runner import upgrade_database
from pipeline.simulation.drill.processes import DrillFailed, ServiceProcess, free_port, process_commands
from pipeline.simulation.partners.http import ReceivedRequest, WebhookReceiver

EMBEDDED: Final = "memory://"
_NAMES: Final = {"memory": "embedded", "redis": "Redis", "rediss": "Redis", "amqp": "RabbitMQ", "amqps": "RabbitMQ"}
_CONNECT_SECONDS: Final = 5


@dataclass(frozen=True)
class DrillEnvironment:
    """The database, folder and queues of one drill; `remove` deletes all of it."""

    folder: Path
    database_url: str
    broker_url: str = EMBEDDED

    @property
    def stack(self) -> str:
        """The names of the database and the message broker."""
        database, broker = (url.split(":", 1)[0] for url in (self.database_url, self.broker_url))
        return f"{'SQLite' if database == 'sqlite' else 'PostgreSQL'}, {_NAMES[broker]}"

    @property
    def kept_notice(self) -> str:
        """A sentence that says where everything is kept until it is removed."""
        if self.broker_url == EMBEDDED:
            return f"Its database, documents and logs are kept in {self.folder}."
        name = make_url(self.database_url).database
        return f"Its database {name} and its queues are kept on their servers, its documents and logs in {self.folder}."

    def remove(self) -> None:
        """Delete the folder, the database and the queues."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.broker_url != EMBEDDED:
            url = make_url(self.database_url)
            with _connect_as_admin(url.set(database="postgres")) as connection:
                name = sql.Identifier(str(url.database))
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            clear_queues(_broker_settings(self.broker_url))


def embedded_environment() -> DrillEnvironment:
    """Return an environment that needs no server."""
    folder = Path(tempfile.mkdtemp(prefix="exports-drill-"))
    return DrillEnvironment(folder, f"sqlite:///{folder / 'exports.db'}")


def server_environment(database_url: str, broker_url: str) -> DrillEnvironment:
    """Return an environment on servers: a new database on the server of `database_url`, and an unused broker.

    Raises DrillFailed if one of them cannot be used, and MessageBrokerDown.
    """
    url = _postgresql(database_url)
    if not _names_a_message_broker(broker_url):
        raise DrillFailed(
            "--broker-url must name a message broker; give redis://HOST/NUMBER or amqp://USER:PASSWORD@HOST/VHOST"
        )
    if broker_in_use(_broker_settings(broker_url)):
        raise DrillFailed(
            "the message broker is in use; give an empty one, such as another Redis database or virtual host"
        )
    name = f"exports_drill_{secrets.token_hex(4)}"
    try:
        with _connect_as_admin(url) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise DrillFailed(f"PostgreSQL cannot create a database: {str(error).splitlines()[0]}") from error
    folder = Path(tempfile.mkdtemp(prefix="exports-drill-"))
    own_url = url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    return DrillEnvironment(folder, own_url, broker_url)


def _postgresql(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.drivername.startswith("postgres"):
        raise DrillFailed(
            "--database-url must name a PostgreSQL server, as in postgresql://user:password@host/postgres"
        )
    return url


def _names_a_message_broker(text: str) -> bool:
    try:
        scheme, _ = urlsplit(text).scheme, urlsplit(text).port
    except ValueError:
        return False
    return scheme in _NAMES and text != EMBEDDED


def _connect_as_admin(url: URL) -> psycopg.Connection[tuple[str]]:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        return psycopg.connect(address, autocommit=True, connect_timeout=_CONNECT_SECONDS)
    except (
        psycopg.OperationalError,
        psycopg.ProgrammingError,
    ) as error:  # ProgrammingError: the address has unknown parameters
        raise DrillFailed(f"PostgreSQL does not answer: {str(error).splitlines()[0]}") from error


def _broker_settings(broker_url: str) -> Settings:
    return Settings.model_construct(broker_url=SecretStr(broker_url))


ACCOUNT: Final = "acc_demo"  # the account of the example plans
PARTNERS: Final[Mapping[str, PartnerKind]] = {
    "br_sandbox": "customs_broker",
    "wh_demo": "warehouse",
    "op_demo": "operator",
}
START_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.05

_GS1_PREFIX: Final = "0614141"
_SECRET_FIELDS: Final = frozenset({"broker_url", "secret_key"})


@dataclass(frozen=True)
class ServiceInstance:
    """A running instance: its processes, its API client, and its runtime."""

    processes: Sequence[ServiceProcess]
    runtime: Runtime
    api: Exports

    def is_ready(self) -> bool:
        """Return whether the API answers that it is ready."""
        return self.api.ready()

    def wait_until_ready(self) -> None:
        """Return when the API is ready; raise DrillFailed if a process ends by itself or the time is up."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            for process in self.processes:
                process.check()
            if time.monotonic() > deadline:
                raise DrillFailed(f"the API did not answer within {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)


@contextmanager
def run_instance(
    environment: DrillEnvironment,
    lease_seconds: float,
    rng: random.Random,
    on_request: Callable[[str, ReceivedRequest], None],
) -> Iterator[ServiceInstance]:
    """Yield an instance whose simulated partners pass their id and every message to `on_request`; end its processes afterwards.

    Raises DrillFailed if the instance does not start.
    """
    with ExitStack() as stack:
        port = free_port(rng)
        values = _setting_values(environment, f"http://{LOOPBACK}:{port}", lease_seconds)
        environment_variables = {f"EXPORTS_{name.upper()}": _text(value) for name, value in values.items()}
        runtime = open_runtime(_settings(values))
        stack.callback(runtime.close)
        key = _prepare_account(runtime, stack, on_request)
        api = stack.enter_context(Exports(values["public_url"], key, timeout_seconds=15, retries=NO_RETRIES))
        processes = [
            ServiceProcess(name, arguments, environment_variables, environment.folder)
            for name, arguments in process_commands(port, embedded=runtime.settings.embedded).items()
        ]
        stack.callback(_stop, processes)
        for process in processes:
            process.start()
        instance = ServiceInstance(processes, runtime, api)
        instance.wait_until_ready()
        yield instance


def _setting_values(environment: DrillEnvironment, url: str, lease_seconds: float) -> dict[str, Any]:
    """Return the settings of a drill that differ from the defaults; environment variables are not used."""
    return {
        "database_url": environment.database_url,
        "broker_url": environment.broker_url,
        "artifacts_url": f"file:{environment.folder / 'artifacts'}",
        "public_url": url,
        "secret_key": secrets.token_urlsafe(32),
        "log_level": "WARNING",
        "lease_seconds": lease_seconds,
        "stalled_seconds": lease_seconds,
        # The simulated partners run in this process.
        "allow_private_destinations": True,
        # Repeated attempts are caused by kills here, so nothing is given up for them.
        "step_max_attempts": 1000,
        "delivery_schedule_seconds": (1.0,) * 100,
        "rate_limit_per_minute": 1_000_000,
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _settings(values: Mapping[str, Any]) -> Settings:
    given: dict[str, Any] = {
        name: SecretStr(value) if name in _SECRET_FIELDS else value for name, value in values.items()
    }
    return Settings.model_construct(**given)


def _prepare_account(runtime: Runtime, stack: ExitStack, on_request: Callable[[str, ReceivedRequest], None]) -> str:
    """Create the tables, the account and its partners, each with an endpoint here; return an API key of the account."""
    upgrade_database(runtime.db)
    service.create_account(runtime, ACCOUNT, "Drill", gs1_prefix=_GS1_PREFIX)
    for partner_id, kind in PARTNERS.items():
        signing_secrets: list[str] = []
        receiver = stack.enter_context(WebhookReceiver(signing_secrets, on_request=partial(on_request, partner_id)))
        partner = NewPartner(
            id=partner_id,
            kind=kind,
            name=partner_id,
            test=True,
            live=True,
            path="byob" if kind == "customs_broker" else None,
            channels=[WebhookEndpoint(address=receiver.url)],
        )
        signing_secrets.append(partners.create_partner(runtime, ACCOUNT, partner).secret)
    return api_keys.create_key(runtime, ACCOUNT, "drill", mode="test", roles=[api_keys.ADMIN]).bearer


def _stop(processes: Sequence[ServiceProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait_ended()


_OWN_QUEUES: Final = (*TASK_QUEUES, *BINDINGS, DEAD, HEARTBEAT)


def broker_in_use(settings: Settings) -> bool:
    """Return whether the message broker holds queues; on Redis any key counts.

    Raises MessageBrokerDown.
    """
    with _open_broker(settings) as opened:
        if settings.message_broker == "redis":
            return bool(opened.default_channel.client.dbsize())
        for name in _OWN_QUEUES:
            try:
                with opened.channel() as channel:
                    channel.queue_declare(queue=name, passive=True)
            except opened.channel_errors:
                continue
            return True
        return False


def clear_queues(settings: Settings) -> None:
    """Delete every queue of the service, with its messages.

    Raises MessageBrokerDown.
    """
    with _open_broker(settings) as opened:
        if settings.message_broker == "redis":
            opened.default_channel.client.flushdb()
            return
        for name in _OWN_QUEUES:
            with opened.channel() as channel:
                channel.queue_delete(name)


@contextmanager
def _open_broker(settings: Settings) -> Iterator[Any]:
    try:
        with make_connection(settings) as opened:
            yield opened
    except (OSError, KombuError) as error:
        raise MessageBrokerDown(f"the message broker did not answer: {type(error).__name__}") from error
