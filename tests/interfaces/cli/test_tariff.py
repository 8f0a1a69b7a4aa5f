"""`exports tariff`: editions imported, listed, shown, compared and removed."""

from pathlib import Path

from pipeline.interfaces.cli.output import ExitCode
from tests.support.command_line import Commands
from tests.support.tariff import AGENCY_FLAGS, DUTY_CASES, REVISION_6, REVISION_7

SIX = ("tariff", "import", str(REVISION_6), "--from", "2026-03-01", "--source", "https://hts.usitc.gov")
SEVEN = ("tariff", "import", str(REVISION_7), "--from", "2026-07-01", "--to", "2026-12-31", "--name", "revision_7")


def test_editions_are_imported_listed_compared_and_removed(commands: Commands) -> None:
    done = commands(*SIX)
    assert "hts_2026_revision_6 imported: 36 numbers in 39 rows of 9 chapters, in force from 2026-03-01" in done.stdout
    assert "was imported before; nothing changed" in commands(*SIX).stdout
    assert commands.json(*SEVEN)["created"] is True
    newest, oldest = commands.json("tariff", "list")
    assert (newest["name"], newest["last_day"], oldest["last_day"]) == ("revision_7", "2026-12-31", "2026-06-30")
    assert oldest["content_hash"].startswith("sha256:")
    assert "2 editions" in commands("tariff", "list").stdout
    shown = commands("tariff", "diff", "hts_2026_revision_6", "2026-07-04").stdout
    assert "6115.94.00.00 general rate: 11.3% -> 9%" in shown
    assert "7323.93.00.85 added: Other" in shown
    changes = commands.json("tariff", "diff", "hts_2026_revision_6", "revision_7")
    assert {"number": "0101300000", "what": "removed", "column": None, "before": "Asses", "after": None} in changes
    assert "revision_7 removed" in commands("tariff", "remove", "revision_7").stdout
    assert commands("tariff", "remove", "revision_7").exit_code == ExitCode.NOT_FOUND


def test_number_is_shown_with_units_and_rates(commands: Commands) -> None:
    commands(*SIX)
    shown = commands("tariff", "show", "7323.93.00.45", "--on", "2026-11-24").stdout
    for text in (
        "Of stainless steel",
        "units of quantity  No., kg",
        "general            2%",
        "rates of           7323.93.00",
    ):
        assert text in shown
    watch = commands("tariff", "show", "9101.11.40", "--on", "2026-11-24").stdout
    assert "check: a person must read this rate" in watch
    assert "1.6¢ each + 0.2% for JP" in watch
    assert commands.json("tariff", "show", "6115940000", "--on", "2026-11-24")["units"] == ["doz. pr.", "kg"]
    for number, code in (("6115940099", ExitCode.NOT_FOUND), ("socks", ExitCode.REFUSED)):
        assert commands("tariff", "show", number, "--on", "2026-11-24").exit_code == code
    early = commands("tariff", "show", "6115940000", "--on", "2025-01-01")
    assert early.exit_code == ExitCode.NOT_FOUND
    assert "the operator imports one by `exports tariff import FILE --from DAY`" in early.stderr


def test_wrong_file_is_refused_whole(commands: Commands, tmp_path: Path) -> None:
    wrong = tmp_path / "tariff.json"
    wrong.write_text('[{"htsno": "01", "indent": "0", "description": ""}]', encoding="utf-8")
    refused = commands("tariff", "import", str(wrong), "--from", "2026-03-01")
    assert refused.exit_code == ExitCode.REFUSED
    assert "row 1: htsno '01' is not a number of 4, 6, 8 or 10 digits" in refused.stderr
    missing = commands("tariff", "import", str(tmp_path / ("x" * 300)), "--from", "2026-03-01")
    assert missing.exit_code == ExitCode.NOT_FOUND
    assert commands.json("tariff", "list") == []


def test_tables_are_imported_by_kind(commands: Commands) -> None:
    flags = ("tariff", "import", str(AGENCY_FLAGS), "--kind", "agency-flags", "--from", "2026-03-01")
    cases = ("tariff", "import", str(DUTY_CASES), "--kind", "duty-cases", "--from", "2026-03-01")
    assert "agency_flags imported: 7 numbers in 9 rows of 5 chapters" in commands(*flags).stdout
    assert "duty_cases imported: 5 cases in 7 rows, in force from 2026-03-01" in commands(*cases).stdout
    commands(*SIX)
    assert {each["kind"] for each in commands.json("tariff", "list")} == {"tariff", "agency-flags", "duty-cases"}
    shown = commands("tariff", "show", "7323.93.00.45", "--on", "2026-11-24").stdout
    assert "agency flag        FD1 FDA: data may be required, FDA data may be required, agency_flags" in shown
    assert (
        "duty case          A-570-779-000 Stainless steel cookware from China: goods of CN, active since 2020-01-01, "
        "deposit 1.50%, a test, not a rate in force, duty_cases" in shown
    )
    (case,) = commands.json("tariff", "show", "7323.93.00.45", "--on", "2026-12-24")["dutyCases"]
    assert (case["status"], case["rate"], case["effectiveFrom"]) == ("revoked", None, "2026-12-01")
    assert commands.json("tariff", "show", "6115940000", "--on", "2026-11-24")["dutyCases"] == []
    assert commands.json("tariff", "diff", "2026-03-01", "duty_cases", "--kind", "duty-cases") == []
    mixed = commands("tariff", "diff", "2026-03-01", "duty_cases")
    assert mixed.exit_code == ExitCode.REFUSED
    assert "name two of one kind" in mixed.stderr
    wrong = commands(
        "tariff", "import", str(DUTY_CASES), "--kind", "agency-flags", "--from", "2026-04-01", "--name", "x"
    )
    assert wrong.exit_code == ExitCode.REFUSED
    assert "row 1 lacks htsno, flag, agency" in wrong.stderr
