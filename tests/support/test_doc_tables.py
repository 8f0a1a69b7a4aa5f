"""The tables of the site's pages hold what the code has, all of it."""

import json
import re
from string import ascii_uppercase

import pytest

from config import queues
from config.settings import Settings
from pipeline.customs.pga.records import describe_position
from pipeline.customs.reference.catalog import all_rows, format_markdown_list
from pipeline.customs.reference.pga import pga_rules
from pipeline.deliveries.entries.facets import IN_TROUBLE, AnswerStatus, Headline
from pipeline.deliveries.sandbox_script import parse_script
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.states import Outcome
from pipeline.interfaces.cli.config import build_setting_views
from pipeline.interfaces.cli.output import ExitCode
from tests.architecture.sources import ROOT
from tests.interfaces.cli.test_cli_machine import list_commands
from tests.support.doc_tables import with_tables


def read_filled(page: str) -> str:
    """Return a page as the site has it."""
    return with_tables((ROOT / page).read_text(encoding="utf-8"))


def list_rows(page: str) -> list[str]:
    """Return the first names of the rows of a page's lists."""
    return re.findall(r"^- `([^`]+)`(?: \(`|:)", read_filled(page), re.MULTILINE)


def test_each_setting_has_one_row_with_its_meaning() -> None:
    views = list(build_setting_views(Settings.model_construct()))
    page = read_filled("docs/configuration.md")
    assert sorted(list_rows("docs/configuration.md")) == sorted(view.name for view in views)
    assert [view.name for view in views if not view.description or f": {view.description}\n" not in page] == []
    assert "- `EXPORTS_LEASE_SECONDS` (`30`): " in page


def test_each_command_outcome_and_exit_code_has_a_row() -> None:
    outcomes = {each.value for each in Outcome}
    page = read_filled("docs/cli.md")
    rows = [row for row in list_rows("docs/cli.md") if row not in outcomes]
    # The group runs a process, too.
    assert sorted(rows) == sorted(["deliveries", *(" ".join(path) for path in list_commands())])
    assert [
        f"- {int(code)}: {code.meaning}" for code in ExitCode if f"- {int(code)}: {code.meaning}\n" not in page
    ] == []


def test_each_agency_program_datum_and_value_has_a_row() -> None:
    page = read_filled("docs/agency-data.md")
    for program in pga_rules().programs:
        assert f"**{program.program}**, {program.name or 'name not known'}" in page
        for key in program.all_keys():
            assert page.count(f"`{key}`") >= 2, f"{key} has no row of its program or of its place"
            assert f"- {describe_position(key, program.agency) or 'by hand'}: " in page
    for table in pga_rules().values:
        assert [value.code for value in table.allowed if f"`{value.code}` {value.text}" not in page] == []


def test_each_answer_headline_and_letter_has_a_row() -> None:
    page = read_filled("docs/broker-answers.md")
    assert [each for each in AnswerStatus if len(re.findall(rf"`{each}` \([^)]", page)) != 1] == []
    rungs = [*reversed([each for each in Headline if each not in IN_TROUBLE])]
    assert re.findall(r'font-weight="600">(\w+)<', page) == rungs
    assert re.findall(r"^- `(\w+)`, the submission is `\w+`: .", page, re.MULTILINE) == [
        each for each in Headline if each in IN_TROUBLE
    ]
    rows = list_rows("docs/borderbuddy.md")
    numbers = [each + digit for each in ascii_uppercase for digit in ("", "1")]
    special = [
        each for each in numbers if parse_script(each).statuses not in {("accepted",), parse_script(each[0]).statuses}
    ]
    special += [each for each in ascii_uppercase if parse_script(each) != parse_script("-")]
    assert [each for each in special if each not in rows] == []


def test_each_unconfirmed_row_is_an_open_question() -> None:
    rows = [row for row in all_rows() if row.status == "check"]
    assert format_markdown_list(rows) in read_filled("config/rules/open-questions.md")


def test_each_queue_message_and_call_of_the_client_is_listed() -> None:
    page = read_filled("docs/queues.md")
    assert [name for name in [*queues.BINDINGS, queues.DEAD] if f"- `{name}`" not in page] == []
    assert [each.value for each in MessageType if f"- `{each.value}`: To the " not in page] == []
    calls = read_filled("docs/client.md").partition("## Every call")[2]
    assert {"execute_registered", "follow", "tariff_number"} <= set(re.findall(r"`(\w+)`", calls))


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        ("docs/columns.yaml", ["docs/broker-profiles.md", "docs/customs.md", "docs/entry.md", "docs/rules.md"]),
        ("docs/documents.yaml", ["docs/customs.md"]),
        ("docs/findings.yaml", ["config/rules/README.md"]),
        ("docs/metrics.yaml", ["docs/metrics.md"]),
        ("tests/system/faults/faults.yaml", ["tests/system/faults/README.md"]),
    ],
)
def test_each_text_of_a_data_file_is_on_a_page(data: str, pages: list[str]) -> None:
    lines = (ROOT / data).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(found[0]) for line in lines if (found := re.findall(r'"(?:[^"\\]|\\.)*"(?=[\]}]*$)', line))]
    filled = "".join(map(read_filled, pages))
    assert len(texts) > 20
    assert [text for text in texts if text not in filled] == []


@pytest.mark.parametrize("marker", ["settings:EXPORTS_NONE", "commands:none", "none"])
def test_unknown_name_is_rejected(marker: str) -> None:
    with pytest.raises(LookupError, match="unknown"):
        with_tables(f"<!--{marker}-->")
