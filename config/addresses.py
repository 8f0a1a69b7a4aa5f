"""The settings that say where things are, and the secrets by which they are reached."""

import re
from typing import Annotated, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from config.network import LOOPBACK, is_loopback
from config.weak_credentials import find_weak_key, find_weakness

#: The length of `secrets.token_urlsafe(24)`, which cannot be guessed.
SECRET_KEY_CHARACTERS: Final = 32

#: An address of PostgreSQL with several servers, as libpq reads it.
_SEVERAL_SERVERS: Final = re.compile(
    r"(?P<scheme>postgres[a-z+]*)://(?P<user>[^/?]*@)?(?P<servers>[^@/?,]*(?:,[^@/?,]*)+)(?P<name>/[^?]*)?(?P<query>\?.*)?"
)

#: The remedies for two message brokers, by how their address begins.
_OF_SEVERAL: Final = {
    "amqp": "separate the addresses by semicolons, as in amqp://exports:PASSWORD@mq1//;amqp://exports:PASSWORD@mq2//",
    "redis": "the service follows only one Redis: give an address that moves to the new primary, or use RabbitMQ",
}


def _strip_slash(address: str) -> str:
    return address.rstrip("/")


def _list_servers(database: str) -> str:
    """Return a database's address with several servers, as in postgresql://a:5432,b:5432/exports, as SQLAlchemy reads it.

    Transactions write, so it asks for the server that is the primary, unless the address says otherwise. Another address
    is returned unchanged.
    """
    found = _SEVERAL_SERVERS.fullmatch(database)
    if found is None:
        return database
    given = (found["query"] or "?")[1:]
    hosts = [f"host={server}" for server in found["servers"].split(",")]
    primary = [] if "target_session_attrs=" in given else ["target_session_attrs=read-write"]
    query = "&".join([*hosts, *primary, *filter(None, [given])])
    return f"{found['scheme']}://{found['user'] or ''}{found['name'] or '/'}?{query}"


def _check_broker_servers(broker: str) -> None:
    kind = "amqp" if broker.startswith("amqp") else "redis"
    if broker.startswith(("sentinel:", "redis+", "rediss+")) or (kind == "redis" and ";" in broker):
        raise ValueError(f"BROKER_URL names several Redis servers; {_OF_SEVERAL['redis']}")
    if "," in re.sub(r"^\w+://", "", broker).split("/", 1)[0].rpartition("@")[2]:
        raise ValueError(f"BROKER_URL names several servers by commas; {_OF_SEVERAL[kind]}")


def _unprefixed(name: str) -> AliasChoices:
    # Hosting platforms set these addresses under names without a prefix; all other variables have the EXPORTS_ prefix.
    return AliasChoices(name.upper(), f"EXPORTS_{name.upper()}", name)


#: Paths follow, so no address keeps a slash at its end.
_Address = Annotated[str, AfterValidator(_strip_slash)]


class AddressSettings(BaseModel):
    """Where things are, traces and secrets."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(populate_by_name=True)

    database_url: Annotated[str, AfterValidator(_list_servers)] = Field(
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
    public_url: _Address = Field(f"http://{LOOPBACK}:8000", description="Address of the API for callers and partners")
    internal_url: _Address | None = Field(
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

    @model_validator(mode="after")
    def _check_schemes(self) -> Self:
        broker = self.broker_url.get_secret_value()
        _check_broker_servers(broker)
        for name, url, schemes in (
            ("DATABASE_URL", self.database_url, ("sqlite:", "postgresql:", "postgres:", "postgresql+psycopg:")),
            ("BROKER_URL", broker, ("memory:", "redis:", "rediss:", "amqp:", "amqps:")),
            ("ARTIFACTS_URL", self.artifacts_url, ("file:", "memory:", "s3:", "gs:", "az:")),
        ):
            if not url.startswith(schemes):
                given = url.split(":", 1)[0]
                raise ValueError(f"{name} must begin with one of {', '.join(schemes)}, not with {given!r}")
        collector = self.otel_exporter_otlp_endpoint
        if collector is not None and not re.match("https?://.|$", collector.get_secret_value()):
            raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://")
        return self

    @property
    def is_traced(self) -> bool:
        """Whether the service sends traces; the OpenTelemetry SDK reads the same variables."""
        endpoint, off = self.otel_exporter_otlp_endpoint, self.otel_sdk_disabled.strip().lower() == "true"
        off = off or self.otel_traces_exporter.strip().lower() == "none"
        return endpoint is not None and endpoint.get_secret_value() != "" and not off

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
    def own_url(self) -> str:
        """The address at which the service's own processes reach its API."""
        return self.internal_url or self.public_url
