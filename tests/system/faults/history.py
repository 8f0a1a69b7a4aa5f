"""The judge of every fault: a pure function that checks the invariants I1 to I10 of a history."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pipeline.exports.hash_chain import hash_event
from pipeline.exports.states import ACTIVE_STATES
from tests.system.faults.records import History, Receipt, Row

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
#: The order of states for a reader. States of one rank end an export, or resume it after a failure.
RANK: Final = {
    "accepted": 0,
    "executing": 1,
    "failed": 1,
    "executed": 2,
    "cancelled": 2,
    "superseded": 3,
}
#: The final states of deliveries.
AT_REST: Final = frozenset({"delivered", "dead", "cancelled"})
#: The path of a document in the artifact store.
KEPT_AT: Final = re.compile(r"sha256/(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})/(?P<sha256>(?P=a)(?P=b)[0-9a-f]{60})")
#: The largest difference between the clocks of the database and the partner stub on one machine.
SAME_INSTANT: Final = timedelta(seconds=0.05)


@dataclass(frozen=True)
class Violation:
    """One violation of an invariant."""

    invariant: str
    about: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.about}"


def violations(history: History) -> list[Violation]:
    """Return every violation of I1 to I10, in order; an empty list means that all promises are kept."""
    return [Violation(name, about) for name, check in INVARIANTS.items() for about in check(history)]


def _rows(history: History, table: str) -> Sequence[Row]:
    return history.snapshot.tables[table]


def _by_export(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["export_id"]].append(row)
    return found


def accepted_is_stored(history: History) -> Iterator[str]:
    """I1: every export of a 202 is stored, and a batch is one export, however often it is sent."""
    stored = {row["id"] for row in _rows(history, "exports")}
    of_batch: dict[str, set[str]] = defaultdict(set)
    for call in history.calls:
        if call.method != "POST" or call.status not in {200, 202} or call.export_id is None:
            continue
        if call.export_id not in stored:
            yield f"{call.export_id} was accepted but is not stored"
        if call.batch is not None:
            of_batch[call.batch].add(call.export_id)
    for batch, ids in of_batch.items():
        if len(ids) > 1:
            yield f"batch {batch} got the answers {sorted(ids)}"
    revisions = Counter((row["batch_id"], row["revision"]) for row in _rows(history, "exports"))
    yield from (f"{batch} has revision {revision} {n} times" for (batch, revision), n in revisions.items() if n > 1)


def all_have_ended(history: History) -> Iterator[str]:
    """I2: every export has ended, its steps agree, a failed one has a reason, and it recovered in time."""
    steps = _by_export(_rows(history, "steps"))
    for export in _rows(history, "exports"):
        name, state = export["id"], export["state"]
        if state in ACTIVE_STATES:
            yield f"{name} is still {state}"
        undone = [step["name"] for step in steps[name] if step["state"] != "done"]
        if state == "executed" and undone:
            yield f"{name} is executed without {undone}"
        if state == "executed" and export["units_closed"] != export["units_total"]:
            yield f"{name} closed {export['units_closed']} of {export['units_total']} units"
        if state == "failed" and not export["failure"]:
            yield f"{name} has failed without a reason"
    for each in history.recoveries:
        if each.seconds > each.bound:
            yield f"work was pending {each.seconds:.1f} s after the end of {each.row}; the bound is {each.bound:g} s"


def log_is_whole(history: History) -> Iterator[str]:
    """I3: events are unique, numbers have no gap, hashes are one chain, no step is missing, and none is late."""
    logs = _by_export(_rows(history, "events"))
    for export in _rows(history, "exports"):
        log = sorted(logs[export["id"]], key=lambda event: int(event["seq"]))
        if [event["seq"] for event in log] != list(range(1, export["next_seq"])):
            yield f"{export['id']} has the numbers {[event['seq'] for event in log]}, next {export['next_seq']}"
        before = None
        for event in log:
            if event["prev_hash"] != before or hash_event(event) != event["hash"]:
                yield f"{export['id']} has a broken chain at {event['seq']}"
                break
            before = event["hash"]
        yield from (f"{export['id']} has {about}" for about in _find_late_steps(log))
        happened = Counter(
            (event["type"], *(event["data"].get(name) for name in ONCE[event["type"]]))
            for event in log
            if event["type"] in ONCE
        )
        yield from (f"{export['id']} has {what} {n} times" for what, n in happened.items() if n > 1)
        if export["state"] in {"executed", "superseded"} and "EXPORT_EXECUTED" in {what[0] for what in happened}:
            units = range(1, export["units_total"] + 1)
            wanted = [("EXPORT_ACCEPTED",), ("HANDED_OFF",), *((kind, n) for kind in OF_EACH_UNIT for n in units)]
            yield from (f"{export['id']} was executed without {what}" for what in wanted if what not in happened)


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


def documents_are_true(history: History) -> Iterator[str]:
    """I4: a document has one row, and its bytes match its hash and those of a run without a fault."""
    snapshot = history.snapshot
    kept = {match["sha256"]: snapshot.files[path] for path in snapshot.files if (match := KEPT_AT.fullmatch(path))}
    rows = Counter((row["export_id"], row["unit_no"], row["artifact_type"]) for row in _rows(history, "artifacts"))
    yield from (f"{which} has {n} rows" for which, n in rows.items() if n > 1)
    for row in _rows(history, "artifacts"):
        which = (row["export_id"], row["unit_no"], row["artifact_type"])
        if kept.get(row["sha256"]) != row["sha256"]:
            yield f"{which} is not in the store as recorded"
        if which[0] in {name for name, _, _ in snapshot.reference} and snapshot.reference.get(which) != row["sha256"]:
            yield f"{which} differs from a run without a fault"
    yield from (f"{which} was not made" for which in snapshot.reference if which not in rows)


def all_were_notified(history: History) -> Iterator[str]:
    """I5: each message was taken under its id, or is a dead letter after all attempts; no other message was sent."""
    taken = {_was_taken(receipt) for receipt in history.receipts if receipt.taken}
    deliveries = {
        (row["notification_id"], row["partner_id"], row["channel"]): row for row in _rows(history, "deliveries")
    }
    failed = {row["id"] for row in _rows(history, "exports") if row["state"] == "failed"}
    for which, row in deliveries.items():
        # A message that waits for the completion of a failed export becomes due if a person retries the export.
        if row["state"] not in AT_REST and not (row["state"] == "waiting" and row["subject_id"] in failed):
            yield f"{which} is still {row['state']}"
        if row["state"] == "delivered" and which not in taken:
            yield f"{which} is delivered but was not received"
    for row, tries in find_early_dead_letters([*deliveries.values()], _rows(history, "attempts"), history.tries):
        yield f"{(row['notification_id'], row['partner_id'], row['channel'])} is dead after {tries} tries"
    for receipt in history.receipts:
        if _was_taken(receipt) not in deliveries:
            yield f"{_was_taken(receipt)} was received but has no delivery"


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


def leases_are_exclusive(history: History) -> Iterator[str]:
    """I6: a lost claim had no effect: each claim sends a message at most once, and none after it was taken."""
    receipts: dict[tuple[str, str, str], list[Receipt]] = defaultdict(list)
    for receipt in history.receipts:
        receipts[_was_taken(receipt)].append(receipt)
    attempts = defaultdict(list)
    for attempt in _rows(history, "attempts"):
        attempts[attempt["delivery_id"]].append(attempt)
    resent = {event["data"]["deliveryId"] for event in _rows(history, "events") if event["type"] == "DELIVERY_RESENT"}
    for row in _rows(history, "deliveries"):
        which = (row["notification_id"], row["partner_id"], row["channel"])
        received, tries = receipts[which], sorted(attempts[row["id"]], key=lambda each: int(each["number"]))
        if len(received) > row["fence"]:
            yield f"{which} was received {len(received)} times under {row['fence']} claims"
        if [each["number"] for each in tries] != list(range(1, row["attempts"] + 1)):
            yield f"{which} has the tries {[each['number'] for each in tries]} of {row['attempts']}"
        if row["id"] in resent or row["delivered_at"] is None:
            continue
        if [each["outcome"] for each in tries].count("delivered") > 1:
            yield f"{which} was recorded as delivered more than once"
        late = [each for each in received if each.at is not None and each.at > row["delivered_at"] + SAME_INSTANT]
        yield from (f"{which} was received again at {each.at} after its delivery" for each in late)
    for step in _rows(history, "steps"):
        if step["attempts"] > step["fence"]:
            yield f"{step['export_id']} {step['unit_no']} {step['name']} began without a claim"


def reads_are_monotonic(history: History) -> Iterator[str]:
    """I7: the only server error is 503 with Retry-After, and a reader never sees an older state."""
    seen: dict[str, tuple[int, int]] = {}
    for call in history.calls:
        if call.status is not None and call.status >= 500 and (call.status != 503 or not call.retry_after):
            yield f"{call.method} {call.path} got {call.status}, Retry-After {call.retry_after}"
        if call.method != "GET" or call.export_id is None or call.seq is None or call.state is None:
            continue
        now = (call.seq, RANK[call.state])
        before = seen.get(call.export_id, (0, 0))
        if now[0] < before[0] or now[1] < before[1]:
            yield f"{call.export_id} went back from {before} to {now}"
        seen[call.export_id] = now


def no_transaction_is_open(history: History) -> Iterator[str]:
    """I8: no transaction of the service is open while it waits for another system."""
    for receipt in history.receipts:
        if receipt.open_transactions is None:
            yield f"unknown open transactions when {_was_taken(receipt)} was sent"
        elif receipt.open_transactions:
            yield f"{_was_taken(receipt)} was sent with {receipt.open_transactions} transactions open"


def nothing_is_left(history: History) -> Iterator[str]:
    """I9: no lease is held, no file is incomplete, and no process or zombie is left."""
    for step in _rows(history, "steps"):
        if step["lease_until"] is not None:
            yield f"{step['export_id']} {step['unit_no']} {step['name']} is held until {step['lease_until']}"
    for row in _rows(history, "deliveries"):
        if row["lease_until"] is not None:
            yield f"{row['id']} is held until {row['lease_until']}"
    yield from (f"{path} lies in the store" for path in history.snapshot.files if not KEPT_AT.fullmatch(path))
    yield from (f"process {each} is left over" for each in history.snapshot.processes_left)


def logs_are_discreet(history: History) -> Iterator[str]:
    """I10: no log holds a secret or personal data; this report does not repeat the text either."""
    for number, canary in enumerate(history.canaries):
        yield from (f"the log of {name} holds canary {number}" for name, log in history.logs.items() if canary in log)


def _was_taken(receipt: Receipt) -> tuple[str, str, str]:
    return receipt.message_id, receipt.partner_id, receipt.channel


INVARIANTS: Final[dict[str, Callable[[History], Iterator[str]]]] = {
    "I1": accepted_is_stored,
    "I2": all_have_ended,
    "I3": log_is_whole,
    "I4": documents_are_true,
    "I5": all_were_notified,
    "I6": leases_are_exclusive,
    "I7": reads_are_monotonic,
    "I8": no_transaction_is_open,
    "I9": nothing_is_left,
    "I10": logs_are_discreet,
}
