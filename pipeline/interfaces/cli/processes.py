"""The commands that each run one process of the service: web, worker and intake; `exports deliveries` runs the fourth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Annotated, Final

import typer

from config.settings import Settings, get_settings
from pipeline.core.metrics_server import serve_metrics, share_metrics
from pipeline.core.startup import pause_collection
from pipeline.interfaces.cli.output import ExitCode, Failure, report_errors

app = typer.Typer()

MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", min=0, max=65535, help="Port that serves the metrics; 0 serves none. [EXPORTS_METRICS_PORT]"
    ),
]

_FORWARDED_OPTIONS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=_FORWARDED_OPTIONS)
@report_errors
def web(
    context: typer.Context,
    host: Annotated[str, typer.Option(envvar="HOST", help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - behind a proxy
    port: Annotated[int, typer.Option(envvar="PORT", min=0, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(envvar="WEB_CONCURRENCY", min=1, help="How many processes.")] = 1,
) -> None:
    """Run only the API; takes options of uvicorn."""
    with share_metrics() if workers > 1 else nullcontext():
        with pause_collection():
            from pipeline.interfaces import server  # noqa: PLC0415 - its imports read the settings

        _ensure_message_broker(get_settings().model_copy(update={"host": host}))
        server.run_web(host, port, [*([] if workers == 1 else ["--workers", str(workers)]), *context.args])


@app.command(context_settings=_FORWARDED_OPTIONS)
@report_errors
def worker(
    context: typer.Context,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="How many steps at once, each in a process of its own.")
    ] = 1,
    metrics_port: MetricsPort = None,
) -> None:
    """Run a process that executes steps and renders documents; takes options of `celery worker`."""
    # The children are forked after the imports, so that they share that memory.
    pool = ["-P", "prefork", "-c", str(concurrency)] if concurrency > 1 else []
    run_worker("worker", [*pool, *context.args], metrics_port)


@app.command()
@report_errors
def intake(metrics_port: MetricsPort = None) -> None:
    """Run the process that receives commands and answers from queues."""
    _ensure_message_broker(get_settings())
    # By name: the pipeline must not import `tasks`.
    with pause_collection():
        tasks = import_module("tasks.intake")
    with _served_metrics(metrics_port):
        tasks.main()


def run_worker(role: str, options: list[str], metrics_port: int | None) -> None:
    """Run a Celery worker of the role until the process is stopped; `options` come after the role's own."""
    settings = get_settings()
    _ensure_message_broker(settings)
    port = settings.metrics_port if metrics_port is None else metrics_port
    # Celery decides how many processes the worker has, so the metrics are always ready for several.
    with share_metrics() if port else nullcontext():
        with pause_collection():
            from pipeline.workflow import dispatch  # noqa: PLC0415 - its imports read the settings

        with _served_metrics(port):
            dispatch.run_worker(role, options)


@contextmanager
def _served_metrics(port: int | None) -> Iterator[None]:
    settings = get_settings()
    port = settings.metrics_port if port is None else port
    with serve_metrics(settings.metrics_host, port) if port else nullcontext():
        yield


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
