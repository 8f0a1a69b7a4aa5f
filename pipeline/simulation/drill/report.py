"""The figures of a drill: the judge's findings, and the recovery time after each kill."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.simulation.drill.history import EXPORT_EXECUTED, DrillHistory, Kill
from pipeline.simulation.drill.judge import Judgement


@dataclass(frozen=True)
class Recovery:
    """The recovery from one kill: until the API answered and all active exports ended with their messages delivered."""

    kill: Kill
    under_way: int
    seconds: float


@dataclass(frozen=True)
class DrillReport:
    """The result of a drill: `stack` names its database and message broker, `lease_seconds` the length of a lease."""

    stack: str
    seed: int
    lease_seconds: float
    history: DrillHistory
    judgement: Judgement

    @cached_property
    def spans(self) -> Sequence[tuple[float, float]]:
        """The start and end of each export: its first request, and its last message; infinite if it never ended."""
        last_received: dict[str, float] = {}
        ended: set[str] = set()
        seen_ids: set[str] = set()
        for receipt in self.history.received:
            if receipt.message_id not in seen_ids:  # a repeated message does not count
                seen_ids.add(receipt.message_id)
                last_received[receipt.export_id] = max(receipt.received_at, last_received.get(receipt.export_id, 0))
                if receipt.event_type == EXPORT_EXECUTED:
                    ended.add(receipt.export_id)
        return [
            (
                each.started_at,
                last_received[each.export_ids[0]] if each.export_ids and each.export_ids[0] in ended else math.inf,
            )
            for each in self.history.submissions
        ]

    @cached_property
    def recoveries(self) -> Sequence[Recovery]:
        """The recovery from each kill, in the order of the kills."""
        found = []
        for kill in self.history.kills:
            ends = [end for began, end in self.spans if began <= kill.killed_at < end]
            found.append(Recovery(kill, len(ends), max([kill.ready_at, *ends]) - kill.killed_at))
        return found

    def recovery_percentile(self, share: float) -> float:
        """Return the recovery time that the given share of kills did not exceed (nearest rank)."""
        ordered = sorted(each.seconds for each in self.recoveries)
        return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else 0.0

    @property
    def executed(self) -> int:
        """The number of exports that ended with all messages delivered."""
        return sum(end != math.inf for _, end in self.spans)

    @property
    def repeated_requests(self) -> int:
        """The number of requests that had no answer and were repeated."""
        return sum(each.requests - len(each.export_ids) for each in self.history.submissions)

    @property
    def messages(self) -> int:
        """The number of different messages that arrived."""
        return len({receipt.message_id for receipt in self.history.received})

    def figures(self) -> Mapping[str, Any]:
        """Return the figures for output as JSON."""
        return {
            "kills": len(self.history.kills),
            "exports": len(self.history.submissions),
            "executed": self.executed,
            "lost": self.judgement.exports_lost,
            "duplicated": self.judgement.exports_duplicated,
            "recovery_p50_s": round_seconds(self.recovery_percentile(0.5)),
            "recovery_p99_s": round_seconds(self.recovery_percentile(0.99)),
            "recovery_max_s": round_seconds(self.recovery_percentile(1)),
            "requests_repeated": self.repeated_requests,
            "messages": self.messages,
            "messages_redelivered": self.judgement.redelivered,
            "seed": self.seed,
            "stack": self.stack,
            "lease_seconds": self.lease_seconds,
            "seconds": round_seconds(self.history.seconds),
            "findings": {
                "lost": [str(finding) for finding in self.judgement.lost],
                "duplicated": [str(finding) for finding in self.judgement.duplicated],
            },
            "recoveries": [
                {
                    "at": round_seconds(each.kill.killed_at),
                    "process": each.kill.process,
                    "under_way": each.under_way,
                    "seconds": round_seconds(each.seconds),
                }
                for each in self.recoveries
            ],
        }


def round_seconds(value: float) -> float | None:
    """Return seconds rounded to hundredths, or None for infinity, which JSON cannot write."""
    return None if math.isinf(value) else round(value, 2)
