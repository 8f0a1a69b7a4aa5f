"""The figures of a drill: what the judge found, and how long each kill was felt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.simulation.drill.history import EXPORT_EXECUTED, DrillHistory, Kill
from pipeline.simulation.drill.judge import Judgement


@dataclass(frozen=True)
class Recovery:
    """How one kill was felt: until the API answered and all that was under way had ended and been told."""

    kill: Kill
    under_way: int
    seconds: float


@dataclass(frozen=True)
class DrillReport:
    """A drill as it went: `stack` is what it ran on, `lease_seconds` how long a dead process holds what it worked on."""

    stack: str
    seed: int
    lease_seconds: float
    history: DrillHistory
    judgement: Judgement

    @cached_property
    def spans(self) -> Sequence[tuple[float, float]]:
        """From when to when each export was under way: from its first request until everybody was told; endless, if never."""
        last_received: dict[str, float] = {}
        ended: set[str] = set()
        seen_ids: set[str] = set()
        for receipt in self.history.received:
            if receipt.message_id not in seen_ids:  # what is told again is no news
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
        """How each kill was felt, in their order."""
        found = []
        for kill in self.history.kills:
            ends = [end for began, end in self.spans if began <= kill.killed_at < end]
            found.append(Recovery(kill, len(ends), max([kill.ready_at, *ends]) - kill.killed_at))
        return found

    def recovery_percentile(self, share: float) -> float:
        """Return how long the given share of all kills was felt at most (nearest rank)."""
        ordered = sorted(each.seconds for each in self.recoveries)
        return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else 0.0

    @property
    def executed(self) -> int:
        """How many exports ended, with everybody told."""
        return sum(end != math.inf for _, end in self.spans)

    @property
    def repeated_requests(self) -> int:
        """How many requests had no answer and were made again."""
        return sum(each.requests - len(each.export_ids) for each in self.history.submissions)

    @property
    def messages(self) -> int:
        """How many different messages arrived at their partners."""
        return len({receipt.message_id for receipt in self.history.received})

    def figures(self) -> Mapping[str, Any]:
        """Return the figures as they are printed for programs."""
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
    """Return seconds to the hundredth, as people read them; None for what has no end, which JSON has no number for."""
    return None if math.isinf(value) else round(value, 2)
