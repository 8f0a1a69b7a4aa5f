"""Killed at any point, however often: accepted exports end once, and partners get no false message."""

from collections import Counter

import pytest
from kombu import Connection, Producer
from sqlmodel import col, select

from config import queues
from pipeline.exports.models import ExportPackage, LineTreatment
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS, STEPS_BY_NAME, steps_at_once
from tests.support import factories
from tests.system.faults.case import Case
from tests.system.faults.client import Json, export_id_of
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import EMBEDDED, RABBITMQ, REDIS, SERVED, STACKS, fault
from tests.system.faults.points import (
    ACCEPT_POINTS,
    AMEND_POINTS,
    DELIVERY_POINTS,
    INTAKE_POINTS,
    MOMENTS,
    STEP_POINTS,
    SWEEP_POINTS,
)
from tests.system.faults.site import KILLED, Site

WORKER_POINTS = (*STEP_POINTS, *DELIVERY_POINTS, *SWEEP_POINTS)
#: The failpoints that a process for deliveries reaches. The worker that hands off also does notify_operator.
SENDING_STEPS = tuple(name for name in NOTIFY_STEPS if STEPS_BY_NAME[name].prepare is not None)
NOTIFY_POINTS = (*(f"{name}.{moment}" for name in SENDING_STEPS for moment in MOMENTS), *DELIVERY_POINTS)
#: Failpoints after the send and before the record: the next worker must send the message again.
SENT_AND_NOT_RECORDED = ("delivery.between", "delivery.sent", "delivery.mid")
#: A sweep that dies takes its worker with it, wherever that is, so also at these points.
MAY_REPEAT = (*SENT_AND_NOT_RECORDED, *SWEEP_POINTS)
#: Failpoints in the transaction that writes a whole large unit, and after some of its messages are sent.
LARGE = ("record_packages.mid", "attach_customs.mid", "render_documents.mid", "hand_off.mid", "delivery.between")
#: How many earlier steps first try to do this step in their transaction: it dies in their attempts, too.
DONE_WITH_EARLIER = {"attach_customs": 1, "close_unit": 1, "hand_off": 1, "notify_operator": 2}
#: No lease expires on a busy machine, so a repetition can have only one cause.
LONG_LEASE = {"lease_seconds": "6"}


def set_kills(*points: str, times: int = 1) -> str:
    return " ".join(f"{point}=kill*{times}" for point in points)


def check_all_killed(one: Case, points: tuple[str, ...], times: int) -> None:
    assert one.count_fired() == dict.fromkeys(sorted(points), times)
    # The sweep has its own thread: two points that fire together are one death. The last death may not be noticed yet.
    one.site.wait_until(lambda: one.site.deaths, 60, "no program died at the failpoints that fired")
    assert {status for _, status in one.site.deaths} == {KILLED}
    assert len(one.site.deaths) <= len(points) * times


# A worker


@fault("F1", everyday=STACKS)
def test_worker_killed_at_every_point(site: Site, case: OpenCase) -> None:
    """Nothing is repeated except messages that were sent and not recorded."""
    with case(by_queue=() if site.embedded else (factories.WAREHOUSE,)) as one:
        one.arm("worker", set_kills(*MAY_REPEAT))
        first = one.accepted()
        one.wait_until_finished([first])
        one.arm("worker", set_kills(*(point for point in WORKER_POINTS if point not in MAY_REPEAT)))
        exports = [one.accepted() for _ in range(3)]
        one.wait_until_finished(exports)
        check_all_killed(one, WORKER_POINTS, 1)
        assert one.list_states() == ["executed"] * 4
        history = one.check(again=[first])
        # The embedded worker holds more than the step at which it dies. On a machine that stalls, a lease of 1.5 s can
        # expire; the worker that lost it logs that.
        if not site.embedded and not one.lost_lease("worker"):
            received = Counter(
                (each.message_id, each.partner_id) for each in history.receipts if each.export_id in exports
            )
            assert [*received.values()] == [1] * len(received)
            assert len(received) >= len(NOTIFY_STEPS) * len(exports)


@fault("F1", everyday=(), long=STACKS)
@pytest.mark.parametrize("point", WORKER_POINTS)
def test_worker_killed_at_one_point_repeats_only_unrecorded_messages(site: Site, case: OpenCase, point: str) -> None:
    check_repeats(site, case, point)


@fault("F1", everyday=(REDIS,))
@pytest.mark.parametrize("point", ["delivery.sent"])
def test_worker_killed_between_send_and_record_sends_again(site: Site, case: OpenCase, point: str) -> None:
    check_repeats(site, case, point)


def check_repeats(site: Site, case: OpenCase, point: str) -> None:
    with case() as one:
        one.arm("worker", set_kills(point), **LONG_LEASE)
        export_id = one.accepted()
        one.wait_until_finished([export_id])
        check_all_killed(one, (point,), 1)
        assert one.list_states() == ["executed"]
        check_repeated(one, 1 if point in SENT_AND_NOT_RECORDED else 0, deaths=1)
        history = one.check(again=[export_id])
        begun = {row["name"]: row["attempts"] for row in history.snapshot.tables["steps"]}
        assert max(begun.values()) <= 2
        # The embedded worker holds several steps, and they all end with it.
        assert sum(begun.values()) <= len(begun) + (len(NOTIFY_STEPS) if site.embedded else 1)


def check_repeated(one: Case, times: int, *, deaths: int) -> None:
    """Compare repeated messages with those sent and not recorded; the embedded worker sends to all partners in parallel."""
    most = deaths * len(NOTIFY_STEPS) if one.site.embedded else times
    assert times <= one.partner_stub.count_repeats() <= most


@fault("F1", everyday=SERVED)
def test_deliveries_process_killed_at_every_point_while_sending_several(site: Site, case: OpenCase) -> None:
    """It sends many messages in parallel: each death drops all of them."""
    with case() as one:
        one.arm("deliveries", set_kills(*NOTIFY_POINTS))
        site.start("steps")
        exports = [one.accepted(one.client.plan(lines=2, packages=2)) for _ in range(4)]
        one.wait_until_finished(exports)
        check_all_killed(one, NOTIFY_POINTS, 1)
        assert {name for name, _ in site.deaths} == {"deliveries"}
        assert one.list_states() == ["executed"] * 4
        one.check(again=exports[:1])


@pytest.mark.pdf_engine
@fault("F3", everyday=(RABBITMQ,))
def test_worker_killed_twice_at_step_message_and_sweep(site: Site, case: OpenCase) -> None:
    check_killed_twice(case, ("render_documents.mid", "delivery.sent", "sweep.mid"))


@fault("F3", everyday=(), long=STACKS)
def test_worker_killed_twice_at_every_point(site: Site, case: OpenCase) -> None:
    check_killed_twice(case, WORKER_POINTS)


def check_killed_twice(case: OpenCase, points: tuple[str, ...]) -> None:
    with case() as one:
        one.arm("worker", set_kills(*points, times=2))
        exports = [one.accepted() for _ in range(4)]
        one.wait_until_finished(exports)
        check_all_killed(one, points, 2)
        assert one.list_states() == ["executed"] * 4
        one.check(again=exports[:1])


@fault("F3", everyday=(RABBITMQ,), long=STACKS)
def test_plan_that_kills_workers_is_quarantined_and_the_next_is_executed(site: Site, case: OpenCase) -> None:
    check_quarantined(case, "render_documents.before")


@fault("F3", everyday=(), long=STACKS)
@pytest.mark.parametrize("point", [point for point in STEP_POINTS if not point.endswith(".after")])
def test_step_that_kills_workers_is_quarantined(site: Site, case: OpenCase, point: str) -> None:
    check_quarantined(case, point)


def check_quarantined(case: OpenCase, point: str) -> None:
    with case() as one:
        one.arm("worker", set_kills(point, times=9), step_max_attempts="5")
        poison = one.accepted()
        one.wait_until_finished([poison])
        step = STEPS_BY_NAME[point.split(".", maxsplit=1)[0]]
        # A first attempt without a claim is not counted.
        unclaimed = step is STEPS[0] or step in steps_at_once(STEPS[0])
        assert one.count_fired() == {point: 5 + unclaimed + DONE_WITH_EARLIER.get(step.name, 0)}
        view = one.client.inspect(poison)
        assert view is not None
        assert (view["state"], view["quarantined"]) == ("failed", True)
        assert point.split(".", maxsplit=1)[0] in view["status"]
        one.site["worker"].kill()
        one.site.start("worker")
        following = one.accepted()
        one.wait_until_finished([following])
        assert one.list_states() == ["failed", "executed"]
        one.check(again=[following])


@fault("F3", everyday=(REDIS,), long=STACKS)
def test_delivery_is_made_after_six_killed_workers(site: Site, case: OpenCase) -> None:
    with case() as one:
        one.arm("worker", set_kills("delivery.between", times=6))
        export_id = one.accepted()
        one.wait_until_finished([export_id])
        check_all_killed(one, ("delivery.between",), 6)
        check_repeated(one, 6, deaths=6)
        one.check()


@fault("F3", everyday=(), long=STACKS)
@pytest.mark.parametrize("point", [*DELIVERY_POINTS, *SWEEP_POINTS])
def test_worker_killed_six_times_outside_a_step_completes_the_export(site: Site, case: OpenCase, point: str) -> None:
    with case() as one:
        one.arm("worker", set_kills(point, times=6))
        exports = [one.accepted() for _ in range(3)]
        one.wait_until_finished(exports)
        site.wait_until(lambda: one.count_fired() == {point: 6}, 60, "the worker was not killed six times")
        check_all_killed(one, (point,), 6)
        assert one.list_states() == ["executed"] * 3
        one.check()


@fault("F30", everyday=(REDIS,), long=STACKS)
def test_worker_killed_in_a_large_plan_records_nothing_twice(site: Site, case: OpenCase) -> None:
    with case() as one:
        one.arm("worker", set_kills(*LARGE), **LONG_LEASE)
        export_id = one.accepted(one.client.plan(lines=120, packages=300))
        one.wait_until_finished([export_id])
        check_all_killed(one, LARGE, 1)
        assert one.list_states() == ["executed"]
        one.check(again=[export_id])
        with site.runtime.db.read() as session:
            packages = select(col(ExportPackage.package_ref)).where(col(ExportPackage.export_id) == export_id)
            treated = select(col(LineTreatment.line_ref)).where(col(LineTreatment.export_id) == export_id)
            for found, count in ((session.scalars(packages).all(), 300), (session.scalars(treated).all(), 120)):
                assert len({*found}) == len(found) == count


# A child of a pool


@fault("F2", everyday=(REDIS,), long=SERVED)
def test_killed_pool_child_is_replaced_at_every_point(site: Site, case: OpenCase) -> None:
    points = (*STEP_POINTS, *DELIVERY_POINTS)
    with case() as one:
        one.arm("prefork", set_kills(*points))
        exports = [one.accepted() for _ in range(4)]
        one.wait_until_finished(exports)
        assert one.count_fired() == dict.fromkeys(sorted(points), 1)
        assert site.deaths == []
        assert one.list_states() == ["executed"] * 4
        one.check(again=exports[:1])


@fault("F2", everyday=(REDIS,), long=SERVED)
def test_killed_pool_child_repeats_only_its_step(site: Site, case: OpenCase) -> None:
    # Each kill also undoes the step before, which shares the transaction. The first attempt of record_packages does not count.
    killed = ("render_documents",)
    with case() as one:
        one.arm("prefork", set_kills("attach_customs.before", "hand_off.mid"), **LONG_LEASE)
        export_id = one.accepted()
        one.wait_until_finished([export_id])
        assert one.count_fired() == {"attach_customs.before": 1, "hand_off.mid": 1}
        assert site.deaths == []
        assert one.list_states() == ["executed"]
        history = one.check(again=[export_id])
        begun = {row["name"]: row["attempts"] for row in history.snapshot.tables["steps"]}
        assert begun == {spec.name: 2 if spec.name in killed else 1 for spec in STEPS}
        assert one.partner_stub.count_repeats() == 0


# The API


# Acceptance ends with a commit: Redis behaves here as RabbitMQ does, the databases differ.
@fault("F4", everyday=(EMBEDDED, RABBITMQ), long=STACKS)
@pytest.mark.parametrize("point", ACCEPT_POINTS)
def test_api_killed_in_acceptance_makes_one_export(site: Site, case: OpenCase, point: str) -> None:
    check_accepted_once(site, case, point, 1)


@fault("F4", everyday=(), long=STACKS)
@pytest.mark.parametrize("point", [point for point in ACCEPT_POINTS if not point.endswith(".after")])
def test_api_killed_six_times_in_acceptance_makes_one_export(site: Site, case: OpenCase, point: str) -> None:
    check_accepted_once(site, case, point, 6)


def check_accepted_once(site: Site, case: OpenCase, point: str, times: int) -> None:
    with case() as one:
        one.arm("web", set_kills(point, times=times))
        plan = one.client.plan()
        export_id = one.accepted(plan)
        assert one.count_fired() == {point: times}
        assert None in {call.status for call in one.client.calls}
        assert export_id_of(one.client.execute(plan)) == export_id
        site.start("worker")
        one.wait_until_finished([export_id])
        assert one.list_states() == ["executed"]
        one.check(again=[export_id])


@fault("F4", everyday=(REDIS,), long=STACKS)
@pytest.mark.parametrize("point", AMEND_POINTS)
def test_api_killed_in_amendment_makes_one_revision(site: Site, case: OpenCase, point: str) -> None:
    with case() as one:
        site.start("worker")
        plan = one.client.plan()
        old = one.accepted(plan)
        one.wait_until_finished([old])
        one.arm("web", set_kills(point))
        amended = factories.change_plan(
            plan, "/units/0/lines/0/description", "Frying pan of stainless steel, for a household"
        )
        answers: list[str] = []

        def answered() -> bool:
            answer = one.client.amend(old, amended)
            if answer is not None and answer.status_code == 202:
                answers.append(export_id_of(answer))
            return bool(answers)

        site.wait_until(answered, 300, "the export was not amended")
        assert one.count_fired() == {point: 1}
        one.wait_until_finished([old, answers[0]])
        assert one.list_states() == ["superseded", "executed"]
        one.check(again=answers)


# The intake


def send_command(one: Case, plan: Json | None = None) -> None:
    """Send a plan by queue."""
    plan = plan or one.client.plan()
    batch = plan["batchId"]
    body = {"accountId": one.client.account, "batchId": batch, "idempotencyKey": f"command-{batch}", "plan": plan}
    with Connection(one.site.stack.broker_url) as connection:
        (queue,) = [each for each in queues.contract_queues(one.site.stack.settings) if each.name == queues.EXECUTE]
        Producer(connection).publish(
            body, exchange=queues.exchange, routing_key="execute", declare=[queue], serializer="json"
        )


@fault("F4", everyday=(RABBITMQ,), long=SERVED)
@pytest.mark.parametrize("point", INTAKE_POINTS)
def test_intake_killed_with_a_command_accepts_it_once(site: Site, case: OpenCase, point: str) -> None:
    check_commanded_once(site, case, point, 1)


@fault("F4", everyday=(), long=(RABBITMQ,))
@pytest.mark.parametrize("point", INTAKE_POINTS)
def test_intake_killed_six_times_with_a_command_accepts_it_once(site: Site, case: OpenCase, point: str) -> None:
    check_commanded_once(site, case, point, 6)


def check_commanded_once(site: Site, case: OpenCase, point: str, times: int) -> None:
    with case() as one:
        site.start("worker")
        one.arm("intake", set_kills(point, times=times))
        send_command(one)
        site.wait_until(lambda: one.count_fired() and one.list_states(), 300, "the command was not accepted")
        one.mark_repaired()  # the message broker decides when to redeliver it
        one.wait_until_finished([])
        # The message itself comes back, on Redis after its visibility timeout, and changes nothing.
        site.wait_until(lambda: one.count_fired() == {point: times}, 300, "the intake was not killed each time")
        site.wait_until(
            lambda: site.waiting(queues.EXECUTE) == 0 and site["intake"].running, 300, "the command is still queued"
        )
        assert one.count_fired() == {point: times}
        assert one.list_states() == ["executed"]
        one.check()
