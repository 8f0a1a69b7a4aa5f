"""The targets of a soak, and its figures."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.simulation.evidence import Row
from pipeline.simulation.judge import Violation
from tests.system.soak.gauges import find_maximum, kilobytes_a_minute, open_files
from tests.system.soak.history import Record

LEASE_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Targets:
    """The targets of a soak. Speed is compared with that of the same soak before its first fault, on the same machine."""

    executions_share: float = 0.5
    faults: int = 300
    resident_kilobytes_an_export: float = 6.0
    resident_megabytes: float = 450.0
    files: int = 150
    more_files: int = 5
    accept_p95_ratio: float = 3.0
    terminal_p99_seconds: float = LEASE_SECONDS + 15
    rest_seconds: float = 60


@dataclass(frozen=True)
class Figure:
    """One figure and its target; `reached` is None if there were too few samples."""

    name: str
    value: float | str | None
    target: str
    reached: bool | None


def figures(
    record: Record, exports: Sequence[Row], broken: Sequence[Violation], rest_seconds: float, targets: Targets
) -> list[Figure]:
    """Return every figure; `exports` are rows, `rest_seconds` runs from the last repair until nothing is pending."""
    ended = [row for row in exports if row["finished_at"] is not None]
    undisturbed = [
        each
        for each in record.acceptances
        if not any(fault.accepts and fault.overlaps(each.at, each.at + each.seconds) for fault in record.faults)
    ]
    accept_before = _share([each.seconds for each in undisturbed if each.at < record.faults_at], 0.95)
    accept_among = _share([each.seconds for each in undisturbed if each.at >= record.faults_at], 0.95)
    spans = [(_since(record, row["accepted_at"]), _since(record, row["finished_at"])) for row in ended]
    calm = [
        end - begin
        for begin, end in spans
        if not any(fault.outage and fault.overlaps(begin, end) for fault in record.faults)
    ]
    made = [
        _at_least("executions a second, against those without faults", _speed(record, ended), targets.executions_share),
        _at_least("faults", len(record.faults), targets.faults),
        _at_most("violations of I1 to I10", len(broken), 0),
        _at_most("requests refused", len(record.refused), 0),
        _at_most("programs that ended by themselves", len(record.ended), 0),
        _at_most("exports that failed", len([row for row in exports if row["state"] == "failed"]), 0),
        _at_most(
            "accept p95 outside outages, against that without faults",
            _ratio(accept_among, accept_before),
            targets.accept_p95_ratio,
        ),
        _at_most("time to terminal p99 outside outages, s", _share(calm, 0.99), targets.terminal_p99_seconds),
        _at_most("all terminal after the last repair, s", rest_seconds, targets.rest_seconds),
    ]
    megabytes, files = find_maximum(record.samples)
    made += [
        _at_most("highest resident memory of a process, MB", megabytes, targets.resident_megabytes),
        _at_most("most open files of a process", files, targets.files),
    ]
    exports_a_minute = sum(row["state"] == "executed" for row in ended) / max(record.repaired_at / 60, 1)
    for program in dict.fromkeys(sample.program for sample in record.samples):
        growth = _ratio(kilobytes_a_minute(record.samples, program), exports_a_minute)
        limit = targets.resident_kilobytes_an_export
        made.append(_at_most(f"growth of {program} by each export, kB", growth, limit))
        thirds = open_files(record.samples, program)
        if thirds is not None:
            first, last = thirds
            flat = last <= first + targets.more_files
            made.append(Figure(f"open files of {program}, first and last third", f"{first} {last}", "flat", flat))
    return made


def extras(record: Record, exports: Sequence[Row], receipts: int) -> dict[str, Any]:
    """Return further facts about a soak."""
    rows = sorted({fault.rows for fault in record.faults}, key=lambda name: int(name[1:]))
    return {
        "exports": len(exports),
        "accepted": len(record.acceptances),
        "accept_p50_s": _share([each.seconds for each in record.acceptances], 0.5),
        "accept_p95_all_s": _share([each.seconds for each in record.acceptances], 0.95),
        "terminal_p99_all_s": _share(
            [(row["finished_at"] - row["accepted_at"]).total_seconds() for row in exports if row["finished_at"]], 0.99
        ),
        "receipts": receipts,
        "faults_by_row": {name: sum(fault.rows == name for fault in record.faults) for name in rows},
        "outage_seconds": sum(fault.until - fault.at for fault in record.faults if fault.outage),
    }


def as_json(found: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return the figures as JSON objects."""
    return [asdict(figure) for figure in found]


def _speed(record: Record, ended: Sequence[Row]) -> float:
    """Return the executions a second among faults in multiples of those before the first one; 0 if there were none."""
    times = [_since(record, row["finished_at"]) for row in ended if row["state"] == "executed"]
    before = sum(at < record.faults_at for at in times) * (record.repaired_at - record.faults_at)
    among = sum(record.faults_at <= at < record.repaired_at for at in times) * record.faults_at
    return among / before if before else 0.0


def _ratio(value: float | None, yardstick: float | None) -> float | None:
    return value / yardstick if value is not None and yardstick else None


def _since(record: Record, at: datetime) -> float:
    return at.timestamp() - record.began_at


def _share(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else None


def _at_least(name: str, value: float, target: float) -> Figure:
    return Figure(name, value, f"at least {target:,g}", value >= target)


def _at_most(name: str, value: float | None, target: float) -> Figure:
    return Figure(name, value, f"at most {target:g}", None if value is None else value <= target)
