"""config/deploy/systemd: systemd accepts the units and finds them hardened."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from config.settings import Settings
from tests.conftest import skip_or_fail
from tests.support.compose import PROCESSES, ROOT, WEB_VARIABLES, list_variables
from tests.support.units import HARDENING, UNITS, read_lines, read_options
from tests.system.acceptance.programs import read_procfile

pytestmark = pytest.mark.system

#: How exposed a unit may be: ten times what `systemd-analyze security` prints, which begins at 96 without any measure.
EXPOSURE: Final = 13
INSTALLED: Final = "/opt/exports/bin/exports"

#: A machine runs several of these processes.
SEVERAL: Final = {"web", "worker"}
FILES: Final = {process: f"exports-{process}{'@' if process in SEVERAL else ''}.service" for process in (*PROCESSES, "migrate")}  # fmt: skip


def run_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        skip_or_fail("systemd-analyze is not installed; the package is systemd")
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the units, which start this environment's `exports`."""
    folder = tmp_path / "systemd"
    shutil.copytree(UNITS, folder)
    for path in folder.glob("*.service"):
        text = path.read_text(encoding="utf-8").replace(INSTALLED, str(Path(sys.executable).with_name("exports")))
        path.write_text(text, encoding="utf-8")
    return folder


def list_instances(folder: Path) -> list[str]:
    """Return the paths of the units; of a process with several, the first instance."""
    names = [name.replace("@.", "@1.") for name in FILES.values()]
    return [str(folder / name) for name in names]


def test_systemd_accepts_the_units(units: Path) -> None:
    done = run_analyze("verify", "--man=no", str(units / "exports.target"), *list_instances(units))
    assert (done.returncode, done.stderr + done.stdout) == (0, "")


def test_systemd_refuses_an_unknown_option(units: Path) -> None:
    path = units / "exports-deliveries.service"
    path.write_text(path.read_text(encoding="utf-8").replace("Restart=", "Restat="), encoding="utf-8")
    assert "Restat" in run_analyze("verify", "--man=no", str(path)).stderr


def test_units_are_hardened(units: Path, record_property: Callable[[str, object], None]) -> None:
    for unit in list_instances(units):
        done = run_analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
        assert done.returncode == 0, done.stdout
        record_property(f"exposure of {Path(unit).name}", re.findall(r"exposure level.*: ([0-9.]+)", done.stdout)[0])


def test_units_without_their_measures_are_found(units: Path) -> None:
    shutil.rmtree(units / "exports-.service.d")
    for unit in list_instances(units):
        assert run_analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit).returncode != 0


def test_units_run_the_commands_of_the_procfile() -> None:
    commands = read_procfile()
    commands["migrate"] = commands.pop("release")
    assert commands.keys() == FILES.keys()
    for process, command in commands.items():
        options = read_options(UNITS / FILES[process])
        assert options["ExecStart"] == command.replace("exports", INSTALLED, 1)
        assert options["WantedBy"] == "exports.target"
        if process != "migrate":
            assert options["Restart"] == "always"
            assert "exports-migrate.service" in options["After"].split()
    assert {path.name for path in UNITS.glob("*.service")} == set(FILES.values())


def test_variables_are_settings_and_ports_differ() -> None:
    ports = []
    for name in FILES.values():
        for option, value in read_lines(UNITS / name):
            if option == "Environment":
                given = dict(pair.split("=", 1) for pair in shlex.split(value))
                assert given.keys() <= list_variables() | WEB_VARIABLES
                ports += [value.replace("%i", "1") for key, value in given.items() if key.endswith("PORT")]
    assert len({*ports}) == len(ports) == 5


def test_times_and_sizes_fit() -> None:
    options = read_options(HARDENING)
    assert int(options["TimeoutStopSec"]) == 60
    assert (options["MemoryMax"], options["LimitCORE"]) == ("512M", "0")
    assert options["StartLimitIntervalSec"] == "0"  # a long outage of the database must not end the service
    assert Settings.model_fields["metrics_host"].default == "127.0.0.1"


def test_documented_commands_install_all_units(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (copying,) = re.findall(r"^\$ sudo (cp .*) /etc/systemd/system$", page, re.MULTILINE)
    subprocess.run(["bash", "-c", f"{copying} {tmp_path}"], cwd=ROOT, check=True, timeout=30)
    copied = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    files = {path.relative_to(UNITS) for path in UNITS.rglob("*") if path.is_file()}
    assert copied == files - {Path("exports.sysusers.conf")}
    (enabling,) = re.findall(r"^\$ sudo systemctl enable --now (.*)$", page, re.MULTILINE)
    enabled = {re.sub(r"@\{1\.\.\d\}", "@", name) for name in enabling.split()}
    assert enabled == {"exports.target", *(name.removesuffix(".service") for name in FILES.values())}
    assert f"sudo install --mode=600 /dev/null {read_options(HARDENING)['EnvironmentFile']}" in page


def test_user_can_be_created() -> None:
    if shutil.which("systemd-sysusers") is None:
        skip_or_fail("systemd-sysusers is not installed; the package is systemd")
    command = ["systemd-sysusers", "--dry-run", str(UNITS / "exports.sysusers.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "exports" in done.stdout + done.stderr
    assert read_options(HARDENING)["User"] == "exports"
