"""The commands that each run one process of the service: web, worker and intake; `exports deliveries` runs the fourth."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Annotated, Final, Literal

import typer

from config.settings import Settings, get_settings, variable_set
from pipeline.core.metrics_folder import share_metrics
from pipeline.core.startup import pause_collection
from pipeline.interfaces.cli.output import ExitCode, Failure, print_json, report_errors

app = typer.Typer()

MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", min=0, max=65535, help="Port that serves the metrics; 0 serves none. [EXPORTS_METRICS_PORT]"
    ),
]
#: As other servers do: one line for the program that started the process, and a log that a program can read.
JsonWhenReady = Annotated[
    bool, typer.Option("--json", help="Print one line of JSON when ready; log JSON on standard error.")
]

_FORWARDED_OPTIONS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
#: Seconds between two looks whether the API listens.
_LOOK_SECONDS: Final = 0.1
#: Options of uvicorn by which it listens elsewhere than at host and port.
_OTHER_LISTENERS: Final = ("--uds", "--fd")


@app.command(context_settings=_FORWARDED_OPTIONS)
@report_errors
def web(
    context: typer.Context,
    host: Annotated[str, typer.Option(envvar="HOST", help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - behind a proxy
    port: Annotated[int, typer.Option(envvar="PORT", min=0, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(envvar="WEB_CONCURRENCY", min=1, help="How many processes.")] = 1,
    as_json: JsonWhenReady = False,
) -> None:
    """Run only the API; takes options of uvicorn."""
    with _log_as_json(as_json), share_metrics() if workers > 1 else nullcontext():
        with pause_collection():
            from pipeline.interfaces import server  # noqa: PLC0415 - its imports read the settings

        _ensure_message_broker(get_settings().model_copy(update={"host": host}))
        if as_json:
            _announce_web(host, port, context.args)
        _capture_warnings()
        server.run_web(host, port, [*([] if workers == 1 else ["--workers", str(workers)]), *context.args])


def _announce_web(host: str, port: int, options: list[str]) -> None:
    """Print that the API is ready once it listens: uvicorn itself only logs it. Raises Failure if nobody could tell."""
    names = {each.partition("=")[0] for each in options}
    if port == 0 or names & {*_OTHER_LISTENERS}:
        raise Failure(
            f"--json needs a fixed host and port, not {' '.join(sorted(names & {*_OTHER_LISTENERS})) or '--port 0'}",
            code=ExitCode.USAGE,
            remedy="Give --host and --port, or leave --json out.",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # What another program has taken would answer in place of this process.
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise Failure(
            f"cannot listen at {host}, port {port}: {error.strerror}", remedy="Give another port by --port."
        ) from error
    scheme = "https" if any(name.startswith("--ssl-certfile") for name in names) else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a client cannot call that address

    def wait_and_print() -> None:
        while True:
            try:
                # The processes of uvicorn listen only when they have started.
                socket.create_connection((reached, port), timeout=1).close()
            except OSError:
                time.sleep(_LOOK_SECONDS)
            else:
                break
        _print_ready("web", address=address)

    threading.Thread(target=wait_and_print, name="announce", daemon=True).start()


@app.command(context_settings=_FORWARDED_OPTIONS)
@report_errors
def worker(
    context: typer.Context,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="How many steps at once, each in a process of its own.")
    ] = 1,
    metrics_port: MetricsPort = None,
    as_json: JsonWhenReady = False,
) -> None:
    """Run a process that executes steps and renders documents; takes options of `celery worker`."""
    # The children are forked after the imports, so that they share that memory.
    pool = ["-P", "prefork", "-c", str(concurrency)] if concurrency > 1 else []
    run_worker("worker", [*pool, *context.args], metrics_port, as_json=as_json)


@app.command()
@report_errors
def intake(metrics_port: MetricsPort = None, as_json: JsonWhenReady = False) -> None:
    """Run the process that receives commands and answers from queues."""
    with _log_as_json(as_json):
        _ensure_message_broker(get_settings())
        # By name: the pipeline must not import `tasks`.
        with pause_collection():
            tasks = import_module("tasks.intake_runner")
        with _served_metrics(metrics_port) as port:
            announced = threading.Event()
            _capture_warnings()

            def announce() -> None:
                if as_json and not announced.is_set():
                    announced.set()
                    _print_ready("intake", metrics_port=port)

            tasks.main(announce)


def run_worker(
    role: Literal["worker", "deliveries"], options: list[str], metrics_port: int | None, *, as_json: bool
) -> None:
    """Run a Celery worker of the role until the process is stopped; `options` come after the role's own."""
    with _log_as_json(as_json):
        settings = get_settings()
        _ensure_message_broker(settings)
        port = settings.metrics_port if metrics_port is None else metrics_port
        # Celery decides how many processes the worker has, so the metrics are always ready for several.
        with share_metrics() if port else nullcontext():
            with pause_collection():
                from pipeline.workflow import dispatch  # noqa: PLC0415 - its imports read the settings

            def announce() -> None:
                _print_ready(role, metrics_port=port)

            with _served_metrics(port):
                _capture_warnings()
                dispatch.run_worker(role, options, *([announce] if as_json else []))


@contextmanager
def _log_as_json(as_json: bool) -> Iterator[None]:
    """Log JSON in the block, also in the processes that it starts, if `as_json`; otherwise as EXPORTS_LOG_FORMAT says."""
    with variable_set("EXPORTS_LOG_FORMAT", "json") if as_json else nullcontext():
        if as_json:
            get_settings.cache_clear()
        yield


def _capture_warnings() -> None:
    """Write the warnings of libraries to the log, from now on: they would print them as text."""
    from config.logs import configure_logs  # noqa: PLC0415 - `exports deliveries list` needs no log

    configure_logs(get_settings())
    logging.captureWarnings(capture=True)


def _print_ready(role: str, *, address: str | None = None, metrics_port: int = 0) -> None:
    """Print the line of a ready process, an `output_models.ReadyProcess`; that module loads the database libraries."""
    ready = {"process": role, "pid": os.getpid(), "address": address, "metricsPort": metrics_port or None}
    print_json(json.dumps(ready))


@contextmanager
def _served_metrics(metrics_port: int | None) -> Iterator[int]:
    """Serve the metrics in the block and give their port; 0 if none are served."""
    from pipeline.core.metrics import serve_metrics  # noqa: PLC0415 - `share_metrics` comes first

    settings = get_settings()
    port = settings.metrics_port if metrics_port is None else metrics_port
    with serve_metrics(settings.metrics_host, port) if port else nullcontext():
        yield port


def _ensure_message_broker(settings: Settings) -> None:
    """Reject memory:// for a single process: other processes cannot read its messages."""
    from pipeline.core.runtime import reject_weak_credentials  # noqa: PLC0415 - it loads the database libraries

    reject_weak_credentials(settings)
    if settings.embedded:
        raise Failure(
            "BROKER_URL must not be memory://: that message broker works inside one process only",
            code=ExitCode.USAGE,
            remedy="Run the whole service by `exports serve`, or set BROKER_URL to a Redis or RabbitMQ server.",
        )
