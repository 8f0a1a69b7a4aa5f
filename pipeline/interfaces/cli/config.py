"""`exports config`: every setting with its value, source and meaning; secrets are masked."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import typer
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource
from rich.markup import escape

from config.settings import Settings, get_settings
from pipeline.interfaces.cli.output import Json, print_json, report_errors, stdout_console

HIDDEN: Final = "••••••••"
_USER_INFO: Final = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")
_SECRET_PARAMETER: Final = re.compile(r"(?i)([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s#]+")

app = typer.Typer(no_args_is_help=True, help="The settings of this process.")


@dataclass(frozen=True)
class SettingView:
    """One setting as it is shown: variable, value with secrets masked, default, source and meaning."""

    name: str
    value: str
    default: str
    source: str  # default | env | .env
    description: str


@app.command("show")
@report_errors
def show(as_json: Json = False) -> None:
    """Print every setting with its value, source and meaning."""
    views = list(build_setting_views(get_settings()))
    if as_json:
        print_json(views)
        return
    console = stdout_console()
    for view in views:
        console.print(
            f"[bold]{view.name}[/] = {escape(view.value) or '[dim]not set[/]'}  [dim]{view.source}[/]", soft_wrap=True
        )
        console.print(f"    [dim]{escape(view.description)}[/]", soft_wrap=True)


def build_setting_views(settings: Settings) -> Iterator[SettingView]:
    """Yield every setting in the order of its definition, with secrets masked."""
    in_environment = _set_by(EnvSettingsSource(Settings)())
    in_file = _set_by(DotEnvSettingsSource(Settings)())
    for name, field in Settings.model_fields.items():
        source = "env" if name in in_environment else ".env" if name in in_file else "default"
        yield SettingView(
            variable_name(name, field),
            mask_value(getattr(settings, name)),
            mask_value(field.default),
            source,
            field.description or "",
        )


def variable_name(name: str, field: FieldInfo) -> str:
    """Return the environment variable that sets a field."""
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"EXPORTS_{name.upper()}"


def _set_by(source: Mapping[str, Any]) -> set[str]:
    # A source names a value by the alias under which it was found, in the case that the system gave it.
    found = {key.lower() for key in source}
    return {name for name in Settings.model_fields if {name, f"exports_{name}"} & found}


def mask_value(value: object) -> str:
    """Return a setting's value as text, with secrets masked."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        if "://" not in text:
            return HIDDEN if text else ""
        value = text
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and any(isinstance(item, SecretStr) for item in value):
        return "[" + ", ".join(HIDDEN for _ in value) + "]"
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' if isinstance(item, str) else mask_value(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", _USER_INFO.sub(rf"\1:{HIDDEN}", str(value)))
