"""A scratch instance of the service on this machine: a database, documents and processes that nobody else has to do with."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from config.network import LOOPBACK
from config.settings import Settings
from pipeline.accounts import api_keys, partners, service
from pipeline.accounts.channels import WebhookWay
from pipeline.accounts.schemas import NewPartner, PartnerKind
from pipeline.client import NO_RETRIES, Exports
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.ops import migrations
from pipeline.simulation.drill.place import Place
from pipeline.simulation.drill.processes import DrillFailed, Process, commands, free_port
from pipeline.simulation.partners.http import Came, Receiver

ACCOUNT: Final = "acc_demo"  # that of the example plans
PARTNERS: Final[Mapping[str, PartnerKind]] = {
    "br_sandbox": "customs_broker",
    "wh_demo": "warehouse",
    "op_demo": "operator",
}
START_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.05

_GS1_PREFIX: Final = "0614141"
_SECRET_FIELDS: Final = frozenset({"broker_url", "secret_key"})


@dataclass(frozen=True)
class Instance:
    """The processes, how they are reached, and what lies below them."""

    processes: Sequence[Process]
    runtime: Runtime
    api: Exports

    def answers(self) -> bool:
        """Whether the API answers that it is ready."""
        return self.api.ready()

    def wait_until_it_answers(self) -> None:
        """Return once it does; raises DrillFailed where a process ends by itself, or the time is up."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            for process in self.processes:
                process.check()
            if time.monotonic() > deadline:
                raise DrillFailed(f"the API did not answer within {START_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)


@contextmanager
def running(
    place: Place, lease_seconds: float, chance: random.Random, seen: Callable[[Came], None]
) -> Iterator[Instance]:
    """Give an instance whose partners' endpoints tell `seen` of every message; afterwards nothing of it runs.

    Raises DrillFailed where it does not start.
    """
    with ExitStack() as end:
        port = free_port(chance)
        values = _values(place, f"http://{LOOPBACK}:{port}", lease_seconds)
        environment = {f"EXPORTS_{name.upper()}": _text(value) for name, value in values.items()}
        runtime = open_runtime(_settings(values))
        end.callback(runtime.close)
        key = _prepared(runtime, end, seen)
        api = end.enter_context(Exports(values["public_url"], key, timeout_seconds=15, retries=NO_RETRIES))
        started = [
            Process(name, arguments, environment, place.folder)
            for name, arguments in commands(port, embedded=runtime.settings.embedded).items()
        ]
        end.callback(_stop, started)
        for process in started:
            process.start()
        instance = Instance(started, runtime, api)
        instance.wait_until_it_answers()
        yield instance


def _values(place: Place, url: str, lease_seconds: float) -> dict[str, Any]:
    """Return the settings in which a drill differs from the defaults; the environment has no part in them."""
    return {
        "database_url": place.database_url,
        "broker_url": place.broker_url,
        "artifacts_url": f"file:{place.folder / 'artifacts'}",
        "public_url": url,
        "secret_key": secrets.token_urlsafe(32),
        "log_level": "WARNING",
        "lease_seconds": lease_seconds,
        "stalled_seconds": lease_seconds,
        # Partners' endpoints are in this process.
        "allow_private_destinations": True,
        # What is tried often here is so because it was killed often: nothing is given up for it.
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


def _prepared(runtime: Runtime, end: ExitStack, seen: Callable[[Came], None]) -> str:
    """Make the tables, the account and its partners, each with an endpoint here; return a key of the account."""
    migrations.upgrade(runtime.db)
    service.create_account(runtime, ACCOUNT, "Drill", gs1_prefix=_GS1_PREFIX)
    for partner_id, kind in PARTNERS.items():
        known: list[str] = []
        receiver = end.enter_context(Receiver(known, seen=seen))
        partner = NewPartner(
            id=partner_id,
            kind=kind,
            name=partner_id,
            test=True,
            live=True,
            path="byob" if kind == "customs_broker" else None,
            channels=[WebhookWay(address=receiver.url)],
        )
        known.append(partners.create(runtime, ACCOUNT, partner).secret)
    return api_keys.create_key(runtime, ACCOUNT, "drill", mode="test", roles=[api_keys.ADMIN]).bearer


def _stop(processes: Sequence[Process]) -> None:
    for process in processes:
        process.told_to_end()
    for process in processes:
        process.ended()
