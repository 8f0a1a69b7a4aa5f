"""Tests of the names of settings: a misspelt name is refused in the environment and in `.env`."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import Settings
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
