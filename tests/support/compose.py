"""config/deploy/compose.yaml as Docker Compose reads it, and the stages of the Containerfile."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import AliasChoices

from config.settings import Settings
from tests.conftest import skip_or_fail

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "config" / "deploy"
COMPOSE: Final = DEPLOY / "compose.yaml"
CONTAINERFILE: Final = DEPLOY / "Containerfile"

#: The variables that an operator must set.
SECRETS: Final[Mapping[str, str]] = {
    "EXPORTS_SECRET_KEY": "0f" * 32,
    "DATABASE_PASSWORD": "1e" * 16,
    "BROKER_PASSWORD": "2d" * 16,
    "POSTGRES_PASSWORD": "3c" * 16,
    "GRAFANA_PASSWORD": "4b" * 16,
}

#: The services that run a process of ours for good.
PROCESSES: Final = ("web", "worker", "large-worker", "deliveries", "intake")


#: Options of `exports web` and uvicorn, which are not settings.
WEB_VARIABLES: Final = frozenset({"HOST", "PORT", "FORWARDED_ALLOW_IPS"})


def list_variables() -> set[str]:
    """Return the variables that the settings read."""
    aliases = (field.validation_alias for field in Settings.model_fields.values())
    named = {str(choice) for alias in aliases if isinstance(alias, AliasChoices) for choice in alias.choices}
    return named | {f"EXPORTS_{name.upper()}" for name in Settings.model_fields}


def run_compose(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose on our file with only these variables; it needs no Docker to read a file."""
    program = shutil.which("docker-compose")
    if program is None:
        skip_or_fail("docker-compose is not installed; the package is docker-compose")
    # A developer's own .env beside the file must not count.
    file = [] if "--env-file" in arguments else ["--env-file", os.devnull]
    command = [program, "--file", str(COMPOSE), *file, *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def read_services(profile: str, **variables: str) -> dict[str, dict[str, Any]]:
    """Return the services of a profile by name, with all variables replaced."""
    done = run_compose("--profile", profile, "config", "--format", "json", **{**SECRETS, **variables})
    assert done.returncode == 0, done.stderr
    # Compose escapes each dollar sign, so that it could read its own output.
    services: dict[str, dict[str, Any]] = json.loads(done.stdout.replace("$$", "$"))["services"]
    for service in services.values():
        # A container does not get a variable without a value.
        given = service.get("environment", {})
        service["environment"] = {name: value for name, value in given.items() if value is not None}
    return services


def read_stages() -> list[list[tuple[str, str]]]:
    """Return the stages of the Containerfile, each as its instructions with their text."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(None, text.splitlines()):
        word, rest = line.split(" ", 1)
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest.strip()))
    return stages


def read_variables(stage: list[tuple[str, str]]) -> dict[str, str]:
    """Return the environment that a stage sets."""
    pairs = (pair for word, rest in stage if word == "ENV" for pair in shlex.split(rest))
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
