"""From settings to an ASGI app: what the Procfile starts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool

from config.logs import configure_logs
from pipeline.api import (
    acknowledgements,
    answers,
    deliveries,
    events,
    executions,
    links,
    notifications,
    packages,
    partners,
    sandbox,
    system,
    waivers,
)
from pipeline.api.bounds import BodyLimit, LoopbackOnly, Patience, RequestLimit
from pipeline.api.contract import add_contract
from pipeline.api.dependencies import Keys, Launcher
from pipeline.api.envelope import Envelope, Measures
from pipeline.api.gauges import Work
from pipeline.api.lately import Lately
from pipeline.api.parameters import check_query
from pipeline.api.problems import add_problem_handlers
from pipeline.console import pages, reference
from pipeline.console import partners as partner_pages
from pipeline.core.runtime import Runtime, process_runtime
from pipeline.customs.reference.bundle import load_rules
from pipeline.ops import readiness
from pipeline.workflow.publisher import Publisher

ROUTERS = (
    executions.router,
    events.router,
    packages.router,
    links.router,
    partners.router,
    deliveries.router,
    notifications.router,
    acknowledgements.router,
    answers.router,
    waivers.router,
    sandbox.router,
    system.router,
    system.contract,
    pages.router,
    partner_pages.router,
    reference.router,
)

#: What tells of the contract, and of nothing else; served with /openapi.json or not at all.
_CONTRACT = (system.contract, reference.router)


def create_app(runtime: Runtime, publisher: Launcher) -> FastAPI:
    """Return the app on what is open; its lifespan starts and stops the publisher."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        publisher.start()
        try:
            yield
        finally:
            await run_in_threadpool(publisher.stop)

    app = FastAPI(
        title="Exports",
        version=version("exports"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if runtime.settings.docs else None,
        # It would name the host that the caller calls itself, and http where a proxy speaks TLS.
        redirect_slashes=False,
        dependencies=[Depends(check_query)],
    )
    registry = CollectorRegistry()
    registry.register(Work(runtime))
    app.state.runtime = runtime
    app.state.publisher = publisher
    app.state.keys = Keys(runtime.settings.rate_limit_per_minute)
    app.state.links = Keys(answers.REQUESTS_PER_MINUTE)
    app.state.registry = registry
    app.state.parts = Lately(lambda: readiness.parts(runtime), most_seconds=system.READY_SECONDS)
    # The last one added is the outermost.
    bounds = runtime.settings
    app.add_middleware(Patience)
    app.add_middleware(
        BodyLimit,
        max_bytes=bounds.max_body_bytes,
        together=bounds.max_bodies_bytes,
        seconds=bounds.max_body_seconds,
    )
    app.add_middleware(RequestLimit, most=bounds.max_requests, each=bounds.max_account_requests)
    if bounds.failpoints:
        app.add_middleware(LoopbackOnly)
    app.add_middleware(Envelope, measures=Measures(registry))
    add_problem_handlers(app)
    routers = [router for router in ROUTERS if runtime.settings.docs or router not in _CONTRACT]
    for router in routers:
        app.include_router(router)
    add_contract(app, routers)
    return app


def app() -> FastAPI:
    """Return the app of this process, which `exports web` serves."""
    load_rules()  # bad rules stop the program, not a plan
    runtime = process_runtime()
    configure_logs(runtime.settings)
    return create_app(runtime, Publisher(runtime.settings.publish_backlog))
