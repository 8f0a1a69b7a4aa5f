"""`exports login`, the profiles that it keeps, and which address, key and account a command then uses."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support import factories
from tests.support.command_line import Commands

#: As if unset: the command line then has no address and no key of its own.
UNSET = ("EXPORTS_API_URL", "EXPORTS_API_KEY")


@pytest.fixture
def fresh(service: Commands, tmp_path: Path) -> Commands:
    """The command line of a person without settings, at the running service."""
    kept = {name: value for name, value in service.environment.items() if name not in UNSET}
    return Commands(kept | {"XDG_CONFIG_HOME": str(tmp_path / "config")})


def login(fresh: Commands, service: Commands, *options: str) -> dict[str, Any]:
    url, key = service.environment["EXPORTS_API_URL"], service.environment["EXPORTS_API_KEY"]
    result = fresh("login", *options, "--api-url", url, "--json", stdin=f"{key}\n")
    assert result.exit_code == 0, result.output
    assert key not in result.output
    view: dict[str, Any] = json.loads(result.stdout)
    return view


def read_file(fresh: Commands) -> Path:
    return Path(fresh.environment["XDG_CONFIG_HOME"]) / "exports" / "profiles.json"


def test_commands_use_the_profile_after_login(fresh: Commands, service: Commands) -> None:
    assert fresh("list").exit_code == 4
    view = login(fresh, service, "--account", factories.ACCOUNT)
    assert (view["profile"], view["current"], view["account"]) == ("default", True, factories.ACCOUNT)
    assert "items" in fresh.json("list")
    assert stat.S_IMODE(read_file(fresh).stat().st_mode) == 0o600
    assert stat.S_IMODE(read_file(fresh).parent.stat().st_mode) == 0o700
    assert service.environment["EXPORTS_API_KEY"] not in fresh("profiles", "list").output


def test_account_of_the_profile_is_the_default(fresh: Commands, service: Commands) -> None:
    missing = fresh("partners", "list")
    assert (missing.exit_code, "EXPORTS_ACCOUNT" in missing.stderr) == (2, True)
    assert fresh.json("partners", "list", EXPORTS_ACCOUNT=factories.ACCOUNT)
    login(fresh, service, "--account", factories.ACCOUNT)
    assert {row["id"] for row in fresh.json("partners", "list")} >= {factories.BROKER}
    assert fresh("partners", "list", "--account", "acc_other").exit_code == 3
    assert fresh("partners", "list", EXPORTS_ACCOUNT="acc_other").exit_code == 3
    assert fresh("partners", "list", "--help").exit_code == 0


def test_key_of_a_profile_reaches_no_other_address(fresh: Commands, service: Commands) -> None:
    login(fresh, service)
    url = service.environment["EXPORTS_API_URL"]
    for arguments, environment in ((("--api-url", url), {}), ((), {"EXPORTS_API_URL": url})):
        refused = fresh("list", *arguments, "--json", **environment)
        assert json.loads(refused.stdout)["errorCode"] == "INVALID_API_KEY", refused.output


def test_environment_wins_and_the_option_wins_over_it(fresh: Commands, service: Commands) -> None:
    login(fresh, service, "staging")
    assert fresh("list", EXPORTS_API_URL="http://127.0.0.1:9").exit_code == 4
    assert fresh("--profile", "staging", "list", EXPORTS_API_URL="http://127.0.0.1:9").exit_code == 0
    unknown = fresh("--profile", "stagin", "list")
    assert (unknown.exit_code, "known are: staging" in unknown.stderr) == (3, True)


def test_profiles_are_chosen_and_removed(fresh: Commands, service: Commands) -> None:
    login(fresh, service, "one")
    login(fresh, service, "two")
    assert [(row["profile"], row["current"]) for row in fresh.json("profiles", "list")] == [
        ("one", False),
        ("two", True),
    ]
    fresh.json("profiles", "use", "one")
    fresh.json("profiles", "remove", "one")
    assert fresh("list").exit_code == 4
    assert fresh("list", EXPORTS_PROFILE="two").exit_code == 0
    assert fresh("profiles", "use", "one").exit_code == 3


def test_rejected_key_is_not_kept(fresh: Commands, service: Commands) -> None:
    url = service.environment["EXPORTS_API_URL"]
    for key, code in (("exp_test_nobody_nothing", 1), ("", 2), (" ", 2), ("ü", 2)):
        result = fresh("login", "--api-url", url, stdin=f"{key}\n")
        assert result.exit_code == code, result.output
    assert fresh("login", "--api-url", "nowhere", stdin="key\n").exit_code == 2
    assert not read_file(fresh).exists()


def test_file_that_holds_no_profiles_is_named(fresh: Commands) -> None:
    read_file(fresh).parent.mkdir(parents=True)
    for text in ("", "{", '{"profiles": {"a": {"apiUrl": 1}}}'):
        read_file(fresh).write_text(text)
        result = fresh("list")
        assert (result.exit_code, "does not hold profiles" in result.stderr) == (2, True), result.output
        assert fresh("partners", "list").exit_code == 2


def test_whoami_shows_profile_account_and_key(fresh: Commands, service: Commands) -> None:
    login(fresh, service, "staging", "--account", factories.ACCOUNT)
    found = fresh.json("whoami")
    assert (found["profile"], found["defaultAccount"]) == ("staging", factories.ACCOUNT)
    assert found["apiUrl"] == service.environment["EXPORTS_API_URL"]
    key = found["key"]
    assert (key["accountId"], key["mode"], key["roles"], key["expiresAt"]) == (
        factories.ACCOUNT,
        "test",
        ["admin"],
        None,
    )
    assert key["keyId"] in service.environment["EXPORTS_API_KEY"]
    shown = fresh("whoami").stdout
    assert "accepts the key of the profile's address or key" in shown
    assert "Maple Goods Ltd" in shown
    assert service.environment["EXPORTS_API_KEY"] not in shown
    from_settings = service("whoami").stdout
    assert "accepts the key of EXPORTS_API_KEY" in from_settings
    assert service.json("whoami")["profile"] is None


def test_whoami_names_a_default_account_that_the_key_cannot_act_for(fresh: Commands, service: Commands) -> None:
    login(fresh, service, "staging", "--account", "acc_other")
    shown = fresh("whoami").stdout
    assert "acc_other, by default" in shown
    assert f"--account {factories.ACCOUNT}" in shown
    assert fresh.json("whoami", EXPORTS_ACCOUNT="acc_third")["defaultAccount"] == "acc_other"


def test_whoami_takes_a_key_that_may_only_answer(fresh: Commands, service: Commands) -> None:
    made = service.json("keys", "create", "--account", factories.ACCOUNT, "--partner", factories.BROKER)
    found = service.json("whoami", "--api-key", made["key"])
    assert (found["key"]["roles"], found["key"]["mode"]) == ([f"partner:{factories.BROKER}"], "live")


def test_whoami_without_a_valid_key_is_refused_with_a_remedy(fresh: Commands, service: Commands) -> None:
    url = service.environment["EXPORTS_API_URL"]
    missing = fresh("whoami", "--api-url", url, "--json")
    assert (missing.exit_code, json.loads(missing.stdout)["message"]) == (1, f"no key is set for {url}")
    unknown = fresh("whoami", "--api-url", url, "--api-key", "exp_test_nobody_nothing", "--json")
    refused = json.loads(unknown.stdout)
    assert (unknown.exit_code, refused["message"].startswith(f"{url} refuses the key of --api-key: ")) == (1, True)
    assert "exports login" in refused["remedy"]
    assert fresh("whoami", "--api-key", "key").exit_code == 4  # nothing answers at the default address
