"""Thousands of random scenarios with crashes, losses, duplicates and refusals; every promise holds after each step."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import col, select

from pipeline.core.bulkhead import Bulkhead
from pipeline.core.errors import AlreadyExecuted, EntryFiled, InvalidState
from pipeline.deliveries import replay as delivery_replay
from pipeline.deliveries import resend
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.events import EventType
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.states import ExportState
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.amendments import amend_export
from pipeline.workflow.interventions import cancel_export, retry_export
from pipeline.workflow.steps import STEPS, TaskMessage
from tests.support import factories
from tests.support.task_by_task import task_by_task
from tests.system.faults.points import ACCEPT_POINTS, AMEND_POINTS, DELIVERY_POINTS, STEP_POINTS, SWEEP_POINTS
from tests.system.model.endpoints import ModelLeaseRenewer
from tests.system.model.world import World, documents, ids, template

BATCHES = ("batch_1", "batch_2", "batch_3")
PLANS = {
    (batch, n): factories.plan(units=n % 2 + 1, lines=n, packages=n, batch=batch)
    for batch in BATCHES
    for n in (1, 2, 3)
}
#: Failpoints at which a process dies; the points of deliveries are as likely as those of all steps.
POINTS = st.one_of(
    *(st.sampled_from(each) for each in (STEP_POINTS, DELIVERY_POINTS, ACCEPT_POINTS, AMEND_POINTS, SWEEP_POINTS))
)
#: Failpoints at which a worker can pause: no transaction is open there, which would block the others too. A step without
#: preparation begins in a transaction.
PAUSES = st.one_of(
    st.sampled_from([f"{spec.name}.before" for spec in STEPS if spec.prepare is not None]),
    st.sampled_from(("delivery.before", "delivery.between", "delivery.sent")),
)

FOLDER: list[Path] = []
_CURRENT: list[World] = []


class Exports(RuleBasedStateMachine):
    """All that may happen to exports, in any order."""

    def __init__(self) -> None:
        super().__init__()
        ids.restart()
        self.folder = Path(tempfile.mkdtemp(dir=FOLDER[-1]))
        self.world = World(self.folder, FOLDER[-1] / "template.db")
        _CURRENT[:] = [self.world]

    @property
    def account(self) -> str:
        """The account of the exports."""
        return factories.ACCOUNT

    # Callers

    @initialize(numbers=st.lists(st.integers(1, 3), min_size=1, max_size=3))
    def begin(self, numbers: list[int]) -> None:
        """Begin each scenario with one to three exports."""
        for batch, number in zip(BATCHES, numbers, strict=False):
            self.submit(batch, number, with_key=True, reaches_broker=True)

    @rule(
        batch=st.sampled_from(BATCHES), number=st.integers(1, 3), with_key=st.booleans(), reaches_broker=st.booleans()
    )
    def submit(self, batch: str, number: int, *, with_key: bool, reaches_broker: bool) -> None:
        """A caller sends an execution; `reaches_broker` says whether the task messages reach the message broker."""
        world, plan = self.world, PLANS[batch, number]
        request = ExecuteRequest.model_validate({"accountId": self.account, "batchId": batch, "plan": plan})
        key = f"{batch}/{number}" if with_key else None
        try:
            accepted = world.run_process(
                lambda: accept_plan(world.runtime, world.caller, request, raw_plan=plan, idempotency_key=key)
            )
        except AlreadyExecuted:
            # Only an existing batch with another plan is rejected. If the caller's process died, it may not know the
            # batch.
            assert self._newest(batch) is not None
            return
        if accepted is None:
            return
        newest = self._newest(batch)
        assert newest is not None
        if accepted.created:
            assert batch not in world.batches
        if not accepted.replayed:
            assert accepted.export_id == newest.id
            world.batches[batch] = accepted.export_id
        if reaches_broker and accepted.created:
            world.messages += [
                TaskMessage(accepted.export_id, unit_no, STEPS[0].name)
                for unit_no in range(1, len(accepted.queues) + 1)
            ]

    @precondition(lambda self: self.world.batches)
    @rule(data=st.data(), number=st.integers(1, 3), correct=st.booleans())
    def amend(self, data: st.DataObject, number: int, correct: bool) -> None:  # noqa: FBT001 - Hypothesis calls it
        """A caller replaces an export's plan."""
        world = self.world
        batch = data.draw(st.sampled_from(sorted(world.batches)))
        plan, newest = PLANS[batch, number], self._newest(batch)
        assert newest is not None
        request = ExecuteRequest.model_validate({"accountId": self.account, "batchId": batch, "plan": plan})
        try:
            accepted = world.run_process(
                lambda: amend_export(
                    world.runtime,
                    world.caller,
                    newest.id,
                    request,
                    raw_plan=plan,
                    idempotency_key=None,
                    correct=correct,
                )
            )
        except EntryFiled:
            assert not correct
            return
        except InvalidState:
            assert newest.state not in (ExportState.EXECUTED.value, ExportState.FAILED.value)
            return
        if accepted is not None:
            world.batches[batch] = accepted.export_id

    # The message broker

    @precondition(lambda self: self.world.messages)
    @rule(data=st.data(), alone=st.booleans())
    def deliver(self, data: st.DataObject, alone: bool) -> None:  # noqa: FBT001 - Hypothesis calls it
        """A worker receives any of the messages, in any order. It continues with the next steps, or leaves them."""
        with task_by_task() if alone else nullcontext():
            self.world.deliver(self._place(data))

    @precondition(lambda self: self.world.messages)
    @rule(most=st.integers(2, 12))
    def workers_work(self, most: int) -> None:
        """Workers take one message after another, as normally."""
        for _ in range(most):
            if self.world.messages:
                self.world.deliver(0)

    @precondition(lambda self: self.world.messages)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A message is lost."""
        self.world.messages.pop(self._place(data))

    @precondition(lambda self: self.world.messages)
    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        """A message is delivered twice."""
        self.world.messages.append(self.world.messages[self._place(data)])

    # Time and upkeep

    @rule(seconds=st.sampled_from((1.0, 11.0, 31.0, 400.0, 90_000.0)))
    def time_passes(self, seconds: float) -> None:
        """Time passes."""
        self.world.clock.pass_seconds(seconds)

    @rule()
    def sweep(self) -> None:
        """A worker sweeps."""
        self.world.sweep()

    # Faults

    @rule(point=POINTS)
    def crash_at(self, point: str) -> None:
        """The next process at the failpoint dies there, while others work."""
        self.world.arm(point, self.world.crash)
        self.world.work_until_hit()

    @rule(point=PAUSES)
    def delay_at(self, point: str) -> None:
        """The next worker at the failpoint pauses until others have done its work."""
        self.world.arm(point, self.world.delay_worker)
        self.world.work_until_hit()

    @rule(
        partner=st.sampled_from((factories.BROKER, factories.WAREHOUSE, factories.OPERATOR)),
        answer=st.sampled_from(("takes", "down", "refuses", "stumbles")),
    )
    def endpoint_answers(self, partner: str, answer: str) -> None:
        """A partner's endpoint changes its answer."""
        self.world.endpoints.answers[partner] = answer

    @rule(full=st.booleans())
    def store_is_full(self, *, full: bool) -> None:
        """The store becomes full, or takes documents again."""
        self.world.store.full = full

    @rule(broken=st.booleans())
    def renderer_breaks(self, *, broken: bool) -> None:
        """The renderer fails on each document, or works again."""
        self.world.store.broken = broken

    # People

    @precondition(lambda self: self.world.batches)
    @rule(data=st.data(), what=st.sampled_from((cancel_export, retry_export)))
    def intervene(self, data: st.DataObject, what: Any) -> None:
        """An operator cancels or retries; rejected only if there is nothing to cancel or retry."""
        export_id = data.draw(st.sampled_from(sorted(self.world.batches.values())))
        state, happened = self.world.read_history(export_id)
        repeated = what is cancel_export and state is ExportState.CANCELLED
        if what is retry_export:
            allowed = state is ExportState.FAILED
        else:
            stoppable = {ExportState.ACCEPTED, ExportState.EXECUTING, ExportState.FAILED}
            allowed = repeated or (state in stoppable and EventType.HANDED_OFF.value not in happened)
        refused = False
        try:
            tasks = what(self.world.runtime, self.account, export_id, "key_test")
            assert not (repeated and tasks), "an export was cancelled twice"
            self.world.messages += tasks
        except InvalidState:
            refused = True
        assert refused != allowed, (what, state, happened)

    @rule(data=st.data())
    def resend(self, data: st.DataObject) -> None:
        """An operator resends one message."""
        with self.world.runtime.db.read() as session:
            found = session.scalars(select(Delivery.id).where(col(Delivery.state).in_(resend.RESENDABLE))).all()
        if not found:
            return
        chosen = data.draw(st.sampled_from(sorted(found)))
        try:
            resend.resend_delivery(self.world.runtime, self.account, chosen, "key_test")
        except InvalidState:
            assert self._is_replaced(chosen), "a resend was rejected for an export without a newer revision"
            return
        self.world.resent += 1

    @rule(partner=st.sampled_from((factories.BROKER, factories.WAREHOUSE)))
    def replay(self, partner: str) -> None:
        """An operator replays all messages to a partner."""
        request = ReplayRequest.model_validate({"since": "2026-11-24T00:00:00Z"})
        report, _ = delivery_replay.replay_messages(self.world.runtime, self.account, partner, request, "key_test")
        self.world.resent += report.messages

    @rule(
        data=st.data(),
        number=st.integers(1, 3),
        status=st.sampled_from(("received", "accepted", "rejected", "released")),
    )
    def answer(self, data: st.DataObject, number: int, status: str) -> None:
        """The customs broker answers, in any order, and sometimes twice."""
        with self.world.runtime.db.read() as session:
            found = session.scalars(select(BrokerSubmission.id)).all()
        if found:
            body = AcknowledgementBody.model_validate({"id": f"{status}{number}", "status": status})
            submission = data.draw(st.sampled_from(sorted(found)))
            broker_answers.receive_answer(self.world.runtime, submission, body, "partner:br_sandbox")

    # Promises

    @invariant()
    def every_promise_holds(self) -> None:
        """Check every promise."""
        self.world.check()

    def teardown(self) -> None:
        """Repair everything; then all exports must end and all deliveries be made within minutes."""
        try:
            self.world.repair_all()
            self.world.check()
            self.world.read_end_states()
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    def _place(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.world.messages) - 1))

    def _is_replaced(self, delivery_id: str) -> bool:
        with self.world.runtime.db.read() as session:
            of = session.get_one(Delivery, delivery_id).subject_id
            return session.scalars(select(Export.id).where(col(Export.supersedes_id) == of)).first() is not None

    def _newest(self, batch: str) -> Export | None:
        with self.world.runtime.db.read() as session:
            return session.scalars(
                select(Export).where(col(Export.batch_id) == batch).order_by(col(Export.revision).desc()).limit(1)
            ).first()


@pytest.fixture
def prepare_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every scenario the same start, with fast endpoints and documents."""
    template(tmp_path / "template.db")
    monkeypatch.setattr("pipeline.core.ids.secrets", ids)
    monkeypatch.setattr("pipeline.core.ids.time", ids)
    monkeypatch.setattr("pipeline.workflow.render_documents.render_documents", documents)
    for sends in ("streams.messages", "connection_tests"):
        monkeypatch.setattr(f"pipeline.deliveries.{sends}.open_channels", lambda _: _Everything())
    renewer = ModelLeaseRenewer(_now)
    # A scenario must not depend on how long it really takes: Hypothesis repeats it.
    monkeypatch.setattr("pipeline.workflow.step_leases.LEASE_RENEWER", renewer)
    monkeypatch.setattr("pipeline.deliveries.streams.sender.SENDERS", Bulkhead(renewer.monotonic))
    monkeypatch.setattr("pipeline.deliveries.streams.streams.LEASE_RENEWER", renewer)
    monkeypatch.setattr("pipeline.deliveries.streams.streams.time", renewer)
    monkeypatch.setattr("pipeline.deliveries.streams.held_streams.time", renewer)
    FOLDER.append(tmp_path)
    yield
    FOLDER.pop()


def _now() -> float:
    return _CURRENT[-1].clock.now.timestamp()


class _Everything(dict[Any, Any]):
    """Every channel leads to the same endpoints, those of the current world."""

    def __missing__(self, _: Any) -> Any:
        return _CURRENT[-1].endpoints


@pytest.fixture
def random_source(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> int:
    """Return the seed of the scenarios: `--hypothesis-seed`, in CI always the same, else random; it is printed."""
    given = request.config.getoption("--hypothesis-seed")
    drawn = 0 if settings().derandomize else secrets.randbits(32)
    chosen = drawn if given is None else int(given)
    record_property("--hypothesis-seed", chosen)
    return chosen


def run_scenarios(examples: int, steps: int, random_source: int) -> None:
    run_state_machine_as_test(
        seed(random_source)(Exports),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("prepare_world")
def test_promises_hold_in_random_scenarios(random_source: int) -> None:
    run_scenarios(examples=20, steps=40, random_source=random_source)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
@pytest.mark.usefixtures("prepare_world")
@pytest.mark.parametrize("part", range(4))
def test_promises_hold_in_thousands_of_random_scenarios(random_source: int, part: int) -> None:
    run_scenarios(examples=500, steps=60, random_source=random_source + part)
