"""The faults of a soak: every second or two one fault of the matrix at random, repaired after its time."""

import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGQUIT, SIGSTOP
from typing import Any, Final

import psutil
import psycopg
from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import KombuError
from redis import RedisError

from config import queues
from pipeline.workflow.steps import EXPORT_LEVEL, STEPS
from tests.support import factories
from tests.support.on_day import write_shift
from tests.support.ports import LOOPBACK
from tests.support.servers import PostgreSQL, RabbitMQ, Redis
from tests.system.faults.site import Program, Site
from tests.system.faults.test_message_broker import BROKEN
from tests.system.soak.history import Fault, Record

#: The programs that are killed or frozen. Others run the whole time, so that a leak in them is visible.
WORKER, POOL, DELIVERIES, API = "worker", "prefork", "deliveries", "web"
SPARED: Final = ("worker-2", "web-2")
#: The default pause between the end of one fault and the next, at least and at most.
PAUSE_SECONDS: Final = (1.0, 3.0)
_CLOCKS: Final = (3600, -3600, -600, 0)
_TOO_LARGE: Final = 1_000_000
#: The time that a terminated process may take to end.
_END_SECONDS: Final = 60.0
#: Celery's message if a child of its pool was killed during the pool's start. The worker ends, and its supervisor
#: restarts it.
_POOL_LOST: Final = "Could not start worker processes"
_UNREACHABLE: Final = (OSError, RedisError, KombuError, AMQPError, psycopg.OperationalError)

Repair = Callable[[], None]
Injection = Callable[[], tuple[str, Repair]]


def _repair_nothing() -> None:
    """No repair is needed: a supervisor restarts the process."""


class Chaos:
    """One fault after another, at random by the weight of its kind; the thread that calls `tick` does everything."""

    def __init__(self, site: Site, record: Record, shift: Path, exports: list[str], pause: tuple[float, float]) -> None:
        assert site.database is not None
        assert site.message_broker is not None
        self.site, self.record = site, record
        self._database: PostgreSQL = site.database
        self._message_broker: Redis | RabbitMQ = site.message_broker
        self._shift, self._exports, self._pause = shift, exports, pause
        self._chance = random.Random(f"{record.seed}/nemesis")
        self._due = 1.0
        self._pending_repair: tuple[Fault, float, Repair] | None = None
        self._terminated: dict[str, float] = {}  # programs that got SIGTERM, and when
        #: weight, rows of the matrix, fault, longest time until its repair, whether it is an outage, and for requests
        #: too
        self._kinds: list[tuple[int, str, Injection, float, bool, bool]] = [
            (8, "F1", self._kill_worker, 0, False, False),
            (5, "F2", self._kill_pool_child, 0, False, False),
            (4, "F3", self._kill_worker_twice, 0, False, False),
            (4, "F4", self._kill_api, 0, False, True),
            (2, "F5", self._flush_message_broker, 0, True, False),
            (1, "F6", self._kill_message_broker, 0, True, False),
            (1, "F7", self._kill_message_broker, 3, True, False),
            (2, "F8", self._freeze_message_broker, 3, True, False),
            (1, "F9", self._restart_database, 1, True, True),
            (2, "F10", self._end_connections, 0, True, True),
            (1, "F13", self._lock_table, 2, True, True),
            (4, "F15", self._send_stale_messages, 0, False, False),
            (3, "F16", self._send_broken_messages, 0, False, False),
            (5, "F17", self._freeze, 5, False, False),
            (3, "F26", self._move_clock, 0, False, False),
            (3, "F35", self._terminate, 0, False, False),
            *([(1, "F38", self._refuse_writes, 3, True, False)] if isinstance(self._message_broker, Redis) else []),
        ]  # fmt: skip

    def tick(self) -> None:
        """Repair the fault that is due for repair, or cause the next one if it is time."""
        if self._pending_repair is not None:
            fault, until, repair = self._pending_repair
            if self.record.now() >= until:
                repair()
                fault.until, self._pending_repair = self.record.now(), None
        elif self.record.now() >= self._due:
            self._inject()
        self._restart_killed()

    def repair_all(self) -> float:
        """Repair everything at once, and return the time."""
        if self._pending_repair is not None:
            fault, _, repair = self._pending_repair
            repair()
            fault.until, self._pending_repair = self.record.now(), None
        write_shift(self._shift, 0)
        self._restart_killed()
        return self.record.now()

    def _inject(self) -> None:
        weights = [kind[0] for kind in self._kinds]
        _, rows, harm, longest, outage, requests = self._chance.choices(self._kinds, weights)[0]
        began = self.record.now()
        try:
            what, repair = harm()
        except _UNREACHABLE:  # the target has not recovered from an earlier fault
            self._due = self.record.now() + 1
            return
        fault = Fault(rows, what, began, self.record.now(), outage, requests)
        self.record.faults.append(fault)
        lasts = self._chance.uniform(longest / 3, longest)
        self._due = self.record.now() + lasts + self._chance.uniform(*self._pause)
        if repair is not _repair_nothing:
            self._pending_repair = fault, self.record.now() + lasts, repair

    def _restart_killed(self) -> None:
        """Restart every killed program; a pool's children end with it, as if it were a container's first process."""
        for name, since in [*self._terminated.items()]:
            program = self.site.programs[name]
            if not program.terminating:
                del self._terminated[name]
            elif program.running and self.record.now() > since + _END_SECONDS:
                self.record.ended.append(f"{name} did not end within {_END_SECONDS:g} s\n{program.log()[-6000:]}")
                program.send(SIGKILL)
                del self._terminated[name]
        pool = self.site.programs[POOL]
        if pool.child is not None and pool.child.poll() is not None:
            _end_group(pool.child.pid)
        try:
            self.site.restart_killed()
        except AssertionError as ended:  # it ended by itself: the soak continues and reports it
            if _POOL_LOST not in str(ended):
                self.record.ended.append(str(ended))
            for program in self.site.programs.values():
                if program.child is not None and program.child.poll() is not None:
                    program.start_again()

    # Processes

    def _program(self, *names: str) -> Program:
        return self.site.programs[self._chance.choice(names)]

    def _kill_program(self, program: Program) -> tuple[str, Repair]:
        assert program.child is not None
        program.child.send_signal(SIGKILL)
        return f"kill -9 {program.name}", _repair_nothing

    def _kill_worker(self) -> tuple[str, Repair]:
        return self._kill_program(self._program(WORKER, POOL, DELIVERIES))

    def _kill_worker_twice(self) -> tuple[str, Repair]:
        program = self._program(WORKER, POOL, DELIVERIES)
        self._kill_program(program)
        with contextlib.suppress(TimeoutError):
            assert program.child is not None
            program.child.wait(10)
        self._restart_killed()
        time.sleep(self._chance.uniform(0, 0.5))
        self._kill_program(program)
        return f"kill -9 {program.name} twice", _repair_nothing

    def _kill_pool_child(self) -> tuple[str, Repair]:
        child = self.site.programs[POOL].child
        assert child is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            found = [each for each in psutil.Process(child.pid).children() if each.status() != psutil.STATUS_ZOMBIE]
            if found:
                self._chance.choice(found).kill()
        return "kill -9 a child of the pool", _repair_nothing

    def _kill_api(self) -> tuple[str, Repair]:
        return self._kill_program(self.site.programs[API])

    def _freeze(self) -> tuple[str, Repair]:
        program = self._program(WORKER, DELIVERIES, *SPARED[:1])
        assert program.child is not None
        child = program.child
        child.send_signal(SIGSTOP)
        return f"SIGSTOP {program.name}", lambda: child.send_signal(SIGCONT)

    def _terminate(self) -> tuple[str, Repair]:
        programs = [self.site.programs[name] for name in (WORKER, POOL, DELIVERIES)]
        # A second SIGTERM ends a program at once. Before its handler is installed, SIGTERM kills it.
        candidates = [
            program for program in programs if program.running and not program.terminating and program.handles_signals
        ]
        if not candidates:
            return "no program handles SIGTERM yet", _repair_nothing
        program = self._chance.choice(candidates)
        program.terminate()
        self._terminated[program.name] = self.record.now()
        return f"SIGTERM {program.name}", _repair_nothing

    def _move_clock(self) -> tuple[str, Repair]:
        to = self._chance.choice(_CLOCKS)
        write_shift(self._shift, to)
        return f"the clock of {WORKER} is {to:+d} s", _repair_nothing

    # The message broker

    def _flush_message_broker(self) -> tuple[str, Repair]:
        if isinstance(self._message_broker, Redis):
            self._message_broker.flush()
        else:
            with Connection(self.site.stack.broker_url) as connection:
                for queue in queues.TASK_QUEUES:
                    connection.default_channel.queue_purge(queue)
        return "all queues are emptied", _repair_nothing

    def _kill_message_broker(self) -> tuple[str, Repair]:
        self._message_broker.kill()
        return "kill -9 the message broker", lambda: _started(self._message_broker)

    def _freeze_message_broker(self) -> tuple[str, Repair]:
        self._message_broker.freeze()
        return "SIGSTOP the message broker", self._message_broker.thaw

    def _refuse_writes(self) -> tuple[str, Repair]:
        server = self._message_broker
        assert isinstance(server, Redis)
        demoted = self._chance.random() < 0.5
        with server.client() as client:
            if demoted:
                client.replicaof(LOOPBACK, "1")
            else:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", "1mb")

        def repair() -> None:
            with server.client() as client:
                client.config_set("maxmemory", "0")
                client.replicaof("NO", "ONE")

        return "Redis is a replica" if demoted else "Redis has no memory", repair

    def _send_stale_messages(self) -> tuple[str, Repair]:
        known = [*self._exports[-50:], "exp_of_nobody"]
        sender = Celery(broker=self.site.stack.broker_url, set_as_current=False)
        sender.conf.update(queues.celery_options(self.site.stack.settings))
        try:
            for _ in range(20):
                export_id, spec = self._chance.choice(known), self._chance.choice(STEPS)
                sender.send_task(f"exports.{spec.name}", args=[export_id, 1 if spec.per_unit else EXPORT_LEVEL])
                partner = self._chance.choice((factories.BROKER, factories.WAREHOUSE, "op_demo"))
                sender.send_task("exports.deliver", args=[export_id, partner, "webhook"])
        finally:
            sender.close()
        return "forty old task messages", _repair_nothing

    def _send_broken_messages(self) -> tuple[str, Repair]:
        with Connection(self.site.stack.broker_url) as connection:
            producer = Producer(connection)
            message_properties: dict[str, Any] = {"content_type": "application/json", "content_encoding": "utf-8"}
            for body, properties in self._chance.sample([*BROKEN.values()], 5):
                if len(body) < _TOO_LARGE:
                    producer.publish(body, routing_key=queues.STEPS, exchange="", **message_properties | properties)
        return "five malformed messages", _repair_nothing

    # The database

    def _restart_database(self) -> tuple[str, Repair]:
        how = self._chance.choice(("fast", "immediate", "kill -9"))
        if how == "fast":
            self._database.stop()
        elif how == "kill -9":
            self._database.kill()
        else:
            self._database.running().send_signal(SIGQUIT)
            self._database.running().wait(60)
            self._database.process = None
        return f"PostgreSQL ends ({how})", lambda: _started(self._database)

    def _end_connections(self) -> tuple[str, Repair]:
        with self._database.connection() as connection:
            connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s", (self._name,)
            )
        return "all connections to PostgreSQL are cut", _repair_nothing

    def _lock_table(self) -> tuple[str, Repair]:
        url = self._database.url.replace("+psycopg", "").rsplit("/", 1)[0]
        connection = psycopg.connect(f"{url}/{self._name}", connect_timeout=5, options="-c lock_timeout=5000")
        try:
            connection.execute("LOCK TABLE exports IN ACCESS EXCLUSIVE MODE")
        except psycopg.Error:
            connection.close()
            return "the table of exports could not be locked", _repair_nothing
        return "the table of exports is locked", connection.close

    @property
    def _name(self) -> str:
        return self.site.stack.database_url.rsplit("/", 1)[1]


def _started(server: Redis | RabbitMQ | PostgreSQL) -> None:
    server.start()


def _end_group(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, SIGKILL)
