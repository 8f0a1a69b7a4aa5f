"""Redis, RabbitMQ and PostgreSQL for the tests: on free loopback ports, in temporary folders, checked to be ours."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Self

import httpx
import psutil
import psycopg
import redis
from psycopg import sql

from tests.support.on_day import leave_clock, wrap_with_clock
from tests.support.ports import LOOPBACK, accepts, free_port, listens

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class MissingServer(Exception):
    """A server program is not installed; the message says which, and what to install."""


class ForeignServer(Exception):
    """Another process listens on the server's port; send nothing to it."""


class Server(ABC):
    """One server process of the tests: `start`, `stop` politely, `kill` at once, `freeze` and `thaw`.

    It keeps its port and folder between starts, so that clients find a killed server again.
    """

    name: str
    url: str
    user: str  #: The user that runs the server if the tests run as root.

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"exports-{self.name}-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.own(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def ping(self) -> None:
        """Raise unless the server answers a client."""

    def environment(self) -> Mapping[str, str]:
        """Return the program's environment without PATH and HOME."""
        return {}

    def wrapped(self, command: Sequence[str]) -> Sequence[str]:
        """Return the command, run as the server's user on the machine's clock; a server whose clock matters overrides it."""
        return leave_clock([*self.wrapper(), *command])

    def start(self) -> Self:
        """Start the server; return when it answers and its socket is known to belong to this process."""
        if self.process is not None:
            raise RuntimeError(f"{self.name} is already running")
        self.process = self.spawn(self.command(), self.environment())
        poll(self.listens_and_answers, START_SECONDS, f"{self.name} did not start\n{self.log()}")
        return self

    def listens_and_answers(self) -> bool:
        """Return whether our process listens on the port and answers; ForeignServer if another process answers."""
        process = self.running()
        if process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {process.returncode}\n{self.log()}")
        if not accepts(self.port):
            return False
        self.assert_own()
        with contextlib.suppress(redis.RedisError, psycopg.Error, httpx.HTTPError, OSError):
            self.ping()
            return True
        return False

    def assert_own(self) -> None:
        """Raise ForeignServer unless our process is the one that listens; call it before a destructive action."""
        try:  # the socket table is not a snapshot; a killed server's child may hold its port for a moment
            poll(lambda: listens(self.running().pid, self.port), 10, f"port {self.port} is not held by our {self.name}")
        except TimeoutError as error:
            raise ForeignServer(str(error)) from error

    def running(self) -> subprocess.Popen[bytes]:
        """Return the process; RuntimeError if there is none."""
        if self.process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.process

    def stop(self) -> None:
        """Stop the server as an operator would; kill it if that takes too long."""
        process = self.running()
        process.send_signal(signal.SIGCONT)
        process.send_signal(self.stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.process = None

    stop_signal = signal.SIGTERM

    def kill(self) -> None:
        """Stop the server as a power cut would."""
        process = self.running()
        process.send_signal(signal.SIGSTOP)  # else it may start a child after the listing
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        # A start before their end would find them on the port and in the shared memory.
        poll(lambda: not any(map(lives, children)), STOP_SECONDS, f"a child of {self.name} does not end")
        self.process = None

    def freeze(self) -> None:
        """Make the server a black hole: it accepts connections and answers nothing."""
        process = self.running()
        process.send_signal(signal.SIGSTOP)
        # The signal stops its threads one after another; until the last one stops it may still answer.
        poll(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, 10, "the server does not stop")

    def thaw(self) -> None:
        """Let a frozen server continue."""
        self.running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server if it runs, and remove the folder."""
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def own(self, path: Path) -> None:
        """Give a file or folder to the user that runs the server."""
        if os.geteuid() == 0:
            shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    def spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a program as the server's user, so that it ends with the tests even if they are killed."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                self.wrapped(command),
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; they stop their servers
            )

    def wrapper(self) -> list[str]:
        """Return the prefix of the command: another user if we are root, and death with the parent if Linux has it."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            return []
        identity = [f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"] if os.geteuid() == 0 else []
        return [setpriv, *identity, "--pdeathsig=KILL", "--"]

    def log(self) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])


class Redis(Server):
    """A Redis that stores nothing on disk."""

    name = "redis"
    user = "redis"
    databases = 1024

    def __init__(self) -> None:
        self.program = find("redis-server", (), "redis-server")
        super().__init__()
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self.numbers = count(1)

    def command(self) -> Sequence[str]:
        options = {"bind": LOOPBACK, "port": self.port, "save": "", "appendonly": "no", "databases": self.databases}
        return [self.program, *(part for key, value in options.items() for part in (f"--{key}", str(value)))]

    def ping(self) -> None:
        with self.client() as client:
            if client.info("server")["process_id"] != self.running().pid:
                raise ForeignServer("another Redis answers")

    def client(self) -> redis.Redis:
        """Return a client of database 0."""
        return redis.Redis.from_url(self.url, socket_timeout=20)

    def fresh_url(self) -> str:
        """Return the URL of a database number that no test used yet."""
        return f"redis://{LOOPBACK}:{self.port}/{next(self.numbers) % self.databases}"

    def flush(self) -> None:
        """Delete everything, as a restart of a Redis without persistence does."""
        self.assert_own()
        with self.client() as client:
            client.flushall()


class PostgreSQL(Server):
    """A PostgreSQL cluster without fsync. The few tests that cut its power create one with fsync."""

    name, user = "postgresql", "postgres"
    fsync = "off"
    autovacuum = "on"
    stop_signal = signal.SIGINT  # "fast"; SIGTERM would wait for every client to disconnect

    def __init__(self) -> None:
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
        self.program = find("postgres", places, "postgresql")
        self.initdb = find("initdb", places, "postgresql")
        super().__init__()
        self.url = self.database_url("postgres")
        self.names = count(1)

    def wrapped(self, command: Sequence[str]) -> Sequence[str]:
        # Leases and schedules use this server's clock, so it must be the tests' clock.
        return wrap_with_clock(self.wrapper(), command)

    def start(self) -> Self:
        if not (self.folder / "data" / "PG_VERSION").exists():
            creation = "-D data -U postgres -A trust -E UTF8 --locale=C --no-sync".split()
            if self.spawn([self.initdb, *creation], {}).wait() != 0:
                raise RuntimeError(f"initdb failed\n{self.log()}")
        return super().start()

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": self.fsync,
            "autovacuum": self.autovacuum,
            "max_connections": 200,
        }
        options = (part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
        return [self.program, "-D", "data", *options]

    def ping(self) -> None:
        with self.connection() as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        if row is None or Path(row[0]).resolve() != (self.folder / "data").resolve():
            raise ForeignServer("another PostgreSQL answers")

    def connection(self) -> psycopg.Connection[tuple[str]]:
        """Return an administrator's connection; each statement is its own transaction."""
        return psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True, connect_timeout=20)

    def database_url(self, name: str, role: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database of this cluster."""
        return f"postgresql+psycopg://{role}@{LOOPBACK}:{self.port}/{name}"

    def fresh_url(self, template: str = "template0", *, owner: str = "postgres") -> str:
        """Return the URL of a new database, copied from `template`; no client may be connected to the template.

        An `owner` other than the administrator is not a superuser, so row-level security applies to it.
        """
        name = f"test_{next(self.names)}"
        with self.connection() as connection:
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [owner]).fetchall():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(owner)))
            named = (sql.Identifier(each) for each in (name, template, owner))
            # To copy the files costs a quarter of what it costs to write them all to the log.
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(*named))
        return self.database_url(name, owner)


class RabbitMQ(Server):
    """A RabbitMQ node with its own epmd and management API; it makes a virtual host in milliseconds."""

    name = "rabbitmq"
    user = "rabbitmq"

    def __init__(self) -> None:
        # Debian's wrapper on PATH changes the user and drops the environment, so the node's own script comes first.
        homes = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"), reverse=True)
        self.program = find("rabbitmq-server", homes, "rabbitmq-server")
        self.epmd_program = find("epmd", (), "rabbitmq-server (erlang-base)")
        super().__init__()
        self.management_port, self.distribution_port, self.epmd_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@{LOOPBACK}:{self.port}//"
        self.vhosts = count(1)
        self.epmd: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        return [self.program]

    def environment(self) -> Mapping[str, str]:
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{self.port}\n"
            f"management.tcp.ip = {LOOPBACK}\n"
            f"management.tcp.port = {self.management_port}\n"
            # The default limits are for production; a full test disk fails the tests by itself.
            "disk_free_limit.absolute = 1MB\n"
        )
        return {
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"exports-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            # Makes the script exec the node instead of waiting for it: our process is the node.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput -rabbit channel_tick_interval 1000 -kernel inet_dist_use_interface {{{LOOPBACK.replace('.', ',')}}}",
        }

    def start(self) -> Self:
        # In the foreground: the node would leave a daemon behind.
        if self.epmd is None:
            self.epmd = self.spawn([self.epmd_program, "-port", str(self.epmd_port), "-address", LOOPBACK], {})
            epmd = self.epmd
            poll(lambda: listens(epmd.pid, self.epmd_port), START_SECONDS, f"epmd did not start\n{self.log()}")
        return super().start()

    def close(self) -> None:
        if self.process is not None:
            self.kill()  # its data ends with it, and a polite stop takes seconds
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait()
            self.epmd = None
        super().close()

    def ping(self) -> None:
        self.manage("GET", "health/checks/virtual-hosts")
        self.manage("GET", f"health/checks/port-listener/{self.port}")

    def manage(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        """Call the management API at /api/`path`; raise for any answer but 2xx."""
        url = f"http://{LOOPBACK}:{self.management_port}/api/{path}"
        response = httpx.request(method, url, json=body, auth=("guest", "guest"), timeout=10, trust_env=False)
        return response.raise_for_status()

    def control(self, *words: str) -> None:
        """Run a rabbitmqctl command on the node."""
        program = str(Path(self.program).with_name("rabbitmqctl"))
        assert self.spawn([program, *words], self.environment()).wait() == 0, self.log()

    def fresh_url(self) -> str:
        """Return the URL of a new, empty virtual host; its queues are quorum queues unless they say otherwise."""
        vhost = f"test_{next(self.vhosts)}"
        self.manage("PUT", f"vhosts/{vhost}", {"default_queue_type": "quorum"})
        self.manage("PUT", f"permissions/{vhost}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/{vhost}"


def find(program: str, places: Sequence[Path], package: str) -> str:
    """Return the path of a program, `places` first; MissingServer, with the package to install, if there is none."""
    search = os.pathsep.join([*map(str, places), os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(program, path=search)
    if found is None:
        raise MissingServer(f"{program} is not installed; the package is {package}")
    return found


def lives(process: psutil.Process) -> bool:
    """Return whether the process has not ended; an ended one may be a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def poll(
    condition: Callable[[], bool], seconds: float = 30, otherwise: str = "the condition did not become true"
) -> None:
    """Return when the condition holds; TimeoutError with the message `otherwise` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.02)
