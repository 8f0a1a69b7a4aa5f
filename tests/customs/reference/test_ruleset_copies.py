"""A process has one copy of the rules, and each copy decides only with its own rows."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import CodeType
from typing import Any

from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.chapter99.stack import decide_headings
from pipeline.customs.reference import content, entry, pga, pga_layouts, ruleset
from tests.support import factories


def code(function: Any) -> CodeType:
    found: CodeType = function.__code__
    return found


def test_concurrent_threads_share_one_copy() -> None:
    threads, loads = 8, 0
    at_once = threading.Barrier(threads)

    @content.load_once
    def copy(_: content.RulesContent) -> object:
        nonlocal loads
        loads += 1
        time.sleep(0.05)  # the other threads call while the first one loads
        return object()

    def load(_: int) -> object:
        at_once.wait(30)
        return copy()

    with ThreadPoolExecutor(threads) as pool:
        assert len(set(pool.map(load, range(threads)))) == 1
    assert loads == 1


def test_all_rules_load_once() -> None:
    loaders = (
        ruleset.ruleset,
        pga.pga_rules,
        pga_layouts.record_rules,
        entry.entry_rules,
        entry.mid_rules,
        entry.description_rules,
        entry.attribute_rules,
    )
    changed = code(content.load_once(lambda _: None))
    assert [loader.__name__ for loader in loaders if code(loader) is not changed] == []


def test_second_copy_decides_like_first() -> None:
    facts = LineFacts("7323930045", "CA", factories.TODAY, "S", claimed=frozenset({"9903.82.09", "9903.05.90"}))
    first, second = (ruleset.parse_ruleset(content.read_folder(content.RULES)) for _ in range(2))
    choices = [
        [
            (choice.program.id, choice.yields_to, [item.verdict for item in choice.verdicts])
            for choice in decide_headings(facts, copy).choices
        ]
        for copy in (first, second)
    ]
    assert choices[0] == choices[1]
    for copy in (first, second):
        for choice in decide_headings(facts, copy).choices:
            assert copy.programs_by_id[choice.program.id] is choice.program
