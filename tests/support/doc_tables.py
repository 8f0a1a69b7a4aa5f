"""The tables of the site that come from the code: `make site` puts each in the place of its marker.

A marker is a line of a page, `<!--KIND-->` or `<!--KIND:NAMES-->`:

- `settings:NAME` lists the settings from NAME on, up to the first setting of another list.
- `commands:NAME,NAME` lists these commands of `exports`, and every command of these groups, without the word `exports`.
- `exit-codes` lists the exit codes of `exports`.
- `open-questions` lists the rows of the customs rules with the status `check`.
- `agency-data` lists the data of each agency program; programs of one agency with the same data share a row.
- `agency-places` lists the places of these data in the records.
- `agency-values` lists the values that agencies accept.
- `letters` lists what beginnings of invoice numbers ask of the sandbox broker.
- `answers` lists the statuses that a customs broker may answer, by facet.
- `ladder` draws the headlines of an entry that goes well, `troubles` lists the others, and `outcomes` those of an export.
- `findings` lists what the checks of a plan find, `metrics:PART` the metrics of a part of docs/metrics.yaml.
- `queues` and `messages` list what the AsyncAPI document describes, `client-calls` the methods of the Python client.
- `rows:FILE#PART` and `texts:FILE#PART` list the names and texts of a YAML file, or of a part of it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import yaml
from typer.core import TyperGroup
from typer.main import get_command

from config.settings import Settings
from pipeline.client import Exports
from pipeline.customs.pga.records import describe_position
from pipeline.customs.reference.catalog import all_rows, format_markdown_list
from pipeline.customs.reference.pga import AgencyProgram, pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.customs.reference.pga_values import ValueTable
from pipeline.deliveries.entries.facets import (
    FACETS,
    IN_TROUBLE,
    MEANINGS,
    SUBMISSION_STATES,
    Answer,
    AnswerStatus,
    Facet,
    Headline,
    fold_entries,
)
from pipeline.deliveries.sandbox_script import list_letters
from pipeline.exports.states import ACKNOWLEDGEABLE, Outcome
from pipeline.interfaces.cli.config import build_setting_views
from pipeline.interfaces.cli.main import app, load_command
from pipeline.interfaces.cli.output import ExitCode
from pipeline.interfaces.contracts.asyncapi import build_document as build_asyncapi
from tests.architecture.sources import ROOT

#: The facets whose answers lead up the ladder.
LADDER_FACETS: Final = {Facet.MESSAGE, Facet.BROKER, Facet.RELEASE}

#: Public methods of the client that its own calls use.
_INNER: Final = {"perform", "iterate"}

_MARKER: Final = re.compile(r"^<!--(?P<kind>[a-z-]+)(?::(?P<names>\S+))?-->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page with its tables; MkDocs calls this for each page of the site."""
    return with_tables(markdown)


def with_tables(text: str) -> str:
    """Return a page with a table for each marker; raises LookupError for a name that the code does not have."""
    starts = names_of(text, "settings")

    def table(found: re.Match[str]) -> str:
        names = (found["names"] or "").split(",")
        tables: dict[str, Callable[[], Iterable[str]]] = {
            "settings": lambda: _settings(names[0], starts),
            "commands": lambda: (f"- `{path}`: {help_text}" for path, help_text in _commands(names)),
            "exit-codes": lambda: (f"- {int(code)}: {code.meaning}" for code in ExitCode),
            "open-questions": lambda: [format_markdown_list([row for row in all_rows() if row.status == "check"])],
            "agency-data": _programs,
            "agency-places": _places,
            "agency-values": lambda: map(_value_table, pga_rules().values),
            "queues": _queues,
            "messages": _messages,
            "client-calls": lambda: [
                " ".join(f"`{name}`" for name in dir(Exports) if name not in _INNER and name[0] != "_")
            ],
            "answers": lambda: (
                f"- {facet}: {', '.join(f'`{status}` ({text})' for status, text in statuses.items())}"
                for facet, statuses in MEANINGS.items()
            ),
            "letters": lambda: (f"- `{name}`: {text}" for name, text in list_letters().items()),
            "ladder": _draw_ladder,
            "troubles": lambda: (
                f"- `{each}`, the submission is `{SUBMISSION_STATES[each]}`: {each.meaning}"
                for each in Headline
                if each in IN_TROUBLE
            ),
            "outcomes": lambda: (
                f"- `{each}`{' (6)' if each in ACKNOWLEDGEABLE else ''}: {each.meaning}" for each in Outcome
            ),
            "findings": _findings,
            "metrics": lambda: _metrics(names[0]),
            "rows": lambda: (f"- {_to_code(each)}: {text}" for each, text in _read_part(names[0]).items()),
            "texts": lambda: (f"- **{each}**: {text}" for each, text in _read_part(names[0]).items()),
        }
        if found["kind"] not in tables:
            raise LookupError(f"unknown table: {found['kind']}")
        # The comment keeps a list that follows apart from the table.
        return "\n".join([*tables[found["kind"]](), "", "<!-- -->"])

    return _MARKER.sub(table, text)


def read_yaml(path: str) -> dict[str, Any]:
    """Return the content of a YAML file of the repository."""
    found: dict[str, Any] = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    return found


def _draw_ladder() -> Iterator[str]:
    """Yield a drawing: a rung for each headline of an entry that goes well, the last on top, with the answers before it."""
    rungs = [each for each in reversed(Headline) if each not in IN_TROUBLE]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    alone = {each: fold_entries(["1"], [Answer("1", each, at)])["1"].headline for each in AnswerStatus}
    yield f'<figure><svg width="720" style="max-width: 100%" viewBox="0 0 720 {len(rungs) * 48}" role="img" fill="currentColor" font-size="15">'
    yield "<title>From the bottom: what the entry's headline becomes after each answer</title>"
    yield from (f'<path d="M{x} 6V{len(rungs) * 48 - 6}" stroke="currentColor" stroke-width="3"/>' for x in (20, 190))
    for place, rung in enumerate(rungs):
        y = place * 48 + 28
        answers = ", ".join(each for each in alone if alone[each] is rung and FACETS[each] in LADDER_FACETS)
        yield f'<path d="M20 {y + 8}H190" stroke="currentColor" stroke-width="1.5"/>'
        yield f'<text x="105" y="{y}" text-anchor="middle" font-weight="600">{rung}</text>'
        yield f'<text x="210" y="{y - 6}">{rung.meaning}</text>'
        yield f'<text x="210" y="{y + 13}" font-size="13" opacity=".75">{answers and f"after {answers}"}</text>'
    yield "</svg></figure>"


def _queues() -> Iterator[str]:
    for name, channel in build_asyncapi(version("exports"))["channels"].items():
        if "x-bound-with" in channel:
            keys = ", ".join(f"`{each['routingKey']}`" for each in channel["x-bound-with"])
            yield f"- `{name}`{f' ({keys})' if keys else ''}: {channel['description']}"


def _messages() -> Iterator[str]:
    for name, message in build_asyncapi(version("exports"))["components"]["messages"].items():
        if name.startswith("exports."):
            yield f"- `{name}`: {message['title']}"


def _read_part(place: str) -> dict[str, Any]:
    file, _, part = place.partition("#")
    found: dict[str, Any] = read_yaml(file)[part] if part else read_yaml(file)
    return found


def _to_code(names: str) -> str:
    return " ".join(f"`{name}`" for name in names.split())


def _findings() -> Iterator[str]:
    for rule, finds in read_yaml("docs/findings.yaml").items():
        yield f"- **{rule}**: " + "; ".join(f"{text} (*{severity}*)" for severity, text in finds)


def _metrics(part: str) -> Iterator[str]:
    yield from ("|Metric|Type|Labels|What it counts|", "|---|---|---|---|")
    for name, each in read_yaml("docs/metrics.yaml")[part].items():
        yield f"|`{name}`|{each['type']}|{' '.join(f'`{label}`' for label in each['labels'])}|{each['counts']}|"


def _programs() -> Iterator[str]:
    by_data: dict[tuple[str, ...], list[str]] = {}
    for program in pga_rules().programs:
        name = f"**{program.program}**, {program.name or 'name not known'}"
        key = (program.agency, " (to be confirmed)" if program.status == "check" else "", *_data_of(program))
        by_data.setdefault(key, []).append(name)
    for (agency, status, *groups), names in by_data.items():
        yield f"- {agency} {'; '.join(names)}{status}"
        yield from (f"    - {group}" for group in groups)


def _data_of(program: AgencyProgram) -> Iterator[str]:
    groups = {"required": program.data}
    codes = program.by_processing
    groups |= {f"with {', '.join(code for code in codes if codes[code] == keys)}": keys for keys in codes.values()}
    for case in program.cases:
        codes_of = f"{', '.join(sorted(case.processing))} and " if case.processing else ""
        groups[f"with {codes_of}`{case.of}` {', '.join(sorted(case.values, key=_by_number))}"] = case.data
    groups |= {"with prior notice": program.prior_notice, "optional": program.optional}
    if program.prior_notice_filed is not None:
        groups["instead of the data of a prior notice"] = (program.prior_notice_filed,)
    for title, keys in groups.items():
        if keys:
            yield f"{title}: {', '.join(f'`{some}`'.replace('|', '` or `') for some in keys)}"


def _by_number(code: str) -> tuple[int, str]:
    return int("".join(filter(str.isdigit, code)) or 0), code


def _places() -> Iterator[str]:
    asked: dict[str, dict[str, None]] = {}
    for program in pga_rules().programs:
        for key in program.all_keys():
            asked.setdefault(key, {})[program.agency] = None
    keys: dict[str, list[str]] = {}
    for key, agencies in sorted(asked.items()):
        places = {agency: _find_place(key, agency) for agency in agencies}
        for place, code in dict.fromkeys(places.values()):
            some = [agency for agency, its in places.items() if its == (place, code)]
            only = "" if len(some) == len(places) else f" ({', '.join(some)})"
            keys.setdefault(place, []).append(f"`{key}`{code}{only}")
    yield from (f"- {place}: {', '.join(keys[place])}" for place in sorted(keys, key=_order_of))


def _find_place(key: str, agency: str) -> tuple[str, str]:
    position = record_rules().find_position(key, agency)
    if position is None:
        return "by hand", ""
    code = position.role or (position.others.get("code") if position.record == "PG23" else None)
    code = code or " or ".join(position.each)
    return describe_position(key, agency) or "", f" {code}" if code else ""


def _order_of(place: str) -> tuple[str, int]:
    record, _, columns = place.partition(" ")
    return (record, int(columns.partition("-")[0])) if record.startswith("PG") else ("by hand", 0)


def _value_table(table: ValueTable) -> str:
    values = "; ".join(f"`{value.code}` {value.text}" for value in table.allowed)
    elements = ", ".join(f"`{element}`" for element in sorted(table.elements))
    status = f"{table.status}{'' if table.complete else ', not complete'}"
    return f"- {elements}, {table.name} ({status}): {values}"


def names_of(text: str, kind: str) -> list[str]:
    """Return the names of the page's markers of a kind, in order."""
    return [name for found in _MARKER.finditer(text) if found["kind"] == kind for name in found["names"].split(",")]


def _settings(first: str, starts: Sequence[str]) -> list[str]:
    views = list(build_setting_views(Settings.model_construct()))
    begins = [number for number, view in enumerate(views) if view.name in starts] + [len(views)]
    begin = next((number for number in begins[:-1] if views[number].name == first), None)
    if begin is None:
        raise LookupError(f"unknown setting: {first}")
    part = views[begin : begins[begins.index(begin) + 1]]
    return [f"- `{each.name}`{f' (`{each.default}`)' if each.default else ''}: {each.description}" for each in part]


def command_names() -> list[str]:
    """Return the commands and groups of `exports` that a table may name."""
    exports: Any = get_command(app)
    return [str(name) for name in exports.list_commands(None)]


def _commands(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name not in command_names():
            raise LookupError(f"unknown command: {name}")
        yield from _rows(load_command(name), name)


def _rows(command: Any, path: str) -> Iterator[tuple[str, str]]:
    is_group = isinstance(command, TyperGroup)
    if not is_group or command.invoke_without_command:
        # `--help` says the rest.
        first, *_ = str(command.help).split("\n\n")
        sentence, *_ = " ".join(first.split()).split("; ")
        yield path, sentence.removesuffix(".")
    if is_group:
        for name in command.list_commands(None):
            yield from _rows(command.get_command(None, name), f"{path} {name}")
