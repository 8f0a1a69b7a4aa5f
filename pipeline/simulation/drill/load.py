"""Callers that submit plans under load, and repeat a request under the same key if no answer comes."""

import copy
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pipeline.client import ApiProblem, ApiUnreachable, Exports
from pipeline.simulation.drill.history import EXPORT_EXECUTED, PartnerMessage, SubmittedPlan
from pipeline.simulation.partners.http import ReceivedRequest


class ClientThreads(ABC):
    """One thread for each number; `raise_errors` raises the error that ended a thread in the caller's thread."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._finished = threading.Event()
        self._stopped = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"caller-{number}") for number in numbers
        ]

    @abstractmethod
    def run_client(self, number: int) -> None:
        """Submit until `_finished` is set and all submissions have ended, or until `_stopped` is set."""

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def finish_submitting(self) -> None:
        """Submit nothing more; started submissions continue until they end."""
        self._finished.set()

    @property
    def is_running(self) -> bool:
        """Return whether any thread still runs."""
        return any(thread.is_alive() for thread in self._threads)

    def raise_errors(self) -> None:
        """Raise the first error that ended a thread."""
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """End all threads, answered or not, and return when they have ended."""
        self._finished.set()
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, number: int) -> None:
        try:
            self.run_client(number)
        except BaseException as error:  # noqa: BLE001 - `raise_errors` raises it
            self._errors.append(error)


CLIENT_COUNT: Final = 3
#: The maximum of active exports: enough to keep every process busy, few enough to measure each kill separately.
MAX_IN_PROGRESS: Final = 6
#: One in so many answers is treated as lost: the caller repeats the request.
REPEAT_ONE_IN: Final = 10
_PAUSE_SECONDS: Final = 0.05
_RETRYABLE_CODES: Final = frozenset({"BUSY", "IDEMPOTENCY_IN_PROGRESS", "NOT_READY", "RATE_LIMITED"})


class DrillLog:
    """The notes of callers and partners' endpoints, in seconds since the start of the drill; threads share it."""

    def __init__(self) -> None:
        self.submissions: list[SubmittedPlan] = []
        self.receipts: list[PartnerMessage] = []
        self._started_at = time.monotonic()
        self._executed: set[str] = set()
        self._lock = threading.Lock()

    def restart_clock(self) -> None:
        """Count time from now on."""
        self._started_at = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the start of the drill."""
        return time.monotonic() - self._started_at

    def record_request(self, partner_id: str, request: ReceivedRequest) -> None:
        """Record a message that the partner's endpoint accepted; ignore a refused one."""
        if not 200 <= request.status < 300:
            return
        with self._lock:
            about = (request.event_id, request.subject, partner_id, "webhook")
            self.receipts.append(PartnerMessage(*about, event_type=request.event_type, received_at=self.elapsed()))
            if request.event_type == EXPORT_EXECUTED:
                self._executed.add(request.subject)

    def start_submission(self, batch_id: str, packages: int, limit: int) -> SubmittedPlan | None:
        """Record that a plan is submitted from now on; return None if `limit` submissions are active already."""
        with self._lock:
            if len(self.submissions) - len(self._executed) >= limit:
                return None
            submission = SubmittedPlan(batch_id, packages, self.elapsed())
            self.submissions.append(submission)
            return submission

    def count_in_progress(self, moment: float) -> int:
        """Return how many of the exports that were active at that moment have not ended yet."""
        with self._lock:
            return sum(each.started_at <= moment and not self._has_ended(each) for each in self.submissions)

    @property
    def is_idle(self) -> bool:
        """Return whether every submitted plan is known to have ended."""
        with self._lock:
            return all(map(self._has_ended, self.submissions))

    def _has_ended(self, submission: SubmittedPlan) -> bool:
        return bool(submission.export_ids) and submission.export_ids[0] in self._executed


class LoadGenerator(ClientThreads):
    """Submits plans until `finish_submitting`, and repeats each request until answered; each client has a seed."""

    def __init__(self, api: Exports, plans: Sequence[Mapping[str, Any]], log: DrillLog, seed: int) -> None:
        super().__init__(range(1, CLIENT_COUNT + 1))
        self._api, self._plans, self._log, self._seed = api, plans, log, seed

    def run_client(self, number: int) -> None:
        """Submit one plan after another."""
        rng = random.Random(f"{self._seed}/{number}")  # noqa: S311 - must be repeatable, not secret
        count = 0
        while not self._finished.is_set():
            count += 1
            plan = copy.deepcopy(dict(rng.choice(self._plans)))
            plan["batchId"] = f"drill-{number}-{count:05d}"
            packages = sum(len(unit["packages"]) for unit in plan["units"])
            submission = self._start_submission(plan["batchId"], packages)
            if submission is not None:
                for _ in range(2 if rng.randrange(REPEAT_ONE_IN) == 0 else 1):
                    self._submit(plan, submission)

    def _start_submission(self, batch_id: str, packages: int) -> SubmittedPlan | None:
        while not self._finished.is_set():
            submission = self._log.start_submission(batch_id, packages, MAX_IN_PROGRESS)
            if submission is not None:
                return submission
            self._finished.wait(_PAUSE_SECONDS)
        return None

    def _submit(self, plan: Mapping[str, Any], submission: SubmittedPlan) -> None:
        """Repeat the request under the same key until it is answered; raise ApiProblem if the plan is refused."""
        while not self._stopped.is_set():
            submission.requests += 1
            try:
                answer = self._api.execute(plan, idempotency_key=f"key-{submission.batch_id}")
            except ApiUnreachable:
                pass
            except ApiProblem as problem:
                if problem.code not in _RETRYABLE_CODES:
                    raise
            else:
                submission.export_ids.append(answer.export.export_id)
                if submission.answered_at is None:
                    submission.answered_at = self._log.elapsed()
                return
            self._stopped.wait(_PAUSE_SECONDS)
