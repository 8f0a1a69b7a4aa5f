"""The judge of a drill: what was lost and what was done twice, as a pure function of its history."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.exports.states import DeliveryState, ExportState
from pipeline.simulation.drill.history import (
    EXPORT_EXECUTED,
    HANDOFF_READY,
    PACKAGE_RECORDED,
    DrillHistory,
    SubmittedPlan,
)
from pipeline.simulation.judge import Violation, find_violations


@dataclass(frozen=True)
class Judgement:
    """What was lost and what was duplicated, and how many messages a partner received again under the same id."""

    lost: Sequence[Violation]
    duplicated: Sequence[Violation]
    redelivered: int

    @property
    def exports_lost(self) -> int:
        """The number of exports that lost something."""
        return len({each.subject for each in self.lost})

    @property
    def exports_duplicated(self) -> int:
        """The number of exports that did something twice."""
        return len({each.subject for each in self.duplicated})

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and nothing was duplicated."""
        return not self.lost and not self.duplicated


def judge_history(history: DrillHistory) -> Judgement:
    """Return what was lost and what was duplicated in the drill.

    Beside the promises of every run, each plan of a drill must be executed, and each partner must get each message.
    """
    received = Counter(receipt.message_id for receipt in history.received)
    found = [*find_violations(history.evidence()), *_find_unexecuted(history), *_find_miscounted(history)]
    return Judgement(
        [each for each in found if not each.doubled],
        [each for each in found if each.doubled],
        sum(count - 1 for count in received.values()),
    )


def _find_unexecuted(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each plan that is not executed, or not reported so by the API, and each dead letter."""
    stored = {export["id"]: export for export in history.tables["exports"]}
    for submission in history.submissions:
        batch = submission.batch_id
        if not submission.export_ids:
            yield Violation("I1", f"{batch} was never accepted, in {submission.requests} requests", batch)
        for export_id in [each for each in dict.fromkeys(submission.export_ids) if each in stored]:
            state, shown = stored[export_id]["state"], history.inspected.get(export_id)
            if state != ExportState.EXECUTED:
                reason = stored[export_id]["failure"] or "no reason is recorded"
                yield Violation("I2", f"{export_id} is {state}: {reason}", export_id)
            elif shown != ExportState.EXECUTED:
                yield Violation("I7", f"{export_id} is executed but the API says {shown}", export_id)
    for row in history.tables["deliveries"]:
        if row["state"] in {DeliveryState.DEAD, DeliveryState.CANCELLED}:
            yield Violation("I5", f"message {row['notification_id']} is {row['state']}", row["subject_id"])


def _find_miscounted(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each export and kind of message if another number than the plan's arrived."""
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for receipt in history.received:
        ids[receipt.export_id, receipt.event_type].add(receipt.message_id)
    for submission in history.submissions:
        for export_id in dict.fromkeys(submission.export_ids):
            for kind, due in _due_messages(submission).items():
                sent = len(ids[export_id, kind])
                if sent != due:
                    yield Violation("I5", f"{export_id} sent {sent} of {due} {kind}", export_id, doubled=sent > due)


def _due_messages(submission: SubmittedPlan) -> Mapping[str, int]:
    return {HANDOFF_READY: 1, PACKAGE_RECORDED: submission.packages, EXPORT_EXECUTED: 1}
