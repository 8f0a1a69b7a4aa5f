"""The judge of lost and doubled work: pure functions that check the promises I1 to I5 of docs/reliability.md."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.exports.hash_chain import hash_event
from pipeline.exports.states import ACTIVE_STATES
from pipeline.simulation.evidence import Row, RunEvidence

#: Events that happen once, and the facts that distinguish two of a kind.
ONCE: Final = {
    "EXPORT_ACCEPTED": (),
    "PACKAGES_RECORDED": ("unitNo",),
    "TREATMENT_ATTACHED": ("unitNo",),
    "CUSTOMS_ARTIFACT_GENERATED": ("unitNo", "artifactType"),
    "CUSTOMS_PACKAGE_CLOSED": ("unitNo",),
    "HANDED_OFF": (),
    "BROKER_NOTIFIED": ("partnerId", "messages"),
    "WAREHOUSE_NOTIFIED": ("partnerId", "messages"),
    "OPERATOR_NOTIFIED": ("partnerId", "messages"),
    "EXPORT_EXECUTED": (),
    "EXPORT_CANCELLED": (),
}
#: The events of a step by its possible claim: a worker continues with the cheap next step under the same claim.
FIRST_CLAIM: Final = frozenset({"PACKAGES_RECORDED", "TREATMENT_ATTACHED"})
SECOND_CLAIM: Final = frozenset({"CUSTOMS_ARTIFACT_GENERATED", "CUSTOMS_PACKAGE_CLOSED"})
OF_STEPS: Final = FIRST_CLAIM | SECOND_CLAIM | {"HANDED_OFF", "EXPORT_EXECUTED", "STEP_RETRIED", "EXPORT_FAILED"}
#: Events that an executed export has for each of its units.
OF_EACH_UNIT: Final = ("PACKAGES_RECORDED", "TREATMENT_ATTACHED", "CUSTOMS_PACKAGE_CLOSED")
#: The final states of deliveries.
AT_REST: Final = frozenset({"delivered", "dead", "cancelled"})


@dataclass(frozen=True)
class Violation:
    """One violation of a promise. `subject` is the export or batch; `doubled` says that something was done twice, not lost."""

    promise: str
    about: str
    subject: str = ""
    doubled: bool = False

    def __str__(self) -> str:
        return f"{self.promise}: {self.about}"


def find_violations(evidence: RunEvidence) -> list[Violation]:
    """Return every violation of I1 to I5; an empty list means that nothing was lost or done twice."""
    return [
        *check_accepted(evidence),
        *check_ended(evidence),
        *check_log(evidence),
        *check_documents(evidence),
        *check_notified(evidence),
    ]


def group_by_export(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows by their export."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["export_id"]].append(row)
    return found


def check_accepted(evidence: RunEvidence) -> Iterator[Violation]:
    """Yield violations of I1: every accepted export is stored, and a batch is one export, however often it is sent."""
    exports = evidence.tables["exports"]
    stored = {row["id"] for row in exports}
    of_batch: dict[str, set[str]] = defaultdict(set)
    for batch, export_id in dict.fromkeys(evidence.answers):
        if export_id not in stored:
            yield Violation("I1", f"{export_id} was accepted but is not stored", export_id)
        if batch is not None:
            of_batch[batch].add(export_id)
    for batch, ids in of_batch.items():
        if len(ids) > 1:
            yield Violation("I1", f"batch {batch} got the answers {sorted(ids)}", batch, doubled=True)
    revisions = Counter((row["batch_id"], row["revision"]) for row in exports)
    for (batch, revision), n in revisions.items():
        if n > 1:
            yield Violation("I1", f"{batch} has revision {revision} {n} times", batch, doubled=True)


def check_ended(evidence: RunEvidence) -> Iterator[Violation]:
    """Yield violations of I2: every export has ended, its steps agree, and a failed one has a reason."""
    steps = group_by_export(evidence.tables["steps"])
    for export in evidence.tables["exports"]:
        name, state = export["id"], export["state"]
        undone = [step["name"] for step in steps[name] if step["state"] != "done"]
        if state in ACTIVE_STATES:
            yield Violation("I2", f"{name} is still {state}", name)
        if state == "executed" and undone:
            yield Violation("I2", f"{name} is executed without {undone}", name)
        if state == "executed" and export["units_closed"] != export["units_total"]:
            closed = f"{export['units_closed']} of {export['units_total']}"
            yield Violation("I2", f"{name} closed {closed} units", name)
        if state == "failed" and not export["failure"]:
            yield Violation("I2", f"{name} has failed without a reason", name)


def check_log(evidence: RunEvidence) -> Iterator[Violation]:
    """Yield violations of I3: events are unique, numbers have no gap, hashes are one chain, no step is missing or late."""
    logs = group_by_export(evidence.tables["events"])
    for export in evidence.tables["exports"]:
        name = export["id"]
        log = sorted(logs[name], key=lambda event: int(event["seq"]))
        if [event["seq"] for event in log] != list(range(1, export["next_seq"])):
            numbers = [event["seq"] for event in log]
            yield Violation("I3", f"{name} has the numbers {numbers}, next {export['next_seq']}", name)
        before = None
        for event in log:
            if event["prev_hash"] != before or hash_event(event) != event["hash"]:
                yield Violation("I3", f"{name} has a broken chain at {event['seq']}", name)
                break
            before = event["hash"]
        for late in _find_late_steps(log):
            yield Violation("I3", f"{name} has {late}", name, doubled=True)
        happened = Counter(
            (event["type"], *(event["data"].get(fact) for fact in ONCE[event["type"]]))
            for event in log
            if event["type"] in ONCE
        )
        for what, n in happened.items():
            if n > 1:
                yield Violation("I3", f"{name} has {what} {n} times", name, doubled=True)
        if export["state"] in {"executed", "superseded"} and "EXPORT_EXECUTED" in {what[0] for what in happened}:
            units = range(1, export["units_total"] + 1)
            wanted = [("EXPORT_ACCEPTED",), ("HANDED_OFF",), *((kind, n) for kind in OF_EACH_UNIT for n in units)]
            for what in wanted:
                if what not in happened:
                    yield Violation("I3", f"{name} was executed without {what}", name)


def _find_late_steps(log: Sequence[Row]) -> Iterator[str]:
    """Yield each event of a step without a possible claim: after the export's end, or after its failure.

    A step of a failed export is not claimed until a person resumes the export. Steps of other units that were held at
    the failure may still end: the events of one claim.
    """
    over, failed = None, None
    claims: dict[int | str, frozenset[str]] = {}
    for event in log:
        kind, unit_no = event["type"], int(event["data"].get("unitNo") or 0)
        what = f"{kind} of unit {unit_no} at {event['seq']}"
        if over and kind in OF_STEPS:
            yield f"{what} after {over}"
        elif failed and kind in OF_STEPS:
            unit_or_step = unit_no or str(event["data"].get("step"))
            allowed = claims.get(unit_or_step, FIRST_CLAIM | SECOND_CLAIM | {"STEP_RETRIED"})
            if unit_or_step == (failed["unitNo"] or failed["step"]) or kind not in allowed:
                yield f"{what} after {failed['step']} of unit {failed['unitNo']} had failed"
            claims[unit_or_step] = next((claim for claim in (FIRST_CLAIM, SECOND_CLAIM) if kind in claim), frozenset())
        # The event is in both logs; in the older revision's it names the replacement.
        if kind == "EXPORT_CANCELLED" or "supersededBy" in event["data"]:
            over = kind
        elif kind in {"EXPORT_FAILED", "EXPORT_RESUMED"}:
            failed, claims = (event["data"] if kind == "EXPORT_FAILED" else None), {}


def check_documents(evidence: RunEvidence) -> Iterator[Violation]:
    """Yield violations of I4: a document has one row, and the store has its bytes."""
    rows = Counter((row["export_id"], row["unit_no"], row["artifact_type"]) for row in evidence.tables["artifacts"])
    for which, n in rows.items():
        if n > 1:
            yield Violation("I4", f"{which} has {n} rows", which[0], doubled=True)
    for row in evidence.tables["artifacts"]:
        if row["sha256"] not in evidence.intact:
            which = (row["export_id"], row["unit_no"], row["artifact_type"])
            yield Violation("I4", f"{which} is not in the store as recorded", which[0])


def check_notified(evidence: RunEvidence) -> Iterator[Violation]:
    """Yield violations of I5: each message was taken, or is a dead letter after all attempts; no other message was sent."""
    taken = {message.delivery for message in evidence.received if message.taken}
    deliveries = {
        (row["notification_id"], row["partner_id"], row["channel"]): row for row in evidence.tables["deliveries"]
    }
    failed = {row["id"] for row in evidence.tables["exports"] if row["state"] == "failed"}
    for which, row in deliveries.items():
        # A message that waits for the completion of a failed export becomes due if a person retries the export.
        if row["state"] not in AT_REST and not (row["state"] == "waiting" and row["subject_id"] in failed):
            yield Violation("I5", f"{which} is still {row['state']}", row["subject_id"])
        if row["state"] == "delivered" and which not in taken:
            yield Violation("I5", f"{which} is delivered but was not received", row["subject_id"])
    for row, tries in find_early_dead_letters([*deliveries.values()], evidence.tables["attempts"], evidence.tries):
        which = (row["notification_id"], row["partner_id"], row["channel"])
        yield Violation("I5", f"{which} is dead after {tries} tries", row["subject_id"])
    for message in evidence.received:
        if message.delivery not in deliveries:
            about = f"{message.delivery} was received but has no delivery"
            yield Violation("I5", about, message.export_id, doubled=True)


def find_early_dead_letters(deliveries: Sequence[Row], attempts: Sequence[Row], most: int) -> Iterator[tuple[Row, int]]:
    """Yield each dead letter without all its attempts, and their number; `most` is the schedule's number."""
    tries = defaultdict(list)
    for attempt in sorted(attempts, key=lambda each: int(each["number"])):
        tries[attempt["delivery_id"]].append(attempt)
    gave_up = {_stream(row) for row in deliveries if _failed_claims(row, tries[row["id"]]) >= most}
    for row in deliveries:
        if row["state"] == "dead" and not _had_all_attempts(row, tries[row["id"]], gave_up, most):
            yield row, len(tries[row["id"]])


def _had_all_attempts(row: Row, tries: Sequence[Row], gave_up: set[tuple[str, str, str]], most: int) -> bool:
    """Return whether a dead letter was refused for good, or tried as often as the schedule says.

    A message behind such a one in the same stream is tried once and then given up. An interrupted attempt leaves no
    row: it counts as one of the schedule, if there was a claim for it.
    """
    if not tries or tries[-1]["outcome"] == "delivered":
        return False
    if tries[-1]["outcome"] == "refused":
        return True
    counted = len(tries) - row["attempts_not_counted"]
    if tries[-1].get("error_class") == "WorkerLost":
        return bool(counted > most)
    return counted >= most and _stream(row) in gave_up


def _failed_claims(row: Row, tries: Sequence[Row]) -> int:
    return int(row["fence"]) - len([attempt for attempt in tries if attempt["outcome"] == "delivered"])


def _stream(row: Row) -> tuple[str, str, str]:
    return row["subject_id"], row["partner_id"], row["channel"]
