"""The settings of an installation; the only module that reads the environment."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from config.addresses import AddressSettings
from config.deliveries import DeliverySettings
from config.execution import Count, ExecutionSettings, Seconds
from config.provider_roles import ProviderSettings

#: The folder of the installed packages: config/, pipeline/, tasks/, templates/.
HOME = Path(__file__).resolve().parent.parent

_PREFIX: Final = "EXPORTS_"
#: Variables of the example programs for partners, which may run on the same machine.
_FOREIGN_VARIABLES: Final = frozenset({"EXPORTS_WEBHOOK_SECRETS"})


def read_variables(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Return the values of the variables `prefix` + `names` that are set, such as `AWS_PROXY_URL`, by name."""
    return {name: os.environ[variable] for name in names if (variable := prefix + name.upper()) in os.environ}


def read_other_variables() -> dict[str, str]:
    """Return the variables that no setting reads, for a process of the service with settings of its own."""
    known = {name.upper() for name in Settings.model_fields}
    given = os.environ.items()
    return {name: value for name, value in given if not name.startswith(_PREFIX) and name not in known}


@contextmanager
def variable_set(name: str, value: str) -> Iterator[None]:
    """Set an environment variable in the block, for libraries and for processes that the block starts."""
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def load_variables(prefix: str) -> frozenset[str]:
    """Copy the variables in `.env` with the prefix into the environment, for a library that reads it. Return all names."""
    for name, value in DotEnvSettingsSource(Settings).env_vars.items():
        if name.upper().startswith(prefix) and value is not None:
            os.environ.setdefault(name.upper(), value)
    return frozenset(name for name in os.environ if name.startswith(prefix))


class _KnownSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a traceback would print secrets
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        kind = type(self)
        known = {name.upper() for name in kind.model_fields}
        given = {*EnvSettingsSource(kind).env_vars, *DotEnvSettingsSource(kind).env_vars}
        for name in sorted(map(str.upper, given)):
            bare = name.removeprefix(_PREFIX)
            if name.startswith(_PREFIX) and bare not in known and name not in _FOREIGN_VARIABLES:
                meant = get_close_matches(bare, known, 1)
                remedy = "unset it; docs/configuration.md has every setting"
                if meant:
                    remedy = f"did you mean {_PREFIX}{meant[0]}?"
                raise ValueError(f"{name} is not a setting; {remedy}")
        return self


# The fields of the last base come first in docs/configuration.md, and its checks run first.
class Settings(DeliverySettings, ExecutionSettings, ProviderSettings, AddressSettings, _KnownSettings):
    """The settings, from the environment or a `.env` file; names have the prefix `EXPORTS_` unless an alias has none."""

    # Limits of the API
    max_body_bytes: Count = Field(32 * 1024 * 1024, description="Largest request body, counted while it streams")
    max_bodies_bytes: Count = Field(128 * 1024 * 1024, description="Bytes of all request bodies of a process at a time")
    max_body_seconds: Seconds = Field(60, description="Longest time for a request body to arrive")
    max_requests: Count = Field(
        500, description="Requests with key or session at a time, per process; as many streams; of others a 20th"
    )
    docs: bool = Field(True, description="Whether /docs, /openapi.json and /asyncapi.json are served")
    max_account_requests: Count = Field(
        250,
        description="Requests of an account at a time, per process; as many streams; a key half, a person an eighth",
    )
    max_open_exports: Count = Field(
        10_000, description="Active exports of an account; more get 429, and commands by queue wait"
    )
    max_json_depth: Count = Field(32, description="Deepest nesting of a request body")
    max_wait_seconds: Seconds = Field(30, description="Longest wait of an execution by `Prefer: wait`")
    execute_wait_seconds: float = Field(3, ge=0, description="The same of a registered plan without `Prefer`; may be 0")
    rate_limit_per_minute: Count = Field(6000, description="Requests of a key in a minute, per process")
    celery_inspect: bool = Field(
        False, description="Whether workers answer `celery inspect` and send events, for Flower; see docs/queues.md"
    )
    publish_backlog: Count = Field(10_000, description="Exports held for publishing; the sweeper publishes the rest")

    # Database
    database_pool: Count = Field(10, description="PostgreSQL connections of one process")
    database_timeout_seconds: Seconds = Field(
        10, description="How long a statement waits for a lock or a connection; a request waits three seconds in all"
    )

    @model_validator(mode="after")
    def _check_body_bounds(self) -> Self:
        if self.max_bodies_bytes < self.max_body_bytes:
            raise ValueError("EXPORTS_MAX_BODIES_BYTES must be EXPORTS_MAX_BODY_BYTES or more")
        return self

    @property
    def borderbuddy_sandbox(self) -> str:
        """The endpoint for handoffs of test exports on the borderbuddy path."""
        return self.borderbuddy_sandbox_url or f"{self.own_url}/sandbox/borderbuddy/handoffs"


_override: list[Settings] = []


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, read once."""
    return _override[0] if _override else Settings()


def use_settings(settings: Settings) -> None:
    """Make `settings` those of this process. Call it at the start, before the first `get_settings`."""
    _override[:] = [settings]
    get_settings.cache_clear()
