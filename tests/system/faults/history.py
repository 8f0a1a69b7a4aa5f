"""The judge of every fault: a pure function that checks the invariants I1 to I10 of a history.

I1 to I5 are those of the product's judge, which also decides what a drill lost or doubled.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from pipeline.simulation.judge import Violation, find_violations
from tests.system.faults.records import KEPT_AT, History, Receipt

#: The order of states for a reader. States of one rank end an export, or resume it after a failure.
RANK: Final = {"accepted": 0, "executing": 1, "failed": 1, "executed": 2, "cancelled": 2, "superseded": 3}
#: The largest difference between the clocks of the database and the partner stub on one machine.
SAME_INSTANT: Final = timedelta(seconds=0.05)


def violations(history: History) -> list[Violation]:
    """Return every violation of I1 to I10; an empty list means that all promises are kept."""
    own = [Violation(name, about) for name, check in OWN.items() for about in check(history)]
    return sorted([*find_violations(history.evidence()), *own], key=lambda each: int(each.promise[1:]))


def all_have_recovered(history: History) -> Iterator[str]:
    """I2: work was done in time after each fault."""
    for each in history.recoveries:
        if each.seconds > each.bound:
            yield f"work was pending {each.seconds:.1f} s after the end of {each.row}; the bound is {each.bound:g} s"


def documents_are_true(history: History) -> Iterator[str]:
    """I4: the documents are those of a run without a fault."""
    reference = history.snapshot.reference
    rows = {
        (row["export_id"], row["unit_no"], row["artifact_type"]): row["sha256"]
        for row in history.snapshot.tables["artifacts"]
    }
    exports = {export_id for export_id, _, _ in reference}
    for which, sha256 in rows.items():
        if which[0] in exports and reference.get(which) != sha256:
            yield f"{which} differs from a run without a fault"
    yield from (f"{which} was not made" for which in reference if which not in rows)


def leases_are_exclusive(history: History) -> Iterator[str]:
    """I6: a lost claim had no effect: each claim sends a message at most once, and none after it was taken."""
    receipts: dict[tuple[str, str, str], list[Receipt]] = defaultdict(list)
    for receipt in history.receipts:
        receipts[receipt.delivery].append(receipt)
    attempts = defaultdict(list)
    for attempt in history.snapshot.tables["attempts"]:
        attempts[attempt["delivery_id"]].append(attempt)
    resent = {
        event["data"]["deliveryId"] for event in history.snapshot.tables["events"] if event["type"] == "DELIVERY_RESENT"
    }
    for row in history.snapshot.tables["deliveries"]:
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
    for step in history.snapshot.tables["steps"]:
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
            yield f"unknown open transactions when {receipt.delivery} was sent"
        elif receipt.open_transactions:
            yield f"{receipt.delivery} was sent with {receipt.open_transactions} transactions open"


def nothing_is_left(history: History) -> Iterator[str]:
    """I9: no lease is held, no file is incomplete, and no process or zombie is left."""
    for step in history.snapshot.tables["steps"]:
        if step["lease_until"] is not None:
            yield f"{step['export_id']} {step['unit_no']} {step['name']} is held until {step['lease_until']}"
    for row in history.snapshot.tables["deliveries"]:
        if row["lease_until"] is not None:
            yield f"{row['id']} is held until {row['lease_until']}"
    yield from (f"{path} lies in the store" for path in history.snapshot.files if not KEPT_AT.fullmatch(path))
    yield from (f"process {each} is left over" for each in history.snapshot.processes_left)


def logs_are_discreet(history: History) -> Iterator[str]:
    """I10: no log holds a secret or personal data; this report does not repeat the text either."""
    for number, canary in enumerate(history.canaries):
        yield from (f"the log of {name} holds canary {number}" for name, log in history.logs.items() if canary in log)


#: What these tests check beside the product's judge.
OWN: Final[dict[str, Callable[[History], Iterator[str]]]] = {
    "I2": all_have_recovered,
    "I4": documents_are_true,
    "I6": leases_are_exclusive,
    "I7": reads_are_monotonic,
    "I8": no_transaction_is_open,
    "I9": nothing_is_left,
    "I10": logs_are_discreet,
}
