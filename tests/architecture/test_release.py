"""What a release publishes has one version, and the changelog names it."""

import json
import re
import tomllib
from datetime import date
from typing import Final

import yaml

from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS
from pipeline.interfaces.contracts import asyncapi
from tests.architecture.sources import ROOT

HEADING: Final = re.compile(
    r"^## (?:(?P<unreleased>Unreleased)|(?P<version>\d+\.\d+\.\d+) - (?P<day>\d{4}-\d\d-\d\d))$"
)


def read_version(folder: str) -> str:
    """Return the version of the Python project in the folder."""
    return str(tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def test_every_published_thing_has_the_version_of_the_service() -> None:
    version = read_version(".")
    chart = yaml.safe_load((ROOT / "config/deploy/chart/Chart.yaml").read_text(encoding="utf-8"))
    npm = [
        json.loads((ROOT / "clients/typescript" / name).read_text()) for name in ("package.json", "package-lock.json")
    ]
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    found = {
        "the Python client": read_version("clients/python"),
        "the TypeScript client": npm[0]["version"],
        "its lock file": npm[1]["version"],
        "uv.lock": next(each["version"] for each in lock if each["name"] == "exports"),
        "the chart": chart["version"],
        "the chart's image": str(chart["appVersion"]),
        "OpenAPI": build_document(ROUTERS, "https://exports.example")["info"]["version"],
        "AsyncAPI": asyncapi.build_document(version)["info"]["version"],
    }
    assert {name for name, each in found.items() if each != version} == set()


def test_pages_and_files_name_the_version_of_the_service() -> None:
    version = read_version(".")
    for page in ("docs/start/python.md", "docs/deployment.md", "config/deploy/compose.yaml"):
        named = re.findall(r"\bexports[:-](\d+\.\d+\.\d+)\b", (ROOT / page).read_text(encoding="utf-8"))
        assert set(named) == {version}, page


def test_changelog_begins_with_the_changes_after_the_newest_release() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [HEADING.match(line) for line in lines if line.startswith("## ")]
    assert all(headings)
    first, *released = [heading for heading in headings if heading is not None]
    assert first["unreleased"]
    assert released[0]["version"] == read_version(".")
    days = [date.fromisoformat(each["day"]) for each in released]
    assert days == sorted(days, reverse=True)


def test_readme_is_short_and_shows_the_console_and_an_invoice() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 700
    shown = re.findall(r"docs/images/([\w-]+\.png)", text)
    assert {"console-light.png", "console-dark.png", "invoice.png"} <= set(shown)
    assert all((ROOT / "docs/images" / name).stat().st_size > 10_000 for name in shown)
