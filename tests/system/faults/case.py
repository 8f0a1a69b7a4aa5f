"""One test of a fault: its account on a site, and the judgement at its end."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pipeline.core import heartbeats
from pipeline.core.errors import DatabaseBusy
from tests.interfaces.contracts.sent import check_notifications
from tests.support import failpoints
from tests.system.faults.bounds import RECOVERY_TARGETS, Recovery, recoveries
from tests.system.faults.client import Client, Json, export_id_of
from tests.system.faults.history import violations
from tests.system.faults.partner_stub import PartnerStub
from tests.system.faults.records import History, Snapshot
from tests.system.faults.site import Site
from tests.system.faults.snapshots import list_unfinished, release_pending, snapshot

#: When to stop waiting and show the logs. `bounds` has the recovery times; the judge reports a violation.
SETTLE_SECONDS: Final = 300.0

#: Personal data of the plans that no log may contain: names, addresses, contacts.
PERSONAL: Final = ("Demo Housewares", "Maple Goods", "exports@maple.example", "+1 416")


def ignore_note(name: str, value: object) -> None:
    """Ignore the figure."""


@dataclass
class Case:
    """An account, its client and its partner stub on a site, and the folder with the failpoints' marks.

    The partners in `by_queue` have queues, the others receive at the partner stub. `rows` are the matrix rows that the
    test shows. `note` stores a figure by name; all are printed after the tests.
    """

    site: Site
    client: Client
    partner_stub: PartnerStub
    marks: Path
    by_queue: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    note: Callable[[str, object], None] = ignore_note
    recoveries: list[Recovery] = field(default_factory=list)
    _repaired_at: float | None = None
    _measured_to: float = 0.0

    def arm(self, role: str, text: str, **changes: str) -> None:
        """Restart the program of this role with the failpoints of the text, and with these settings."""
        variables = failpoints.build_variables(text, self.marks)
        self.marks.mkdir(exist_ok=True)
        self.site[role].kill()
        self.site[role].start(variables, **changes)

    def accepted(self, plan: Json | None = None) -> str:
        """Send a plan until it is accepted, with the same key; repeat after a 503 or without an answer."""
        wanted = plan or self.client.plan()
        answered: list[str] = []

        def accepted() -> bool:
            answer = self.client.execute(wanted)
            if answer is not None and answer.status_code not in {409, 503}:
                answered.append(export_id_of(answer))
            return bool(answered)

        self.site.wait_until(accepted, SETTLE_SECONDS, "the plan was not accepted")
        return answered[0]

    def wait_until_finished(self, exports: Sequence[str], seconds: float = SETTLE_SECONDS) -> None:
        """Return when the account has no pending work; read the exports over HTTP meanwhile, one a look.

        The first call after the end of a fault measures the recovery.
        """
        in_turn = itertools.cycle(exports)

        def is_finished() -> bool:
            if export_id := next(in_turn, None):
                self.client.inspect(export_id)
            return not self.list_unfinished()

        self.site.wait_until(is_finished, seconds, "work is still pending")
        self._measure(self._read_clock_of_marks(), len(exports))
        for export_id in exports:
            self.site.wait_until(lambda one=export_id: self.client.inspect(one), seconds, "the API has no export")  # type: ignore[misc]

    def mark_repaired(self) -> None:
        """Record that the broken part answers again; no failpoint shows that."""
        self._repaired_at = self._read_clock_of_marks()

    def _read_clock_of_marks(self) -> float:
        # Files have the machine's time, whatever the clock of the tests says.
        self.marks.mkdir(exist_ok=True)
        (now := self.marks / "now").touch()
        return now.stat().st_mtime

    def _measure(self, now: float, exports: int) -> None:
        """Record the time since the end of the last fault: the last action of a failpoint, or the repair."""
        ends = [mark.stat().st_mtime for mark in self.marks.glob("*.*.*")]
        ends += [self._repaired_at] if self._repaired_at else []
        if not ends or max(ends) <= self._measured_to:
            return
        self._measured_to = max(ends)
        for each in recoveries(self.rows, now - max(ends), exports):
            self.recoveries.append(each)
            self.note(f"{each.row}: seconds to recover, at most {each.bound:g}", round(each.seconds, 1))

    def list_unfinished(self) -> list[str]:
        """Return the pending work; a database that does not answer counts too."""
        try:
            return list_unfinished(self.site.runtime, self.client.account)
        except DatabaseBusy as busy:
            return [str(busy)]

    def count_fired(self) -> dict[str, int]:
        """Return how often each failpoint acted."""
        names = [path.name.rsplit(".", 1)[0] for path in self.marks.glob("*.*.*")]
        return {name: names.count(name) for name in sorted(set(names))}

    def list_event_types(self) -> list[str]:
        """Return the types of all events of the account."""
        return [row["type"] for row in self.snapshot().tables["events"]]

    def lost_lease(self, role: str) -> bool:
        """Return whether the program of this role found that another worker has its lease."""
        return self.site[role].wrote("step_fenced", "delivery_fenced", "Fenced")

    def snapshot(self, *, again: Sequence[str] = ()) -> Snapshot:
        """Return the account's rows and the store's files."""
        return snapshot(self.site.runtime, self.client.account, self.site.store, again=again)

    def check(self, *, again: Sequence[str] = ()) -> History:
        """Assert that no invariant is broken; return the history. The documents of `again` are rendered again."""
        check_notifications(self.site.runtime, self.client.account)
        unmeasured = {*self.rows} & RECOVERY_TARGETS.keys() - {each.row for each in self.recoveries}
        assert not unmeasured, f"call mark_repaired() after the fault: {unmeasured}"
        history = History(
            replace(self.snapshot(again=again), processes_left=self.site.processes_left()),
            self.client.calls,
            [*self.partner_stub.receipts, *(self.site.take_from_queues(self.client.account) if self.by_queue else ())],
            self.site.logs(),
            [*self.site.canaries, *PERSONAL],
            tries=self.site.tries,
            recoveries=self.recoveries,
        )
        found = violations(history)
        assert not found, "\n".join(map(str, found)) + "\n" + self.site.logs_end()
        return history

    def list_states(self) -> list[str]:
        """Return the states of the account's exports, oldest first."""
        return [row["state"] for row in sorted(self.snapshot().tables["exports"], key=lambda row: str(row["id"]))]


@contextmanager
def open_case(
    site: Site,
    folder: Path,
    *,
    by_queue: tuple[str, ...] = (),
    rows: tuple[str, ...] = (),
    note: Callable[[str, object], None] = ignore_note,
) -> Iterator[Case]:
    """Open an account on a site whose API answers; kill its workers when the test ends."""
    site.deaths.clear()
    try:
        site.start("web")
        # An intake that an earlier test killed is not missing here.
        heartbeats.forget(site.runtime, heartbeats.INTAKE)
        with site.account(by_queue=by_queue) as (client, kept):
            try:
                yield Case(site, client, kept, folder / "marks", by_queue, rows, note)
            except BaseException:
                with suppress(DatabaseBusy):
                    release_pending(site.runtime, client.account)
                raise
    finally:
        site.stop_workers()
