"""The service's packages: locked by hash, from one registry, and without known holes."""

import re
import tomllib
from functools import cache
from typing import Any, Final

import pytest

from tests.architecture.sources import ROOT

#: package -> the first version without the hole, and the hole.
FIXED_IN: Final = {
    "asyncssh": ("2.14.2", "CVE-2023-48795, CVE-2023-46445, CVE-2023-46446: sessions spliced and downgraded"),
    "celery": ("5.2.2", "CVE-2021-23727: code from the result backend"),
    "certifi": ("2024.7.4", "CVE-2024-39689: roots that are not trusted any more"),
    "cryptography": ("44.0.1", "CVE-2024-12797: the OpenSSL inside"),
    "h11": ("0.16.0", "CVE-2025-43859: requests smuggled in chunks"),
    "httpx": ("0.23.0", "CVE-2021-41945: addresses misread"),
    "idna": ("3.7", "CVE-2024-3651: names that take too long"),
    "jinja2": ("3.1.6", "CVE-2025-27516, CVE-2024-56201, CVE-2024-56326: ways out of the sandbox"),
    "lxml": ("4.9.1", "CVE-2022-2309: a null pointer by XML"),
    "mako": ("1.2.2", "CVE-2022-40023: an expression that takes too long"),
    "pydantic": ("2.4.0", "CVE-2024-3772: an address that takes too long"),
    "pyyaml": ("5.4", "CVE-2020-14343: code from YAML"),
    "starlette": ("0.49.1", "CVE-2025-62727, CVE-2025-54121, CVE-2024-47874: ranges and forms that exhaust the server"),
    "uvicorn": ("0.11.7", "CVE-2020-7694, CVE-2020-7695: logs and answers split"),
}


@cache
def read_locked() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert len(found) > 50
    return found


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"[0-9]+", version)[:4])


def test_every_package_file_is_locked_by_hash() -> None:
    for package in read_locked():
        if package["source"] == {"editable": "."}:
            continue
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each["hash"]) for each in files), package["name"]


def test_packages_come_from_one_registry() -> None:
    sources = {tuple(each["source"].items()) for each in read_locked() if each["source"] != {"editable": "."}}
    assert [kind for ((kind, _),) in sources] == ["registry"]


def test_semgrep_packages_are_locked_by_hash() -> None:
    text = (ROOT / ".ci/semgrep/requirements.txt").read_text()
    pinned = re.findall(r"^[a-z0-9_.-]+==[^ ]+(?: ; [^\\\n]+)? \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[a-z]", text, re.MULTILINE)) > 50
    assert "://" not in text
    assert "--require-hashes --only-binary :all: -r .ci/semgrep/requirements.txt" in (ROOT / "Makefile").read_text()


def test_setup_packages_are_locked_by_hash() -> None:
    lines = (ROOT / ".ci/uv.txt").read_text().splitlines()
    assert sum("--hash=sha256:" in line for line in lines) > 10
    makefile = (ROOT / "Makefile").read_text()
    assert makefile.count("pip install") == makefile.count("--require-hashes")
    assert "sync --locked" in makefile


def test_audit_asks_about_every_locked_package() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\naudit:")[2].partition("\n\n")[0]
    assert "$(UV) audit --locked\n" in recipe
    assert "npm audit" in recipe
    assert "`make audit`" in (ROOT / "SECURITY.md").read_text()


@pytest.mark.parametrize("name", sorted(FIXED_IN))
def test_package_has_no_known_hole(name: str) -> None:
    fixed_in, hole = FIXED_IN[name]
    versions = [each["version"] for each in read_locked() if each["name"] == name]
    assert versions, f"{name} is not in uv.lock any more; remove it from FIXED_IN"
    for version in versions:
        assert numbers(version) >= numbers(fixed_in), f"{name} {version}: {hole}"


def test_versions_are_compared_as_numbers() -> None:
    assert numbers("3.1.10") > numbers("3.1.6") > numbers("3.1.5")
    assert numbers("2026.10.19.post1") > numbers("2024.7.4")


def test_dependency_without_a_stable_version_has_an_upper_bound() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    unstable = [each for each in given if ">=0." in each]
    assert len(unstable) > 10
    assert [each for each in unstable if ",<0." not in each] == []
