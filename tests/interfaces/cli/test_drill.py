"""`exports drill`: its figures are printed even if the picture fails."""

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.interfaces.cli.output import ExitCode
from pipeline.simulation.drill import runner
from pipeline.simulation.drill.report import DrillReport
from tests.simulation.drill.test_report import report
from tests.support.command_line import Commands


@pytest.fixture(autouse=True)
def scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drills use folders below the test's own; SIGTERM has its previous handler afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def list_left_behind(folder: Path) -> list[Path]:
    return [*folder.glob("exports-drill-*")]


def test_picture_that_cannot_be_written_is_reported_before_the_first_kill(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "drill.svg", tmp_path / ("x" * 5000)):
        result = commands("drill", "--kills", "1", "--svg", str(place))
        assert (result.exit_code, "--svg" in result.stderr, list_left_behind(tmp_path)) == (ExitCode.USAGE, True, [])


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_figures_are_printed_if_the_picture_fails(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    svg = tmp_path / "drill.svg"

    def held(*_: object) -> DrillReport:
        svg.mkdir()  # the check has already passed
        return report()

    monkeypatch.setattr(runner, "run_drill", held)
    result = commands("drill", "--kills", "1", "--svg", str(svg), *form)
    assert (result.exit_code, "drill.svg cannot be written" in result.stderr) == (ExitCode.REFUSED, True)
    assert json.loads(result.stdout)["lost"] == 0 if form else "recovery" in result.stdout
    assert list_left_behind(tmp_path) == []


def test_invalid_urls_are_named(commands: Commands, tmp_path: Path) -> None:
    result = commands("drill", "--database-url", "nonsense", "--broker-url", "nonsense")
    assert (result.exit_code, "--database-url must name a PostgreSQL server" in result.stderr) == (
        ExitCode.REFUSED,
        True,
    )
    assert list_left_behind(tmp_path) == []
