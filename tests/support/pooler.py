"""PgBouncer in front of a PostgreSQL, both only for the tests."""

import signal
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.support.ports import LOOPBACK
from tests.support.servers import ForeignServer, PostgreSQL, Server, find


class PgBouncer(Server):
    """A PgBouncer that pools transactions in front of a PostgreSQL of the tests; other settings are the defaults."""

    name, user = "pgbouncer", "postgres"
    stop_signal = signal.SIGQUIT  # SIGTERM would wait for every client to disconnect

    def __init__(self, behind: PostgreSQL, **settings: object) -> None:
        self.program = find("pgbouncer", (), "pgbouncer")
        super().__init__()
        self.behind = behind
        self.settings = settings

    @property
    def url(self) -> str:  # type: ignore[override]
        """Return the SQLAlchemy URL of the administrator's database, through the pooler."""
        return self.url_through(self.behind.url)

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addr": LOOPBACK,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": "users",
            "pool_mode": "transaction",
            **self.settings,
        }
        lines = (f"{name} = {value}\n" for name, value in settings.items())
        server = f"* = host={LOOPBACK} port={self.behind.port}\n"
        (self.folder / "settings").write_text(f"[databases]\n{server}[pgbouncer]\n{''.join(lines)}")
        (self.folder / "users").write_text('"postgres" ""\n"exports" ""\n')
        return [self.program, "settings"]

    def ping(self) -> None:
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True, connect_timeout=2) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        if row is None or Path(row[0]).resolve() != (self.behind.folder / "data").resolve():
            raise ForeignServer("a pooler of another PostgreSQL answers")

    def url_through(self, url: str) -> str:
        """Return the URL of a database of the PostgreSQL, through the pooler."""
        return url.replace(f":{self.behind.port}/", f":{self.port}/")
