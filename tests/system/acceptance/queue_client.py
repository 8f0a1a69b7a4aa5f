"""A partner at the queues: writes every message of the contract's queues to a file, posts commands from another.

Alone it is a process beside the service. As `serve` it is a thread inside `exports serve`, because no other process can
reach the embedded message broker.
"""

import base64
import json
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kombu import Connection, Consumer, Message, Producer
from kombu.mixins import ConsumerProducerMixin

from config import queues
from config.settings import Settings

READ = (queues.CUSTOMS_BROKER, queues.WAREHOUSE, queues.OPERATOR, queues.REFUSED, queues.DEAD)
IDLE_SECONDS = 0.05

Json = dict[str, Any]


@dataclass(frozen=True)
class ReceivedMessage:
    """A message from a queue, with its transport properties."""

    queue: str
    routing_key: str
    content_type: str
    properties: Json
    body: Json = field(repr=False)

    @property
    def export_id(self) -> str:
        """Return the id of the message's export."""
        return str(self.body.get("subject"))

    @property
    def data(self) -> Json:
        """Return the data of its CloudEvent."""
        data: Json = self.body["data"]
        return data


class Files:
    """The two files between a queue client and the tests; each line is one message."""

    def __init__(self, folder: Path) -> None:
        self.taken = folder / "taken.jsonl"
        self.commands = folder / "commands.jsonl"
        self.commands.touch()
        self.taken.touch()
        self._received: list[ReceivedMessage] = []
        self._read_to = 0

    def received_messages(self) -> list[ReceivedMessage]:
        """Return every message received so far, in order."""
        with self.taken.open("rb") as lines:
            lines.seek(self._read_to)
            for line in lines:
                if line.endswith(b"\n"):  # the last line may be incomplete
                    self._received.append(ReceivedMessage(**json.loads(line)))
                    self._read_to += len(line)
        return [*self._received]

    def post(self, body: bytes, to: str = queues.EXECUTE, **properties: Any) -> None:
        """Have a command, or another message to a queue of the contract, published with the given properties."""
        line = json.dumps({"body": base64.b64encode(body).decode(), "to": to, "properties": properties})
        with self.commands.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


class QueueClient(ConsumerProducerMixin):
    """Consumes like a partner, and acknowledges a message after writing it to the file."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self.connection = Connection(
            settings.broker_url.get_secret_value(), transport_options=queues.transport_options(settings)
        )
        self._settings = settings
        self._files = files
        # Do not post the commands of an earlier queue client again.
        self._posted = files.commands.stat().st_size

    def get_consumers(self, consumer: Callable[..., Consumer], channel: Any) -> list[Consumer]:
        """Consume the queues of the contract; it declares them as the service does."""
        wanted = [queue for queue in queues.contract_queues(self._settings) if queue.name in READ]
        return [consumer(queues=[queue], on_message=self._build_handler(queue.name)) for queue in wanted]

    def on_iteration(self) -> None:
        """Post the commands that the tests have written since."""
        with self._files.commands.open("rb") as lines:
            lines.seek(self._posted)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._post(json.loads(line))
                self._posted += len(line)

    def consume(
        self, limit: Any = None, timeout: Any = None, safety_interval: Any = IDLE_SECONDS, **kwargs: Any
    ) -> Any:
        """Return from the queues often, so that commands are posted soon."""
        return super().consume(limit, timeout, safety_interval, **kwargs)  # type: ignore[no-untyped-call]

    def _build_handler(self, name: str) -> Callable[[Message], None]:
        def write_down(message: Message) -> None:
            body = message.body if isinstance(message.body, str) else bytes(message.body).decode()
            message_facts = {
                "queue": name,
                "routing_key": str((message.delivery_info or {}).get("routing_key", "")),
                "content_type": message.content_type,
                "properties": {
                    key: value for key, value in message.properties.items() if isinstance(value, str | int | float)
                },
                "body": json.loads(body),
            }
            with self._files.taken.open("a", encoding="utf-8") as out:
                out.write(json.dumps(message_facts) + "\n")
            message.ack()

        return write_down

    def _post(self, command: Json) -> None:
        producer: Producer = self.producer
        producer.publish(
            base64.b64decode(command["body"]),
            exchange=queues.exchange,
            routing_key=queues.BINDINGS[command["to"]][0],
            content_encoding="utf-8",
            delivery_mode="persistent",
            declare=[queue for queue in queues.contract_queues(self._settings) if queue.name == command["to"]],
            retry=True,
            **{"content_type": "application/json", **command["properties"]},
        )


def main(folder: str, *serve: str) -> None:
    """Run until SIGTERM."""
    settings = Settings()
    queue_client = QueueClient(settings, Files(Path(folder)))
    if serve:
        threading.Thread(target=queue_client.run, name="queue-client", daemon=True).start()
        from pipeline.interfaces.cli.main import main as exports  # noqa: PLC0415 - only the embedded service needs it

        sys.argv = ["exports", *serve]
        exports()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    queue_client.run()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(*sys.argv[1:])
