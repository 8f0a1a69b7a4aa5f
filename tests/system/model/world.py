"""The real state code in one process with a simulated clock, message broker and endpoints, and with crashes."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlmodel import SQLModel, col, select

from config.settings import Settings
from pipeline.accounts import partners, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.schemas import NewPartner
from pipeline.core import failpoints
from pipeline.core import ids as product_ids
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import Database
from pipeline.core.errors import RendererCrashed, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries import connection_tests
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.deliveries.streams import sender
from pipeline.deliveries.submissions import overdue
from pipeline.documents.registry import Document
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export
from pipeline.exports.states import ACTIVE_STATES, EXPORT_TRANSITIONS, DeliveryState, ExportState
from pipeline.ops.migrations.runner import upgrade_database
from pipeline.ops.rebuild import service as rebuild_service
from pipeline.simulation.judge import find_early_dead_letters
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS, STEPS_BY_NAME, TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.support import factories
from tests.system.model.endpoints import Endpoints

PER_UNIT: Final = [spec.name for spec in STEPS if spec.per_unit]
#: Events that may occur once per export, or once per unit.
ONCE: Final = frozenset(
    {"EXPORT_ACCEPTED", "PACKAGES_RECORDED", "TREATMENT_ATTACHED", "CUSTOMS_PACKAGE_CLOSED", "HANDED_OFF"}
    | {"EXPORT_EXECUTED", "EXPORT_CANCELLED"}
)
#: Failpoints after the send and before the record: the message is sent again after a crash or a lost lease. The results of
#: held streams are recorded with the end of their steps.
IN_FLIGHT: Final = frozenset({"delivery.between", "delivery.sent", "delivery.mid", *(f"{s}.mid" for s in NOTIFY_STEPS)})
LEASE_SECONDS: Final = 30.0
#: Few pauses, so that messages become dead letters within a scenario; the last is longer than work takes after a repair.
SCHEDULE_SECONDS: Final = (5.0, 43_200.0)
#: How long after a repair all is executed and delivered: two leases of dead workers and two pauses of a step, with margin.
REPAIRED_AFTER_SECONDS: Final = 300
SWEEP_SECONDS: Final = 10
PARTNERS: Final = {factories.BROKER: "customs_broker", factories.WAREHOUSE: "warehouse", factories.OPERATOR: "operator"}


class Crash(BaseException):
    """The process died; no handler of the product catches this."""


@dataclass
class Clock:
    """A clock on which time passes only by `pass_seconds`."""

    now: datetime = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        # Each reading is a little later than the one before, as on a real clock.
        self.now += timedelta(microseconds=1)
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class Store(ArtifactStore):
    """Takes documents, unless it is full or the renderer fails."""

    full = False
    broken = False

    def put_all(self, bodies: Sequence[bytes]) -> list[str]:
        """Store the documents."""
        if self.full:
            raise StoreUnavailable("the store is full")
        if self.broken:
            raise RendererCrashed("the PDF engine died")
        return super().put_all(bodies)


class Ids:
    """Makes increasing ids, equal in every scenario, so that a failed one can be repeated."""

    made = 0

    def restart(self) -> None:
        """Start again at the first id."""
        self.made = 0
        product_ids._last_drawn.clear()

    def randbits(self, _: int) -> int:
        """Return the next number."""
        self.made += 1
        return self.made

    def time_ns(self) -> int:
        """Return a fixed instant."""
        return 1_795_618_800_000_000_000


ids: Final = Ids()


def documents(invoice: Invoice) -> list[Document]:
    """Return two small documents in place of the real ones, which have their own tests."""
    return [
        Document("cci_json", "invoice.json", "application/json", "1", invoice.model_dump_json().encode()),
        Document("cci_csv", "invoice.csv", "text/csv", "1", str(len(invoice.lines)).encode()),
    ]


def template(path: Path) -> None:
    """Make the database with which every world starts."""
    runtime = _runtime(path, Clock())
    upgrade_database(runtime.db)
    service.create_account(runtime, factories.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    for name, kind in PARTNERS.items():
        path_of_broker = {"path": "byob"} if kind == "customs_broker" else {}
        given = {"id": name, "kind": kind, "name": name, "live": True, **path_of_broker}
        partners.create_partner(runtime, factories.ACCOUNT, NewPartner.model_validate(given))
    runtime.close()


def _runtime(path: Path, clock: Clock) -> Runtime:
    settings = Settings.model_validate(
        {
            "database_url": f"sqlite:///{path}",
            "artifacts_url": f"file:{path.parent / 'artifacts'}",
            "lease_seconds": LEASE_SECONDS,
            "delivery_batch": 2,
            "delivery_schedule_seconds": SCHEDULE_SECONDS,
        }
    )
    return Runtime(settings, Database(settings.database_url, clock=clock), Store(settings.artifacts_url), clock)


class World:
    """One database, the task messages in the queue, and the observations."""

    def __init__(self, folder: Path, made: Path) -> None:
        shutil.copy(made, folder / "world.db")
        self.clock = Clock()
        self.runtime = _runtime(folder / "world.db", self.clock)
        self.endpoints = Endpoints(self.runtime)
        self.messages: list[TaskMessage] = []
        self.hits: Counter[str] = Counter()
        self.caller = Caller(factories.ACCOUNT, "key_test", "live", frozenset({"execute", "read", "operate"}))
        self.batches: dict[str, str] = {}  # batch -> the newest export that a caller knows
        self.resent = 0
        self._states: dict[str, ExportState] = {}

    @property
    def store(self) -> Store:
        """The store."""
        assert isinstance(self.runtime.store, Store)
        return self.runtime.store

    def close(self) -> None:
        """Close the runtime."""
        self.disarm()
        self.runtime.close()

    # What goes wrong

    def arm(self, point: str, act: Callable[[], None]) -> None:
        """Run `act` once at the failpoint."""

        def hit() -> None:
            self.disarm()
            self.hits[point] += 1
            act()

        self.disarm()
        failpoints.hooks[point] = hit

    def disarm(self) -> None:
        """Remove all actions at failpoints."""
        failpoints.hooks.clear()

    def crash(self) -> None:
        """End the process at the failpoint."""
        raise Crash

    def delay_worker(self) -> None:
        """Pause the worker at the failpoint until its lease has expired and others have done its work."""
        self.clock.pass_seconds(LEASE_SECONDS + 1)
        self.sweep()
        for _ in range(20):
            if not self.messages:
                break
            self.deliver(0)

    # What happens

    def run_process(self, act: Callable[[], Any]) -> Any:
        """Run `act` as a process; return None if the process died."""
        try:
            return act()
        except Crash:
            return None

    def deliver(self, place: int) -> None:
        """Let a worker take the task message and follow its chain."""
        task = self.messages.pop(place)
        self.run_process(lambda: self._work(task))

    def _work(self, task: TaskMessage) -> None:
        if task.step is None:
            assert task.partner_id is not None
            assert task.channel is not None
            report = sender.deliver_stream(self.runtime, task.export_id, task.partner_id, task.channel)
            self.messages += [
                TaskMessage(stream.subject_id, partner_id=stream.partner_id, channel=stream.channel)
                for stream in report.pending_streams
            ]
            return
        outcome = run_step(self.runtime, task.export_id, task.unit_no, task.step)
        self.messages += outcome.tasks
        if outcome.completed and not outcome.halted:
            self.messages += _next_link(task, outcome.completed[-1])

    def work_until_hit(self) -> None:
        """Let workers run until one reaches an armed failpoint or the work ends for a while; the failpoint stays armed."""
        for _ in range(40):
            if not failpoints.hooks:
                return
            if not self.messages:
                self.clock.pass_seconds(LEASE_SECONDS + 1)
                self.sweep()
            if not self.messages:
                return
            self.deliver(0)

    def sweep(self) -> None:
        """Sweep: publish due work again."""

        def look() -> None:
            failpoints.failpoint("sweep.before")
            due = find_due(self.runtime)
            failpoints.failpoint("sweep.after")
            self.messages += due
            self.messages += [
                TaskMessage(stream.subject_id, partner_id=stream.partner_id, channel=stream.channel)
                for stream in overdue.notify_overdue(self.runtime)
            ]

        self.run_process(look)

    def repair_all(self) -> None:
        """Repair everything, do what the runbook says, and let a few minutes pass: then all work is done."""
        self.disarm()
        self.endpoints.answers.clear()
        self.store.full = self.store.broken = False
        for partner_id in PARTNERS:
            assert connection_tests.run_connection_test(
                self.runtime, factories.ACCOUNT, partner_id, tested_by="key_test"
            ).passed
        for _ in range(REPAIRED_AFTER_SECONDS // SWEEP_SECONDS):
            self.sweep()
            while self.messages:
                self.deliver(0)
            if not self._is_work_left():
                return
            self.clock.pass_seconds(SWEEP_SECONDS)
        raise AssertionError(f"the work does not end within {REPAIRED_AFTER_SECONDS} s")

    def _is_work_left(self) -> bool:
        open_work = (
            select(Export.id).where(col(Export.state).in_(ACTIVE_STATES)),
            select(Delivery.id).where(col(Delivery.state) == DeliveryState.PENDING.value),
        )
        with self.runtime.db.read() as session:
            return any(session.scalars(found.limit(1)).first() is not None for found in open_work)

    # What is known

    def read_history(self, export_id: str) -> tuple[ExportState, set[str]]:
        """Return an export's state and the kinds of events in its log."""
        with self.runtime.db.read() as session:
            happened = session.scalars(select(Event.type).where(col(Event.export_id) == export_id)).all()
            return ExportState(session.get_one(Export, export_id).state), {*happened}

    # What must hold

    def check(self) -> None:
        """Check every promise for every export."""
        with self.runtime.db.read() as session:
            exports = session.scalars(select(Export).order_by(col(Export.id))).all()
            # I1: every export that a caller knows exists.
            assert set(self.batches.values()) <= {export.id for export in exports}
            for export in exports:
                self._check_export(
                    export,
                    session.scalars(
                        select(Event).where(col(Event.export_id) == export.id).order_by(col(Event.seq))
                    ).all(),
                )
                # Every table agrees with the log, and the log is unchanged.
                found = rebuild_service.compare_export(session, export.id)
                assert found.intact, found
            kinds = Counter(
                f"{export_id}/{unit_no}/{kind}"
                for export_id, unit_no, kind in session.execute(
                    select(col(Artifact.export_id), col(Artifact.unit_no), col(Artifact.artifact_type))
                )
            )
            assert set(kinds.values()) <= {1}
            notified = set(session.scalars(select(Notification.id)).all())
            delivered = [
                (partner_id, message)
                for partner_id, message in session.execute(
                    select(col(Delivery.partner_id), col(Delivery.notification_id)).where(
                        col(Delivery.state) == DeliveryState.DELIVERED.value
                    )
                )
            ]
            # I5: a dead letter had all its attempts.
            deliveries, attempts = session.scalars(select(Delivery)), session.scalars(select(Attempt))
            too_soon = [*find_early_dead_letters(_rows(deliveries), _rows(attempts), len(SCHEDULE_SECONDS) + 1)]
            assert not too_soon, too_soon
        self._check_notified(notified, delivered)

    def _check_export(self, export: Export, log: Sequence[Event]) -> None:
        # I3: the log has no gap, and nothing took effect twice.
        assert [event.seq for event in log] == list(range(1, export.next_seq))
        happened = Counter((event.type, event.data.get("unitNo")) for event in log)
        doubled = [kind for kind, count in happened.items() if kind[0] in ONCE and count > 1]
        assert not doubled, doubled
        # I7: every change of state is a legal transition.
        state, before = ExportState(export.state), self._states.get(export.id, ExportState.ACCEPTED)
        assert _can_lead(before, state), (before, state)
        self._states[export.id] = state

    def _check_notified(self, notified: set[str], delivered: Sequence[tuple[str, str]]) -> None:
        assert not self.endpoints.broken, self.endpoints.broken
        # I5: every delivered message was taken, and only existing messages were taken.
        assert {message for _, message in self.endpoints.taken} <= notified
        missing = [delivery_id for delivery_id in delivered if self.endpoints.taken[delivery_id] == 0]
        assert not missing, missing
        doubled = sum(count - 1 for count in self.endpoints.taken.values())
        in_flight = sum(count for point, count in self.hits.items() if point in IN_FLIGHT)
        # Each time in flight has at most as many messages as the two streams of a handoff that one worker holds.
        assert doubled <= in_flight * 2 * self.runtime.settings.delivery_batch + self.resent

    def read_end_states(self) -> Mapping[str, ExportState]:
        """Return the state of each export, after all have ended and all deliveries are made."""
        with self.runtime.db.read() as session:
            states = {row.id: ExportState(row.state) for row in session.scalars(select(Export))}
            pending = session.scalars(
                select(Delivery.state).where(col(Delivery.state).in_([DeliveryState.PENDING.value]))
            ).all()
        assert not [name for name, state in states.items() if state.value in ACTIVE_STATES], states
        assert not pending
        return states


def _rows(found: Iterable[SQLModel]) -> list[dict[str, Any]]:
    return [row.model_dump() for row in found]


def _next_link(task: TaskMessage, done: str) -> list[TaskMessage]:
    if task.step is None or not STEPS_BY_NAME[task.step].per_unit or done not in PER_UNIT:
        return []
    following = PER_UNIT.index(done) + 1
    return [TaskMessage(task.export_id, task.unit_no, PER_UNIT[following])] if following < len(PER_UNIT) else []


def _can_lead(before: ExportState, now: ExportState) -> bool:
    """Return whether legal transitions lead from one state to the other."""
    seen, open_states = {before}, [before]
    while open_states:
        for state in EXPORT_TRANSITIONS[open_states.pop()]:
            if state not in seen:
                seen.add(state)
                open_states.append(state)
    return now in seen
