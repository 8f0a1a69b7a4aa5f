"""The distribution `exports-client`, built from this checkout, and a folder with only it and what it needs."""

import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.command_line import ROOT

SOURCE: Final = ROOT / "clients" / "python"


@pytest.fixture(scope="session")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout's client."""
    return build(SOURCE, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def client_package(client_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and only the packages that it requires."""
    folder = tmp_path_factory.mktemp("client")
    install_alone(client_wheel, folder)
    return folder


def build(source: Path, folder: Path, target: str) -> Path:
    """Build the project's `wheel` or `sdist` into the folder, with the locked hatchling, and return the file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (built,) = folder.iterdir()
    return built


def install_alone(wheel: Path, folder: Path) -> None:
    """Unpack the wheel into the folder, and link there the locked packages that it requires, and no other."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    (metadata,) = folder.glob("*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").splitlines()
    pending = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    known: set[str] = set()
    while pending:
        requirement = Requirement(pending.pop())
        name = canonicalize_name(requirement.name)
        if name in known or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        known.add(name)
        found = distribution(name)
        pending += found.requires or []
        for top in {path.parts[0] for path in found.files or [] if path.parts[0] not in {"..", "__pycache__"}}:
            (folder / top).symlink_to(str(found.locate_file(top)))
