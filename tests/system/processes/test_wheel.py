"""The wheel in an empty environment works in a folder with foreign `config` and `tasks` modules."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import skip_or_fail
from tests.support.command_line import ROOT
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.servers import poll

SECONDS: Final = 240

#: A foreign module: it ends the process that imports it.
HOSTILE: Final = 'raise SystemExit("a module of the folder was imported")\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built with the locked packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=SECONDS)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `exports` command of an environment with only the wheel and the locked packages that it needs."""
    uv = shutil.which("uv") or shutil.which(ROOT / ".uv/bin/uv")
    if uv is None:
        skip_or_fail("uv is not installed; `make setup` installs it")
    environment = tmp_path_factory.mktemp("environment") / "venv"
    python = environment / "bin" / "python"
    alone = ["--quiet", "--offline", "--no-config"]
    subprocess.run([uv, "venv", *alone, "--python", sys.executable, environment], check=True, timeout=SECONDS)
    subprocess.run([uv, "pip", "install", *alone, "--no-deps", "--python", python, wheel], check=True, timeout=SECONDS)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Python searches a folder that a .pth file names, but does not read the .pth files in it: it does not find this
    # checkout.
    (packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return environment / "bin" / "exports"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with only a `config` package and a `tasks` module."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").write_text(HOSTILE, encoding="utf-8")
    (tmp_path / "tasks.py").write_text(HOSTILE, encoding="utf-8")
    return tmp_path


@contextmanager
def start_process(command: list[str | Path], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Yield the process; kill it if it still runs after the block."""
    log = (folder / "log").open("w", encoding="utf-8")
    with (
        log,
        subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def read_output(folder: Path) -> str:
    """Return the process's output so far."""
    return (folder / "log").read_text(encoding="utf-8")


def test_wheel_holds_example_plans_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    plans = {Path(name).name for name in names if name.startswith("templates/plans/examples/")}
    assert plans == {path.name for path in (ROOT / "examples/plans").rglob("*.json")}
    assert not [name for name in names if name.startswith("config/deploy/")]
    assert {name.split("/")[0] for name in names} == {
        "config",
        "pipeline",
        "tasks",
        "templates",
        f"exports-{version('exports')}.dist-info",
    }


@pytest.mark.timeout(600)
def test_demo_of_the_wheel_ignores_foreign_modules(installed: Path, folder: Path) -> None:
    for environment in ({}, {"PYTHONPATH": str(folder)}):
        with start_process([installed, "--version"], folder, **environment) as process:
            assert process.wait(SECONDS) == 0, read_output(folder)
        assert read_output(folder) == f"exports {version('exports')}\n"

    with start_process([installed, "demo", "--json"], folder) as process:
        assert process.wait(SECONDS) == 0, read_output(folder)

    printed = read_output(folder)
    summary = json.JSONDecoder().raw_decode(printed[printed.index("\n{") + 1 :])[0]
    assert {export["plan"]: export["state"] for export in summary["exports"]} == {
        "cookware": "executed",
        "three-units": "executed",
        "consolidated-truck": "executed",
    }
    for export in summary["exports"]:
        assert all((folder / path).read_bytes().startswith(b"%PDF-") for path in export["invoices"])


def build_offline_settings() -> dict[str, str]:
    """Return the settings of a single process whose message broker does not answer."""
    return {"BROKER_URL": f"redis://{LOOPBACK}:{free_port()}/0", "EXPORTS_SECRET_KEY": "k" * 32}


@pytest.mark.parametrize("searched", [False, True], ids=["beside", "on PYTHONPATH"])
def test_api_of_the_wheel_listens_and_stops(installed: Path, folder: Path, *, searched: bool) -> None:
    port = free_port()
    environment = (
        build_offline_settings()
        | {"HOST": LOOPBACK, "PORT": str(port)}
        | ({"PYTHONPATH": str(folder)} if searched else {})
    )
    with start_process([installed, "web"], folder, **environment) as process:
        poll(lambda: accepts(port) or process.poll() is not None, SECONDS, "the API does not listen")
        process.send_signal(signal.SIGTERM)
        # The server raises the signal again once it has shut down.
        assert process.wait(SECONDS) == -signal.SIGTERM, read_output(folder)
    assert "Application shutdown complete." in read_output(folder)


@pytest.mark.parametrize("role", ["worker", "deliveries", "intake"])
def test_worker_of_the_wheel_ignores_foreign_modules(installed: Path, folder: Path, role: str) -> None:
    with start_process([installed, role], folder, **build_offline_settings()) as process:
        poll(
            lambda: "refused" in read_output(folder) or process.poll() is not None,
            SECONDS,
            "the worker does not look for messages",
        )
        assert process.poll() is None, read_output(folder)
    assert "a module of the folder" not in read_output(folder)
