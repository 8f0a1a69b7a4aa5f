"""The whole service on one of the three stacks, as in production, and the faults that tests cause in it."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from kombu import Connection

from config.queues import TASK_QUEUES
from pipeline.core.runtime import Runtime, open_runtime
from tests.conftest import Stack
from tests.interfaces.contracts.sent import check_notifications
from tests.support.fork_server import ForkServer
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import RabbitMQ, Redis, poll
from tests.system.acceptance.programs import Program, read_procfile
from tests.system.acceptance.queue_client import Files, ReceivedMessage

START_SECONDS = 120.0
QUEUE_CLIENT = "python -m tests.system.acceptance.queue_client"

#: Shorter than in production: a lost step or delivery becomes due again after seconds.
FAST_SETTINGS: Mapping[str, str] = {
    "EXPORTS_LEASE_SECONDS": "15",  # longer than a busy machine can stall
    "EXPORTS_EXECUTE_WAIT_SECONDS": "60",  # a busy machine renders slowly
    "EXPORTS_STALLED_SECONDS": "4",
    "EXPORTS_SWEEP_SECONDS": "0.5",
    "EXPORTS_DELIVERY_SCHEDULE_SECONDS": "[1, 1, 2, 2, 2, 2, 2, 2, 2]",
    "EXPORTS_PARTNER_POLL_SECONDS": "2",
}


class Service(ABC):
    """A running service: its address, its database, and the messages that partners receive."""

    def __init__(self, stack: Stack, folder: Path, fork_server: ForkServer | None) -> None:
        self.stack = stack
        self.folder = folder
        self._fork_server = fork_server
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.files = Files(folder)
        self.runtime: Runtime = open_runtime(stack.settings)
        self.environment = {
            **stack.environment,
            **FAST_SETTINGS,
            "HOST": LOOPBACK,
            "PORT": str(self.port),
            "EXPORTS_PUBLIC_URL": self.url,
            "EXPORTS_ALLOW_PRIVATE_DESTINATIONS": "true",
        }

    def _program(self, name: str, command: str) -> Program:
        return Program(name, command, self.environment, self.folder, self._fork_server)

    @abstractmethod
    def programs(self) -> list[Program]:
        """Return every process of the service, running or not."""

    @abstractmethod
    def start(self) -> None:
        """Start every process that does not run; return when all are ready."""

    @abstractmethod
    def kill_workers(self) -> None:
        """Kill the processes that run steps, as a power cut would."""

    def restart(self) -> None:
        """Stop every process as its supervisor would, and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop every process; then check that every message matches its published schema."""
        self.stop()
        check_notifications(self.runtime)
        self.runtime.close()

    def stop(self) -> None:
        """Stop every process as its supervisor would."""
        running = [program for program in self.programs() if program.process is not None]
        for program in running:
            program.terminate()  # all at once; an idle worker may take seconds to notice
        for program in running:
            program.stop()

    def answers(self) -> bool:
        """Return whether the API says that it is ready."""
        for program in self.programs():
            if program.process is not None and program.process.poll() is not None:
                raise RuntimeError(f"{program.name} ended with {program.process.returncode}\n{program.log()[-4000:]}")
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        return False

    def received_messages(self, export_id: str, queue: str | None = None) -> list[ReceivedMessage]:
        """Return the messages about the export that partners took from their queues, in order."""
        return [
            each
            for each in self.files.received_messages()
            if each.export_id == export_id and (queue is None or each.queue == queue)
        ]

    def logs(self) -> str:
        """Return the end of every program's log, to explain a failure."""
        return "\n".join(f"--- {program.name}\n{program.log()[-6000:]}" for program in self.programs())


class Embedded(Service):
    """SQLite and the message broker inside one process, `exports serve`."""

    def __init__(self, stack: Stack, folder: Path, fork_server: ForkServer | None) -> None:
        super().__init__(stack, folder, fork_server)
        self.all = self._program("serve", f"{QUEUE_CLIENT} {folder} serve --port {self.port}")

    def programs(self) -> list[Program]:
        return [self.all]

    def start(self) -> None:
        if self.all.process is None:
            self.all.start()
        poll(self.answers, START_SECONDS, f"the service did not start\n{self.logs()}")

    def kill_workers(self) -> None:
        self.all.kill()


class Distributed(Service):
    """PostgreSQL and a separate message broker: a process for each line of the Procfile, but a second worker for large units."""

    def __init__(
        self, stack: Stack, folder: Path, message_broker: Redis | RabbitMQ, fork_server: ForkServer | None
    ) -> None:
        super().__init__(stack, folder, fork_server)
        self.message_broker = message_broker
        commands = read_procfile()
        self.release, self.web, self.deliveries, self.intake = (
            self._program(name, commands[name]) for name in ("release", "web", "deliveries", "intake")
        )
        # The second one executes large units, too: without `-X` and `-Q`, a worker reads all queues of steps.
        by_worker = enumerate((commands["worker"], "exports worker"), 1)
        self.workers = [self._program(f"worker-{n}", command) for n, command in by_worker]
        self.queue_client = self._program("queue-client", f"{QUEUE_CLIENT} {folder}")

    def programs(self) -> list[Program]:
        return [self.release, self.web, *self.workers, self.deliveries, self.intake, self.queue_client]

    def start(self) -> None:
        if not self.release.log_file.exists():
            self.release.start()
            if self.release.wait(START_SECONDS) != 0:
                raise RuntimeError(f"the release step failed\n{self.release.log()}")
        for program in self.programs():
            if program is not self.release and program.process is None:
                program.start()
        poll(self.answers, START_SECONDS, f"the service did not start\n{self.logs()}")

    def kill_workers(self) -> None:
        for worker in self.workers:
            worker.kill()

    @contextmanager
    def idle_workers(self) -> Iterator[None]:
        """Run no worker during the block."""
        for worker in self.workers:
            worker.kill()
        try:
            yield
        finally:
            self.start()

    def drop_messages(self) -> int:
        """Delete every message that waits for a worker; return their number."""
        count_waiting = sum(self.count_waiting(name) for name in TASK_QUEUES)
        if isinstance(self.message_broker, Redis):
            self.message_broker.flush()
        else:
            with Connection(self.stack.broker_url) as connection:
                for name in TASK_QUEUES:
                    connection.default_channel.queue_purge(name)
        return count_waiting

    def count_waiting(self, queue: str) -> int:
        """Return the number of messages in a queue."""
        with Connection(self.stack.broker_url) as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:
                return 0  # the queue does not exist, or not any more


@contextmanager
def open_embedded(database_url: str, folder: Path, fork_server: ForkServer | None = None) -> Iterator[Service]:
    """Yield the service on the embedded default."""
    stack = Stack("sqlite-memory", database_url, "memory://", f"file:{folder / 'artifacts'}")
    with run_service(Embedded(stack, folder, fork_server)) as service:
        yield service


@contextmanager
def open_distributed(
    database_url: str, message_broker: Redis | RabbitMQ, folder: Path, fork_server: ForkServer | None = None
) -> Iterator[Service]:
    """Yield the service on PostgreSQL and its own message broker, which a test may kill and flush."""
    name = f"postgres-{message_broker.name}"
    stack = Stack(name, database_url, message_broker.fresh_url(), f"file:{folder / 'artifacts'}")
    with run_service(Distributed(stack, folder, message_broker, fork_server)) as service:
        yield service


@contextmanager
def run_service(service: Service) -> Iterator[Service]:
    """Start the service; stop it at the end of the block, also after an error."""
    with ExitStack() as end:
        end.callback(service.close)
        service.start()
        yield service
