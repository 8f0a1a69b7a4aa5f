"""Named connections to the API, in a file that only the user can read; and the account that commands use by default."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import typer
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_serializer
from pydantic.alias_generators import to_camel
from typer._click.exceptions import MissingParameter
from typer._click.globals import get_current_context

from config.settings import get_settings
from pipeline.core.errors import NotFound
from pipeline.interfaces.cli.output import ExitCode, Failure

_FILE_NAME: Final = "profiles.json"

_FORMAT: Final = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", hide_input_in_errors=True)


class ConnectionProfile(BaseModel):
    """A connection to the API: its address, the key, and the account of commands that need one."""

    model_config = _FORMAT

    api_url: str
    api_key: SecretStr
    account: str | None = None

    @field_serializer("api_key")
    def _reveal_key(self, key: SecretStr) -> str:
        return key.get_secret_value()


class ProfileFile(BaseModel):
    """All profiles by name, and the name of the one that is used."""

    model_config = _FORMAT

    current: str | None = None
    profiles: dict[str, ConnectionProfile] = {}


def profiles_file() -> Path:
    """Return the path of the file, in the user's folder for configuration."""
    return Path(typer.get_app_dir("exports")) / _FILE_NAME


def read_profiles() -> ProfileFile:
    """Return the profiles, empty without a file. Raises Failure if it cannot be read."""
    path = profiles_file()
    try:
        return ProfileFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ProfileFile()
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", code=ExitCode.USAGE) from error
    except ValidationError as error:
        remedy = "Correct it, or delete it and run `exports login` again."
        raise Failure(f"{path} does not hold profiles", code=ExitCode.USAGE, remedy=remedy) from error


def write_profiles(found: ProfileFile) -> None:
    """Replace the file at once; only the user can read it, because it holds keys."""
    path = profiles_file()
    part = path.with_name(f"{_FILE_NAME}.{os.getpid()}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            part.unlink()
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(found.model_dump_json(by_alias=True, indent=2) + "\n")
        part.replace(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error


def find_profile() -> ConnectionProfile | None:
    """Return the profile that `find_profile_name` names; None if it names none. Raises NotFound for an unknown name."""
    name = find_profile_name()
    return None if name is None else get_profile(read_profiles(), name)


def find_profile_name() -> str | None:
    """Return the name that `--profile` gives, else EXPORTS_PROFILE, else the current profile's; None if there is none.

    EXPORTS_API_URL and EXPORTS_API_KEY win over all but `--profile`: a profile's key must reach only its own address.
    """
    settings, named = get_settings(), requested_profile()
    if named is None and {"api_url", "api_key"} & settings.model_fields_set:
        return None
    return named or settings.profile or read_profiles().current


def requested_profile() -> str | None:
    """Return the name that `exports --profile NAME` gives to this command; None if it is not given."""
    context: Any = get_current_context(silent=True)
    return None if context is None else context.find_root().params.get("profile")


def default_account() -> str:
    """Return the account of a command without `--account`: EXPORTS_ACCOUNT, else that of the profile.

    Raises MissingParameter if there is none.
    """
    try:
        settings = get_settings()
        profile = find_profile() if requested_profile() is not None or not settings.account else None
    except (Failure, NotFound) as error:
        raise typer.BadParameter(str(error)) from error
    except ValidationError:
        return ""  # the command reads the settings too, and reports them
    account = (profile.account if profile else None) or settings.account
    if not account:
        raise MissingParameter(
            "Give it, set EXPORTS_ACCOUNT, or keep one by `exports login --account ACCOUNT`",
            param_hint="--account",
            param_type="option",
        )
    return account


def get_profile(found: ProfileFile, name: str) -> ConnectionProfile:
    """Return the profile with this name; raises NotFound with the known names."""
    if name not in found.profiles:
        known = ", ".join(found.profiles) or "none"
        raise NotFound(f"there is no profile {name}; known are: {known}. `exports login {name}` makes it")
    return found.profiles[name]
