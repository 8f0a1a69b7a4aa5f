"""Texts that could break a plan's readers or programs, and every place of a plan that takes a text."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.interfaces.cli.plans import strip_comments

#: Texts that deceive readers: characters that reverse, hide or pile up.
DECEIVING = {
    "turned around": "invoice \u202egnp.exe\u202c end",
    "isolated": "a \u2067b c\u2069 d",
    "zero width": "stain\u200bless \ufeffsteel\u2060",
    "soft hyphen": "alu\u00admin\u00adium",
    "piled accents": "Za\u0300\u0301\u0302\u0303\u0304\u0305lgo e\u0301",
    "separator characters": "a\u2028b\u2029c\u0085d",
    "tags": "pan\U000e0041\U000e0042",
    "Hangul filler": "a\u3164b\u115fc\uffa0d",
}
#: Texts that break programs: markup, formulas, templates, paths, queries, formats.
BREAKING = {
    "markup": "<script>alert(1)</script><!--<b a='\">&amp;]]>",
    "formula": '=HYPERLINK("http://x.example","y")',
    "plus formula": "+cmd|' /C calc'!A0",
    "at formula": "@SUM(1+1)*cmd",
    "separators": 'a,"b";c|d~e^f\\',
    "template": "{{ 7*7 }}{% raw %}${7*7}#{7}",
    "typesetting": '#read("/etc/passwd") $x^2$ *b* _i_ `r` <l> @r ~ \\',
    "terminal markup": "[bold red]x[/] [link=file:///etc/passwd]y[/link]",
    "path": "../../../../etc/passwd",
    "windows path": "C:\\..\\..\\con.txt::$DATA",
    "query": "'; DROP TABLE exports; --",
    "format": "%s %n %(x)s {0.__class__} \\u0000 \\x00",
    "edi": "ISA*00*~GS*IN'UNH+1+INVOIC:D'",
}
#: Odd but legitimate texts.
ODD = {
    "emoji": "pan \U0001f373\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e8\U0001f1e6",
    "long word": "W" * 240,
    "joined scripts": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937 Vi\u1ec7t Nam",
    "scripts": "\u4e0d\u9508\u94a2\u714e\u9505 \u041a\u043e\u0444\u0435 \u0639\u0631\u0628\u064a \u0e01\u0e32",
    "beyond the plane": "\U00012000 \U000f0000 \U0001d54f",
    "full width": "\uff1d\uff33\uff35\uff2d\uff08\uff11\uff09",
    "looks like other letters": "\u0430\u0440\u0440le",
}
#: Texts that a plan must not contain.
FORBIDDEN = {
    "line break": "a\r\nSubject: b", "zero": "a\x00b", "escape": "\x1b[2Jx", "delete": "a\x7f", "nothing": "",
    "space alone": " ", "half a character": "\ud83d", "noncharacter": "a\uffff",
}  # fmt: skip
EVERYTHING = DECEIVING | BREAKING | ODD | FORBIDDEN

_TEMPLATE = Path(__file__).parents[2] / "templates" / "plans" / "plan.jsonc"


def build_whole_plan() -> dict[str, Any]:
    """Return a plan with every field of the schema."""
    loaded: dict[str, Any] = json.loads(_read_template())
    return loaded


@cache
def _read_template() -> str:
    return strip_comments(_TEMPLATE.read_text(encoding="utf-8"))


def iterate_texts(value: object, here: str = "") -> Iterator[str]:
    """Yield the JSON Pointer of every string in `value`, including the names of members that callers choose."""
    if isinstance(value, str):
        yield here
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from iterate_texts(inner, f"{here}/{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from iterate_texts(inner, f"{here}/{place}")
