"""Data of FWS, FSIS, NMFS, OMC, ATF, TTB, DEA and AMS stand at the columns, and with the codes, of filed messages."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from tests.customs.cases import pga_row
from tests.customs.pga.test_records import build_records
from tests.support.tables import table

MESSAGES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("agency_messages.yaml").read_text("utf-8"))
AGENCIES = {message["agency"] for message in MESSAGES}

#: Data without an example in the messages, and where their places come from: the AMS message set (July 2025) and Appendix
#: PGA, as a public filing program describes them; for `arrival`, the guides of FDA and APHIS.
ELSEWHERE = {
    ("AMS", "inspectionCertificate"), ("AMS", "organicCertificate"), ("AMS", "organicDeclaration"),
    ("ATF", "arrivalPort"),
    ("DEA", "activeIngredient"), ("DEA", "activePercent"), ("DEA", "arrivalDatetime"), ("DEA", "arrivalPort"),
    ("FWS", "citesPermit"),
}  # fmt: skip


@table("message", MESSAGES)
def test_datum_stands_at_columns_of_message(message: dict[str, Any]) -> None:
    agency = message["agency"]
    flag, program = next(
        (flag.flag, program)
        for flag in pga_rules().flags
        for program in flag.programs
        if flag.agency == agency and program == message.get("program", program)
    )
    row = pga_row(flag, agency, program=program, processing=message.get("processing"), data=message["data"])
    got = [line for line in build_records([row]).records if line.startswith(message["record"])]
    expected = message["record"].ljust(80)
    for first, text in message["columns"].items():
        expected = expected[: first - 1] + text + expected[first - 1 + len(text) :]
    if not message.get("party"):
        assert expected in got
        return
    spans = [slice(first - 1, first - 1 + len(text)) for first, text in message["columns"].items()]
    assert any(all(line[span] == expected[span] for span in spans) for line in got), got


def test_every_placed_datum_of_these_agencies_has_a_message() -> None:
    placed = {
        (program.agency, key)
        for program in pga_rules().programs
        if program.agency in AGENCIES
        for key in program.all_keys()
        if record_rules().find_position(key, program.agency) is not None
    }
    shown = {(message["agency"], key) for message in MESSAGES for key in message["data"]}
    assert placed - shown == ELSEWHERE
