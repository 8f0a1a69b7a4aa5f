"""The figures of a soak, from known records: each target can be missed, and a miss is reported."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.simulation.judge import Violation
from tests.system.soak import partner_responses, task_messages
from tests.system.soak.figures import Figure, Targets, figures
from tests.system.soak.gauges import WARM_SECONDS
from tests.system.soak.history import AFTERMATH_SECONDS, Acceptance, Fault, Record, Sample
from tests.system.soak.partner_responses import RandomResponses

SPEED = "executions a second, against those without faults"
ACCEPTANCE = "accept p95 outside outages, against that without faults"
TARGETS = Targets(faults=1, terminal_p99_seconds=18, resident_kilobytes_an_export=130)


def build_good_record() -> tuple[Record, list[dict[str, Any]]]:
    """Return a record that reaches every target, and its exports."""
    record = Record(1, faults_at=50.0, repaired_at=250.0, began_at=1_000_000.0)
    record.faults.append(Fault("F9", "PostgreSQL ends", 100.0, 102.0, outage=True))
    record.acceptances += [Acceptance(10.0, 0.02), Acceptance(101.0, 9.0), Acceptance(200.0, 0.03)]
    for number in range(200):
        age = WARM_SECONDS + 2 * number
        record.samples.append(Sample(age, "worker", 7, age, 200_000_000 + 1_000 * number, 40))
    return record, [export(10, 12), export(101, 160), export(200, 203), export(205, 207)]


def export(accepted: float, finished: float, state: str = "executed") -> dict[str, Any]:
    at = datetime.fromtimestamp(1_000_000, UTC)
    return {
        "state": state,
        "accepted_at": at + timedelta(seconds=accepted),
        "finished_at": at + timedelta(seconds=finished),
    }


def find_missed(
    change: Callable[[Record, list[dict[str, Any]]], object] = lambda *_: None,
    broken: tuple[Violation, ...] = (),
    rest: float = 5.0,
) -> dict[str, Figure]:
    record, exports = build_good_record()
    change(record, exports)
    return {figure.name: figure for figure in figures(record, exports, broken, rest, TARGETS)}


def test_good_record_reaches_every_target_and_outages_do_not_count() -> None:
    found = find_missed()
    assert {name: figure.value for name, figure in found.items()} == {
        SPEED: 0.75,
        "faults": 1,
        "violations of I1 to I10": 0,
        "requests refused": 0,
        "programs that ended by themselves": 0,
        "exports that failed": 0,
        ACCEPTANCE: pytest.approx(1.5),
        "time to terminal p99 outside outages, s": 3.0,
        "all terminal after the last repair, s": 5.0,
        "highest resident memory of a process, MB": pytest.approx(200.2, abs=0.01),
        "most open files of a process": 40,
        "growth of worker by each export, kB": pytest.approx(31.25),
        "open files of worker, first and last third": "40 40",
    }
    assert {figure.reached for figure in found.values()} == {True}


def add_leak(record: Record, _: object) -> None:
    record.samples = [
        Sample(each.at, each.program, each.pid, each.age_seconds, 1_000_000 * number, 40 + number)
        for number, each in enumerate(record.samples)
    ]


MISSED: dict[str, tuple[Callable[[Record, list[dict[str, Any]]], object], set[str]]] = {
    "few executions": (lambda _, exports: exports.__delitem__(slice(2, None)), {SPEED}),
    "none without faults": (lambda _, exports: exports.__delitem__(0), {SPEED}),
    "no fault": (
        lambda record, _: record.faults.clear(),
        {"faults", ACCEPTANCE, "time to terminal p99 outside outages, s"},
    ),
    "refused": (lambda record, _: record.refused.append("422"), {"requests refused"}),
    "ended": (lambda record, _: record.ended.append("web ended with 1"), {"programs that ended by themselves"}),
    "failed": (lambda _, exports: exports.append(export(300, 301, "failed")), {"exports that failed"}),
    "slow answers": (lambda record, _: record.acceptances.append(Acceptance(300.0, 0.2)), {ACCEPTANCE}),
    "much memory": (
        lambda record, _: record.samples.append(Sample(5.0, "prefork", 9, 5.0, 1_500_000_000, 40, 3)),
        {"highest resident memory of a process, MB"},
    ),
    "many files": (
        lambda record, _: record.samples.append(Sample(5.0, "worker", 7, 5.0, 1_000_000, 200)),
        {"most open files of a process"},
    ),
    "slow exports": (lambda _, exports: exports.append(export(300, 330)), {"time to terminal p99 outside outages, s"}),
    "leaks": (
        add_leak,
        {
            "growth of worker by each export, kB",
            "open files of worker, first and last third",
            "most open files of a process",
        },
    ),
}


@pytest.mark.parametrize("name", MISSED)
def test_missed_target_is_reported(name: str) -> None:
    change, missed_figures = MISSED[name]
    assert {figure.name for figure in find_missed(change).values() if figure.reached is False} == missed_figures


def test_violation_and_late_rest_are_reported() -> None:
    found = find_missed(broken=(Violation("I3", "exp_1 has HANDED_OFF 2 times"),), rest=61)
    missed_figures = {figure.name for figure in found.values() if figure.reached is False}
    assert missed_figures == {"violations of I1 to I10", "all terminal after the last repair, s"}


def test_figure_of_too_few_samples_is_not_reached() -> None:
    found = find_missed(lambda record, _: record.samples.__delitem__(slice(20, None)))
    slope = found["growth of worker by each export, kB"]
    assert (slope.value, slope.reached) == (None, None)
    assert "open files of worker, first and last third" not in found


def test_restarted_process_has_its_own_level() -> None:
    def restarts(record: Record, _: object) -> None:
        last = record.samples[-1].at
        record.samples += [
            Sample(last + each.at, "worker", 8, each.age_seconds, each.resident - 100_000_000, 40)
            for each in [*record.samples]
        ]

    assert find_missed(restarts)["growth of worker by each export, kB"].value == pytest.approx(31.25)


def test_memory_of_short_lived_processes_does_not_grow() -> None:
    """As observed, each process fills five megabytes of caches in its first minutes."""

    def short_lives(record: Record, _: object) -> None:
        record.samples = [
            Sample(life * 300 + age, "worker", life, age, 278_000_000 + int(40_000 * age), 40)
            for life in range(6)
            for age in range(0, 240, 2)
        ]

    slope = find_missed(short_lives)["growth of worker by each export, kB"]
    assert (slope.value, slope.reached) == (None, None)


def test_fault_overlaps_its_aftermath() -> None:
    fault = Fault("F9", "PostgreSQL ends", 100.0, 102.0)
    assert fault.overlaps(90, 100)
    assert fault.overlaps(102 + AFTERMATH_SECONDS, 110)
    assert not fault.overlaps(90, 99.9)
    assert not fault.overlaps(102.1 + AFTERMATH_SECONDS, 110)


def test_partner_responses_have_the_documented_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    dawdled: list[float] = []
    monkeypatch.setattr(partner_responses, "time", type("Clock", (), {"sleep": dawdled.append}))
    asked = RandomResponses(3)
    counted = Counter(asked() for _ in range(20_000))
    shares = {answer: round(count / 20_000, 2) for answer, count in counted.items()}
    assert shares == {204: 0.86, 500: 0.1, None: 0.03, 307: 0.01}
    assert round(len(dawdled) / 20_000, 2) == 0.02
    others: list[int | None] = []
    thread = threading.Thread(target=lambda: others.extend(asked() for _ in range(100)))
    thread.start()
    thread.join()
    again = RandomResponses(3)
    assert others != [again() for _ in range(100)]


def test_only_task_messages_are_lost_or_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(task_messages, "_publish", lambda body, **_: sent.append(body))
    for number in range(5_000):
        task_messages._publish_unreliably(f"wake {number}", headers={"task": "exports.deliver"})
    counted = Counter(Counter(sent).values())
    assert set(counted) == {2}
    assert 0.88 < counted[2] / 5_000 < 0.92
    sent.clear()
    for number in range(100):
        task_messages._publish_unreliably(f"message {number}", headers={"cloudEvents:id": "msg_1"})
    assert sent == [f"message {number}" for number in range(100)]


def test_record_counts_from_its_start() -> None:
    record = Record(1)
    assert 0 <= record.now() <= time.monotonic() - record.began
