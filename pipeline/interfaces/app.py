"""Builds the ASGI app from the settings; the Procfile starts it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from config.logs import configure_logs
from pipeline.accounts.open_id import OpenIdProvider
from pipeline.core.message_broker import find_transport
from pipeline.core.metrics import build_registry
from pipeline.core.metrics_folder import find_shared_folder
from pipeline.core.runtime import Runtime, process_runtime
from pipeline.customs.reference.bundle import load_rules
from pipeline.deliveries.channels.registry import load_channels
from pipeline.interfaces.api import (
    account_clock,
    attachments,
    audit,
    calendars,
    conversation,
    deadlines,
    deliveries,
    documents,
    events,
    exports,
    filed_entries,
    inbox,
    leads,
    links,
    orders,
    partners,
    plans,
    portal_links,
    print_settings,
    pro_forma,
    rules,
    sandbox,
    stats,
    submissions,
    system,
    tariff,
    waivers,
)
from pipeline.interfaces.api.dependencies import ApiKeyCache, TaskPublisher
from pipeline.interfaces.api.errors import add_problem_handlers
from pipeline.interfaces.api.fair_threads import share_threads
from pipeline.interfaces.api.limits import BodyLimit, RequestDeadline, UnaskedWaits
from pipeline.interfaces.api.metrics import ReadinessCollector, UpkeepCollector, WorkCollector
from pipeline.interfaces.api.middleware import RequestContext, RequestMetrics
from pipeline.interfaces.api.openapi_document import add_contract
from pipeline.interfaces.api.parameters import check_query
from pipeline.interfaces.api.places import RequestLimit
from pipeline.interfaces.api.single_flight import SingleFlight
from pipeline.interfaces.console import api_reference
from pipeline.interfaces.console.exports import amendments, revisions, stops
from pipeline.interfaces.console.exports import conversation as conversation_pages
from pipeline.interfaces.console.exports import documents as document_pages
from pipeline.interfaces.console.exports import exports as console_exports
from pipeline.interfaces.console.exports import sandbox as sandbox_pages
from pipeline.interfaces.console.partners import (
    broker_profile,
    connection_tests,
    partner_examples,
    partner_secrets,
    partner_settings,
)
from pipeline.interfaces.console.partners import partners as partner_pages
from pipeline.interfaces.console.partners import portal_links as portal_link_pages
from pipeline.interfaces.console.people import audit as audit_pages
from pipeline.interfaces.console.people import keys, own_person, provider, sign_in
from pipeline.interfaces.console.people import leads as lead_pages
from pipeline.interfaces.console.people import people as people_pages
from pipeline.interfaces.console.people import print_settings as print_settings_pages
from pipeline.interfaces.console.work import account_clock as clock_pages
from pipeline.interfaces.console.work import certifications, holds, home, search
from pipeline.interfaces.console.work import deadlines as deadline_pages
from pipeline.interfaces.console.work import filed_entries as filed_pages
from pipeline.interfaces.console.work import inbox as inbox_pages
from pipeline.interfaces.console.work import rules as rule_pages
from pipeline.interfaces.console.work import waivers as waiver_pages
from pipeline.interfaces.pages import assets, live
from pipeline.interfaces.pages.pages import public_refusal
from pipeline.interfaces.portal import deliveries as portal_deliveries
from pipeline.interfaces.portal import endpoint, handoffs, reply_links, samples
from pipeline.interfaces.portal import home as portal_home
from pipeline.ops import readiness
from pipeline.workflow.publisher import Publisher

ROUTERS = (
    orders.router,
    exports.router,
    plans.router,
    pro_forma.router,
    attachments.router,
    conversation.router,
    filed_entries.router,
    inbox.router,
    deadlines.router,
    account_clock.router,
    calendars.router,
    leads.router,
    events.router,
    documents.router,
    links.router,
    partners.router,
    portal_links.router,
    deliveries.router,
    deliveries.notifications_router,
    submissions.router,
    reply_links.router,
    print_settings.router,
    rules.router,
    waivers.router,
    tariff.router,
    audit.router,
    sandbox.router,
    sandbox.answers_router,
    stats.router,
    system.router,
    system.contract_router,
    assets.router,
    sign_in.router,
    provider.router,
    live.router,
    home.router,
    inbox_pages.router,
    own_person.router,
    amendments.router,
    stops.router,
    people_pages.router,
    audit_pages.router,
    conversation_pages.router,
    sandbox_pages.router,
    console_exports.router,
    search.router,
    document_pages.router,
    revisions.router,
    keys.router,
    waiver_pages.router,
    print_settings_pages.router,
    lead_pages.router,
    clock_pages.router,
    deadline_pages.router,
    filed_pages.router,
    rule_pages.router,
    certifications.router,
    holds.router,
    # Before the pages of partners, which take every address below a partner.
    partner_settings.router,
    partner_secrets.router,
    partner_examples.router,
    broker_profile.router,
    connection_tests.router,
    portal_link_pages.router,
    partner_pages.router,
    api_reference.router,
    portal_home.router,
    portal_deliveries.router,
    handoffs.router,
    endpoint.router,
    samples.router,
)

#: Describe only the contract; served together with /openapi.json or not at all.
_CONTRACT_ROUTERS = (system.contract_router, api_reference.router)

#: The part of the requests at a time that may wait for an export without having asked for it.
_UNASKED_WAITS_PART: Final = 20

#: How long the end of the process waits until the last use of keys is recorded; requests do not wait for it.
_KEY_USE_SECONDS: Final = 2


def create_app(runtime: Runtime, publisher: TaskPublisher) -> FastAPI:
    """Return the app for an open runtime; its lifespan starts and stops the publisher."""

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[None]:
        share_threads()
        publisher.start()
        try:
            yield
        finally:
            await run_in_threadpool(publisher.stop)
            if running.state.key_use_tasks:
                await asyncio.wait(running.state.key_use_tasks, timeout=_KEY_USE_SECONDS)

    app = FastAPI(
        title="Exports",
        version=version("exports"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if runtime.settings.docs else None,
        # A redirect would name the host of the request, and http even behind a proxy that speaks TLS.
        redirect_slashes=False,
        # Its own spans and logs would have the addresses of links, which are secret, and the texts of errors.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    registry = build_registry()
    parts = SingleFlight(lambda: readiness.check_parts(runtime), max_seconds=system.READY_SECONDS)
    for collector in (WorkCollector(runtime), ReadinessCollector(runtime, parts), UpkeepCollector(runtime)):
        registry.register(collector)
    app.state.runtime = runtime
    app.state.publisher = publisher
    app.state.keys = ApiKeyCache(runtime.settings.rate_limit_per_minute)
    app.state.key_use_tasks = set[asyncio.Task[None]]()
    app.state.show_refusal = public_refusal
    app.state.unasked_waits = UnaskedWaits(max(1, runtime.settings.max_requests // _UNASKED_WAITS_PART))
    app.state.links = ApiKeyCache(reply_links.REQUESTS_PER_MINUTE)
    app.state.provider = None if runtime.settings.oidc_issuer is None else OpenIdProvider(runtime.settings)
    app.state.registry = registry
    app.state.parts = parts
    # The last one added is the outermost.
    settings = runtime.settings
    app.add_middleware(RequestDeadline)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_bodies_bytes,
        seconds=settings.max_body_seconds,
    )
    app.add_middleware(RequestLimit, max_requests=settings.max_requests, max_per_account=settings.max_account_requests)
    # Processes that share their metrics read those of requests, too, from the folder.
    counted = RequestMetrics(registry if find_shared_folder() is None else CollectorRegistry())
    app.add_middleware(RequestContext, metrics=counted)
    add_problem_handlers(app)
    routers = _find_routers(with_contract=runtime.settings.docs)
    app.router.routes.extend(_build_routes(with_contract=runtime.settings.docs))
    add_contract(app, routers, runtime.settings.public_url)
    return app


def _find_routers(*, with_contract: bool) -> Sequence[APIRouter]:
    return [router for router in ROUTERS if with_contract or router not in _CONTRACT_ROUTERS]


@cache
def _build_routes(*, with_contract: bool) -> Sequence[BaseRoute]:
    """Return the routes, which the apps of a process share: their parameters are read once, at the first request."""
    together = APIRouter(dependencies=[Depends(check_query)])
    for router in _find_routers(with_contract=with_contract):
        together.include_router(router)
    return together.routes


def app() -> FastAPI:
    """Return the app of this process; `exports web` serves it."""
    load_rules()  # bad rules must stop the program, not a plan
    runtime = process_runtime()
    configure_logs(runtime.settings)
    # Later, an upgrade may have replaced the files.
    load_channels()
    find_transport(runtime.settings.message_broker)
    return create_app(runtime, Publisher(runtime.settings.publish_backlog))
