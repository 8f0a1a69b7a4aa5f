"""Settings: a misspelt name is refused wherever it is given, and credentials are read, checked and hidden."""

from pathlib import Path
from ssl import CERT_REQUIRED
from typing import Any

import pytest
from pydantic import ValidationError

from config.queues import celery_options
from config.settings import Settings
from config.weak_credentials import find_weakness
from pipeline.core.errors import UnsafeSettings
from pipeline.core.runtime import reject_weak_credentials
from pipeline.ops.doctor import run_checks
from tests.support.command_line import Commands, commands

__all__ = ["commands"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("EXPORTS_LEASE_SECOND", "did you mean EXPORTS_LEASE_SECONDS[?]"),
        ("exports_lease_second", "EXPORTS_LEASE_SECOND is not a setting; did you mean EXPORTS_LEASE_SECONDS[?]"),
        ("EXPORTS_SECRETKEY", "did you mean EXPORTS_SECRET_KEY[?]"),
        ("EXPORTS_DATABASE_URI", "did you mean EXPORTS_DATABASE_URL[?]"),
        ("EXPORTS_XYZ", "EXPORTS_XYZ is not a setting; unset it; docs/configuration.md has every setting"),
    ],
)
def test_unknown_setting_is_refused_with_a_suggestion(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv(name, "5")
    with pytest.raises(ValidationError, match=message):
        Settings()
    monkeypatch.delenv(name)
    (folder / ".env").write_text(f"{name}=5\n")
    with pytest.raises(ValidationError, match=message):
        Settings()


def test_known_settings_and_foreign_variables_are_accepted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text(
        "EXPORTS_DATABASE_URL=sqlite:///x.db\nDATABASE_POOL=3\nEXPORTS_WEBHOOK_SECRETS=whsec_x\n"
    )
    monkeypatch.setenv("exports_port", "9000")
    monkeypatch.setenv("NOT_EXPORTS_LEASE_SECOND", "5")
    taken = Settings()
    assert (taken.database_url, taken.port, taken.database_pool) == ("sqlite:///x.db", 9000, 10)


def test_settings_error_does_not_repeat_other_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPORTS_SECRET_KEY", "canary")
    monkeypatch.setenv("EXPORTS_XYZ", "canary")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "canary" not in str(refused.value)


def test_command_reports_an_unknown_setting(commands: Commands) -> None:
    result = commands("accounts", "list", EXPORTS_LEASE_SECOND="5")
    assert result.exit_code == 2
    assert "/: EXPORTS_LEASE_SECOND is not a setting; did you mean EXPORTS_LEASE_SECONDS?" in result.stderr


def test_own_processes_reach_the_api_by_the_internal_address_if_there_is_one() -> None:
    outside = {"public_url": "https://exports.example/"}
    inside = Settings.model_validate({**outside, "internal_url": "http://web:8000/"})
    assert inside.borderbuddy_sandbox == "http://web:8000/sandbox/borderbuddy/handoffs"
    assert Settings.model_validate(outside).own_url == "https://exports.example"


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
def test_message_broker_with_known_credentials_is_refused(url: str) -> None:
    with pytest.raises(UnsafeSettings, match=r"BROKER_URL signs in as .*create a separate user"):
        reject_weak_credentials(settings(broker_url=url))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:postgres@db.example/exports",
        "postgres://exports:exports@db.example/exports",
        "postgresql+psycopg://exports:password@db.example/exports",
        "postgresql://maple:m%61ple@db.example/exports",
        "postgresql:///exports?host=db.example&user=postgres&password=postgres",
        "postgresql://localhost/exports?host=db.example&user=maple&password=maple",
        "postgresql://postgres:long-and-random-8ac1@localhost/exports?hostaddr=10.0.0.4&password=secret",
        "postgresql:///exports?host=127.0.0.1,db.example&user=postgres&password=postgres",
    ],
)
def test_database_with_known_credentials_is_refused(url: str) -> None:
    with pytest.raises(UnsafeSettings, match="DATABASE_URL signs in as"):
        reject_weak_credentials(settings(database_url=url))
    (found,) = (check for check in run_checks(settings(database_url=url)) if check.name == "database")
    assert (found.ok, "well-known" in found.found) == (False, True)


def test_weakness_does_not_contain_the_password() -> None:
    message = find_weakness("amqp://rabbit:CHANGEME@mq.example//")
    assert message == "signs in as rabbit with a well-known password"


@pytest.mark.parametrize(
    ("database_url", "broker_url"),
    [
        ("sqlite:///var/exports.db", "memory://"),
        ("postgresql://exports:7Yq-long-and-random@db.example/exports", "amqp://exports:Qm2-long@mq.example//"),
        ("postgresql://exports@db.example/exports", "redis://:7Yq-long-and-random@mq.example/0"),
        # Only on this machine: RabbitMQ accepts guest only from loopback.
        ("postgresql://postgres:postgres@127.0.0.1/exports", "amqp://guest:guest@localhost//"),
        ("postgresql://postgres:postgres@[::1]/exports", "amqp://127.0.0.1//"),
    ],
)
def test_own_and_loopback_credentials_are_accepted(database_url: str, broker_url: str) -> None:
    reject_weak_credentials(settings(database_url=database_url, broker_url=broker_url))


@pytest.mark.parametrize(
    "url",
    [
        "redis://mq.example:6379/0",
        "rediss://mq.example/0",
        "redis://exports@mq.example/0",
        "redis://:@10.0.0.4/0",
        "amqp://exports@mq.example//",
        "amqps://exports:@mq.example//",
        "amqp://exports:7Yq-long-and-random@one.example//;amqp://exports@two.example//",
        "rediss://mq.example/0?ssl_cert_reqs=none",
    ],
)
def test_message_broker_without_password_is_refused_and_named_by_doctor(url: str) -> None:
    with pytest.raises(UnsafeSettings, match=r"BROKER_URL signs in without a password.*create a separate user"):
        reject_weak_credentials(settings(broker_url=url))
    (found,) = (check for check in run_checks(settings(broker_url=url)) if check.name == "message broker")
    assert (found.ok, "without a password" in found.found) == (False, True)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("amqps://mq.example//", {"cert_reqs": CERT_REQUIRED, "server_hostname": "mq.example"}),
        ("rediss://mq.example/0", {"ssl_cert_reqs": CERT_REQUIRED, "ssl_check_hostname": True}),
        ("redis://mq.example/0", False),
        ("memory://", False),
    ],
)
def test_certificate_of_the_message_broker_is_checked(url: str, options: Any) -> None:
    assert celery_options(settings(broker_url=url))["broker_use_ssl"] == options


@pytest.mark.parametrize(
    ("database_url", "broker_url"),
    [
        # Only on this machine.
        ("sqlite:///var/exports.db", "redis://127.0.0.1:6379/0"),
        ("sqlite:///var/exports.db", "redis://localhost/0"),
        ("sqlite:///var/exports.db", "amqp://exports@[::1]//"),
        # By a certificate of the service.
        (
            "sqlite:///var/exports.db",
            "rediss://mq.example/0?ssl_certfile=/etc/exports.crt&ssl_keyfile=/etc/exports.key",
        ),
        ("sqlite:///var/exports.db", "amqps://mq.example//?ssl_certfile=/etc/exports.crt&login_method=EXTERNAL"),
        # By a socket, a certificate, a password file or the environment: the address does not show how.
        ("postgresql:///exports?host=/run/postgresql", "memory://"),
        ("postgresql://exports@db.example/exports?sslcert=/etc/exports.crt", "memory://"),
        ("postgresql://exports@db.example/exports?passfile=/etc/exports.pgpass", "memory://"),
        ("postgresql://db.example/exports", "memory://"),
        ("postgresql://exports:a;b-long-and-random@db.example/exports", "memory://"),
    ],
)
def test_sign_in_without_password_by_other_methods_is_accepted(database_url: str, broker_url: str) -> None:
    reject_weak_credentials(settings(database_url=database_url, broker_url=broker_url))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///exports?host=/run/postgresql&user=postgres&password=postgres",
        "postgresql://db.example/exports?host=127.0.0.2&user=postgres&password=postgres",
        "redis://127.0.0.2/0",
        "amqp://guest:guest@[::1]//",
    ],
)
def test_every_spelling_of_loopback_is_accepted(url: str) -> None:
    assert find_weakness(url) is None


@pytest.mark.parametrize("key", ["", "a", "changeme", "k" * 31])
@pytest.mark.parametrize("name", ["EXPORTS_SECRET_KEY", "EXPORTS_SECRET_KEYS_PREVIOUS"])
def test_short_secret_key_with_external_broker_is_refused(name: str, key: str) -> None:
    keys = {"secret_key": key} if name == "EXPORTS_SECRET_KEY" else {"secret_keys_previous": ["k" * 32, key]}
    shown = Settings.model_validate(OWN | keys | {"broker_url": "redis://127.0.0.1/0"})
    with pytest.raises(UnsafeSettings, match=rf"^{name} has only {len(key)} characters"):
        reject_weak_credentials(shown)
    (found,) = (check for check in run_checks(shown) if check.name == "secret key")
    assert (found.ok, found.found) == (False, f"{name} has only {len(key)} characters, which can be guessed")


def test_development_key_as_previous_key_is_refused() -> None:
    public = Settings.model_fields["secret_key"].default
    with pytest.raises(UnsafeSettings, match=r"^EXPORTS_SECRET_KEYS_PREVIOUS is the public key for development"):
        reject_weak_credentials(
            Settings.model_validate(OWN | {"secret_keys_previous": [public], "broker_url": "redis://127.0.0.1/0"})
        )


@pytest.mark.parametrize(
    "where",
    [
        *({"host": host} for host in ("10.0.0.4", "", "::", "exports.maple.example")),
        *({"public_url": f"http://{name}"} for name in ("exports.maple.example", "10.0.0.7:8000", "127.0.0.1.example")),
    ],
)
def test_development_key_on_a_reachable_service_is_refused(where: dict[str, str]) -> None:
    with pytest.raises(UnsafeSettings, match="EXPORTS_SECRET_KEY is the public key for development"):
        reject_weak_credentials(Settings.model_validate(where))
    reject_weak_credentials(Settings.model_validate(OWN | where))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "::1"])
def test_development_key_on_loopback_is_accepted(host: str) -> None:
    public_url = f"http://{f'[{host}]' if ':' in host else host}:8000"
    reject_weak_credentials(Settings.model_validate({"host": host, "public_url": public_url}))


def test_development_key_with_local_servers_is_refused() -> None:
    for changes in ({"broker_url": "redis://127.0.0.1/0"}, {"database_url": "postgresql://127.0.0.1/exports"}):
        with pytest.raises(UnsafeSettings, match="EXPORTS_SECRET_KEY"):
            reject_weak_credentials(Settings.model_validate(changes))
    reject_weak_credentials(Settings.model_validate({"database_url": "sqlite:///var/exports.db"}))
