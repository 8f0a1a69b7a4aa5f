"""Callers that execute plans through either API the whole time, retry until answered, and check the results."""

import random
from collections.abc import Sequence
from typing import Final

from pipeline.simulation.drill.load import ClientThreads
from tests.system.faults.client import Client
from tests.system.soak.history import Acceptance, Record

CALLERS: Final = 4
#: The number of unfinished exports of one caller at a time.
UNDER_WAY: Final = 5
#: The pause between a caller's reads of one export; a read costs the machine as much as an export.
_LOOK_SECONDS: Final = 0.4
_PAUSE_SECONDS: Final = 0.25
_LATER: Final = frozenset({409, 429, 503})
_ENDED: Final = frozenset({"executed", "failed", "cancelled", "superseded"})


class Load(ClientThreads):
    """Sends plans until `finish`, and reads each export until it ends; each thread reads its own exports."""

    def __init__(self, clients: Sequence[Client], record: Record) -> None:
        super().__init__(range(CALLERS))
        self.exports: list[str] = []
        self._clients, self._record = clients, record

    def run_client(self, number: int) -> None:
        """Execute one plan after another, with the thread's own random numbers."""
        chance = random.Random(f"{self._record.seed}/caller/{number}")
        own: list[str] = []
        while not self._stopped.is_set() and (own or not self._finished.is_set()):
            if len(own) < UNDER_WAY and not self._finished.is_set():
                accepted = self._accepted(chance)
                own += [accepted] if accepted else []
            if own:
                export_id = own.pop(0)
                own += [] if self._has_ended(export_id, chance) else [export_id]
            self._stopped.wait(_LOOK_SECONDS)

    def _accepted(self, chance: random.Random) -> str | None:
        """Return the id of a new export that either API accepted; None if the soak is aborted."""
        plan = self._clients[0].plan(units=1 + (chance.random() < 0.1))
        while not self._stopped.is_set():
            began = self._record.now()
            answer = chance.choice(self._clients).execute(plan)
            if answer is not None and answer.status_code in {200, 202}:
                export_id = str(answer.json()["exportId"])
                with self._record.lock:
                    self._record.acceptances.append(Acceptance(began, self._record.now() - began))
                    self.exports.append(export_id)
                return export_id
            if answer is not None and answer.status_code not in _LATER and answer.status_code < 500:
                self._record.refused.append(f"{answer.status_code} {answer.text[:500]}")
                return None
            self._stopped.wait(_PAUSE_SECONDS)
        return None

    def _has_ended(self, export_id: str, chance: random.Random) -> bool:
        found = chance.choice(self._clients).inspect(export_id)
        return found is not None and found["state"] in _ENDED
