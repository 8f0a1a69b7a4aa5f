"""The tables of docs/ equal those of the code."""

from __future__ import annotations

import pytest

from pipeline.exports.states import Outcome
from tests.support import doc_tables


@pytest.mark.parametrize("page", doc_tables.PAGES)
def test_tables_equal_those_of_the_code(page: str) -> None:
    text = doc_tables.read(page)
    assert text == doc_tables.with_tables(text), doc_tables.REMEDY


def test_every_command_is_in_one_table() -> None:
    names = doc_tables.names_of(doc_tables.read("cli.md"), "commands")
    assert sorted(names) == sorted(doc_tables.command_names())


def test_unknown_name_is_rejected() -> None:
    for marker in ("settings:EXPORTS_NONE", "commands:none", "none"):
        with pytest.raises(LookupError, match="unknown"):
            doc_tables.with_tables(f"<!--{marker}-->\n<!--end-->")


def test_every_outcome_is_documented() -> None:
    page = doc_tables.read("cli.md")
    assert [each.value for each in Outcome if f"`{each.value}`" not in page] == []
