"""`exports import-filed` sends a report of filed entries, and says what became of each."""

from pathlib import Path

from tests.support.command_line import Commands

ROWS = "XYZ-7654321-0,9903.88.03,12.50\nABC-1234567-8,9903.88.03,free\n"


def test_file_is_reported_entry_by_entry(service: Commands, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    report.write_text("Entry Summary Number,HTS Number - Full,Line Tariff Duty Amount\n" + ROWS)
    shown = service("import-filed", str(report)).stdout
    assert "columns: check; source: ACE report ES-003" in shown
    assert "XYZ76543210  unknown" in shown
    assert "line 3: 'free' is not an amount in USD" in shown
    assert "not compared: harbor maintenance fee: the file lacks the column Line HMF Amount" in shown
    report.write_text("Entry,Tariff,Duty\n" + ROWS)
    named = ("--entry-column", "Entry", "--heading-column", "Tariff", "--duty-column", "Duty")
    found = service.json("import-filed", str(report), *named)
    assert (found["columnsStatus"], [each["result"] for each in found["entries"]]) == ("given", ["unknown", "refused"])
    refused = service("import-filed", str(report))
    assert refused.exit_code != 0
    assert "lacks one of the columns Entry Summary Number" in refused.stderr
    report.write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in service("import-filed", str(report)).stderr
