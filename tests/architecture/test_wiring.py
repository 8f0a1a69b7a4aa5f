"""Names agree between files: task options, queues and consumers, settings and their page, states and transitions."""

import shlex
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Any

import pytest
from celery import Celery, Task
from celery.app.defaults import NAMESPACES, flatten
from kombu import Queue

from config import queues
from config.celery import app
from config.settings import Settings
from pipeline.accounts import states as account_states
from pipeline.exports import states
from pipeline.interfaces.cli.main import COMMANDS, NOUNS, PANELS
from pipeline.interfaces.cli.output_schemas import OUTPUTS
from pipeline.workflow.dispatch import WORKERS
from pipeline.workflow.steps import STEPS, STEPS_BY_NAME
from tests.interfaces.cli.test_cli_machine import list_commands
from tests.system.acceptance.programs import read_procfile

BROKER_URLS = ("memory://", "redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//")


def settings_for(broker_url: str) -> Settings:
    return Settings.model_validate({"broker_url": broker_url})


# Celery


def list_tasks() -> dict[str, Task[Any, Any]]:
    app.loader.import_default_modules()
    found = {name: task for name, task in app.tasks.items() if name.startswith("exports.")}
    assert found, "no task is registered"
    return found


@pytest.mark.parametrize("broker_url", BROKER_URLS)
def test_celery_reads_every_setting(broker_url: str) -> None:
    known = {name.lower() for name, _ in flatten(NAMESPACES)}
    given = queues.celery_options(settings_for(broker_url))
    assert given
    assert given.keys() - known == set()


def test_misspelt_celery_setting_is_unknown() -> None:
    known = {name.lower() for name, _ in flatten(NAMESPACES)}
    assert "task_ignore_result" in known
    assert "task_ignore_results" not in known


def test_celery_reads_every_task_option() -> None:
    for name, task in list_tasks().items():
        assert unknown_options(task) == set(), name


def unknown_options(task: Task[Any, Any]) -> set[str]:
    # app.task(**options) makes a class of its own with the options as attributes, whatever their names.
    return set(vars(type(task))) - set(dir(Task)) - set(vars(type(build_task_message())))


def build_task_message(**options: object) -> Task[Any, Any]:
    elsewhere = Celery("elsewhere", set_as_current=False)
    task: Task[Any, Any] = elsewhere.task(name="made", shared=False, **options)(list_tasks)
    elsewhere.finalize()
    return task.app.tasks["made"]


def test_misspelt_task_option_is_unknown() -> None:
    assert unknown_options(build_task_message(ignore_result=True)) == set()
    assert unknown_options(build_task_message(ignore_results=True)) == {"ignore_results"}


def test_every_step_has_one_task() -> None:
    beside_the_steps = {"exports.deliver", "exports.poll_folder", "exports.poll_endpoint", "exports.read_mailbox"}
    assert set(list_tasks()) == {f"exports.{name}" for name in STEPS_BY_NAME} | beside_the_steps


def test_every_task_goes_to_a_task_queue() -> None:
    destinations = {app.amqp.router.route({}, name)["queue"].name for name in list_tasks()}
    # The publisher chooses these two.
    assert destinations | {queues.BACKLOG, queues.LARGE} == set(queues.TASK_QUEUES)


# Queues


def procfile() -> dict[str, list[str]]:
    return {name: shlex.split(command) for name, command in read_procfile().items()}


def read_consumed_queues() -> set[str]:
    """Return the queues that the Procfile's workers read: those of -Q without those of -X, by the last of each."""
    found: set[str] = set()
    for _, role, *options in procfile().values():
        given = {option: set(value.split(",")) for option, value in pairwise((*WORKERS.get(role, ()), *options))}
        found |= given.get("-Q", set()) - given.get("-X", set())
    assert found, "no process of the Procfile consumes anything"
    return found


def test_procfile_has_the_documented_processes() -> None:
    assert list(procfile()) == ["release", "web", "worker", "large-worker", "deliveries", "intake"]


def test_every_task_message_has_a_consumer_in_the_procfile() -> None:
    assert set(queues.TASK_QUEUES) <= read_consumed_queues()
    assert read_consumed_queues() <= {*queues.TASK_QUEUES, queues.EXECUTE}


@pytest.mark.parametrize("broker_url", BROKER_URLS)
def test_contract_queues_are_durable_and_bound(broker_url: str) -> None:
    declared: list[Queue] = queues.contract_queues(settings_for(broker_url))
    assert {queue.name for queue in declared} == {*queues.BINDINGS, queues.DEAD}
    assert all(queue.durable and queue.exchange.name for queue in declared)


# States

MACHINES: list[tuple[type[StrEnum], Mapping[Any, frozenset[Any]], StrEnum, set[StrEnum]]] = [
    (
        states.ExportState,
        states.EXPORT_TRANSITIONS,
        states.ExportState.ACCEPTED,
        {states.ExportState.CANCELLED, states.ExportState.SUPERSEDED},
    ),
    (
        states.StepState,
        states.STEP_TRANSITIONS,
        states.StepState.WAITING,
        {states.StepState.DONE, states.StepState.CANCELLED},
    ),
    (states.DeliveryState, states.DELIVERY_TRANSITIONS, states.DeliveryState.WAITING, {states.DeliveryState.CANCELLED}),
    (states.SubmissionState, states.SUBMISSION_TRANSITIONS, states.SubmissionState.PENDING, set()),
    (account_states.PartnerState, account_states.PARTNER_MOVES, account_states.PartnerState.DRAFT, set()),
]


@pytest.mark.parametrize(("kind", "moves", "first", "terminal"), MACHINES)
def test_every_state_is_reachable_and_terminal_or_has_a_transition(
    kind: type[StrEnum], moves: Mapping[Any, frozenset[Any]], first: StrEnum, terminal: set[StrEnum]
) -> None:
    assert moves.keys() == set(kind)
    assert {state for state, targets in moves.items() if not targets} == terminal
    reached, frontier = {first}, {first}
    while frontier:
        frontier = {target for state in frontier for target in moves[state]} - reached
        reached |= frontier
    assert reached == set(kind)
    assert all(state not in targets for state, targets in moves.items())


def test_every_step_is_opened_by_one_step() -> None:
    opened = [name for spec in STEPS for name in spec.opens]
    assert sorted([*opened, STEPS[0].name]) == sorted(spec.name for spec in STEPS)
    assert [spec.name for spec in STEPS if not spec.opens] == ["notify_broker", "notify_warehouse", "notify_operator"]


# Commands


def test_every_command_has_a_panel_of_the_help_and_a_schema() -> None:
    assert PANELS.keys() == COMMANDS.keys() | NOUNS.keys()
    with_json = {
        " ".join(path)
        for path, command in list_commands().items()
        if "--json" in [option for each in command.params for option in each.opts]
    }
    # Without a command, `deliveries` runs a process.
    assert OUTPUTS.keys() - {"error"} == with_json | {"deliveries"}
