"""The distribution `exports-client`: the client alone, from the service's own source."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.client_package import SOURCE, build
from tests.support.command_line import ROOT, Commands

pytestmark = pytest.mark.system

#: Packages of the service that the client must not need.
SERVERS: Final = {"celery", "kombu", "sqlalchemy", "sqlmodel", "fastapi", "starlette", "typst", "config", "pipeline"}


def run_alone(folder: Path, program: str, **options: object) -> str:
    """Run a Python program that finds only the standard library and the folder, and return what it prints."""
    start = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    command = [sys.executable, "-I", "-S", "-c", start + program]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    assert ended.returncode == 0, ended.stderr
    return str(ended.stdout)


def test_client_imports_nothing_of_the_service(client_package: Path) -> None:
    names = "print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(run_alone(client_package, f"import exports_client\n{names}").split())
    assert "exports_client" in loaded
    assert loaded & SERVERS == set()
    everything = "import exports_client, pkgutil\nfor each in pkgutil.walk_packages(exports_client.__path__, 'exports_client.'): __import__(each.name)"
    assert set(run_alone(client_package, f"{everything}\n{names}").split()) & SERVERS == set()


def test_client_imports_few_modules(client_package: Path) -> None:
    assert int(run_alone(client_package, "import sys, exports_client; print(len(sys.modules))")) < 340


def test_example_of_the_readme_executes_a_plan(client_package: Path, service: Commands, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", (SOURCE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "plan.json").write_text(service("plans", "example", "cookware").stdout)
    printed = run_alone(client_package, example, cwd=tmp_path, env=service.environment)
    assert printed.split()[1] == "executed"


def test_wheel_of_the_source_distribution_is_the_same(client_wheel: Path, tmp_path: Path) -> None:
    source = build(SOURCE, tmp_path / "sdist", "sdist")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / source.name.removesuffix(".tar.gz")
    assert build(unpacked, tmp_path / "again", "wheel").read_bytes() == client_wheel.read_bytes()


@pytest.mark.parametrize("source", [SOURCE, ROOT], ids=["client", "service"])
@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_two_builds_have_the_same_bytes(source: Path, target: str, tmp_path: Path) -> None:
    one, two = (build(source, tmp_path / name, target).read_bytes() for name in ("one", "two"))
    assert one == two


def test_client_has_the_version_of_the_service() -> None:
    client, service = (tomllib.loads((each / "pyproject.toml").read_text())["project"] for each in (SOURCE, ROOT))
    assert client["version"] == service["version"]
    # A library has no upper bounds: they would exclude those of the programs that use it.
    required = {re.split(r"[<>=\[]", each)[0]: each.split(",")[0] for each in service["dependencies"]}
    assert [required[re.split(r"[<>=\[]", each)[0]] for each in client["dependencies"]] == client["dependencies"]


def test_wheel_names_its_licence_and_types(client_wheel: Path) -> None:
    names = zipfile.ZipFile(client_wheel).namelist()
    assert (SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "exports_client/py.typed" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")] != []
    assert {name.split("/")[0].split("-")[0] for name in names} == {"exports_client"}
