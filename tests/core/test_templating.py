"""Messages on pages: sentences, code and file names, always escaped."""

from datetime import UTC, datetime

import pytest

from pipeline.core.templating import SOURCES, environment
from pipeline.interfaces.pages.instants import format_instant


def apply(name: str, value: object) -> str:
    return environment().from_string(f"{{{{ value | {name} }}}}").render(value=value)


def test_templates_are_those_of_the_start_of_the_process() -> None:
    environment_now = environment()
    assert {"documents/page.typ", "documents/french.json", "console/style.css", "portal/portal.js"} <= SOURCES.keys()
    name = "documents/commercial_customs_invoice.xml"
    assert environment_now.loader is not None
    assert environment_now.loader.get_source(environment_now, name)[:2] == (SOURCES[name].decode(), None)
    assert not environment_now.auto_reload


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the code is wrong", "The code is wrong."),
        ("It is a sentence.", "It is a sentence."),
        ("run `exports migrate`", "Run <code>exports migrate</code>."),
        ("br_1 is not live", "br_1 is not live."),
        ("/units/0 must be a list", "/units/0 must be a list."),
        ("see https://broker.example/a", "See https://broker.example/a"),
        ("<b> and `<i>`", "&lt;b&gt; and <code>&lt;i&gt;</code>."),
        ("one ` alone", "One ` alone."),
        ("", ""),
    ],
)
def test_message_becomes_a_sentence(message: str, shown: str) -> None:
    assert apply("sentence", message) == shown


def test_sentence_keeps_an_instant_for_programs() -> None:
    tested = format_instant(datetime(2026, 11, 24, 15, tzinfo=UTC), "did not pass ")
    shown = '<time datetime="2026-11-24T15:00:00Z">2026-11-24 15:00:00 UTC</time>'
    assert apply("sentence", tested) == f"Did not pass {shown}."


def test_text_in_backticks_becomes_code() -> None:
    assert apply("code", "a <b>, `<c>` and `d`") == "a &lt;b&gt;, <code>&lt;c&gt;</code> and <code>d</code>"


def test_file_name_may_break_between_its_words() -> None:
    assert apply("breakable", "packing_list.pdf") == "packing_<wbr>list.<wbr>pdf"
    assert apply("breakable", "<b>_") == "&lt;b&gt;_"
