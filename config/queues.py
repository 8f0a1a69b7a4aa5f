"""All exchanges, queues, routing keys and Celery options."""

import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from kombu import Exchange, Queue

from config.settings import Settings

# Queues of task messages between the service's own processes. Task messages carry only ids.
STEPS: Final = "exports.steps"
#: The first steps of an account's exports, if the account has many active ones or the plan has many units. Workers take
#: turns between the queues, so that other accounts do not wait for all of them.
BACKLOG: Final = "exports.backlog"
#: The steps of large units: their documents hold a process for long. A process that reads only this queue leaves the
#: others free for small units.
LARGE: Final = "exports.large"
DOCUMENTS: Final = "exports.documents"
DELIVERIES: Final = "exports.deliveries"
#: The queues of the worker of steps.
SMALL_QUEUES: Final = (STEPS, BACKLOG, DOCUMENTS)
STEP_QUEUES: Final = (*SMALL_QUEUES, LARGE)
TASK_QUEUES: Final = (*STEP_QUEUES, DELIVERIES)

# The queues of the contract. Upstream services write to the first and customs brokers to the second; they read the others.
EXECUTE: Final = "exports.execute"
ACKNOWLEDGEMENTS: Final = "exports.acknowledgements"
REFUSED: Final = "exports.execute.refused"
CUSTOMS_BROKER: Final = "exports.broker"
WAREHOUSE: Final = "exports.warehouse"
OPERATOR: Final = "exports.operator"
UPSTREAM: Final = "exports.upstream"
DEAD: Final = "exports.dead"

#: The intake sends itself messages through the exchange to this queue. They prove that commands and answers reach it.
HEARTBEAT: Final = "exports.heartbeat"
HEARTBEAT_KEY: Final = "heartbeat"

#: The timeout for RabbitMQ to read a message, to confirm it, and to answer. During a memory or disk alarm it reads nothing.
#: Without a timeout a process would wait for the end of the alarm, take no messages, and not end on a signal.
ANSWER_SECONDS: Final = 5.0

EXCHANGE_NAME: Final = "exports"
DEAD_EXCHANGE_NAME: Final = "exports.dead"

#: queue -> its routing keys on the topic exchange
BINDINGS: Final[dict[str, tuple[str, ...]]] = {
    EXECUTE: ("execute",),
    ACKNOWLEDGEMENTS: ("acknowledgement",),
    REFUSED: ("execute.refused",),
    CUSTOMS_BROKER: ("broker.#",),
    WAREHOUSE: ("warehouse.#",),
    OPERATOR: ("operator.#",),
    UPSTREAM: ("upstream.#",),
}

exchange = Exchange(EXCHANGE_NAME, type="topic", durable=True)
dead_exchange = Exchange(DEAD_EXCHANGE_NAME, type="fanout", durable=True)


def queue_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of a contract queue: replicated, and a message that was refused ten times is dead-lettered."""
    if settings.message_broker != "amqp":
        return {}
    return {"x-queue-type": "quorum", "x-delivery-limit": 10, "x-dead-letter-exchange": DEAD_EXCHANGE_NAME}


def contract_queues(settings: Settings) -> list[Queue]:
    """Return the durable queues of the contract, each bound to the topic exchange."""
    queues = [
        Queue(name, exchange, routing_key=key, durable=True, queue_arguments=queue_arguments(settings))
        for name, keys in BINDINGS.items()
        for key in keys
    ]
    if settings.message_broker == "amqp":
        queues.append(
            Queue(DEAD, dead_exchange, routing_key="", durable=True, queue_arguments={"x-queue-type": "quorum"})
        )
    else:
        # Only RabbitMQ dead-letters messages itself; with other brokers the consumer publishes to this queue by its name.
        queues.append(Queue(DEAD, exchange, routing_key=DEAD, durable=True))
    return queues


def heartbeat_queue(settings: Settings) -> Queue:
    """Return the queue of heartbeats, bound to the topic exchange like the queues of commands and answers."""
    arguments = {"x-queue-type": "quorum"} if settings.message_broker == "amqp" else {}
    return Queue(HEARTBEAT, exchange, routing_key=HEARTBEAT_KEY, durable=True, queue_arguments=arguments)


def transport_options(settings: Settings, *, producer_only: bool = False) -> dict[str, Any]:
    """Return the transport options for the kind of message broker; a producer has shorter timeouts than a worker."""
    if settings.message_broker == "memory":
        return {}
    if settings.message_broker == "amqp":
        # Closing a connection waits for RabbitMQ's answer; without a timeout it would wait until an alarm of RabbitMQ ends.
        return {"confirm_publish": True, "read_timeout": ANSWER_SECONDS, "connect_timeout": 0.5 if producer_only else 2}
    # A worker's timeout must exceed the transport's own blocking pop of one second.
    timeout = 0.5 if producer_only else 2
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": 60,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
    }


def tls_options(settings: Settings) -> dict[str, Any] | bool:
    """Return the TLS options for the message broker, False if its address does not use TLS.

    By default kombu does not check the certificate of a rediss:// server, nor the host name in that of an amqps:// server.
    """
    url = urlsplit(settings.broker_url.get_secret_value())
    if url.scheme == "amqps":
        return {"server_hostname": url.hostname, "cert_reqs": ssl.CERT_REQUIRED}
    if url.scheme == "rediss":
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    return False


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return the whole Celery configuration."""
    return {
        "broker_url": settings.broker_url.get_secret_value(),
        "broker_transport": "pipeline.core.memory_transport:MemoryTransport"
        if settings.message_broker == "memory"
        else None,
        "broker_transport_options": transport_options(settings),
        "broker_use_ssl": tls_options(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "task_serializer": "json",
        "event_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # The database holds the progress, so Celery stores no results.
        "task_ignore_result": True,
        # A task message is useless after the step's claim: lost work is found by its expired lease, not by its message.
        "task_acks_late": False,
        "task_default_delivery_mode": "persistent",
        "task_default_queue": STEPS,
        "task_default_queue_type": "quorum" if settings.message_broker == "amqp" else "classic",
        "task_create_missing_queues": True,
        "task_publish_retry": True,
        # One attempt: with `task_publish_retry: False` a publish hangs for seconds, with this it returns at once (measured).
        "task_publish_retry_policy": {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0},
        "task_routes": "pipeline.workflow.dispatch:route_task",
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "tasks.consumer:Consumer",
        "worker_max_memory_per_child": 400_000,
        "worker_max_tasks_per_child": 1000,
        "worker_soft_shutdown_timeout": 20.0,
        "worker_enable_soft_shutdown_on_idle": True,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": settings.celery_inspect,
        "worker_enable_remote_control": settings.celery_inspect,
    }
