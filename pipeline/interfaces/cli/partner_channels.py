"""The options of `exports partners add` for the channels, and the endpoints that they ask for."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
from pydantic import SecretStr

from pipeline.accounts.channels import (
    CHANNEL_KINDS,
    CHANNELS,
    CREDENTIAL,
    ChannelKind,
    ChannelOption,
    Endpoint,
    is_list,
)
from pipeline.interfaces.cli.output import ExitCode, Failure

C = TypeVar("C", bound=Callable[..., Any])


def add_channel_options(command: C) -> C:
    """Return the command with the options of all channels, which it takes by its `**`."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [_build_parameter(CHANNEL_KINDS[name], each) for name in CHANNELS for each in CHANNEL_KINDS[name].options]
    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return command


def read_endpoints(given: Mapping[str, Any]) -> list[Endpoint]:
    """Return the endpoints that the options ask for. Raises Failure if an option is empty or a credential is missing."""
    kinds = [CHANNEL_KINDS[name] for name in CHANNELS if CHANNEL_KINDS[name].options]
    for option in (kind.options[0] for kind in kinds):
        if given[option.name] == "":  # as from an unset variable; ignored, it would leave the partner only the queue
            remedy = "Give an address or leave the option out."
            raise Failure(f"{option.flag} must not be empty", code=ExitCode.USAGE, remedy=remedy)
    return [_read_endpoint(kind, given) for kind in kinds if given[kind.options[0].name]]


def read_file(path: Path) -> bytes:
    """Return the content of a file that an option names. Raises Failure if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", code=ExitCode.NOT_FOUND) from error


def _build_parameter(kind: ChannelKind, option: ChannelOption) -> inspect.Parameter:
    wanted: Any = bool
    if option.setting == CREDENTIAL:
        wanted = Path | None
    elif option.setting:
        wanted = list[str] | None if is_list(kind.schema.model_fields[option.setting]) else str | None
    declared = typer.Option(option.flag, metavar=option.metavar or None, help=option.help)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if option.setting else False,
        annotation=Annotated[wanted, declared],
    )


def _read_endpoint(kind: ChannelKind, given: Mapping[str, Any]) -> Endpoint:
    settings: dict[str, Any] = {}
    for option in kind.options:
        value = given[option.name]
        if option.setting == CREDENTIAL:
            settings |= _read_credential(kind.options[0].flag, option.flag, value)
        elif option.setting:
            settings[option.setting] = value or []
    return cast(Endpoint, kind.schema(**settings))


def _read_credential(channel_flag: str, flag: str, file: Path | None) -> dict[str, SecretStr]:
    if file is None:
        remedy = f"Give a file by {flag}."
        raise Failure(f"{channel_flag} needs a credential", code=ExitCode.USAGE, remedy=remedy)
    # A private key ends with its last line break; a password's file may end with one that is not part of the password.
    try:
        text = read_file(file).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Failure(f"{flag} {file} must be UTF-8 text", code=ExitCode.USAGE) from error
    if text.lstrip().startswith("-----BEGIN"):
        return {"private_key": SecretStr(text + "\n")}
    return {"password": SecretStr(text)}
