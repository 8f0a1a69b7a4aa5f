"""The command `exports events`, against a running service."""

import json
from typing import Any

import pytest

from tests.support.command_line import Commands


def test_events_are_numbered_without_a_gap(service: Commands, executed: dict[str, Any]) -> None:
    lines = service("events", executed["exportId"], "--json").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(service("events", executed["exportId"], "--after", "2").stdout.splitlines()) >= len(lines) - 2


def test_events_of_the_account_are_those_of_all_exports(service: Commands, executed: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in service("events", "--account", "--json").stdout.splitlines()]
    own = [json.loads(line) for line in service("events", executed["exportId"], "--json").stdout.splitlines()]
    ids = [each["id"] for each in lines]
    assert [each["id"] for each in lines if each["exportId"] == executed["exportId"]] == [each["id"] for each in own]
    assert len(set(ids)) == len(ids)
    rest = service("events", "--account", "--after", own[-2]["id"], "--json").stdout.splitlines()
    assert json.loads(rest[-1])["id"] == ids[-1]
    assert len(rest) == len(ids) - ids.index(own[-2]["id"]) - 1
    (handed_off, *_) = service("events", "--account", "--type", "HANDED_OFF").stdout.splitlines()
    assert handed_off.endswith("HANDED_OFF")
    unknown = service("events", "--account", "--after", "exp_lost.1")
    assert (unknown.exit_code, "leave it out to begin with the first" in unknown.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments", [(), ("exp_1", "--account"), ("exp_1", "--after", "x"), ("exp_1", "--type", "HANDED_OFF")]
)
def test_events_of_nothing_or_of_both_are_refused(commands: Commands, arguments: tuple[str, ...]) -> None:
    assert commands("events", *arguments).exit_code == 2


def test_events_are_sentences_with_actor_and_type(service: Commands, executed: dict[str, Any]) -> None:
    shown = service("events", executed["exportId"]).stdout.splitlines()
    assert shown[0].split("  ")[-3:][0] == "· accepted"
    assert shown[0].endswith("EXPORT_ACCEPTED")
    assert [line for line in shown if "{" in line or "sha256:" in line] == []


def test_followed_events_end_with_the_export(service: Commands, executed: dict[str, Any]) -> None:
    lines = service("events", executed["exportId"], "--follow", "--json").stdout.splitlines()
    types = [json.loads(line)["type"] for line in lines]
    assert types[0] == "EXPORT_ACCEPTED"
    assert {"EXPORT_EXECUTED", "BROKER_ACKNOWLEDGED", "OPERATOR_NOTIFIED"} <= set(types)
