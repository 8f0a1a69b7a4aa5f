"""config/deploy/nginx.conf as a running server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx

from tests.support.certificates import Authority
from tests.support.compose import DEPLOY
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import Server, find

TEXT: Final = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
NAME: Final = "exports.example"


class Nginx(Server):
    """nginx with our file, on own ports, in front of these web processes, and with changes of the file."""

    name, user = "nginx", "www-data"

    def __init__(self, web_ports: Sequence[int], changes: Sequence[tuple[str, str]] = ()) -> None:
        self.program = find("nginx", [Path("/usr/sbin")], "nginx")
        super().__init__()
        self.plain_port = free_port()
        places = (
            ("127.0.0.1:8001", f"{LOOPBACK}:{web_ports[0]}"),
            ("127.0.0.1:8002", f"{LOOPBACK}:{web_ports[-1]}"),
            ("listen 80;", f"listen {LOOPBACK}:{self.plain_port};"),
            ("listen 443 ssl;", f"listen {LOOPBACK}:{self.port} ssl;"),
            ("/etc/ssl/exports/", f"{self.folder}/"),
            ("/var/log/nginx/", f"{self.folder}/"),
        )
        text = TEXT
        for place, own in (*places, *changes):
            assert place in text, place
            text = text.replace(place, own)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        main = "pid nginx.pid; error_log stderr; daemon off; events {}"
        self._write("nginx.conf", f"{main}\nhttp {{\n{folders}\n{text}\n}}\n")
        authority = Authority(self.folder)
        authority.server_context(LOOPBACK)
        self.trusted = authority.client_context()
        (chain,) = self.folder.glob(f"{LOOPBACK}*.pem")
        for name in ("fullchain.pem", "privkey.pem"):
            self._write(name, chain.read_text(encoding="utf-8"))
        self.url = f"https://{LOOPBACK}:{self.port}"

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")
        self.own(self.folder / name)

    def command(self) -> Sequence[str]:
        return [self.program, "-e", "stderr", "-p", str(self.folder), "-c", "nginx.conf"]

    def ping(self) -> None:
        with self.client() as client:
            client.get("/livez")

    def client(self, source: str = LOOPBACK) -> httpx.Client:
        """Return a browser that calls from the address `source`."""
        transport = httpx.HTTPTransport(verify=self.trusted, local_address=source)
        return httpx.Client(base_url=self.url, headers={"Host": NAME}, transport=transport, timeout=30)

    def read_log(self) -> str:
        """Return the lines of the access log."""
        return (self.folder / "exports.log").read_text(encoding="utf-8")
