"""The settings of an installation; the only module that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, NoDecode, SettingsConfigDict

from config.addresses import check_addresses, list_servers
from config.mail import check_mail
from config.network import LOOPBACK, is_loopback
from config.provider_roles import ProviderRoles, check_provider, parse_provider_roles
from config.rules_keys import check_rules_keys
from config.weak_credentials import find_weak_key, find_weakness

#: The folder of the installed packages: config/, pipeline/, tasks/, templates/.
HOME = Path(__file__).resolve().parent.parent

_PREFIX: Final = "EXPORTS_"
#: Variables of the example programs for partners, which may run on the same machine.
_FOREIGN_VARIABLES: Final = frozenset({"EXPORTS_WEBHOOK_SECRETS"})

#: The length of `secrets.token_urlsafe(24)`, which cannot be guessed.
SECRET_KEY_CHARACTERS: Final = 32

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


def read_variables(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Return the values of the variables `prefix` + `names` that are set, such as `AWS_PROXY_URL`, by name."""
    return {name: os.environ[variable] for name in names if (variable := prefix + name.upper()) in os.environ}


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


def _unprefixed(name: str) -> AliasChoices:
    # Hosting platforms set these addresses under names without a prefix; all other variables have the EXPORTS_ prefix.
    return AliasChoices(name.upper(), f"EXPORTS_{name.upper()}", name)


class Settings(BaseSettings):
    """The settings, from the environment or a `.env` file; names have the prefix `EXPORTS_` unless an alias has none."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a traceback would print secrets
    )

    # Where things are
    database_url: Annotated[str, AfterValidator(list_servers)] = Field(
        "sqlite:///var/exports.db",
        validation_alias=_unprefixed("database_url"),
        description="The database: sqlite or postgresql",
    )
    broker_url: SecretStr = Field(
        SecretStr("memory://"),
        validation_alias=_unprefixed("broker_url"),
        description="The message broker: memory://, redis:// or amqp://",
    )
    artifacts_url: str = Field(
        "file:var/artifacts",
        validation_alias=_unprefixed("artifacts_url"),
        description="The artifact store: file:FOLDER, s3://BUCKET/PREFIX, gs:// or az://",
    )
    installation: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = Field(
        None, description="Name of this installation; from a database that belongs to another, nothing is sent"
    )
    host: str = Field(LOOPBACK, description="Address that `exports serve` listens on")
    port: int = Field(8000, ge=0, le=65535, description="Port that `exports serve` listens on; 0 takes a free one")
    public_url: str = Field(f"http://{LOOPBACK}:8000", description="Address of the API for callers and partners")
    internal_url: str | None = Field(
        None, description="Address at which the service's own processes reach the API; default: EXPORTS_PUBLIC_URL"
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port on which `worker`, `deliveries` and `intake` serve metrics; 0 serves none"
    )
    metrics_host: str = Field(LOOPBACK, description="Address of that port")
    metrics_brokers: int = Field(
        20, ge=0, description="Customs brokers that `/metrics` names: those with the most overdue handoffs"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for people")

    # Traces. The OpenTelemetry SDK reads these and its other variables, such as OTEL_SERVICE_NAME, itself.
    otel_exporter_otlp_endpoint: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(
            "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "otel_exporter_otlp_endpoint"
        ),
        description="OpenTelemetry collector that gets traces by OTLP over HTTP, such as http://127.0.0.1:4318",
    )
    otel_traces_exporter: str = Field(
        "otlp",
        validation_alias=_unprefixed("otel_traces_exporter"),
        description="`none` turns traces off although there is a collector",
    )
    otel_sdk_disabled: str = Field(
        "false", validation_alias=_unprefixed("otel_sdk_disabled"), description="`true` does the same"
    )

    # Secrets
    secret_key: SecretStr = Field(
        SecretStr("development-only-secret-key"),
        description="Encrypts partners' secrets at rest; a long random text, the same on every machine",
    )
    secret_keys_previous: tuple[SecretStr, ...] = Field(
        (), description="Earlier secret keys; they open secrets until `exports secrets rotate`"
    )

    # Sign-in by an OpenID provider
    oidc_issuer: str | None = Field(
        None, description="OpenID provider by which people may sign in, such as https://id.maple.example"
    )
    oidc_client_id: str | None = Field(None, description="Client id of this installation at that provider")
    oidc_client_secret: SecretStr | None = Field(None, description="Client secret there; none for a public client")
    oidc_scopes: str = Field(
        "openid email profile", description="Scopes to ask for; some providers send groups only for one"
    )
    oidc_roles_claim: str = Field(
        "groups", min_length=1, description="Claim with a text or a list, such as the groups of a person"
    )
    oidc_roles: Annotated[ProviderRoles, NoDecode] = Field(
        ProviderRoles(),
        description='Roles on accounts by value of that claim, as in {"export-desk": {"acc_1": ["operate"]}}',
    )

    # The API that the command line calls
    api_url: str = Field(f"http://{LOOPBACK}:8000", description="The API that the `exports` command calls")
    api_key: SecretStr | None = Field(None, description="The key that the `exports` command sends")
    profile: str | None = Field(None, description="The profile of `exports login`, unless one of the two above is set")
    account: str | None = Field(None, description="The account of `exports` commands without `--account`")

    # Execution
    lease_seconds: Seconds = Field(30, description="How long a step or delivery stays leased without renewal")
    step_max_attempts: Count = Field(5, description="Attempts of a step before the export fails; outages do not count")
    step_timeout_seconds: Seconds = Field(
        600, description="Longest time for a step that sends nothing; after it the worker ends itself"
    )
    step_retry_seconds: Seconds = Field(2, description="Pause after a failed step; it doubles, up to a minute")
    sweep_seconds: Seconds = Field(2, description="Pause between sweeps of a worker for stalled work; 20 % jitter")
    sweep_limit: Count = Field(
        100,
        description="Maximum task messages that the sweeper keeps in a queue; a full queue still gets five a second",
    )
    stalled_seconds: Seconds = Field(
        10, description="Age at which the sweeper replaces a task message; 10 x in a backlog"
    )

    # Customs rules
    rules: Path | None = Field(None, description="Folder or signed bundle of customs rules; default: this version's")
    rules_keys: Annotated[tuple[str, ...], AfterValidator(check_rules_keys)] = Field(
        (), description="Public keys of those who may sign rules; with one, a folder needs a signature, too"
    )

    # Deliveries
    delivery_timeout_seconds: Seconds = Field(20, description="Total time of one delivery attempt")
    delivery_senders: Count = Field(
        3, description="Threads of a process that send to one destination at a time; always fewer than all"
    )
    delivery_unhealthy_max: Count = Field(
        4,
        description="Threads of a process that send to unhealthy destinations, together; at most half of all",
    )
    delivery_batch: Count = Field(500, description="Maximum messages to one recipient in one attempt")
    delivery_schedule_seconds: tuple[Seconds, ...] = Field(
        (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="Pauses after failed attempts (the example of Standard Webhooks); after the last, the delivery is dead",
    )
    breaker_failures: Count = Field(10, description="Consecutive failures that open an endpoint's circuit breaker")
    breaker_failure_rate: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Failure rate that also opens it, after at least as many attempts within the window",
    )
    breaker_window_seconds: Seconds = Field(300, description="Length of that window")
    breaker_open_seconds: Seconds = Field(30, description="How long the breaker stays open before the next attempt")

    # Deadlines of submission statuses; the operators are notified of an overdue one once
    deadline_delivered_seconds: Seconds = Field(900, description="From the handoff until its delivery to the broker")
    deadline_received_seconds: Seconds = Field(3600, description="From then until the broker can read it")
    deadline_answered_seconds: Seconds = Field(86_400, description="From then until the broker answers it")
    deadline_filed_seconds: Seconds = Field(172_800, description="From acceptance until the entry is filed")
    deadline_released_seconds: Seconds = Field(432_000, description="From then until customs releases or holds")

    # Retention
    retention_years: tuple[tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], Count], ...] = Field(
        (("US", 5), ("CA", 6)),
        description="Years from the day of entry that records are kept, by country; the longest applies",
    )

    order_days: Count = Field(
        90, description="Days that synced orders without an export are kept; the purge deletes them"
    )

    # Where partners may be reached
    allow_private_destinations: bool = Field(
        False, description="Whether partners may have loopback or private addresses"
    )
    destination_ports: tuple[Count, ...] = Field(
        (22, 443, 2022, 2222, 8022, 8443),
        description="Ports of partners; any if private destinations are allowed",
    )
    borderbuddy_url: str | None = Field(None, description="Endpoint for handoffs on the borderbuddy path")
    borderbuddy_token: SecretStr | None = Field(None, description="Bearer token for that endpoint")
    borderbuddy_sandbox_url: str | None = Field(
        None, description="The same for test exports; default: the sandbox broker at EXPORTS_INTERNAL_URL"
    )

    # E-mail
    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: smtp+starttls://, smtps:// or smtp://, as in smtp+starttls://user:password@host:587",
    )
    mail_from: str | None = Field(
        None, description="Sender of every e-mail, as in `Export desk <exports@maple.example>`; people may reply"
    )
    mail_attach_max_bytes: Count = Field(
        10_000_000, description="Maximum size of an e-mail's attachments, before encoding; other documents become links"
    )
    mail_link_days: Count = Field(7, description="Days that document links in an e-mail work")
    reply_link_days: Count = Field(7, description="Days that the reply link in a handoff's e-mail works")

    connection_test_seconds: Seconds = Field(30, description="Total time of the connection test of one endpoint")

    # SFTP, and polling for answers
    sftp_timeout_seconds: Seconds = Field(
        120, description="Total time to write one message with its documents to an SFTP server"
    )
    partner_poll_seconds: Seconds = Field(
        60, description="Interval at which a customs broker's SFTP folder or endpoint is polled for answers"
    )
    partner_poll_days: Count = Field(
        30, description="Days of polling after the last news of a handoff that is not released"
    )

    # Links to documents
    document_link_seconds: Seconds = Field(
        900, description="How long a document link works that is requested or in a message to a program"
    )

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
    def _check_names(self) -> Settings:
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

    @model_validator(mode="after")
    def _check_schemes(self) -> Settings:
        endpoint = self.otel_exporter_otlp_endpoint
        collector = None if endpoint is None else endpoint.get_secret_value()
        check_addresses(self.database_url, self.broker_url.get_secret_value(), self.artifacts_url, collector)
        return self

    @model_validator(mode="after")
    def _check_mail(self) -> Settings:
        check_mail(self.mail_from, None if self.smtp_url is None else self.smtp_url.get_secret_value())
        return self

    @field_validator("oidc_roles", mode="before")
    @classmethod
    def _parse_roles(cls, given: object) -> ProviderRoles:
        return parse_provider_roles(given)

    @model_validator(mode="after")
    def _check_provider(self) -> Settings:
        check_provider(self.oidc_issuer, self.oidc_client_id, self.oidc_scopes, self.oidc_roles)
        return self

    @model_validator(mode="after")
    def _check_body_bounds(self) -> Settings:
        if self.max_bodies_bytes < self.max_body_bytes:
            raise ValueError("EXPORTS_MAX_BODIES_BYTES must be EXPORTS_MAX_BODY_BYTES or more")
        return self

    @property
    def message_broker(self) -> str:
        """The kind of message broker: memory, redis or amqp."""
        scheme = self.broker_url.get_secret_value().split(":", 1)[0]
        return {"rediss": "redis", "amqps": "amqp"}.get(scheme, scheme)

    @property
    def embedded(self) -> bool:
        """Whether the message broker, and so the workers, run in this process."""
        return self.message_broker == "memory"

    @property
    def weak_secret_key(self) -> str | None:
        """The setting whose secret key can be guessed, and why; None if there is none."""
        public = type(self).model_fields["secret_key"].default
        # The service also accepts what a previous key has sealed or signed.
        previous = (("EXPORTS_SECRET_KEYS_PREVIOUS", key) for key in self.secret_keys_previous)
        return find_weak_key(public, (("EXPORTS_SECRET_KEY", self.secret_key), *previous), SECRET_KEY_CHARACTERS)

    @property
    def needs_own_secret_key(self) -> bool:
        """Whether others can reach this service, its database or its message broker."""
        reached = (self.host, urlsplit(self.public_url).hostname)
        return not self.embedded or not self.database_url.startswith("sqlite:") or not all(map(is_loopback, reached))

    @property
    def weak_credentials(self) -> str | None:
        """The setting of the database or message broker with weak credentials, and why; None if there is none."""
        for name, url in (("DATABASE_URL", self.database_url), ("BROKER_URL", self.broker_url.get_secret_value())):
            if weakness := find_weakness(url):
                return f"{name} {weakness}"
        return None

    @property
    def borderbuddy_sandbox(self) -> str:
        """The endpoint for handoffs of test exports on the borderbuddy path."""
        return self.borderbuddy_sandbox_url or f"{self.own_url}/sandbox/borderbuddy/handoffs"

    @property
    def own_url(self) -> str:
        """The address at which the service's own processes reach its API, without a slash at the end."""
        return (self.internal_url or self.public_url).rstrip("/")


_override: list[Settings] = []


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, read once."""
    return _override[0] if _override else Settings()


def use_settings(settings: Settings) -> None:
    """Make `settings` those of this process. Call it at the start, before the first `get_settings`."""
    _override[:] = [settings]
    get_settings.cache_clear()
